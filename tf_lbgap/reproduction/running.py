"""Reproducing papers: their experiments and studies in one pool of processes, and verdicts when a paper's are done.

```
runs/reproduce/keskar2017-small/results.json      claims with verdicts, means over seeds, digests
                                paper.yaml        the paper's file at this scale
                                made_by.json      the digest of the code that trained
                                study-line.json   what a study found
                                minima-loss/      run directories, as of `lbgap run`
```

A paper whose file and code are those of its `results.json` is not run again. What was trained by other code is moved aside, to
`keskar2017-small.before`.
"""

import contextlib
import pathlib
import shutil
import time

import yaml

from tf_lbgap.experiment import RunFailed, side_by_side
from tf_lbgap.experiment.attempt import Failure
from tf_lbgap.experiment.calls import ConfigError, check, placed
from tf_lbgap.experiment.environment import environment
from tf_lbgap.experiment.files import read_json, write_csv, write_json, write_text
from tf_lbgap.experiment.quiet import import_tensorflow
from tf_lbgap.experiment.run import LOCK, check_calls, only_writer
from tf_lbgap.reproduction.code import code_digest
from tf_lbgap.reproduction.summary import hashes, summary
from tf_lbgap.reproduction.work import arm_pieces, study_piece, work

MADE_BY = "made_by.json"


def reproduce(papers, *, jobs=1, again=False, listen=None):
    """Run papers, and yield the results of each as soon as it is done.

    Args:
        papers: List of `Paper`, of different directories.
        jobs: How many processes work at the same time; they share the cores.
        again: Whether to train anew what is there.
        listen: Object with `began(paper, num_pieces)`, `started(paper, piece)`, `advanced(paper, piece, fraction, text)` and
            `ended(paper, piece, failure)`, told as things happen.

    Yields:
        Pairs (`Paper`, the content of its `results.json`).

    Raises:
        ConfigError: If a call names no function or argument, or the directory cannot be written.
        RunFailed: After all papers, if something raised; what did not is in the results.
    """
    listen = listen or side_by_side.Silent()
    failures = []  # (label of the paper and piece, Failure, the paper's directory)
    with contextlib.ExitStack() as stack:
        under_way = {}
        for paper in papers:
            known = None if again else finished_results(paper)
            if known is not None:
                yield paper, known
                continue
            under_way[paper.name] = _Progress(paper, again, stack)
        if not under_way:
            return
        import_tensorflow()
        for each in under_way.values():
            each.begin()
            listen.began(each.paper, len(each.pieces) + len(each.paper.studies))
        yield from _worked(under_way, jobs, listen, failures)
    if failures:
        key, failure, output = failures[0]
        raise (ConfigError if failure.is_mistake else RunFailed)(
            f"{len(failures)} {'piece' if len(failures) == 1 else 'pieces'} did not finish; the first was {' '.join(key)}: "
            f"{failure.text} (in full: {pathlib.Path(output) / 'error.txt'})"
        )


def _worked(under_way, jobs, listen, failures):
    waiting = _Queue(under_way)
    for each in [each for each in under_way.values() if each.is_done]:
        yield each.paper, each.finish(jobs)
    for key, outcome in side_by_side.work_on(waiting, work, jobs, listen, lambda _, piece: piece.is_alone):
        each = under_way[key[0]]
        failed = each.take(key[1], outcome)
        failures += [(key, failure, each.paper.output) for failure in failed]
        listen.ended(each.paper, key[1], failed[0].text if failed else None)
        if each.is_done:
            yield each.paper, each.finish(jobs)


class _Queue:
    """The pieces of all papers, one paper after the other; studies when what they measure is there."""

    def __init__(self, under_way):
        self._papers = list(under_way.values())

    def __iter__(self):
        return self

    def __next__(self):
        for each in self._papers:
            piece = each.next()
            if piece is not None:
                return (each.paper.name, piece.label), (piece,)
        if all(each.has_handed_out_all for each in self._papers):
            raise StopIteration
        return None  # until one ends


class _Progress:
    """A paper that is being run."""

    def __init__(self, paper, again, stack):
        self.paper = paper
        self._output = pathlib.Path(paper.output)
        stack.enter_context(only_writer(self._output))
        _set_aside(self._output, again)
        self._rows, self.pieces, self._open = {}, [], {}
        self._studies, self._failed = {}, []
        self._waiting, self._clock = list(paper.studies), _WallClock(self._output)

    def begin(self):
        """Look what there is, and write what is to be run; raise if a call names nothing."""
        self._clock.write()
        write_text(self._output / "paper.yaml", yaml.safe_dump(self.paper.content, sort_keys=False))
        (self._output / "error.txt").unlink(missing_ok=True)
        for name, call in self.paper.studies.items():
            with placed(f"{self.paper.name}: studies: {name}"):
                check({key: value for key, value in call.items() if key != "in"})
        for name, experiment in self.paper.experiments.items():
            with placed(f"{self.paper.name}: experiments: {name}"):
                check_calls(experiment)
            folder = pathlib.Path(experiment.output)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "config.yaml", yaml.safe_dump(experiment.to_dict(), sort_keys=False))
            pieces, self._rows[name] = arm_pieces(experiment)
            self.pieces += pieces
            self._open[name] = {piece.arm for piece in pieces}
            self._write_rows(name)
        self._unasked = list(self.pieces)
        self._of_label = {piece.label: piece for piece in self.pieces}

    def next(self):
        """Return a piece that can be done now, or None."""
        if self._unasked:
            self._clock.start()
            return self._unasked.pop(0)
        for name in list(self._waiting):
            if not any(self._open[place] for place in self.paper.studies[name]["in"]):
                self._waiting.remove(name)
                self._clock.start()
                piece = study_piece(self.paper, name, {k: list(r.values()) for k, r in self._rows.items()})
                self._of_label[piece.label] = piece
                return piece
        return None

    @property
    def has_handed_out_all(self):
        return not self._unasked and not self._waiting

    @property
    def is_done(self):
        return (
            self.has_handed_out_all
            and not any(self._open.values())
            and len(self._studies) == len(self.paper.studies)
        )

    def take(self, label, outcome):
        """Take what a piece found; return its failures."""
        self._clock.write()
        piece = self._of_label[label]
        if not hasattr(piece, "arm"):
            self._studies[piece.name] = {"rows": []} if isinstance(outcome, Failure) else outcome
            return self._noted(label, [outcome])
        name = pathlib.Path(piece.experiment.output).name
        outcomes = {} if isinstance(outcome, Failure) else outcome
        good = {(piece.arm, s): row for s, row in outcomes.items() if not isinstance(row, Failure)}
        self._rows[name] |= good
        self._open[name].discard(piece.arm)
        self._write_rows(name)
        return self._noted(label, [outcome] if isinstance(outcome, Failure) else list(outcomes.values()))

    def _noted(self, label, outcomes):
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        self._failed += [f"{label}\n{failure.traceback}" for failure in failed]
        if self._failed:
            write_text(self._output / "error.txt", "\n".join(self._failed))
        return failed

    def _ordered(self, name):
        experiment, rows = self.paper.experiments[name], self._rows[name]
        order = [(arm, seed) for arm in experiment.arms for seed in experiment.seed_numbers]
        return [rows[key] for key in order if key in rows]

    def _write_rows(self, name):
        folder, rows = pathlib.Path(self.paper.experiments[name].output), self._ordered(name)
        about = {"name": self.paper.experiments[name].name}
        write_json(folder / "results.json", {**about, "runs": rows})
        write_csv(folder / "results.csv", rows)

    def finish(self, jobs):
        """Judge, write `results.json`, and return its content."""
        self._clock.stop()
        rows = {name: self._ordered(name) for name in self.paper.experiments}
        trained = sum(row["seconds"] for own in rows.values() for row in own)
        about = {
            "environment": environment(jobs),
            "jobs": jobs,
            "seconds": {"wall": self._clock.seconds, "runs": trained},
            "complete": not self._failed,
        }
        write_json(self._output / "results.json", summary(self.paper, rows, self._studies, about))
        return read_json(self._output / "results.json")


class _WallClock:
    """The seconds that a paper took, those before an interruption among them: beside the digest of the code, in `made_by.json`."""

    def __init__(self, output):
        self._path = output / MADE_BY
        self._before, self._began = (read_json(self._path) or {}).get("seconds", 0.0), None

    def start(self):
        if self._began is None:
            self._began = time.perf_counter()

    @property
    def seconds(self):
        return self._before + (0.0 if self._began is None else time.perf_counter() - self._began)

    def stop(self):
        self._before, self._began = self.seconds, None
        self.write()

    def write(self):
        write_json(self._path, {"code": code_digest(), "seconds": self.seconds})


def finished_results(paper):
    """Return the content of `results.json` if it is that of the paper's file and of this code, else None."""
    content = read_json(pathlib.Path(paper.output) / "results.json")
    if isinstance(content, dict) and content.get("complete") and content.get("hash") == hashes(paper):
        return {**content, "figures": paper.figures, "features": paper.features}
    return None


def _set_aside(output, again):
    """Move away what other code trained, or all of it; the directory itself stays, for this process holds its lock."""
    made_by = read_json(output / MADE_BY)
    if made_by is None or (made_by.get("code") == code_digest() and not again):
        return
    before = output.with_name(output.name + ".before")
    if (before / MADE_BY).exists():  # else a move that was interrupted goes on
        shutil.rmtree(before)
    before.mkdir(exist_ok=True)
    # The digest goes last: without it nobody would know that what is left is of other code.
    paths = sorted(output.iterdir(), key=lambda path: (path.name == MADE_BY, path.name))
    for path in [path for path in paths if path.name != LOCK]:
        path.rename(before / path.name)

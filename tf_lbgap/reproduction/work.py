"""The pieces that a reproduction is cut into, for processes side by side: an arm with all its seeds, and a study.

An arm's seeds stay together, so that it is compiled, and tuned, once. What a piece finishes is on disk, so one that is
interrupted goes on from there.
"""

import dataclasses
import pathlib
import time

from tf_lbgap.experiment.attempt import attempt, failure_of, finished
from tf_lbgap.experiment.calls import make, mistakes
from tf_lbgap.experiment.checks import whole
from tf_lbgap.experiment.files import digest, read_json, write_json


@dataclasses.dataclass(frozen=True)
class ArmPiece:
    """Trains an arm of an experiment with the seeds that are missing."""

    experiment: object  # `Experiment`
    arm: str
    seeds: tuple

    @property
    def label(self):
        return f"{pathlib.Path(self.experiment.output).name}/{self.arm}"

    @property
    def is_alone(self):
        """Whether it takes a process of its own: TensorFlow connects to one cluster per process, and calls for it when it is gone."""
        return self.experiment.arms[self.arm]["strategy"] == "parameter_server"

    def do(self, tell):
        """Return {seed: row or Failure}; `tell(fraction, text)` is told how far it is."""
        outcomes = {}
        for i, seed in enumerate(self.seeds):

            def advanced(fraction, text, i=i, seed=seed):
                tell((i + fraction) / len(self.seeds), f"seed {seed}: {text}")

            advanced(0.0, "begins")
            outcomes[seed] = attempt(self.experiment, self.arm, seed, advanced)
        return outcomes


@dataclasses.dataclass(frozen=True)
class StudyPiece:
    """Measures something on finished runs."""

    name: str
    call: dict
    given: object  # the `Experiment` that the call's `in` names; or the seeds of a simulation
    output: str  # the paper's directory
    identity: str  # of the call and of the rows it is measured on
    is_alone = False

    @property
    def label(self):
        return f"study {self.name}"

    @property
    def path(self):
        return pathlib.Path(self.output) / f"study-{self.name}.json"

    def known(self):
        """Return what was measured before on the same runs, or None."""
        content = read_json(self.path)
        return (
            content["result"]
            if isinstance(content, dict) and content.get("identity") == self.identity
            else None
        )

    def do(self, tell):
        """Return what the study found, or a `Failure`."""
        if (known := self.known()) is not None:
            return known
        tell(0.0, "measures")
        began = time.perf_counter()
        try:
            with mistakes(f"studies: {self.name}"):
                found = self._made()
        except Exception as error:  # the others go on
            return failure_of(error)
        found = {**found, "seconds": time.perf_counter() - began}
        write_json(self.path, {"identity": self.identity, "result": found})
        return read_json(self.path)["result"]  # as a later call would read it

    def _made(self):
        call = {key: value for key, value in self.call.items() if key != "in"}
        if not self.call["in"]:
            return make({**call, "seeds": list(self.given)})
        from tf_lbgap.reproduction.finished import FinishedRun

        return make(call, run=FinishedRun(self.given))


def arm_pieces(experiment):
    """Return the pieces of an experiment that are missing, and {(arm, seed): row} of what is there."""
    rows, pieces = {}, []
    for arm in experiment.arms:
        known = {seed: finished(experiment, arm, seed) for seed in experiment.seed_numbers}
        rows |= {(arm, seed): row for seed, row in known.items() if row is not None}
        missing = tuple(seed for seed, row in known.items() if row is None)
        if missing:
            pieces.append(ArmPiece(experiment, arm, missing))
    return pieces, rows


def study_piece(paper, name, rows):
    """Return the piece of a study, given {experiment: rows}."""
    call = paper.studies[name]
    if not call["in"]:
        seeds = paper.seeds[: whole(call.get("seeds", len(paper.seeds)), f"studies: {name}: seeds")]
        return StudyPiece(name, call, seeds, paper.output, digest([call, list(seeds)]))
    (place,) = call["in"]
    told = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows[place]]
    return StudyPiece(name, call, paper.experiments[place], paper.output, digest([call, told]))


def work(key, piece, news):
    """Do a piece; `news` is told (name, *key, ...)."""
    news.put(("started", *key))
    return piece.do(lambda *progress: news.put(("advanced", *key, *progress)))

"""Running an experiment: arms x seeds, into a directory.

```
runs/quickstart/config.yaml              the experiment as it was understood
                results.json, .csv       a row per arm and seed
                error.txt                the tracebacks, if training raised
                small/.0.unfinished/     what is being trained, or was when the run was killed, with its checkpoints
                small/0/result.json      one arm and seed: written last, so its presence means "finished"
                        model.weights.h5
                        events.*.lbgap   curves, spectra and results, for TensorBoard's tab SHARPNESS
                        train/ validation/   Keras' own events
```

An arm and seed that is finished, with the same configuration, is not trained again; one that was interrupted goes on from its
last checkpoint.
"""

import contextlib
import dataclasses
import errno
import pathlib
import tempfile

import yaml

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from tf_lbgap.experiment import side_by_side, workers
from tf_lbgap.experiment.attempt import Failure, RunFailed, aside_of, attempt, finished, trainer_of
from tf_lbgap.experiment.calls import ConfigError, check, is_call, make, make_function, placed
from tf_lbgap.experiment.environment import environment
from tf_lbgap.experiment.files import CHECKPOINTS, write_csv, write_json, write_text
from tf_lbgap.experiment.quiet import import_tensorflow

LOCK = ".lock"
"""The file, in a run directory, that its writer holds."""


def run(experiment, *, jobs=1, again=False, listen=None):
    """Train every arm with every seed and write the run directory.

    Args:
        experiment: An `Experiment`.
        jobs: How many processes train at the same time; they share the cores.
        again: Whether to train anew what is finished.
        listen: Object with `started(arm, seed)`, `advanced(arm, seed, fraction, text)` and
            `finished(arm, seed, row, trained)`, told as things happen.

    Returns:
        List of dicts, a row per arm and seed, in the order of the arms. Of several machines all but the chief return an
        empty list.

    Raises:
        ConfigError: If a call names no function or argument, the directory cannot be written, or another
            run is writing it; and if an arm was refused for its configuration, after the others.
        RunFailed: If training raised. What finished is kept, the tracebacks are in `error.txt`, and the
            next call goes on from there.
    """
    output, machines = pathlib.Path(experiment.output), None
    if workers.is_asked_for(experiment):
        workers.check(experiment, jobs)
        import_tensorflow()
        machines = workers.Machines(experiment)
        if not machines.is_chief:
            return _work(experiment, machines)
    with only_writer(output):
        experiment = _with_cadence(experiment, _cadence_of_earlier_run(experiment, output))
        _write_config(experiment, output)
        (output / "error.txt").unlink(missing_ok=True)
        import_tensorflow()
        check_calls(experiment)
        return _run(experiment, output, jobs, again, listen or side_by_side.Silent(), machines)


def check_calls(experiment):
    """Raise for all that can be told before anything is trained: schedules and criteria cost nothing to make."""
    from tf_lbgap.experiment.making import check_attacks, check_changes  # which need TensorFlow

    check_attacks(experiment.measure.robustness)
    for name, arm in experiment.arms.items():
        with placed(f"arms: {name}"):
            check(arm)
            make(arm["adaptive"])
            check_changes(arm["update"])
            for key in ("batch_size", "learning_rate"):
                if is_call(arm[key]):
                    make_function(arm[key])


def _tasks(experiment):
    return [(arm, seed) for arm in experiment.arms for seed in experiment.seed_numbers]


def _work(experiment, machines):
    """Train what the chief trains, and leave nothing; return an empty list."""
    for arm, seed in machines.agree(_tasks(experiment)):
        checkpoints = aside_of(experiment, arm, seed) / CHECKPOINTS
        with tempfile.TemporaryDirectory() as folder:
            trainer_of(experiment, arm).run(seed, folder=pathlib.Path(folder), checkpoints=checkpoints)
    return []


def _run(experiment, output, jobs, again, listen, machines):
    tasks = _tasks(experiment)
    rows = {} if again else {task: row for task in tasks if (row := finished(experiment, *task))}
    for task, row in rows.items():
        listen.finished(*task, row, False)
    missing = [task for task in tasks if task not in rows]
    if machines is not None:
        machines.agree(tasks, missing)
    about = {"name": experiment.name, "environment": environment(jobs)}
    ordered = _write_results(output, about, tasks, rows)
    failed = {}
    for task, outcome in _calibrated(experiment, missing, jobs, listen, output):
        if isinstance(outcome, Failure):
            failed[task] = outcome
            tracebacks = [
                f"{arm}, seed {seed}\n{failure.traceback}" for (arm, seed), failure in failed.items()
            ]
            write_text(output / "error.txt", "\n".join(tracebacks))
        else:
            rows[task] = outcome
            ordered = _write_results(output, about, tasks, rows)
            listen.finished(*task, outcome, True)
    if failed:
        (arm, seed), failure = next(iter(failed.items()))
        if failure.is_mistake:
            raise ConfigError(f"arms: {arm}: {failure.text}")
        raise RunFailed(
            f"{len(failed)} of {len(tasks)} did not finish; the first was {arm}, seed {seed}: {failure.text} "
            f"(in full: {output / 'error.txt'})"
        )
    return ordered


# A monitor within a budget finds its cadence in the first arm and seed; all others measure at the same updates.


def _calibrated(experiment, tasks, jobs, listen, output):
    """Yield (task, row or failure) as they come; the first task alone, if it is to find the cadence."""
    while tasks and _needs_cadence(experiment):
        first, *tasks = tasks
        for task, outcome in _train_all(experiment, [first], 1, listen):
            every = None if isinstance(outcome, Failure) else outcome.get("monitor_every")
            if every and "max_products" in every:  # else training ended before it was found
                experiment = _with_cadence(experiment, every)
                _write_config(experiment, output)
            yield task, outcome
    yield from _train_all(experiment, tasks, jobs, listen)


def _needs_cadence(experiment):
    monitor = experiment.measure.monitor or {}
    return monitor.get("max_overhead") is not None and monitor.get("every") is None


def _with_cadence(experiment, every):
    if every is None or not _needs_cadence(experiment):
        return experiment
    monitor = {**experiment.measure.monitor, "every": every}
    return dataclasses.replace(experiment, measure=dataclasses.replace(experiment.measure, monitor=monitor))


def _cadence_of_earlier_run(experiment, output):
    try:
        before = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))["measure"]["monitor"]
        every = before.pop("every")
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    return every if before == experiment.measure.monitor else None


def _train_all(experiment, tasks, jobs, listen):
    """Yield (task, row or failure) as they come.

    TensorFlow connects to one cluster per process, and forgets what was on its devices before: so arms with a parameter
    server come last, in a process of their own.
    """
    alone = [task for task in tasks if experiment.arms[task[0]]["strategy"] == "parameter_server"]
    tasks = [task for task in tasks if task not in alone]
    pieces = ((task, (experiment,)) for task in tasks)
    yield from side_by_side.work_on(pieces, train_task, min(jobs, len(tasks)), listen)
    if alone:
        pieces = ((task, (experiment,)) for task in alone)
        yield from side_by_side.in_processes(pieces, train_task, 1, listen)


def train_task(task, experiment, news):
    """Train an arm and seed; return its row, or a `Failure`."""
    news.put(("started", *task))
    return attempt(experiment, *task, lambda *progress: news.put(("advanced", *task, *progress)))


def _write_config(experiment, output):
    write_text(output / "config.yaml", yaml.safe_dump(experiment.to_dict(), sort_keys=False))


def _write_results(output, about, tasks, rows):
    ordered = [rows[task] for task in tasks if task in rows]
    write_json(output / "results.json", {**about, "runs": ordered})
    write_csv(output / "results.csv", ordered)
    return ordered


@contextlib.contextmanager
def only_writer(output):
    """Hold the run directory; the system lets go of it when the process ends, however it ends."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with open(output / LOCK, "w") as lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ConfigError(
                        f"output: another run is writing {str(output)!r}. Wait for it, or type output=DIRECTORY."
                    ) from None
            yield
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.ENOSPC:
            raise ConfigError(
                f"output: {str(output)!r} cannot be written: {reason}. What finished is kept: make room, and type the same "
                "command again."
            ) from error
        raise ConfigError(
            f"output: {str(output)!r} cannot be written: {reason}. Type output=DIRECTORY."
        ) from error

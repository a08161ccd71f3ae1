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
import functools
import multiprocessing
import os
import pathlib
import platform
import queue
import shutil
import signal
import tempfile
import traceback
from typing import NamedTuple

import yaml

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from tf_lbgap import interrupts
from tf_lbgap.experiment import processes, workers
from tf_lbgap.experiment.calls import ConfigError, check, is_call, make, make_function
from tf_lbgap.experiment.files import CHECKPOINTS, digest, read_json, write_csv, write_json, write_text
from tf_lbgap.experiment.quiet import import_tensorflow


class RunFailed(RuntimeError):
    """Some arms and seeds did not finish."""


class Failure(NamedTuple):
    """What an exception leaves, in a form that travels between processes."""

    text: str  # one line
    traceback: str
    is_mistake: bool  # in the configuration


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
    with _only_writer(output):
        experiment = _with_cadence(experiment, _cadence_of_earlier_run(experiment, output))
        _write_config(experiment, output)
        (output / "error.txt").unlink(missing_ok=True)
        import_tensorflow()
        for name, arm in experiment.arms.items():
            try:
                _check_calls(arm)
            except ConfigError as error:
                raise ConfigError(f"arms: {name}: {error}") from error
        return _run(experiment, output, jobs, again, listen or _Silent(), machines)


def _check_calls(arm):
    """Raise for all that can be told before anything is trained: schedules and criteria cost nothing to make."""
    check(arm)
    make(arm["adaptive"])
    for key in ("batch_size", "learning_rate"):
        if is_call(arm[key]):
            make_function(arm[key])


def _tasks(experiment):
    return [(arm, seed) for arm in experiment.arms for seed in range(experiment.seeds)]


def _work(experiment, machines):
    """Train what the chief trains, and leave nothing; return an empty list."""
    for arm, seed in machines.agree(_tasks(experiment)):
        checkpoints = _aside(experiment, arm, seed) / CHECKPOINTS
        with tempfile.TemporaryDirectory() as folder:
            _trainer_of(experiment, arm).run(seed, folder=pathlib.Path(folder), checkpoints=checkpoints)
    return []


def _run(experiment, output, jobs, again, listen, machines):
    tasks = _tasks(experiment)
    rows = {} if again else {task: row for task in tasks if (row := _finished(experiment, *task))}
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


def _write_config(experiment, output):
    write_text(output / "config.yaml", yaml.safe_dump(experiment.to_dict(), sort_keys=False))


def _write_results(output, about, tasks, rows):
    ordered = [rows[task] for task in tasks if task in rows]
    write_json(output / "results.json", {**about, "runs": ordered})
    write_csv(output / "results.csv", ordered)
    return ordered


@contextlib.contextmanager
def _only_writer(output):
    """Hold the run directory; the system lets go of it when the process ends, however it ends."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with open(output / ".lock", "w") as lock:
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


def environment(jobs=1):
    """Return what the numbers may depend on besides the configuration: versions, device, threads."""
    import_tensorflow()
    import keras
    import numpy
    import tensorflow as tf

    import tf_lbgap

    details = tf.config.experimental.get_device_details
    devices = [details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "tf_lbgap": tf_lbgap.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": _threads(jobs)
        if jobs > 1
        else tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
        "devices": devices or ["CPU"],
    }


def _processor():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _folder(experiment, arm, seed):
    return pathlib.Path(experiment.output) / arm / str(seed)


def _identity(experiment, arm):
    measure = dict(vars(experiment.measure))
    if measure["monitor"] and measure["monitor"].get("max_overhead") is not None:
        # A cadence that was found within the budget is a result, not a setting.
        measure["monitor"] = {k: v for k, v in measure["monitor"].items() if k != "every"}
    return digest([experiment.arms[arm], experiment.equal, measure])


def _finished(experiment, arm, seed):
    content = read_json(_folder(experiment, arm, seed) / "result.json")
    if isinstance(content, dict) and content.get("identity") == _identity(experiment, arm):
        return content.get("result")
    return None


def _train_all(experiment, tasks, jobs, listen):
    """Yield (task, row or failure) as they come.

    TensorFlow connects to one cluster per process, and forgets what was on its devices before: so arms with a parameter
    server come last, in a process of their own.
    """
    alone = [task for task in tasks if experiment.arms[task[0]]["strategy"] == "parameter_server"]
    tasks = [task for task in tasks if task not in alone]
    if jobs > 1 and len(tasks) > 1:
        yield from _train_in_processes(experiment, tasks, jobs, listen)
    else:
        for task in tasks:
            import_tensorflow()
            listen.started(*task)
            yield task, _attempt(experiment, *task, functools.partial(listen.advanced, *task))
    if alone:
        yield from _train_in_processes(experiment, alone, 1, listen)


def _train_in_processes(experiment, tasks, jobs, listen):
    context = multiprocessing.get_context("spawn")
    with processes.manager(context) as manager:
        news = manager.Queue()
        with processes.Workers(
            min(jobs, len(tasks)), context, _begin_process, (jobs, os.getpid())
        ) as workers:
            waiting = list(tasks)
            while waiting or workers.busy:
                while waiting and workers.idle:
                    workers.submit(waiting.pop(0), _train_in_process, experiment, news)
                for task, outcome, error in workers.done(timeout=0.1):
                    if isinstance(error, processes.Died):
                        listen.advanced(*task, 0.0, "its process died; another goes on")
                        waiting.insert(0, task)
                        continue
                    if isinstance(error, OSError):
                        raise error
                    yield task, outcome if error is None else _failure(error)
                _pass_on(news, listen)


def _pass_on(news, listen):
    with contextlib.suppress(queue.Empty):
        while True:
            what, *message = news.get_nowait()
            getattr(listen, what)(*message)


def _threads(jobs):
    return max(1, (os.cpu_count() or 1) // jobs)


def _begin_process(jobs, parent):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    processes.die_with(parent)
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(_threads(jobs))


def _train_in_process(task, experiment, news):
    arm, seed = task
    news.put(("started", arm, seed))
    return _attempt(experiment, arm, seed, lambda *progress: news.put(("advanced", arm, seed, *progress)))


def _attempt(experiment, arm, seed, tell):
    try:
        return _train(experiment, arm, seed, tell)
    except Exception as error:  # the other arms go on
        if interrupts.pressed():
            raise KeyboardInterrupt from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # for which there is no room
            raise
        if type(error).__name__ == "WorkerLost":  # and here they cannot
            raise RunFailed(str(error)) from error
        return _failure(error)


def _failure(error):
    # TensorFlow puts the lines of a traceback into its messages, before what is wrong.
    _, found, text = str(error).rpartition('\n  File "')
    text = " ".join((text.partition("\n")[2] if found else text).split())
    told = isinstance(error, ConfigError)
    return Failure(
        text if told else f"{type(error).__name__}: {text}", "".join(traceback.format_exception(error)), told
    )


def _train(experiment, arm, seed, tell):
    folder, aside = _folder(experiment, arm, seed), _aside(experiment, arm, seed)
    if read_json(aside / "identity.json") != _identity(experiment, arm):
        shutil.rmtree(aside, ignore_errors=True)
        write_json(aside / "identity.json", _identity(experiment, arm))
    row = {"arm": arm, **_trainer_of(experiment, arm).run(seed, folder=aside, progress=tell)}
    write_json(aside / "result.json", {"identity": _identity(experiment, arm), "result": row})
    shutil.rmtree(aside / CHECKPOINTS, ignore_errors=True)
    (aside / "identity.json").unlink()
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return read_json(folder / "result.json")["result"]  # as a later call would read it


def _aside(experiment, arm, seed):
    """Where an arm and seed is while it is trained."""
    return _folder(experiment, arm, seed).with_name(f".{seed}.unfinished")


def _trainer_of(experiment, arm):
    settings = _identity(experiment, arm), str(experiment.measure.monitor)
    return _trainer(experiment.output, arm, settings, _Unhashed(experiment))


class _Unhashed:
    """Carries an argument past the cache, which knows it by its settings."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return isinstance(other, _Unhashed)


@functools.lru_cache(maxsize=1)  # a process trains one arm after the other
def _trainer(output, arm, settings, unhashed):
    from tf_lbgap.experiment.arm import Arm
    from tf_lbgap.experiment.asynchronous import AsynchronousArm
    from tf_lbgap.experiment.tune import TunedArm

    experiment = unhashed.value
    if experiment.equal == "tuned":
        return TunedArm(experiment.arms[arm], experiment.measure)
    if experiment.arms[arm]["strategy"] == "parameter_server":
        return AsynchronousArm(experiment.arms[arm], experiment.equal, experiment.measure)
    return Arm(experiment.arms[arm], experiment.equal, experiment.measure)


class _Silent:
    def started(self, arm, seed):
        pass

    def advanced(self, arm, seed, fraction, text):
        pass

    def finished(self, arm, seed, row, trained):
        pass

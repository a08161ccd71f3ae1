"""Running an experiment: arms x seeds, into a directory.

```
runs/quickstart/config.yaml              the experiment as it was understood
                results.json, .csv       a row per arm and seed
                small/0/result.json      one arm and seed: written last, so its presence means "finished"
                        model.weights.h5
                        train/ validation/   TensorBoard events
```

An arm and seed that is finished, with the same configuration, is not trained again.
"""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import platform
import queue
import shutil

import yaml

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.files import digest, read_json, write_csv, write_json, write_text
from tf_lbgap.experiment.quiet import import_tensorflow


class RunFailed(RuntimeError):
    """Some arms and seeds did not finish."""


def run(experiment, *, jobs=1, again=False, listen=None):
    """Train every arm with every seed and write the run directory.

    Args:
        experiment: An `Experiment`.
        jobs: How many processes train at the same time; they share the cores.
        again: Whether to train anew what is finished.
        listen: Object with `started(arm, seed)`, `advanced(arm, seed, fraction, text)` and
            `finished(arm, seed, row, trained)`, told as things happen.

    Returns:
        List of dicts, a row per arm and seed, in the order of the arms.

    Raises:
        RunFailed: If training raised; what finished is kept, and the next call goes on from there.
    """
    output = pathlib.Path(experiment.output)
    try:
        write_text(output / "config.yaml", yaml.safe_dump(experiment.to_dict(), sort_keys=False))
    except OSError as error:
        raise ConfigError(f"output: {str(output)!r} cannot be written: {error.strerror}.") from error
    tasks = [(arm, seed) for arm in experiment.arms for seed in range(experiment.seeds)]
    rows = {} if again else {task: row for task in tasks if (row := _finished(experiment, *task))}
    listen = listen or _Silent()
    for task, row in rows.items():
        listen.finished(*task, row, False)
    missing = [task for task in tasks if task not in rows]
    failed = {}
    for task, outcome in _train_all(experiment, missing, jobs, listen):
        if isinstance(outcome, BaseException):
            failed[task] = outcome
        else:
            rows[task] = outcome
            listen.finished(*task, outcome, True)
    ordered = [rows[task] for task in tasks if task in rows]
    write_json(output / "results.json", {"name": experiment.name, "environment": environment(), "runs": ordered})
    write_csv(output / "results.csv", ordered)
    if failed:
        (arm, seed), error = next(iter(failed.items()))
        if isinstance(error, ConfigError):
            raise error
        raise RunFailed(
            f"{len(failed)} of {len(tasks)} did not finish; the first was {arm}, seed {seed}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return ordered


def environment():
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
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
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
    return digest([experiment.arms[arm], experiment.equal, vars(experiment.measure)])


def _finished(experiment, arm, seed):
    content = read_json(_folder(experiment, arm, seed) / "result.json")
    if isinstance(content, dict) and content.get("identity") == _identity(experiment, arm):
        return content["result"]
    return None


def _train_all(experiment, tasks, jobs, listen):
    """Yield (task, row or exception) as they come."""
    if jobs == 1 or len(tasks) < 2:
        if tasks:
            import_tensorflow()
        for task in tasks:
            listen.started(*task)
            yield task, _attempt(experiment, *task, functools.partial(listen.advanced, *task))
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        news = manager.Queue()
        with concurrent.futures.ProcessPoolExecutor(
            min(jobs, len(tasks)), mp_context=context, initializer=_share_cores, initargs=(jobs,)
        ) as pool:
            futures = {pool.submit(_train_in_process, experiment, *task, news): task for task in tasks}
            waiting = set(futures)
            while waiting:
                done, waiting = concurrent.futures.wait(waiting, timeout=0.1, return_when="FIRST_COMPLETED")
                _pass_on(news, listen)
                for future in done:
                    error = future.exception()
                    yield futures[future], error if error is not None else future.result()


def _pass_on(news, listen):
    with contextlib.suppress(queue.Empty):
        while True:
            what, *message = news.get_nowait()
            getattr(listen, what)(*message)


def _share_cores(jobs):
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(max(1, (os.cpu_count() or 1) // jobs))


def _train_in_process(experiment, arm, seed, news):
    news.put(("started", arm, seed))
    return _attempt(experiment, arm, seed, lambda *progress: news.put(("advanced", arm, seed, *progress)))


def _attempt(experiment, arm, seed, tell):
    try:
        return _train(experiment, arm, seed, tell)
    except Exception as error:  # the other arms go on
        return error


def _train(experiment, arm, seed, tell):
    folder = _folder(experiment, arm, seed)
    aside = folder.with_name(f".{seed}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    trainer = _trainer(experiment.output, arm, _identity(experiment, arm), _Unhashed(experiment))
    row = {"arm": arm, **trainer.run(seed, folder=aside, progress=tell)}
    write_json(aside / "result.json", {"identity": _identity(experiment, arm), "result": row})
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return read_json(folder / "result.json")["result"]  # as a later call would read it


class _Unhashed:
    """Carries an argument past the cache, which knows it by its identity string."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return isinstance(other, _Unhashed)


@functools.lru_cache(maxsize=1)  # a process trains one arm after the other
def _trainer(output, arm, identity, unhashed):
    from tf_lbgap.experiment.arm import Arm

    experiment = unhashed.value
    return Arm(experiment.arms[arm], experiment.equal, experiment.measure)


class _Silent:
    def started(self, arm, seed):
        pass

    def advanced(self, arm, seed, fraction, text):
        pass

    def finished(self, arm, seed, row, trained):
        pass

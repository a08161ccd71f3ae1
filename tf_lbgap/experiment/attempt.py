"""One arm and seed in its folder: finished before, or trained now, or failed.

It is trained in a folder aside, which gets its name when `result.json` is in it, so a folder that is there is finished.
"""

import errno
import functools
import pathlib
import shutil
import traceback
from typing import NamedTuple

from tf_lbgap import interrupts
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.files import CHECKPOINTS, digest, read_json, write_json


class RunFailed(RuntimeError):
    """Some arms and seeds did not finish."""


class Failure(NamedTuple):
    """What an exception leaves, in a form that travels between processes."""

    text: str  # one line
    traceback: str
    is_mistake: bool  # in the configuration


def finished(experiment, arm, seed):
    """Return the row of an arm and seed that was trained with this configuration, or None."""
    content = read_json(_folder(experiment, arm, seed) / "result.json")
    if isinstance(content, dict) and content.get("identity") == _identity(experiment, arm):
        return content.get("result")
    return None


def attempt(experiment, arm, seed, tell):
    """Train an arm and seed, or go on with it, in its folder.

    Args:
        experiment: An `Experiment`.
        arm: Name of an arm.
        seed: Whole number.
        tell: Function (fraction, text) that is told how far training is.

    Returns:
        Its row; or a `Failure`, if training raised.

    Raises:
        OSError: If there is no room to write.
        RunFailed: If it trained on several machines and another was lost.
    """
    try:
        return _train(experiment, arm, seed, tell)
    except Exception as error:  # the other arms go on
        if interrupts.pressed():
            raise KeyboardInterrupt from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # for which there is no room
            raise
        if type(error).__name__ == "WorkerLost":  # and here they cannot
            raise RunFailed(str(error)) from error
        return failure_of(error)


def failure_of(error):
    """Return the `Failure` that an exception is."""
    # TensorFlow puts the lines of a traceback into its messages, before what is wrong.
    _, found, text = str(error).rpartition('\n  File "')
    text = " ".join((text.partition("\n")[2] if found else text).split())
    told = isinstance(error, ConfigError)
    return Failure(
        text if told else f"{type(error).__name__}: {text}", "".join(traceback.format_exception(error)), told
    )


def _train(experiment, arm, seed, tell):
    folder, aside = _folder(experiment, arm, seed), aside_of(experiment, arm, seed)
    if read_json(aside / "identity.json") != _identity(experiment, arm):
        shutil.rmtree(aside, ignore_errors=True)
        write_json(aside / "identity.json", _identity(experiment, arm))
    row = {"arm": arm, **trainer_of(experiment, arm).run(seed, folder=aside, progress=tell)}
    write_json(aside / "result.json", {"identity": _identity(experiment, arm), "result": row})
    shutil.rmtree(aside / CHECKPOINTS, ignore_errors=True)
    (aside / "identity.json").unlink()
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return read_json(folder / "result.json")["result"]  # as a later call would read it


def aside_of(experiment, arm, seed):
    """Where an arm and seed is while it is trained."""
    return _folder(experiment, arm, seed).with_name(f".{seed}.unfinished")


def trainer_of(experiment, arm):
    """Return what trains an arm, with `run(seed, folder=, progress=, checkpoints=)`; the last one is kept, compiled."""
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
    from tf_lbgap.experiment.full_batch import FullBatchArm
    from tf_lbgap.experiment.tune import TunedArm

    experiment = unhashed.value
    if experiment.equal == "tuned":
        return TunedArm(experiment.arms[arm], experiment.measure)
    if experiment.arms[arm]["strategy"] == "parameter_server":
        return AsynchronousArm(experiment.arms[arm], experiment.equal, experiment.measure)
    if experiment.arms[arm]["full_batch"] is not None:
        return FullBatchArm(experiment.arms[arm], experiment.equal, experiment.measure)
    return Arm(experiment.arms[arm], experiment.equal, experiment.measure)


def _folder(experiment, arm, seed):
    return pathlib.Path(experiment.output) / arm / str(seed)


def _identity(experiment, arm):
    measure = dict(vars(experiment.measure))
    if measure["monitor"] and measure["monitor"].get("max_overhead") is not None:
        # A cadence that was found within the budget is a result, not a setting.
        measure["monitor"] = {k: v for k, v in measure["monitor"].items() if k != "every"}
    return digest([experiment.arms[arm], experiment.equal, measure])

"""A search on several machines: Keras Tuner's chief, which chooses, and its workers, which train.

Each is the same `lbgap search` command, in the same shared folder, told apart by Keras Tuner's variables:

    KERASTUNER_TUNER_ID     "chief", or any name of a worker, each its own
    KERASTUNER_ORACLE_IP    where the chief listens
    KERASTUNER_ORACLE_PORT

A worker that is started again under its name goes on with the trial that it had.
"""

import os

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.side_by_side import Direct
from tf_lbgap.search import trials

_VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def are_asked_for():
    """Return whether this process is one of several of a search.

    Raises:
        ConfigError: If some variables are set and others are not.
    """
    missing = [name for name in _VARIABLES if name not in os.environ]
    if len(missing) == len(_VARIABLES):
        return False
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: not set, but others of Keras Tuner's are. Set all of {', '.join(_VARIABLES)}."
        )
    return True


def check(jobs, again):
    """Raise for options that do nothing in one process of several."""
    if jobs > 1:
        raise ConfigError(
            "--jobs: is for one machine. Start as many workers instead, each with its own KERASTUNER_TUNER_ID."
        )
    if again and not is_chief():
        raise ConfigError("--again: give it to the chief alone.")


def is_chief():
    """Return whether this process chooses the trials."""
    return "chief" in os.environ["KERASTUNER_TUNER_ID"]


def serve(room, listen):
    """Let workers train the trials of a `run.Room`, until Keras Tuner has no more of them."""
    end = room.oracle.end_trial

    def end_and_tell(trial):
        end(trial)
        room.write()
        listen.ended(room.found(trial.trial_id), True)

    room.oracle.end_trial = end_and_tell
    _tuner(room).search()


def work(room, listen):
    """Train the trials that the chief gives, until it has no more of them."""
    _tuner(room, Direct(listen)).search()


def _tuner(room, news=None):
    import keras_tuner

    class Tuner(keras_tuner.engine.base_tuner.BaseTuner):
        """Keras Tuner's loop around our trials."""

        def run_trial(self, trial):
            key, arguments = room.piece(trial)
            outcomes = trials.train(key, *arguments, news)
            found = room.record(trial, outcomes)
            if found["status"] != "finished":
                raise keras_tuner.errors.FailedTrialError(f"{found['status']}: {found['message']}")
            return trials.metrics(found, room.search.objective)

    return Tuner(room.oracle, directory=str(room.output), project_name="keras_tuner")

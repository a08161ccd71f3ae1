"""The rate and the batch that an arm was trained with, which are not always the ones its configuration names.

A tuned arm found its rate itself, and a batch size is rounded or capped (`multiple_of`, `maximum`): both are in its row.
Where they changed while it trained there is no such number.
"""

import math

from tf_lbgap.experiment.calls import is_call


def rate_of(run, arm, seed):
    """Return the learning rate, a float; NaN if it was no constant, or the configuration names none.

    Args:
        run: A `FinishedRun`.
        arm, seed: Which finished.
    """
    config = run.experiment.arms[arm]
    named, own = config["learning_rate"], config["optimizer"].get("learning_rate")
    follows = config["scale_learning_rate"] != "none" and math.isnan(batch_of(run, arm, seed))
    if is_call(named) or follows or config["full_batch"]:  # a tuned arm's row has the factor of its schedule
        return math.nan
    rate = run.row(arm, seed).get("learning_rate", own if named is None else named)
    return float(rate) if isinstance(rate, (int, float)) else math.nan


def batch_of(run, arm, seed):
    """Return the batch size, an int; NaN if it was no constant, or there were no batches."""
    config = run.experiment.arms[arm]
    is_constant = isinstance(config["batch_size"], int) and not config["adaptive"]
    return run.row(arm, seed)["batch_size"] if is_constant and not config["full_batch"] else math.nan

"""An arm whose learning rate is tuned before it is compared: `equal: tuned`.

A rate that suits one batch size does not suit another, so arms may be compared each at its own best
(Shallue et al. 2019). The rate is chosen on two splits that no seed of the comparison uses, by the mean accuracy
on a fifth of their training sets; test data take no part. A rate that diverges with one of them is out.

References:
    Shallue et al., "Measuring the effects of data parallelism on neural network training", 2019.
"""

import dataclasses
import math
import statistics

from tf_lbgap.experiment.arm import Arm
from tf_lbgap.experiment.calls import ConfigError, is_call
from tf_lbgap.experiment.making import load_held_out

TUNING_SEEDS = (1_000_003, 1_000_033)  # beyond the seeds 0, 1, ... of a comparison
HELD_OUT = 0.2  # of the training set


class TunedArm:
    """An `Arm` that first tries each of `learning_rates`, for `epochs`, and keeps the best.

    A rate multiplies the arm's `learning_rate` if that is a schedule. Adds to each row
    `learning_rate`, and `learning_rate_at_edge`: whether it is the smallest or largest one tried, so
    that a better one may lie beyond.
    """

    def __init__(self, config, measure):
        self._schedule = config["learning_rate"]
        self._rates = sorted(config["learning_rates"])
        self._arm = Arm(dict(config), "epochs", measure)
        unmeasured = dataclasses.replace(measure, top_eigenvalue_examples=0, monitor=None, robustness=None)
        self._trial = Arm(self._arm.config, "epochs", unmeasured)
        self._best = None

    def run(self, seed, *, folder=None, progress=None, checkpoints=None):
        """Train with the best rate; see `Arm.run`."""
        if self._best is None:
            self._best = self._choose(progress or (lambda fraction, text: None))
        self._use(self._best)
        row = self._arm.run(seed, folder=folder, progress=progress, checkpoints=checkpoints)
        at_edge = self._best in (self._rates[0], self._rates[-1])
        return {**row, "learning_rate": self._best, "learning_rate_at_edge": at_edge}

    def _choose(self, tell):
        splits = {seed: load_held_out(self._arm.config["data"], seed, HELD_OUT) for seed in TUNING_SEEDS}
        scores = {}
        for i, rate in enumerate(self._rates):
            tell(i / len(self._rates), f"tuning: learning rate {rate:g}")
            self._use(rate)
            rows = [self._trial.run(seed, split=split) for seed, split in splits.items()]
            if all(row["reached"] and math.isfinite(row["test_loss"]) for row in rows):
                scores[rate] = _score(rows)
        if not scores:
            raise ConfigError(
                f"learning_rates: training diverged with each of {self._rates}. Add smaller ones."
            )
        return max(scores, key=scores.get)

    def _use(self, rate):
        schedule = self._schedule
        if is_call(schedule):
            rate = {"call": "schedules.scaled", "schedule": schedule, "factor": rate}
        self._arm.config["learning_rate"] = rate


def _score(rows):
    """Mean accuracy, 0 where targets are no classes; the loss breaks ties."""
    accuracy = statistics.fmean(row["test_accuracy"] for row in rows)
    loss = statistics.fmean(row["test_loss"] for row in rows)
    return (accuracy if math.isfinite(accuracy) else 0.0, -loss)

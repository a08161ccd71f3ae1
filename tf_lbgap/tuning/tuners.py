"""Tuners for scripts: Keras Tuner's, with several seeds a trial, and their spread kept.

A trial that raises or diverges is recorded, and the search goes on; a search that was killed goes on when the same script runs again.
"""

import math
import statistics

import keras
import keras_tuner

from tf_lbgap import strategy as strategies
from tf_lbgap.tuning import oracles
from tf_lbgap.tuning.oracles import ERROR

DEVIATION = "_deviation"
MISTAKES = 3  # so many trials of a search that begins with nothing but exceptions
DIRECTIONS = {
    "updates_to_target": "min",
    "examples_to_target": "min",
    "seconds_to_target": "min",
    "top_eigenvalue": "min",
}
"""Of the objectives that `HyperModel` adds, which Keras Tuner cannot infer."""


class Tuner(keras_tuner.Tuner):
    """Trains each trial with several seeds, and reports the mean of each metric, and its standard deviation as `..._deviation`.

    Args:
        hypermodel: `HyperModel`, or any of Keras Tuner's.
        objective: Name of a metric, or a `keras_tuner.Objective`.
        seeds: How many: 0, 1, ... Each decides the initial weights and, with our `HyperModel`, the order of examples.
        strategy: A name of `strategy.from_name`; models are built in its scope.
        **options: Those of the oracle (`max_trials`, `seed`, ...) and of `keras_tuner.Tuner` (`directory`, `project_name`,
            `overwrite`, ...).
    """

    oracle_class = None
    _of_tuner = (
        "max_model_size",
        "optimizer",
        "loss",
        "metrics",
        "directory",
        "project_name",
        "logger",
        "tuner_id",
        "overwrite",
    )

    def __init__(self, hypermodel, objective=None, *, seeds=1, strategy="default", **options):
        if "executions_per_trial" in options:
            raise ValueError(
                "executions_per_trial: pass seeds= instead; each execution has a seed of its own."
            )
        if isinstance(objective, str) and objective in DIRECTIONS:
            objective = keras_tuner.Objective(objective, DIRECTIONS[objective])
        own = {key: options.pop(key) for key in self._of_tuner if key in options}
        chosen = None if strategy == "default" else strategies.from_name(strategy)
        super().__init__(
            oracle=self.oracle_class(objective=objective, **options),
            hypermodel=hypermodel,
            distribution_strategy=chosen,
            executions_per_trial=seeds,
            **own,
        )

    def run_trial(self, trial, *args, **kwargs):
        """Train a trial; see `keras_tuner.Tuner.run_trial`."""
        self._seed = iter(range(self.executions_per_trial))
        results = super().run_trial(trial, *args, **kwargs)
        return summary(
            [_metrics(result, self.oracle.objective) for result in results], self.oracle.objective.name
        )

    def on_trial_end(self, trial):
        """End the search if nothing but exceptions has come of the first trials: another will not help."""
        super().on_trial_end(trial)
        trials = getattr(self.oracle, "trials", {})  # a worker does not have them
        ended = [each for each in trials.values() if each.status in ("COMPLETED", "FAILED")]
        if len(ended) >= MISTAKES and all(map(_has_raised, ended)):
            told = trial.message.strip().splitlines()[-1]
            raise RuntimeError(f"The first {len(ended)} trials failed, the last so: {told}")

    def get_best_hyperparameters(self, num_trials=1):
        """Return those of the best trials, fewer if fewer have a score."""
        best = self.oracle.get_best_trials(num_trials)
        return [trial.hyperparameters for trial in best if trial.score is not None]

    def _build_and_fit_model(self, trial, *args, **kwargs):
        seed = next(self._seed)
        keras.utils.set_random_seed(seed)
        self.hypermodel.seed = seed
        return super()._build_and_fit_model(trial, *args, **kwargs)


class RandomSearch(Tuner):
    """`keras_tuner.RandomSearch` with seeds; see `Tuner`."""

    oracle_class = oracles.RandomSearchOracle


class BayesianOptimization(Tuner):
    """`keras_tuner.BayesianOptimization` with seeds, which knows how noisy its scores are; see `Tuner`."""

    oracle_class = oracles.BayesianOptimizationOracle


class GridSearch(Tuner):
    """`keras_tuner.GridSearch` with seeds, which survives a restart; see `Tuner`."""

    oracle_class = oracles.GridSearchOracle


class Hyperband(Tuner):
    """`keras_tuner.Hyperband` with seeds; see `Tuner`.

    An epoch is as many examples whatever the batch, so large ones are not cut off after fewer examples. Each trial trains anew for
    its epochs, where Keras Tuner's goes on from weights without the optimizer's state: 1 / (factor - 1) more epochs at most.
    """

    oracle_class = oracles.HyperbandOracle

    def run_trial(self, trial, *args, **kwargs):
        """Train a trial for as many epochs as it is given."""
        return super().run_trial(
            trial, *args, **{**kwargs, "epochs": trial.hyperparameters.values["tuner/epochs"]}
        )


def _has_raised(trial):
    """Whether a trial failed by an exception, not by diverging or missing a target."""
    return trial.status == "FAILED" and bool(trial.message) and "FailedTrialError" not in trial.message


def summary(results, objective):
    """Return the means of metrics over seeds, their standard deviations, and the standard error of the objective's mean.

    Args:
        results: List of dicts, one of each seed.
        objective: Name of a metric.
    """
    told = {key: statistics.fmean(result[key] for result in results) for key in results[0]}
    if len(results) > 1:
        spread = {key: statistics.stdev(result[key] for result in results) for key in results[0]}
        told |= {key + DEVIATION: value for key, value in spread.items()}
        told[objective + ERROR] = (
            spread[objective] / math.sqrt(len(results)) if objective in spread else math.nan
        )
    return told


def _metrics(result, objective):
    """Return what a `fit` of a hypermodel gave as a dict; of a history the epoch with the best objective."""
    if isinstance(result, keras.callbacks.History):
        epochs = [
            dict(zip(result.history, row, strict=True)) for row in zip(*result.history.values(), strict=True)
        ]
        sign = -1 if objective.direction == "max" else 1
        result = min(epochs, key=lambda logs: sign * objective.get_value(logs))
    if not isinstance(result, dict):
        result = {objective.name: result}
    return {key: float(value) for key, value in result.items()}

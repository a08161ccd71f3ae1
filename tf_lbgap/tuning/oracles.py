"""Keras Tuner's oracles, kept in one file that is never half written, and a grid that survives a restart.

Keras Tuner writes a file per trial and one of the oracle, one after the other and in place: a process killed between them leaves
trials that are running and belong to nobody, or that are finished and wait to be run again. Here all of it is one file, written
aside and renamed. A trial that fails is recorded, and does not end the search.
"""

import itertools
import json
import pathlib

import keras_tuner
import numpy as np

from tf_lbgap.aside import written_aside

ENDLESS = 10**9  # failed trials, one after the other
ERROR = "_error"  # what a metric's name is followed by in that of its standard error over seeds
_FINAL = ("COMPLETED", "FAILED")
_LEAST_NOISE = 1e-4  # Keras Tuner's own


class InOneFile:
    """Saves and reloads an oracle with its trials; stands before one of Keras Tuner's among the bases."""

    def __init__(self, *args, max_consecutive_failed_trials=ENDLESS, **kwargs):
        super().__init__(*args, max_consecutive_failed_trials=max_consecutive_failed_trials, **kwargs)
        self.file = None

    def save(self):
        """Write the state of the oracle and of all trials."""
        trials = [trial.get_state() for trial in self.trials.values()]
        with written_aside(self._path()) as file:
            file.write(json.dumps({"oracle": self.get_state(), "trials": trials}).encode())

    def reload(self):
        """Read them; trials that were running are run again."""
        content = json.loads(self._path().read_text(encoding="utf-8"))
        trials = map(keras_tuner.engine.trial.Trial.from_state, content["trials"])
        self.trials = {trial.trial_id: trial for trial in trials}
        self.set_state(content["oracle"])
        # A trial is saved when it has ended, just before it is struck off the list of those that run.
        self.run_again([t.trial_id for t in self.ongoing_trials.values() if t.status not in _FINAL])
        self.ongoing_trials = {}

    def run_again(self, trial_ids):
        """Give these trials out before any new one, in their order."""
        for trial_id in trial_ids:
            self.trials[trial_id].status = "RUNNING"
        self._retry_queue += reversed(trial_ids)

    def _path(self):
        return pathlib.Path(self.file or self._get_oracle_fname())

    def _save_trial(self, trial):
        """Keras Tuner's file of one trial: not needed."""


class RandomSearchOracle(InOneFile, keras_tuner.oracles.RandomSearchOracle):
    """Values drawn at random."""


class BayesianOptimizationOracle(InOneFile, keras_tuner.oracles.BayesianOptimizationOracle):
    """Values where a Gaussian process of the scores so far has its best bound.

    Keras Tuner's own takes scores for exact, and leaves out trials that failed, so that it comes back to where they did. Here the
    process knows the standard error of the scores (`alpha`, unless it is given), and a failed trial counts as the worst so far.
    """

    def __init__(self, *args, alpha=None, **kwargs):
        super().__init__(*args, alpha=_LEAST_NOISE if alpha is None else alpha, **kwargs)
        self._is_noise_known = alpha is not None

    def populate_space(self, trial_id):
        """Return values for a trial; see `keras_tuner.Oracle.populate_space`."""
        if not self._is_noise_known:
            self.gpr.set_params(alpha=self._noise())
        return super().populate_space(trial_id)

    def _noise(self):
        """Return the variance of a score's error, in units of the variance of the scores."""
        done = [trial for trial in self.trials.values() if trial.status == "COMPLETED"]
        name = self.objective.name + ERROR
        errors = [trial.metrics.get_best_value(name) for trial in done if trial.metrics.exists(name)]
        spread = np.var([trial.score for trial in done]) if done else 0.0
        if not errors or spread == 0:
            return _LEAST_NOISE
        return float(max(np.mean(np.square(errors)) / spread, _LEAST_NOISE))

    def _vectorize_trials(self):
        x, y = super()._vectorize_trials()
        failed = [trial for trial in self.trials.values() if trial.status in ("FAILED", "INVALID")]
        if not failed or not len(y):
            return x, y
        more = [[self._share(hp, trial) for hp in self.hyperparameters.space] for trial in failed]
        return np.concatenate([x, more]), np.concatenate([y, np.full(len(more), np.max(y))])

    @staticmethod
    def _share(hp, trial):
        return hp.value_to_prob(trial.hyperparameters.values.get(hp.name, hp.default))


class HyperbandOracle(InOneFile, keras_tuner.oracles.HyperbandOracle):
    """Many trials of few epochs, fewer of more. An epoch is as many examples whatever the batch."""


class GridSearchOracle(InOneFile, keras_tuner.Oracle):
    """Every combination of the values, the last one varying fastest.

    Keras Tuner's own does not save where it is, and repeats itself after a restart.
    """

    def populate_space(self, trial_id):
        """Return the first combination that no trial has."""
        space = self.hyperparameters.space
        tried = {_key(trial.hyperparameters.values) for trial in self.trials.values()}
        for combination in itertools.product(*(hp.values for hp in space)):
            values = self._active(zip((hp.name for hp in space), combination, strict=True))
            if _key(values) not in tried:
                return {"status": "RUNNING", "values": values}
        # What a trial asks for first, others have not been asked for: the grid may yet grow.
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}

    def _active(self, values):
        """Leave out what holds under conditions that do not."""
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(values)
        return {
            hp.name: hyperparameters.values[hp.name]
            for hp in hyperparameters.space
            if hyperparameters.is_active(hp)
        }


def _key(values):
    return frozenset(values.items())


ORACLES = {
    "random": RandomSearchOracle,
    "bayesian": BayesianOptimizationOracle,
    "hyperband": HyperbandOracle,
    "grid": GridSearchOracle,
}
"""By the names that `tuner:` takes."""

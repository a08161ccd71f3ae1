"""The rate and the batch of arms that were tuned, rounded or scheduled, against what their optimizers were seen to have."""

import keras
import numpy as np
import pytest
import tiny_runs

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun
from tf_lbgap.reproduction.studies.trained_with import batch_of, rate_of

SGD = {"call": "keras.optimizers.SGD", "learning_rate": 0.3}
CONSTANT = {"call": "schedules.constant", "value": 0.5}
GROWING = {"call": "schedules.staircase", "initial": 20, "factor": 2, "milestones": [1]}
SEEN = {}


class Seen(keras.callbacks.Callback):
    """Notes the rate of the last update."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_train_batch_begin(self, batch, logs=None):
        SEEN[self.name] = float(self.model.optimizer.learning_rate)


def run_of(folder, arms, **options):
    content = {**tiny_runs.TINY, "optimizer": SGD, "epochs": 2, **options}
    content["arms"] = {
        name: {**own, "callbacks": [{"call": "test_trained_with:Seen", "name": name}]}
        for name, own in arms.items()
    }
    tiny_runs.run({**content, "output": str(folder)})
    return FinishedRun(folder)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    arms = {"number": {"batch_size": 50}, "schedule": {"batch_size": 50, "learning_rate": CONSTANT}}
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return run_of(folder, arms, equal="tuned", learning_rates=[0.001, 0.1])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    arms = {
        "optimizers": {"batch_size": 50},
        "own": {"batch_size": 50, "learning_rate": 0.05},
        "schedule": {"batch_size": 50, "learning_rate": CONSTANT},
        "capped": {"batch_size": 50, "maximum": 20},
        "growing": {"batch_size": GROWING},
        "scaled": {"batch_size": GROWING, "scale_learning_rate": "linear"},
    }
    return run_of(tmp_path_factory.mktemp("plain") / "run", arms)


@pytest.mark.slow
def test_the_rate_of_a_tuned_arm_is_the_one_that_was_chosen(tuned):
    assert SEEN["number"] == pytest.approx(0.1)  # the last training is that of the comparison
    assert rate_of(tuned, "number", 0) == 0.1
    assert SEEN["schedule"] == pytest.approx(0.05) and np.isnan(rate_of(tuned, "schedule", 0))


@pytest.mark.parametrize(
    ("arm", "rate"), [("optimizers", 0.3), ("own", 0.05), ("capped", 0.3), ("growing", 0.3)]
)
def test_the_rate_of_another_arm_is_its_own_or_its_optimizers(plain, arm, rate):
    assert SEEN[arm] == pytest.approx(rate) and rate_of(plain, arm, 0) == rate


def test_what_changed_while_training_is_nan(plain):
    assert SEEN["scaled"] == pytest.approx(0.6)
    assert np.isnan([rate_of(plain, arm, 0) for arm in ("schedule", "scaled")]).all()
    assert np.isnan([batch_of(plain, arm, 0) for arm in ("growing", "scaled")]).all()


def test_the_batch_is_the_one_that_was_cut(plain):
    """Ten updates for 100 examples twice, at most 20 at a time."""
    assert plain.row("capped", 0)["updates"] == 10 and batch_of(plain, "capped", 0) == 20
    assert batch_of(plain, "own", 0) == 50


@pytest.mark.slow
def test_studies_take_the_rate_that_was_chosen(tuned):
    (row,) = studies.batch_sharpness(tuned, arms="number", batches=2)["rows"]
    assert row["over_edge"] == pytest.approx(row["batch_sharpness"] * 0.1 / 2)
    (row,) = studies.measures(tuned, arms="number", measures=["top_eigenvalue"], examples=10)["rows"]
    assert row["rate_over_batch"] == pytest.approx(0.1 / 50)
    with pytest.raises(ConfigError, match="arms: schedule: batch sharpness"):
        studies.batch_sharpness(tuned, arms="schedule", batches=2)


def test_studies_take_the_batch_that_was_cut(plain):
    (row,) = studies.measures(plain, arms="capped", measures=["top_eigenvalue"], examples=10)["rows"]
    assert row["rate_over_batch"] == pytest.approx(0.3 / 20)

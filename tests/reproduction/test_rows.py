"""What a row says for claims: how far weights went, which data it rests on, how each test example fared, and a tuned rate."""

import pathlib

import keras
import numpy as np
import pytest
from tiny_runs import ONE_ARM, run

from tf_lbgap import experiment
from tf_lbgap.experiment import tune
from tf_lbgap.experiment.judged_on import FILE, data_row, read_examples
from tf_lbgap.experiment.making import load_split, make_model


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_distance_and_test_examples_are_those_of_the_saved_weights():
    content = {**ONE_ARM, "output": "run", "measure": {**ONE_ARM["measure"], "test_examples": True}}
    (row,) = run(content)
    arm = experiment.from_dict(content).arms["small"]
    split = load_split(arm["data"], 0)
    model = make_model(arm["model"], split, 0)
    before = np.concatenate([np.ravel(w) for w in model.get_weights()])
    model.load_weights("run/small/0/model.weights.h5")
    after = np.concatenate([np.ravel(w) for w in model.get_weights()])
    np.testing.assert_allclose(row["distance"], np.linalg.norm(after - before), rtol=1e-6)

    found = read_examples(pathlib.Path("run/small/0") / FILE)
    logits = model.predict(split.x_test, verbose=0)
    np.testing.assert_array_equal(found["test_accuracy"], logits.argmax(1) == split.y_test)
    loss = keras.losses.sparse_categorical_crossentropy(split.y_test, logits, from_logits=True)
    np.testing.assert_allclose(found["test_loss"], loss, rtol=1e-4, atol=1e-6)
    assert {key: len(values) for key, values in found.items()} == {"test_accuracy": 1697, "test_loss": 1697}
    np.testing.assert_allclose(found["test_accuracy"].mean(), row["test_accuracy"], rtol=1e-6)

    assert [row[key] for key in ("num_train", "num_test", "pool")] == [100, 1697, 1797]
    assert row["test_set"] == data_row(split)["test_set"] != data_row(load_split(arm["data"], 1))["test_set"]


def test_single_examples_are_kept_only_if_asked_for():
    run({**ONE_ARM, "output": "run"})
    assert read_examples(pathlib.Path("run/small/0") / FILE) is None


def test_a_rate_is_chosen_by_the_mean_over_two_splits_that_nobody_else_uses(monkeypatch):
    """0.2 is best on one of them, 0.1 in the mean; 0.4 diverges on one."""
    accuracy = {0.1: (0.80, 0.80), 0.2: (0.90, 0.60), 0.4: (0.99, None)}
    asked = []

    def train(self, seed, *, split=None, folder=None, progress=None, checkpoints=None):
        rate, place = self.config["learning_rate"], tune.TUNING_SEEDS.index(seed) if split else None
        asked.append((rate, seed))
        found = 0.5 if place is None else accuracy[rate][place]
        return {"test_accuracy": found or 0.0, "test_loss": 1.0, "reached": found is not None}

    monkeypatch.setattr(tune.Arm, "run", train)
    content = {**ONE_ARM, "equal": "tuned", "learning_rates": list(accuracy)}
    made = experiment.from_dict(content)
    row = tune.TunedArm(made.arms["small"], made.measure).run(7)
    assert (row["learning_rate"], row["learning_rate_at_edge"]) == (0.1, True)
    assert len(asked) == 7 and asked[-1] == (0.1, 7)
    assert len({seed for _, seed in asked}) == 3


@pytest.mark.parametrize("noise", [{"alpha": 3}, {"fraction": 0.5}], ids=["copies", "drawn anew"])
def test_copies_with_noisy_labels_are_no_further_examples_of_the_pool(noise):
    """100 of 1,797 digits are 100 draws, however often each is there: else intervals would allow for 400."""
    clean = {"call": "data.datasets.digits", "num_train": 100}
    split = load_split({"call": "data.corruption.noisy_labels", "data": clean, **noise}, 0)
    assert len(split.y_train) == (400 if "alpha" in noise else 100)
    again = load_split({"call": "data.corruption.noisy_labels", "data": {"call": "data.corruption.noisy_labels", "data": clean, "alpha": 1}, **noise}, 0)  # fmt: skip
    for each in (split, again):
        assert [data_row(each)[key] for key in ("num_train", "pool")] == [100, 1797]

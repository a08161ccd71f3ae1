"""Distances between twins, against softmax regression in NumPy."""

import copy
import math

import numpy as np
import pytest
import tiny_runs

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun

TWIN = {
    "call": "data.neighbours.one_example_replaced",
    "index": 0,
    "data": {"call": "data.datasets.digits", "num_train": 60},
}
SGD = {"call": "keras.optimizers.SGD", "learning_rate": 0.1}
GROWING = {"call": "schedules.staircase", "initial": 20, "factor": 2, "milestones": [1]}


def arms():
    found = {
        "one": {"batch_size": 60, "epochs": 1},  # a single update on all 60
        "ragged": {"batch_size": 25, "epochs": 3},  # batches of 25, 25 and 10
        "same": {"batch_size": 25, "epochs": 2},
        "growing": {"batch_size": GROWING, "epochs": 3},
    }
    twins = {f"{arm}_twin": {**own, "data": TWIN} for arm, own in found.items()}
    twins["same_twin"] = found["same"]
    return {**found, **twins}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours") / "run"
    content = {
        **tiny_runs.TINY,
        "data": TWIN["data"],
        "model": {"call": "networks.mlp", "widths": []},
        "optimizer": SGD,
        "seeds": 1,
        "arms": arms(),
        "output": str(folder),
    }
    tiny_runs.run(content)
    return FinishedRun(folder)


@pytest.fixture(scope="module")
def rows(run):
    names = ("one", "ragged", "same", "growing")
    found = studies.parameter_distance(run, pairs=[[name, f"{name}_twin"] for name in names], examples=50)
    return {(row["arm"].split(" to ")[0], row["seed"]): row for row in found["rows"]}


def gradient(weights, x, y):
    """Of each example, shape (examples, 650)."""
    z = x.reshape(len(x), -1) @ weights[0] + weights[1]
    p = np.exp(z - z.max(1, keepdims=True))
    out = p / p.sum(1, keepdims=True) - np.eye(10)[y]
    return np.concatenate([(x[:, :, None] * out[:, None]).reshape(len(x), -1), out], 1)


def losses(weights, x, y):
    z = x @ weights[0] + weights[1]
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]


def test_after_one_update_the_distance_is_that_of_two_gradients(run, rows):
    """w - w' = rate / N (g(x') - g(x)): all else is equal, the initial weights and the other 59 examples."""
    for seed in (0,):
        a, b = run.split("one", seed), run.split("one_twin", seed)
        start = [np.float64(w) for w in run.initial_weights("one", seed)]
        first, second = (gradient(start, np.float64(s.x_train[:1]), s.y_train[:1]) for s in (a, b))
        distance = 0.1 / 60 * np.linalg.norm(first - second)
        assert rows["one", seed]["twin_distance"] == pytest.approx(
            distance, rel=1e-3
        )  # a difference in float32
        assert rows["one", seed]["twin_distance"] > 1e-4


def test_arms_on_the_same_data_end_at_the_same_weights(rows):
    """So the initial weights and the order of examples depend on the seed alone."""
    assert all(rows["same", seed][key] == 0 for seed in (0,) for key in ("twin_distance", "loss_difference"))


def test_distances_and_losses_are_those_of_the_weights(run, rows):
    for seed in (0,):
        a, b = (
            [np.float64(w) for w in copy.deepcopy(run.weights(arm, seed))]
            for arm in ("ragged", "ragged_twin")
        )
        flat_a, flat_b = (np.concatenate([w.ravel() for w in weights]) for weights in (a, b))
        row = rows["ragged", seed]
        distance = np.linalg.norm(flat_a - flat_b)
        assert row["twin_distance"] == pytest.approx(distance, rel=1e-6)
        norms = math.hypot(np.linalg.norm(flat_a), np.linalg.norm(flat_b))
        assert row["normalized_distance"] == pytest.approx(distance / norms, rel=1e-6)
        x, y = run.test_sample("ragged", seed, 50)
        difference = np.abs(losses(a, np.float64(x), y) - losses(b, np.float64(x), y)).max()
        assert row["loss_difference"] == pytest.approx(difference, rel=1e-3)
        split = run.split("ragged", seed)
        gap = (
            run.row("ragged", seed)["test_loss"] - losses(a, np.float64(split.x_train), split.y_train).mean()
        )
        assert row["generalization_gap"] == pytest.approx(gap, rel=1e-4)


def test_the_bound_counts_each_visit_at_the_smallest_batch_and_holds(run, rows):
    """2 L rate epochs / 10 in three epochs of batches of 25, 25 and 10, and L = √2 max ‖(x, 1)‖."""
    for seed in (0,):
        split = run.split("ragged", seed)
        x = np.concatenate([split.x_train, split.x_test]).astype("float64")
        lipschitz = math.sqrt(2 * (1 + (x**2).sum(1).max()))
        weights = [np.float64(w) for w in run.initial_weights("ragged", seed)]
        y = np.concatenate([split.y_train, split.y_test])
        assert np.linalg.norm(gradient(weights, x, y), axis=1).max() < lipschitz
        row = rows["ragged", seed]
        assert row["bound"] == pytest.approx(2 * lipschitz * 0.1 * 3 / 10)
        assert row["distance_over_bound"] == pytest.approx(row["twin_distance"] / row["bound"])
        assert row["loss_over_bound"] == pytest.approx(row["loss_difference"] / (lipschitz * row["bound"]))
        assert 0 < row["distance_over_bound"] < 1 and row["num_train"] == 60 and row["updates"] == 9
        assert row["learning_rate"] == 0.1 and row["batch_size"] == 25


def test_where_the_batch_grew_there_is_a_distance_and_neither_a_batch_nor_a_bound(rows):
    row = rows["growing", 0]
    assert row["twin_distance"] > 0 and row["learning_rate"] == 0.1 and row["updates"] == 7
    assert np.isnan(
        [row[key] for key in ("batch_size", "bound", "distance_over_bound", "gap_over_bound")]
    ).all()


def test_what_diverged_has_the_settings_and_nothing_else(run, monkeypatch):
    monkeypatch.setitem(run.row("one_twin", 0), "train_loss", None)
    (row,) = studies.parameter_distance(run, pairs=[["one", "one_twin"]])["rows"]
    assert row["updates"] == 1 and row["num_train"] == 60
    assert np.isnan([row[key] for key in ("twin_distance", "bound", "generalization_gap")]).all()


def test_twins_that_were_tuned_to_different_rates_are_told(run, monkeypatch):
    monkeypatch.setitem(run.row("one", 0), "learning_rate", 0.1)
    monkeypatch.setitem(run.row("one_twin", 0), "learning_rate", 0.2)
    with pytest.raises(ConfigError, match=r"one and one_twin differ in the rates .* 0.1 and 0.2"):
        studies.parameter_distance(run, pairs=[["one", "one_twin"]])


def test_pairs_that_are_none_are_told(run):
    with pytest.raises(ConfigError, match="must be two arms"):
        studies.parameter_distance(run, pairs=["one"])
    with pytest.raises(ConfigError, match="differ in batch_size, epochs"):
        studies.parameter_distance(run, pairs=[["one", "ragged_twin"]])

"""Batch sharpness against all batches of a small training set."""

import itertools

import numpy as np
import pytest
import tiny_runs

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun

SGD = {"call": "keras.optimizers.SGD", "learning_rate": 0.1}
MOMENTUM = {**SGD, "momentum": 0.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edges") / "run"
    content = {
        **tiny_runs.TINY,
        "data": {"call": "data.datasets.digits", "num_train": 7},
        "model": {"call": "networks.mlp", "widths": [2], "activation": "tanh"},
        "loss": {"call": "losses.OneHotSquaredError"},
        "arms": {
            "pairs": {"batch_size": 2, "optimizer": MOMENTUM},
            "all": {"batch_size": 7, "optimizer": SGD},
            "schedule": {
                "batch_size": 7,
                "optimizer": SGD,
                "learning_rate": {"call": "schedules.constant", "value": 0.1},
            },
        },
        "output": str(folder),
    }
    tiny_runs.run(content)
    return FinishedRun(folder)


def gradient(flat, x, y):
    """Of the mean of ½ |z - onehot|² over examples, z = tanh(x A + a) B + b, by hand."""
    a, b, c, d = np.split(flat, np.cumsum([128, 2, 20]))
    a, c = a.reshape(64, 2), c.reshape(2, 10)
    hidden = np.tanh(x @ a + b)
    out = (hidden @ c + d - np.eye(10)[y]) / len(y)
    into = out @ c.T * (1 - hidden**2)
    return np.concatenate([(x.T @ into).ravel(), into.sum(0), (hidden.T @ out).ravel(), out.sum(0)])


def quotient(flat, x, y):
    """gᵀHg / |g|², H by central differences of the gradient."""
    g = gradient(flat, x, y)
    direction = g / np.linalg.norm(g)
    step = 1e-5 * direction
    return direction @ (gradient(flat + step, x, y) - gradient(flat - step, x, y)) / 2e-5


def test_batch_sharpness_of_all_examples_is_the_quotient_of_the_hessian(run):
    (row,) = studies.batch_sharpness(run, arms=["all"], batches=3)["rows"]
    flat = np.concatenate([np.float64(w).ravel() for w in run.weights("all", 0)])
    x, y = run.sample("all", 0, 0)
    assert row["batch_sharpness"] == pytest.approx(quotient(flat, np.float64(x), y), rel=1e-4)
    assert row["batch_sharpness_error"] == pytest.approx(0, abs=1e-6)
    assert row["over_edge"] == pytest.approx(row["batch_sharpness"] * 0.1 / 2)


def test_batch_sharpness_is_the_mean_over_batches(run):
    """All 21 pairs of seven examples: 400 draws have their mean to 4 standard errors, and no quotient outside of them."""
    found = studies.batch_sharpness(run, arms=["pairs"], batches=400)
    (row,) = found["rows"]
    flat = np.concatenate([np.float64(w).ravel() for w in run.weights("pairs", 0)])
    x, y = run.sample("pairs", 0, 0)
    pairs = [list(pair) for pair in itertools.combinations(range(7), 2)]
    values = np.array([quotient(flat, np.float64(x)[pair], y[pair]) for pair in pairs])
    error = values.std() / 20
    assert row["batch_sharpness"] == pytest.approx(values.mean(), abs=4 * error)
    assert row["batch_sharpness_error"] == pytest.approx(error, rel=0.2)
    assert row["over_small_edge"] == pytest.approx(row["batch_sharpness"] * 0.1 / (2 * 0.5))
    assert row["over_large_edge"] == pytest.approx(row["batch_sharpness"] * 0.1 / (2 * 1.5))
    assert (
        sum(len(y) for _, y in run.subject("pairs", 0, 0).batches) == 7
    )  # the next study measures on all examples


def test_batches_are_not_drawn_by_the_numbers_that_drew_the_training_set(run):
    """Digits are permuted by `default_rng(seed)`: its first pair is not the first batch."""
    (row,) = studies.batch_sharpness(run, arms=["pairs"], batches=1)["rows"]
    flat = np.concatenate([np.float64(w).ravel() for w in run.weights("pairs", 0)])
    x, y = run.sample("pairs", 0, 0)
    pair = np.random.default_rng(0).choice(7, 2, replace=False)
    assert row["batch_sharpness"] != pytest.approx(quotient(flat, np.float64(x)[pair], y[pair]), rel=1e-3)


def test_what_has_no_edge_is_told(run):
    with pytest.raises(
        ConfigError, match=r"arms: schedule: batch sharpness is for SGD .* not for .* with 7 and nan"
    ):
        studies.batch_sharpness(run, arms=["schedule"])

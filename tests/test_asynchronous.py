"""Asynchronous updates: with one worker they are plain SGD; with two, every batch is used once, and staleness is counted.

TensorFlow connects to one cluster per process, so each training is a program of its own.
"""

import json
import pathlib
import subprocess
import sys

import distributed
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from tf_lbgap.training.asynchronous import Asynchronous

PROGRAM = """
import json, sys
import keras, numpy as np
import distributed
from tf_lbgap.strategy.local_cluster import local_cluster
from tf_lbgap.training.asynchronous import Asynchronous

folder, workers = sys.argv[1], int(sys.argv[2])
x, y = distributed.data()
sizes = [8, 8, 32, 5, 64, 16] * 3
ends = np.cumsum(sizes)

def make():
    model = distributed.network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), loss)
    return model

with local_cluster(workers) as strategy:
    training = Asynchronous(strategy, make)
    first = [v.numpy() for v in training.model.trainable_variables]
    rates = [0.1 / (1 + i) for i in range(len(sizes))]
    batches = ((x[end - size : end], y[end - size : end]) for size, end in zip(sizes, ends))
    updates = list(training.epoch(batches, rates))
    np.savez(
        f"{folder}/result.npz", updates=np.array(updates), iterations=training.model.optimizer.iterations.numpy(),
        **{f"first_{i}": v for i, v in enumerate(first)},
        **{f"weight_{i}": v.numpy() for i, v in enumerate(training.model.trainable_variables)},
    )
"""


def trained(folder, workers):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(workers)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=pathlib.Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "result.npz")


def by_hand(result):
    """A network of two layers and its gradient, written out, with SGD and momentum."""
    x, y = distributed.data()
    x = x.astype("float64")
    weights = [result[f"first_{i}"].astype("float64") for i in range(4)]
    velocity, losses, end = [np.zeros_like(w) for w in weights], [], 0
    for i, size in enumerate(result["updates"][:, 0].astype(int)):
        end += size
        a, b = x[end - size : end], y[end - size : end]
        hidden = np.tanh(a @ weights[0] + weights[1])
        logits = hidden @ weights[2] + weights[3]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        losses.append(-np.log(p[range(size), b]).mean())
        p[range(size), b] -= 1
        p /= size
        back = (p @ weights[2].T) * (1 - hidden**2)
        gradients = [a.T @ back, back.sum(0), hidden.T @ p, p.sum(0)]
        velocity = [0.5 * v - 0.1 / (1 + i) * g for v, g in zip(velocity, gradients, strict=True)]
        weights = [w + v for w, v in zip(weights, velocity, strict=True)]
    return weights, losses


@pytest.mark.slow
def test_one_worker_is_plain_sgd_on_batches_of_any_size(tmp_path):
    """Each update has its own rate, though the next batch is under way before it ends."""
    result = trained(tmp_path, 1)
    np.testing.assert_array_equal(result["updates"][:, 2], 0)
    assert result["iterations"] == 18
    weights, losses = by_hand(result)
    np.testing.assert_allclose(result["updates"][:, 1], losses, rtol=1e-5)
    for i, weight in enumerate(weights):
        np.testing.assert_allclose(result[f"weight_{i}"], weight, atol=1e-6)


def test_staleness_counts_the_updates_between_reading_and_applying():
    """A layer makes three updates of others while the gradient is computed."""

    class Others(keras.layers.Layer):
        def call(self, x):
            optimizer.iterations.assign_add(3)
            return x

    optimizer = keras.optimizers.SGD(0.1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), Others()])
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(5)  # what building the model added is forgotten
    training = Asynchronous.__new__(Asynchronous)  # without a cluster
    training.model = model
    _, staleness = tf.function(training._update)(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    assert int(staleness) == 3 and int(optimizer.iterations) == 9


CONFIG = {
    "data": {"call": "data.datasets.digits", "num_train": 400},
    "model": {"call": "networks.mlp", "widths": [8]},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.3},
    "equal": "epochs",
    "epochs": 3,
    "seeds": 2,
    "measure": {"top_eigenvalue_examples": 0},
    "output": "out",
    "arms": {
        "growth": {
            "batch_size": {"call": "schedules.staircase", "initial": 10, "factor": 2, "milestones": [1]}
        },
        "asynchronous": {
            "batch_size": {"call": "schedules.staircase", "initial": 10, "factor": 2, "milestones": [1]},
            "strategy": "parameter_server",
            "workers": 2,
        },
    },
}


def lbgap(folder, content, *arguments):
    (folder / "file.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "tf_lbgap", "run", "file.yaml", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=folder)


@pytest.mark.slow
def test_an_asynchronous_arm_makes_the_updates_of_the_synchronous_one(tmp_path):
    """400 examples: 40 updates of 10, then 20 of 20 twice. Two workers: at most 3 batches under way, so staleness is at most 2."""
    done = lbgap(tmp_path, CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [row["arm"] for row in rows] == ["growth"] * 2 + ["asynchronous"] * 2
    assert [(row["updates"], row["examples"], row["epochs"]) for row in rows] == [(80, 1200, 3.0)] * 4
    for row in rows[2:]:
        assert row["workers"] == 2 and 0 <= row["staleness"] <= row["staleness_max"] <= 2
        assert row["test_accuracy"] > 0.4 and row["train_loss"] < 2
    assert (tmp_path / "out" / "asynchronous" / "0" / "model.weights.h5").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "equal", [{"equal": "updates", "updates": 59}, {"equal": "loss", "target_loss": 1.0}]
)
def test_an_asynchronous_arm_stops_where_the_others_do(tmp_path, equal):
    """390 examples: 39 updates of 10, and 20 of 20, of which the last has 10. A loss is checked every twelfth of an epoch on the
    weights of the server, which move on by what is under way."""
    content = {k: v for k, v in CONFIG.items() if k not in ("equal", "epochs")}
    data = {**CONFIG["data"], "num_train": 390}
    epochs = {"epochs": 30} if equal["equal"] == "loss" else {}
    done = lbgap(
        tmp_path,
        {
            **content,
            **equal,
            **epochs,
            "data": data,
            "seeds": 1,
            "arms": {"a": CONFIG["arms"]["asynchronous"]},
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert row["reached"]
    if equal["equal"] == "updates":
        assert (row["updates"], row["examples"], row["batch_size"]) == (59, 780, 20)
    else:
        assert 0.8 < row["train_loss"] < 1.2 and row["updates"] < 400


INTERRUPTED = """
import json, pathlib, sys
import yaml
from tf_lbgap import experiment
from tf_lbgap.experiment import arm_callbacks
from tf_lbgap.experiment.asynchronous import AsynchronousArm

arm_callbacks.SECONDS_BETWEEN_CHECKPOINTS = 0.0
config = experiment.from_dict(yaml.safe_load(open("file.yaml")))
one = AsynchronousArm(config.arms["asynchronous"], "epochs", config.measure)
told = []

def tell(fraction, text):
    told.append(text)
    if "interrupt" in sys.argv and text.startswith("epoch 3"):
        raise KeyboardInterrupt

folder = pathlib.Path("arm")
folder.mkdir(exist_ok=True)
row = one.run(0, folder=folder, progress=tell)
print(json.dumps([told, row["updates"], row["examples"], row["seconds"] > 0]))
"""


@pytest.mark.slow
def test_an_interrupted_asynchronous_arm_goes_on_with_the_last_whole_epoch(tmp_path):
    """Broken off at the end of its third and last epoch, it has a checkpoint of two: 40 updates of 10, and 20 of 20."""
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    first = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "interrupt"], cwd=tmp_path, capture_output=True, check=False
    )
    assert first.returncode != 0 and list((tmp_path / "arm" / "checkpoints").iterdir())
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told, updates, examples, took = json.loads(done.stdout.splitlines()[-1])
    assert told[0] == "going on from epoch 3" and told[1].startswith("epoch 3 ") and len(told) == 2
    assert (updates, examples, took) == (80, 1200, True)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"micro_batch_size": 5}, "asynchronous updates take no micro_batch_size. Leave it out."),
        ({"workers": 0}, "workers"),
        ({"strategy": "mirrored", "workers": 2}, "workers: is for strategy: parameter_server"),
        ({"strategy": "mirorred"}, "strategy: 'mirorred' is none of auto, default, mirrored"),
    ],
)
def test_what_an_asynchronous_arm_cannot_do_is_refused(change, text):
    from tf_lbgap import experiment

    content = {**CONFIG, "arms": {"a": {"batch_size": 10, "strategy": "parameter_server", **change}}}
    with pytest.raises(experiment.ConfigError) as error:
        experiment.from_dict(content)
    assert text in str(error.value)

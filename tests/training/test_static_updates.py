"""Updates of many micro-batches of one shape: the plain updates, from two compiled programs."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import recording as r
from replicas import mirrored
from slow import slow

import tf_lbgap as lb

N = 203  # with micro-batches of 8: 25 of them, and 3 examples are left out
SCHEDULE = lb.schedules.staircase(8, factor=2, milestones=[0.5, 1.3, 2])


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 5)).astype("float32")
    return x, (x.sum(1) > 0).astype("int64")


def fit(model, batches, epochs=3, more=(), **options):
    steering = lb.callbacks.BatchSizeScheduler(batches, SCHEDULE, **options)
    history = model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[steering, *more])
    return history.history, steering


@pytest.mark.parametrize(
    "kind, options",
    [
        ("default", {"jit_compile": True}),
        slow("default", {}),
        slow("default", {"run_eagerly": True}),
        slow("mirrored", {}),
        ("default", {"reduction": "sum"}),
    ],
    ids=str,
)
def test_updates_losses_and_metrics_are_the_plain_ones(kind, options):
    """The plain fit is given the 200 examples and the sizes that the static one uses: all are multiples of 8."""
    order = lb.data.Batches(*data(), batch_size=8, seed=0)
    options, found = dict(options), []
    reduction = options.pop("reduction", "sum_over_batch_size")
    rate = 0.1 if reduction != "sum" else 0.005
    for static in (False, True):
        keras.utils.set_random_seed(0)
        scope = mirrored().scope() if kind == "mirrored" else keras.name_scope("none")
        with scope:
            layers = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(2)]
            model = keras.Sequential([keras.Input((5,)), *layers])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
            model.compile(
                keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=None),
                loss,
                metrics=["accuracy"],
                **(options if static else {"jit_compile": False}),
            )
        if static:
            micro = 8 // (2 if kind == "mirrored" else 1)
            history, steering = fit(model, order, micro_batch_size=micro, static_shapes=True)
            assert steering.micro_batches._updates.num_traces >= 2
        else:
            history = by_hand(model, order)
        found.append((model.get_weights(), history["loss"], history["accuracy"]))
    for ours, theirs in zip(*(weights for weights, *_ in found), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-6)
    np.testing.assert_allclose(found[1][1:], found[0][1:], rtol=1e-5)


def by_hand(model, batches):
    """Means over the examples of an epoch: `train_on_batch` tells those of a batch."""
    x, y = data()
    history = {"loss": [], "accuracy": []}
    for epoch in range(3):
        order, at, total = batches.order(epoch), 0, {"loss": 0.0, "accuracy": 0.0}
        while at < 200:
            end = min(at + int(SCHEDULE(epoch + at / N)), 200)
            logs = model.train_on_batch(x[order[at:end]], y[order[at:end]], return_dict=True)
            total = {key: value + float(logs[key]) * (end - at) for key, value in total.items()}
            at = end
        for key, values in history.items():
            values.append(total[key] / 200)
    return history


def test_every_micro_batch_is_full_and_seen_once_per_epoch():
    """13 updates of 8 and 6 of 16; 4 of 16, 4 of 32 and one of 8; 3 of 64 and one of 8."""
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=8, seed=0)
    static = set()  # what a compiler is told
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: static.add(batches.element_spec[0].shape[0])
    )
    history, _ = fit(model, batches, more=[look], micro_batch_size=8, static_shapes=True)
    assert static == {8}
    assert set(r.sizes_seen(model)) == {8} and len(r.sizes_seen(model)) == 3 * 25
    for epoch in range(3):
        ids = np.concatenate(model.layers[0].seen[25 * epoch : 25 * (epoch + 1)])
        np.testing.assert_array_equal(ids, batches.order(epoch)[:200])
    assert r.num_iterations(model) == r.num_decays(model) == history["updates"][-1] == 32
    assert history["batch_size"] == [16, 32, 64]
    r_before = model.train_function
    model.fit(lb.data.Batches(*r.ids(N), batch_size=100), epochs=1, shuffle=False, verbose=0)
    assert model.train_function is r_before and r.sizes_seen(model)[-3:] == [100, 100, 3]


COMPILED = """
import sys
import keras, numpy as np, tf_lbgap as lb
x = np.random.default_rng(0).normal(size=(512, 5)).astype("float32")
model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(1)])
model.compile("sgd", "mse", jit_compile=True)
batches = lb.data.Batches(x, x[:, :1], batch_size=8)
growth = lb.schedules.staircase(8, factor=2, milestones=[0.5 * i for i in range(1, 7)])
static = {"micro_batch_size": 8, "static_shapes": True} if sys.argv[1] == "static" else {}
steering = lb.callbacks.BatchSizeScheduler(batches, growth, **static)
history = model.fit(batches, epochs=4, shuffle=False, verbose=0, callbacks=[steering])
print(*history.history["batch_size"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("way, shapes", [("static", 1), ("plain", 6)])
def test_xla_compiles_one_shape_whatever_the_batch(way, shapes, tmp_path):
    """XLA writes down every module that it compiles. Batches of 8, 16, ... 512: six shapes and more, or one micro-batch."""
    environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, way], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["16", "64", "256", "512"]
    modules = {p.name.split(".")[0] for p in tmp_path.iterdir() if p.name.startswith("module_")}
    steps = [
        p.name
        for p in tmp_path.glob("module_*before_optimizations.txt")
        if "add_micro_batch" in p.name or "one_step" in p.name
    ]
    assert modules
    assert len(steps) == shapes if way == "static" else len(steps) >= shapes


@pytest.mark.parametrize(
    "options, text",
    [
        ({}, "needs micro_batch_size, a number"),
        ({"micro_batch_size": "auto"}, "needs micro_batch_size, a number"),
        ({"micro_batch_size": 8, "ghost_batch_size": 8}, "leave ghost_batch_size out"),
        ({"micro_batch_size": 8, "schedule": None}, "needs a schedule"),
    ],
)
def test_what_cannot_be_static_is_refused(options, text):
    batches = lb.data.Batches(*data(), batch_size=8)
    schedule = options.pop("schedule", SCHEDULE)
    with pytest.raises(ValueError, match=text):
        lb.callbacks.BatchSizeScheduler(batches, schedule, static_shapes=True, **options)


def test_several_updates_per_execution_are_refused():
    model = r.recording_model(steps_per_execution=2)
    batches = lb.data.Batches(*r.ids(N), batch_size=8)
    with pytest.raises(ValueError, match="leave steps_per_execution out"):
        fit(model, batches, micro_batch_size=8, static_shapes=True)

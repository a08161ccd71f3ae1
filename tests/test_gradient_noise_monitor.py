"""The gradient noise while `fit` runs: its numbers by hand, and training as it is without."""

import copy
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from event_files import events
from slow import slow

import tf_lbgap as lb

N = 60


def data(n=N, noise=1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)).astype("float32")
    return x, (x @ [[1.0], [-2.0]] + noise * rng.normal(size=(n, 1))).astype("float32")


def linear(rate=0.0, **options):
    """Two weights, w = (0.5, 0.5); at rate 0 they stay."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[0.5], [0.5]])
    model.compile(keras.optimizers.SGD(rate), "mse", **options)
    return model


def noisy(**options):
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(6, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def by_hand(x, y, weights=(0.5, 0.5)):
    """tr(Σ) and |G|² of the mean squared error of all examples: the gradient of one is 2 (xᵀw - y) x."""
    x, y = np.float64(x), np.float64(y)
    gradients = 2 * (x @ np.array(weights) - y[:, 0])[:, None] * x
    mean = gradients.mean(0)
    return ((gradients - mean) ** 2).sum() / (len(x) - 1), (mean**2).sum()


def fit(model, batches, monitors, epochs=2, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=monitors, **options)


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_same(first, second, **tolerance):
    for a, b in zip(state(first), state(second), strict=True):
        (np.testing.assert_allclose if tolerance else np.testing.assert_array_equal)(a, b, **tolerance)


@pytest.mark.parametrize("probe", ["update", "separate"])
def test_a_probe_of_all_examples_one_by_one_is_the_covariance_itself(probe):
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=N, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, num_micro_batches=N, burn_in=0, probe=probe)

    fit(linear(), batches, [monitor], epochs=3)

    assert [row["update"] for row in monitor.probes] == [1, 2, 3]
    trace, squared_norm = by_hand(x, y)
    for row in monitor.probes:
        assert row["trace"] == pytest.approx(trace, rel=1e-5)
        assert row["squared_norm"] == pytest.approx(squared_norm, rel=1e-5)
    assert monitor.history[-1]["noise_scale"] == pytest.approx(trace / squared_norm, rel=1e-5)


@pytest.mark.parametrize("probe", ["update", slow("separate")])
def test_the_interval_holds_the_truth_and_the_probes_are_unbiased(probe):
    """100 epochs of 7 batches of 8 and one of 4, at weights that stay."""
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=8, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, window=400, burn_in=0, probe=probe)

    fit(linear(), batches, [monitor], epochs=50)

    trace, squared_norm = by_hand(x, y)
    for key, truth in (("trace", trace), ("squared_norm", squared_norm)):
        found = np.array([row[key] for row in monitor.probes])
        assert abs(found.mean() - truth) < 4 * found.std() / math.sqrt(len(found))
    row = monitor.history[-1]
    assert row["noise_scale_low"] < trace / squared_norm < row["noise_scale_high"]
    assert row["noise_scale_high"] < 3 * row["noise_scale_low"]


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_an_update_as_micro_batches_is_the_update_to_rounding(steps_per_execution):
    x, y = data()
    trained = []
    for monitored in (False, True):
        batches = lb.data.Batches(x, y, batch_size=8, seed=0)
        model = linear(0.05, steps_per_execution=steps_per_execution)
        monitor = lb.callbacks.GradientNoiseMonitor(batches, every=4, burn_in=0)
        fit(model, batches, [monitor] if monitored else [], epochs=3)
        trained.append(model)
    # Half a batch of 8 is all of the last one of an epoch, of 4, which nobody told: the next is probed instead.
    later = 9 if steps_per_execution == 1 else 12
    assert [row["update"] for row in monitor.probes] == sorted({4, later, 12, later + 8, 20})
    assert_same(*trained, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("steps_per_execution", [1, slow(4)])
def test_separate_probes_leave_training_as_it_is(steps_per_execution):
    """Bit for bit: weights, moving averages, Adam's slots, dropout's seeds; and what is logged."""
    x, y = data()
    trained, logged = [], []
    for monitored in (False, True):
        batches = lb.data.Batches(x, y, batch_size=8, seed=0)
        model = noisy(steps_per_execution=steps_per_execution)
        monitor = lb.callbacks.GradientNoiseMonitor(
            batches, every=3, burn_in=0, probe="separate", per_layer=True
        )
        logged.append(fit(model, batches, [monitor] if monitored else [], epochs=3).history)
        trained.append(model)
    assert_same(*trained)
    assert monitor.probes and all(logged[1][key] == logged[0][key] for key in logged[0])


def test_a_model_whose_micro_batches_are_another_update_is_named():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=8, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches)
    with pytest.warns(UserWarning, match='BatchNormalization .* sees one micro-batch .*probe="separate"'):
        noisy().fit(batches, verbose=0, callbacks=[monitor])


def test_what_is_left_out_what_is_averaged_and_what_is_logged():
    """One batch in 8 is the last of an epoch, of 4 examples, too small to be cut in parts of 4."""
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=8, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, window=6, burn_in=5)

    logs = fit(linear(), batches, [monitor], epochs=3).history

    assert [row["update"] for row in monitor.history] == [8, 14, 16, 22, 24]
    assert [row["num_probes"] for row in monitor.history] == [2, 6, 6, 6, 6]
    assert {row["burn_in"] for row in monitor.history} == {5}
    assert [row["progress"] for row in monitor.history] == pytest.approx([1.0, 1.8, 2.0, 2.8, 3.0])
    assert logs["gradient_noise_scale"][-1] == monitor.history[-1]["noise_scale"]
    scale = lb.gradient_noise.noise_scale(
        [row["trace"] for row in monitor.probes[-6:]], [row["squared_norm"] for row in monitor.probes[-6:]]
    )
    assert monitor.history[-1]["noise_scale_low"] == scale.low

    more = copy.deepcopy(monitor)
    assert not more.history and not more.probes
    fit(linear(), batches, [more], epochs=1)
    assert len(more.probes) == 7 and len(monitor.probes) == 21


def test_where_the_turn_is_always_that_of_a_single_example_the_next_update_is_probed():
    """61 examples in tens: each seventh update has one example, and nothing was measured in it."""
    batches = lb.data.Batches(*data(61), batch_size=10, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=7, burn_in=0)
    fit(linear(0.05), batches, [lb.callbacks.BatchSizeScheduler(batches, lambda p: 10), monitor], epochs=3)
    assert [(row["update"], row["batch_size"]) for row in monitor.probes] == [(8, 10), (15, 10)]


def test_a_fit_too_short_for_an_estimate_is_told():
    batches = lb.data.Batches(*data(), batch_size=10, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=2)
    with pytest.warns(UserWarning, match="after 12 updates there are 6 probes, .*the first 10 are left out"):
        linear(0.01).fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
    assert monitor.history == []


def test_a_trained_model_has_no_burn_in():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=8, seed=0)
    model = linear()
    fit(model, batches, [], epochs=1)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, burn_in=5)
    fit(model, batches, [monitor], epochs=1)
    assert monitor.history[-1]["burn_in"] == 0 and monitor.history[-1]["num_probes"] == 7


def test_layers_sum_to_the_whole():
    x, y = data()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    batches = lb.data.Batches(x, y, batch_size=20, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, burn_in=0, per_layer=True)
    fit(model, batches, [monitor], epochs=4)
    row = monitor.history[-1]
    assert len(row["layers"]) == 2
    for key in ("trace", "squared_norm"):
        assert sum(layer[key] for layer in row["layers"].values()) == pytest.approx(row[key], rel=1e-5)


def test_with_the_hessian_it_is_the_closed_form():
    """The Hessian of linear regression is 2/N Σ x xᵀ, whatever the weights."""
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=20, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, burn_in=0, hessian=True, examples=N)
    logs = fit(linear(), batches, [monitor], epochs=1).history
    gradients = 2 * (np.float64(x) @ [0.5, 0.5] - y[:, 0])[:, None] * x
    hessian, mean = 2 / N * np.float64(x).T @ x, gradients.mean(0)
    covariance = np.cov(gradients.T)
    truth = np.trace(hessian @ covariance) / (mean @ hessian @ mean)
    row = monitor.history[-1]
    assert row["noise_scale_with_hessian_low"] < truth < row["noise_scale_with_hessian_high"]
    assert row["noise_scale_with_hessian"] == pytest.approx(truth, rel=0.5)
    assert logs["gradient_noise_scale_with_hessian"] == [row["noise_scale_with_hessian"]]


def test_it_stands_beside_growth_and_micro_batches():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=6, seed=0)
    growth = lb.callbacks.BatchSizeScheduler(
        batches, lb.schedules.staircase(6, factor=5, milestones=[1]), micro_batch_size=10
    )
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, burn_in=0)
    model = linear(0.05)
    for order in ([growth, monitor], [monitor, growth]):
        fit(model, batches, order, epochs=2)
    assert [row["batch_size"] for row in monitor.probes] == 2 * (10 * [6] + 2 * [30])
    assert int(model.optimizer.iterations.numpy()) == 24


@pytest.mark.parametrize("order", [1, -1])
def test_it_stands_beside_a_batch_that_chooses_its_own_size(order):
    """Both probe, at updates of their own."""
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=6, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.BigBatch(), sizes="any", every=3, window=1, maximum=6
    )
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=2, burn_in=0)
    fit(linear(0.05), batches, [adaptive, monitor][::order], epochs=1)
    assert [row["update"] for row in monitor.probes] == [2, 4, 6, 8, 10]
    assert [row["update"] for row in adaptive.history] == [3, 6, 9]


def test_a_fit_that_broke_off_leaves_the_plain_function():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=6, seed=0)
    model = linear(0.05)
    model.make_train_function()
    own = model.train_function

    def stop(batch, logs=None):
        raise KeyboardInterrupt

    broken = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        fit(model, batches, [lb.callbacks.GradientNoiseMonitor(batches, every=1), broken])
    assert model.train_function is own


def test_tensorboard_gets_the_scale_and_its_interval(tmp_path):
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=8, seed=0)
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=1, burn_in=0, window=15, log_dir=tmp_path)
    fit(linear(), batches, [monitor], epochs=4)
    found = events(tmp_path)
    steps = [row["update"] for row in monitor.history]
    for suffix in ("", "_low", "_high"):
        tag = f"schedule/gradient_noise_scale{suffix}"
        assert sorted(found[tag]) == steps


@pytest.mark.parametrize(
    "options, told",
    [
        ({"every": 0}, "every=0 should be a whole number of at least 1"),
        ({"num_micro_batches": 1}, "num_micro_batches=1 should be a whole number of at least 2"),
        ({"probe": "both"}, "probe='both' must be one of 'update', 'separate'"),
        ({"window": 1}, "window=1 should be"),
        ({"examples": 100}, 'examples= is for probe="separate" and for hessian=True'),
    ],
)
def test_wrong_arguments_are_told(options, told):
    with pytest.raises(ValueError, match=told):
        lb.callbacks.GradientNoiseMonitor(lb.data.Batches(*data(), batch_size=8), **options)


def test_a_stream_without_indices_has_no_separate_probes():
    batches = lb.data.Batches.from_dataset(tf.data.Dataset.from_tensor_slices(data()), batch_size=8)
    with pytest.raises(ValueError, match=r'has none\. Pass arrays, Batches.* or probe="update"'):
        fit(linear(), batches, [lb.callbacks.GradientNoiseMonitor(batches, probe="separate")])


def test_another_stream_than_that_of_fit_is_told():
    monitor = lb.callbacks.GradientNoiseMonitor(lb.data.Batches(*data(), batch_size=8))
    with pytest.raises(ValueError, match="a stream that fit does not read"):
        linear().fit(*data(), verbose=0, callbacks=[monitor])

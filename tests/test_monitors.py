"""Monitors in `fit`: training is what it is without them, and the numbers are those measured afterwards by hand."""

import copy
import csv
import functools
import json
import math
import pickle
import random
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from event_files import blocks, events
from slow import slow, slow_but

import tf_lbgap as lb
from tf_lbgap.callbacks.monitor import mean_and_spread
from tf_lbgap.callbacks.sample import disjoint_parts

N = 60


def data(n=N):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype("float32")
    return x, np.sin(x @ rng.normal(size=(4, 1))).astype("float32")


SAMPLE = tuple(part[:21] for part in data())  # in three batches of 8, 8 and 5, or as one


def in_batches():
    return [tuple(part[i : i + 8] for part in SAMPLE) for i in range(0, 21, 8)]


def plain(optimizer=None, loss="mse", linear=False, **options):
    """13 weights, or 5."""
    keras.utils.set_random_seed(1)
    layers = [*([] if linear else [keras.layers.Dense(2, "tanh")]), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer or keras.optimizers.SGD(0.05), loss, **options)
    return model


def noisy(**options):
    """Layers and an optimizer that have a state."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(6, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def fit(model, *callbacks, epochs=2, **options):
    """Return the logs of a fit with 6 updates an epoch."""
    return model.fit(
        *data(), batch_size=10, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    ).history


def size_of_measure(subject):
    """A measure of ours, as those of `sharpness` are called."""
    return subject.surface.value(subject.surface.weights())


def measured_at(monitor):
    return [row["update"] for row in monitor.history]


class Keep(keras.callbacks.Callback):
    """Keeps the weights after each update."""

    def on_train_begin(self, logs=None):
        self.kept = {}

    def on_train_batch_end(self, batch, logs=None):
        self.kept[int(self.model.optimizer.iterations.numpy())] = self.model.get_weights()


# Training is untouched.


def everything(model):
    """All that the next update and the next random number depend on."""
    seeds = [v for layer in model._flatten_layers() for v in layer.variables]
    seeds += [g.state for layer in model._flatten_layers() for g in getattr(layer, "_seed_generators", ())]
    states = [v.numpy() for v in [*model.variables, *model.optimizer.variables, *seeds]]
    states += [v.numpy() for metric in model.metrics for v in metric.variables]
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    drawn = [
        random.random(),
        np.random.random(),  # noqa: NPY002
        tf.random.uniform([]).numpy(),
        float(keras.random.uniform(())),
    ]
    return [*states, np.array(keys), np.array(rest), np.array(drawn)]


def monitors(tmp_path):
    return [
        lb.callbacks.CurvatureMonitor(SAMPLE, k=2, trace=6, every=3, subsets=2, log_dir=tmp_path),
        lb.callbacks.SharpnessMonitor(
            in_batches(), measures=size_of_measure, every="epoch", log_dir=tmp_path
        ),
    ]


def grown(model, callbacks):
    batches = lb.data.Batches(*data(), batch_size=10, seed=3)
    scheduler = lb.callbacks.BatchSizeScheduler(
        batches, lambda p: 10 if p < 0.6 else 25, learning_rate="sqrt"
    )
    return model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[scheduler, *callbacks]).history


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize(
    ("train", "steps"),
    [
        (lambda m, c: fit(m, *c), 1),
        slow(lambda m, c: fit(m, *c), 4),
        slow(grown, 1),
    ],
    ids=["steps_per_execution=1", "steps_per_execution=4", "growing batch"],
)
def test_training_is_bit_identical_with_and_without_monitors(train, steps, tmp_path):
    alone, watched = noisy(steps_per_execution=steps), None
    logs = train(alone, [])
    states = everything(alone)
    watched = noisy(steps_per_execution=steps)
    ours = monitors(tmp_path)
    watched_logs = train(watched, ours)

    assert all(len(monitor.history) >= 2 for monitor in ours)
    for key, values in logs.items():
        assert watched_logs[key] == values
    for got, wanted in zip(everything(watched), states, strict=True):
        np.testing.assert_array_equal(got, wanted)


# When.


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        ("epoch", 1, [6, 12, 18]),
        ({"epochs": 2}, 1, [12]),
        (4, 1, [4, 8, 12, 16]),
        ({"updates": 4, "first": [1]}, 1, [1, 5, 9, 13, 17]),
        (4, 3, [6, 9, 12, 18]),
        (lambda update, progress: progress in (0.5, 2.0), 1, [3, 12]),
    ],
    ids=lambda value: "function" if callable(value) else str(value),
)
def test_updates_at_which_it_measures(every, steps, expected):
    """With 3 updates an execution, 4 is reached at 6, 8 at 9, 12 at 12, and 16 at 18."""
    model = plain(steps_per_execution=steps)
    monitor = lb.callbacks.SharpnessMonitor(SAMPLE, measures=size_of_measure, every=every)

    fit(model, monitor, epochs=3)

    assert measured_at(monitor) == expected
    np.testing.assert_allclose([row["progress"] for row in monitor.history], np.array(expected) / 6)


def test_a_second_fit_continues_and_nothing_is_traced_anew():
    calls = []

    def loss(y_true, y_pred):
        calls.append(1)
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)

    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, loss, k=2, trace=8, every=4, subsets=2)
    model = plain()
    fit(model, monitor)
    traced = len(calls)
    fit(model, monitor)
    fit(model, monitor, epochs=4, initial_epoch=3)

    assert len(calls) == traced == 2  # products with one vector, and with a block for the trace
    assert measured_at(monitor) == [4, 8, 12, 16, 20, 24, 28]
    assert monitor.tracing_seconds > 0
    assert monitor.seconds == pytest.approx(sum(row["seconds"] for row in monitor.history))


def test_at_start():
    monitor = lb.callbacks.SharpnessMonitor(SAMPLE, measures=size_of_measure, at_start=True)
    model = plain()
    start = float(model.evaluate(*SAMPLE, verbose=0))

    logs = fit(model, monitor)

    assert measured_at(monitor) == [0, 6, 12]
    values = [row["size_of_measure"] for row in monitor.history]
    np.testing.assert_allclose(values[0], start, rtol=1e-6)
    assert logs["size_of_measure"] == values[1:]


def test_logs_have_the_last_of_an_epoch_and_nan_for_an_epoch_without(tmp_path):
    monitor = lb.callbacks.SharpnessMonitor(
        SAMPLE, measures=size_of_measure, every={"updates": 20, "first": [2, 4]}
    )
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")

    logs = fit(plain(), monitor, logger, epochs=4)

    values = [row["size_of_measure"] for row in monitor.history]
    assert measured_at(monitor) == [2, 4, 24]
    np.testing.assert_array_equal(logs["size_of_measure"], [values[1], np.nan, np.nan, values[2]])
    with open(tmp_path / "log.csv", encoding="utf-8") as file:
        assert [float(row["size_of_measure"]) for row in csv.DictReader(file)][3] == values[2]


# A budget.


class Clock:
    """Time that passes as one says: an update takes 1 s, a product 2 s, tracing 100 s."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(lb.callbacks.CurvatureMonitor, "_clock", lambda monitor: self.now)
        monkeypatch.setattr(lb.callbacks.CurvatureMonitor, "_trace", lambda monitor: self.pass_by(100.0))
        multiply = lb.curvature.HessianOperator._multiply

        def slow(operator, rows):
            self.pass_by(2.0 * len(rows))
            return multiply(operator, rows)

        monkeypatch.setattr(lb.curvature.HessianOperator, "_multiply", slow)
        self.callback = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: self.pass_by(1.0)
        )

    def pass_by(self, seconds):
        self.now += seconds


def test_a_budget_calibrates_once_and_its_cadence_replays(monkeypatch, capsys):
    """Update 10 is the eighth that is timed. P products at 2 s are paid by 19 x 2 P updates of 1 s, or for 50 % by 2 P."""
    clock = Clock(monkeypatch)
    budgeted = lb.callbacks.CurvatureMonitor(SAMPLE, max_overhead=0.5)
    assert budgeted.cadence is None

    fit(plain(linear=True), budgeted, clock.callback, epochs=12)

    first, second = (row["products"] for row in budgeted.history[:2])
    expected = [10, 10 + 2 * first]
    while expected[-1] + 2 * second <= 72:
        expected.append(expected[-1] + 2 * second)
    assert measured_at(budgeted) == expected
    assert len(expected) >= 3
    assert budgeted.tracing_seconds == 100.0
    assert budgeted.cadence == {
        "updates": 2 * second,
        "first": expected[:2],
        "max_products": 2 * max(first, second),
    }
    printed = capsys.readouterr().out
    assert printed.count("CurvatureMonitor: from now on every") == 1
    assert f"every={budgeted.cadence}" in printed

    again = lb.callbacks.CurvatureMonitor(SAMPLE, every=budgeted.cadence)
    fit(plain(linear=True), again, epochs=12)

    assert measured_at(again) == measured_at(budgeted)
    assert [row["values"] for row in again.history] == [row["values"] for row in budgeted.history]
    assert not capsys.readouterr().out


def test_a_budget_too_small_for_three_measurements_warns(monkeypatch):
    clock = Clock(monkeypatch)
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, max_overhead=0.05)
    with pytest.warns(UserWarning, match=r"leaves room for 1 measurement\(s\) in the 30 updates"):
        fit(plain(linear=True), monitor, clock.callback, epochs=5)
    assert measured_at(monitor) == [10]


# Values.


@functools.cache
def operator():
    """Of a model of its own; traced once for all tests."""
    model = plain()
    return model, lb.curvature.HessianOperator(model, "mse", SAMPLE)


def by_hand(weights, batches):
    """All eigenvalues, from a dense solver."""
    model, hessian = operator()
    model.set_weights(weights)
    hessian.batches = batches
    return np.linalg.eigvalsh(hessian.matmat(np.eye(13)).astype("float64"))[::-1]


def test_eigenvalues_and_trace_are_those_of_the_weights_at_that_update():
    """In float64 a dense eigensolver on a copy of the model agrees to the residuals. 13 products give the exact trace."""
    keep = Keep()
    monitor = lb.callbacks.CurvatureMonitor(in_batches(), k=3, trace=13, every=4, tolerance=1e-5)

    logs = fit(plain(), monitor, keep, epochs=2)

    assert measured_at(monitor) == [4, 8, 12]
    for row in monitor.history:
        dense = by_hand(keep.kept[row["update"]], SAMPLE)
        assert (np.abs(row["values"] - dense[:3]) <= row["residuals"]).all()
        np.testing.assert_allclose(row["values"], dense[:3], rtol=1e-4)
        np.testing.assert_allclose(row["trace"], dense.sum(), rtol=1e-4)
        assert row["converged"] == [True] * 3
        assert row["edge_of_stability"] == pytest.approx(2 / 0.05)
    last = monitor.history[-1]
    assert logs["top_eigenvalue"][1] == last["values"][0]
    assert logs["top_eigenvalue_3"][1] == last["values"][2]
    assert logs["top_eigenvalue_residual"][1] == last["residuals"][0]
    assert logs["trace"][1] == last["trace"]


@pytest.mark.parametrize("which", ["smallest", slow("magnitude")])
def test_other_ends_of_the_spectrum_come_with_the_most_extreme_first(which):
    keep = Keep()
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, k=2, which=which, tolerance=1e-5)
    logs = fit(plain(), monitor, keep)
    dense = by_hand(keep.kept[12], SAMPLE)
    order = np.argsort(dense if which == "smallest" else -np.abs(dense))
    np.testing.assert_allclose(monitor.history[-1]["values"], dense[order[:2]], rtol=1e-3, atol=1e-5)
    name = {"smallest": "bottom_eigenvalue", "magnitude": "largest_magnitude_eigenvalue"}[which]
    assert logs[name][-1] == monitor.history[-1]["values"][0]
    assert "edge_of_stability" not in logs


@pytest.mark.parametrize("subsets", [1, 2])
def test_the_loss_of_the_sample_comes_with_the_eigenvalues(subsets):
    """Three batches of 8, 8 and 5: a mean of their means would be another number."""
    model = plain(linear=True)
    monitor = lb.callbacks.CurvatureMonitor(
        in_batches() if subsets == 1 else SAMPLE, every="epoch", subsets=subsets
    )
    fit(model, monitor)
    parts = [tuple(part[i::subsets] for part in SAMPLE) for i in range(subsets)]
    losses = [float(np.mean((model.predict(x, verbose=0) - y) ** 2)) for x, y in parts]
    np.testing.assert_allclose(monitor.history[-1]["loss"], np.mean(losses), rtol=1e-5)


def test_subsets_are_disjoint_of_equal_size_and_their_spread_is_reported():
    """21 examples by position modulo 4: parts of 6, 5, 5 and 5, however they are cut into batches."""
    keep = Keep()
    monitors = [
        lb.callbacks.CurvatureMonitor(batches, subsets=4, tolerance=1e-5, prefix=prefix)
        for batches, prefix in ((SAMPLE, ""), (in_batches(), "same_"))
    ]

    logs = fit(plain(), *monitors, keep, epochs=1)

    tops = [by_hand(keep.kept[6], tuple(part[i::4] for part in SAMPLE))[0] for i in range(4)]
    for monitor in monitors:
        (row,) = monitor.history
        np.testing.assert_allclose(np.ravel(row["values_of_subsets"]), tops, rtol=1e-4)
        assert row["examples"] == 21
    np.testing.assert_allclose(logs["top_eigenvalue"], [np.mean(tops)], rtol=1e-4)
    np.testing.assert_allclose(logs["same_top_eigenvalue_spread"], [np.std(tops, ddof=1)], rtol=1e-3)


def test_parts_hold_each_example_once():
    batches = [(np.arange(i, min(i + 4, 11)), {"a": np.arange(i, min(i + 4, 11))}) for i in range(0, 11, 4)]
    for count in (2, 3, 5, 11):
        parts = disjoint_parts(iter(batches), count)
        ids = [np.concatenate([x for x, _ in part]) for part in parts]
        assert [list(part) for part in ids] == [list(range(i, 11, count)) for i in range(count)]
        for part in parts:
            for x, y in part:
                np.testing.assert_array_equal(x, y["a"])
    with pytest.raises(ValueError, match="the sample has 11 examples"):
        disjoint_parts(batches, 12)


def test_mean_and_spread():
    assert [part.tolist() for part in mean_and_spread([[1.0, 2.0], [3.0, 2.0]])] == [
        [2.0, 2.0],
        [2**0.5, 0.0],
    ]
    assert math.isnan(mean_and_spread([[1.0]])[1][0])


def test_batch_normalization_is_recalibrated_unless_said_otherwise():
    keep, model = Keep(), noisy()
    exact = lb.callbacks.CurvatureMonitor(SAMPLE, tolerance=1e-5, every={"updates": 100, "first": [4]})
    stale = lb.callbacks.CurvatureMonitor(
        SAMPLE, tolerance=1e-5, every=exact.cadence, batch_normalization="inference", prefix="stale_"
    )
    fit(model, exact, stale, keep, epochs=1)
    hessian = lb.curvature.HessianOperator(model, "mse", SAMPLE)

    model.set_weights(keep.kept[4])
    for monitor, recalibrate in ((stale, False), (exact, True)):
        if recalibrate:
            lb.batch_normalization.recalibrate(model, SAMPLE)
        pairs = lb.curvature.top_eigenpairs(hessian, tolerance=1e-5)
        np.testing.assert_allclose(monitor.history[0]["values"], pairs.values, rtol=1e-4)
        assert monitor.history[0]["batch_normalization"] == ("recalibrated" if recalibrate else "inference")


def test_adam_is_measured_preconditioned():
    keep = Keep()
    adam = keras.optimizers.Adam(0.01, epsilon=0.1)
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, tolerance=1e-5)
    logs = fit(plain(adam), monitor, keep, epochs=1)

    v = np.concatenate([slot.numpy().ravel() for slot in adam._velocities])
    p = (1 - 0.9**6) * (np.sqrt(v) + 0.1) / np.sqrt(1 - 0.999**6)
    model, hessian = operator()
    model.set_weights(keep.kept[6])
    hessian.batches = SAMPLE
    hessian = hessian.matmat(np.eye(13))
    expected = np.linalg.eigvals(np.diag(1 / p) @ hessian).real.max()
    np.testing.assert_allclose(logs["preconditioned_top_eigenvalue"], [expected], rtol=1e-4)
    np.testing.assert_allclose(logs["edge_of_stability"], [3800], rtol=1e-6)


def test_a_preconditioned_matrix_that_rounding_spoils_leaves_the_others_as_they_are(monkeypatch):
    """Where gradients have vanished 1 / P is up to 10⁷, and then products in float32 are no longer symmetric."""
    rng = np.random.default_rng(0)
    spoilt = lb.callbacks.PreconditionedOperator
    monkeypatch.setattr(spoilt, "_multiply", lambda operator, rows: rng.normal(size=rows.shape))
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE)

    with pytest.warns(UserWarning, match="preconditioned_top_eigenvalue is NaN.* not symmetric"):
        logs = fit(plain(keras.optimizers.Adam(0.01), linear=True), monitor, epochs=1)

    assert np.isnan(logs["preconditioned_top_eigenvalue"]).all()
    assert np.isfinite(logs["top_eigenvalue"]).all()


@pytest.mark.parametrize(
    ("scheduled", "ours_first"),
    [
        (False, True),
        (True, False),
        slow(False, False),
        slow(True, True),
    ],
)
def test_the_edge_is_that_of_the_rate_which_the_update_had(scheduled, ours_first):
    """A batch of 20 for 10 doubles the rate, and the callback that doubled it takes that back after the update."""
    decay = keras.optimizers.schedules.ExponentialDecay(0.05, 1, 1.0)
    model = plain(keras.optimizers.SGD(decay if scheduled else 0.05), linear=True)
    batches = lb.data.Batches(*data(), batch_size=10)
    growth = lb.schedules.staircase(10, factor=2, milestones=[1])
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches, growth, learning_rate="linear"),
        lb.callbacks.CurvatureMonitor(SAMPLE, every=3),
    ]
    model.fit(batches, epochs=2, verbose=0, shuffle=False, callbacks=callbacks[:: -1 if ours_first else 1])

    monitor = callbacks[1]
    assert measured_at(monitor) == [3, 6, 9]
    np.testing.assert_allclose([row["edge_of_stability"] for row in monitor.history], [40, 40, 20], rtol=1e-6)


def test_an_optimizer_whose_edge_is_not_known():
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE)
    with pytest.warns(UserWarning, match="edge of stability of RMSprop is not known"):
        logs = fit(plain(keras.optimizers.RMSprop(0.001), linear=True), monitor, epochs=1)
    assert math.isnan(logs["edge_of_stability"][0])
    with pytest.raises(ValueError, match="preconditioned=True needs Adam"):
        fit(plain(), lb.callbacks.CurvatureMonitor(SAMPLE, preconditioned=True))


def test_a_value_that_did_not_converge_is_nan_in_the_logs_and_flagged_elsewhere():
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, k=2, max_products=2, tolerance=1e-9, subsets=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logs = fit(plain(), monitor)
    ours = [w for w in caught if "did not converge" in str(w.message)]
    assert len(ours) == 1
    assert "NaN is logged" in str(ours[0].message)
    for name in ("top_eigenvalue", "top_eigenvalue_2", "top_eigenvalue_spread"):
        assert np.isnan(logs[name]).all()
    assert np.isfinite(logs["top_eigenvalue_residual"]).all()
    assert all(
        row["converged"] == [False, False] and np.isfinite(row["values"]).all() for row in monitor.history
    )


@pytest.mark.parametrize("kind", ["weights", "loss"])
def test_training_that_diverges_goes_on_and_nan_is_logged(kind):
    rate = 1e30 if kind == "weights" else 1e12
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, every=1, k=2)
    model = plain(keras.optimizers.SGD(rate))
    with pytest.warns(UserWarning, match="nothing could be measured, so NaN is logged"):
        logs = fit(model, monitor, keras.callbacks.TerminateOnNaN(), epochs=3)
    assert math.isnan(logs["top_eigenvalue"][-1])
    assert monitor.history[-1]["converged"] == [False, False]


# Sharpness.


def test_measures_come_by_name_with_options_as_functions_and_in_several(monkeypatch):
    def quotient(model, loss=None, batches=None, *, epsilon=(0.5, 0.25), power=1):
        values = [size_of_measure(model) * each**power for each in epsilon]
        return values if len(values) > 1 else values[0]

    def half(model, loss=None, batches=None, *, rho=2.0):
        return size_of_measure(model) / rho

    for function in (quotient, half):
        monkeypatch.setattr(lb.sharpness, function.__name__, function, raising=False)
    measures = {"quotient": {"power": 2}, "half": {}, "whole": size_of_measure}
    monitor = lb.callbacks.SharpnessMonitor(SAMPLE, measures=measures, prefix="test_", subsets=3)

    logs = fit(plain(), monitor)

    whole = np.array(logs["test_whole"])
    np.testing.assert_allclose(logs["test_quotient_0.5"], whole / 4)
    np.testing.assert_allclose(logs["test_quotient_0.25"], whole / 16)
    np.testing.assert_allclose(logs["test_half_spread"], np.array(logs["test_whole_spread"]) / 2)

    for measures, message in [
        (["halve"], r"no measure 'halve' .* Did you mean 'half'\?"),
        ({"half": {"rhoo": 1}}, r"no option 'rhoo'. Did you mean 'rho'\?"),
        ({"half": 2}, "should be a dict of options"),
        ([], "measures is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            lb.callbacks.SharpnessMonitor(SAMPLE, measures=measures)
    wrong = lb.callbacks.SharpnessMonitor(SAMPLE, measures={"pair": lambda subject: [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"Measure 'pair' gave \[1.0, 2.0\], but a measure returns a float"):
        fit(plain(), wrong)


# Files.


@pytest.mark.parametrize("update_freq", [slow("epoch"), 5])
def test_tensorboard_gets_all_points_at_steps_of_the_optimizer(tmp_path, update_freq):
    """Also beside Keras' own callback, which with update_freq=5 lets through what falls on its steps only."""
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, k=3, trace=8, density=2, every=4, log_dir=tmp_path / "a")
    other = lb.callbacks.SharpnessMonitor(SAMPLE, measures=size_of_measure, log_dir=tmp_path / "a")
    theirs = keras.callbacks.TensorBoard(tmp_path / "a", update_freq=update_freq, write_graph=False)

    fit(plain(), theirs, monitor, other)
    fit(plain(), monitor)

    found = events(tmp_path / "a")
    rows = {row["update"]: row for row in monitor.history}
    assert measured_at(monitor) == [4, 8, 12] * 2
    assert list(found["sharpness/top_eigenvalue"]) == list(rows)
    assert list(found["sharpness/size_of_measure"]) == [6, 12]
    for update, row in rows.items():
        block = found["curvature/eigenvalues"][update]
        np.testing.assert_array_equal(block[2:], [*row["values"], *row["residuals"], *row["converged"]])
        assert found["sharpness/trace_standard_error"][update] == np.float32(row["trace_standard_error"])
        assert found["sharpness/edge_of_stability"][update] == np.float32(40)
        assert found["curvature/density"][update].shape == (2, len(row["density"]["grid"]))
        assert found["lbgap/top_eigenvalue"][update] == np.float32(
            row["values"][0]
        )  # for hosted TensorBoards


def test_what_is_written_says_what_was_measured_and_in_which_unit(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitors = [
        lb.callbacks.CurvatureMonitor(SAMPLE, which="smallest", log_dir=tmp_path, prefix="test_"),
        lb.callbacks.SharpnessMonitor(SAMPLE, measures="epsilon_sharpness", log_dir=tmp_path),
    ]
    fit(plain(linear=True), *monitors, epochs=1)

    accumulator = EventAccumulator(str(tmp_path)).Reload()
    contents = {}
    for tag in accumulator.Tags()["tensors"]:
        metadata = accumulator.SummaryMetadata(tag)
        if metadata.plugin_data.plugin_name == "lbgap":
            contents[tag] = json.loads(metadata.plugin_data.content)
    assert contents.keys() == {
        "curvature/test_smallest_eigenvalues",
        "sharpness/test_bottom_eigenvalue",
        "sharpness/test_bottom_eigenvalue_residual",
        "sharpness/epsilon_sharpness",
    }
    spectrum = contents["curvature/test_smallest_eigenvalues"]
    assert (spectrum["kind"], spectrum["which"]) == ("eigenvalues", "smallest")
    about = {"loss": "mse", "optimizer": "SGD", "examples": 21, "batch_normalization": "recalibrated"}
    assert spectrum["measured"].items() >= {**about, "matrix": "hessian", "weights": 5}.items()
    assert contents["sharpness/test_bottom_eigenvalue"]["unit"] == "loss / weight²"
    assert contents["sharpness/epsilon_sharpness"]["unit"] == "%"


class Raise(keras.callbacks.Callback):
    """Ends a fit at a point that has a name."""

    def __init__(self, where, error):
        super().__init__()
        self._error = error
        setattr(self, where, self._raise)

    def _raise(self, *_, **__):
        if int(self.model.optimizer.iterations) >= 9:
            raise self._error


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize(
    "where",
    slow_but(
        ["on_train_batch_end", "on_epoch_end"],
        ["on_train_batch_end", "on_train_batch_begin", "on_test_begin", "on_epoch_end"],
    ),
)
def test_nothing_is_lost_when_fit_is_broken_off_and_rows_are_gathered_by_epoch(where, error, tmp_path):
    """6 updates an epoch; broken off at update 9 of the second, or at its end, update 12."""
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, every=1, log_dir=tmp_path)
    with pytest.raises(type(error)) as caught:
        fit(plain(linear=True), Raise(where, error), monitor, validation_data=SAMPLE)

    measured = measured_at(monitor)
    # At the beginning of a batch the one before was measured; at the end of update 9 the monitor stands behind.
    assert measured[-1] == {"on_train_batch_begin": 9, "on_train_batch_end": 8}.get(where, 12)
    first, second = blocks(tmp_path, "curvature/eigenvalues")
    assert (first, second) == ([1, 2, 3, 4, 5, 6], measured[6:])
    del caught


# Around.


def test_the_history_is_plain_and_a_copied_monitor_measures_the_same():
    monitor = lb.callbacks.CurvatureMonitor(
        (batch for batch in in_batches()), k=2, every=4, density=1, trace=2
    )
    twin = copy.deepcopy(monitor)
    assert twin.batches is monitor.batches

    for each in (monitor, twin):
        fit(plain(linear=True), each)

    assert str(pickle.loads(pickle.dumps(monitor.history))) == str(monitor.history)
    without_time = [[{**row, "seconds": 0} for row in each.history] for each in (monitor, twin)]
    assert str(without_time[0]) == str(without_time[1])
    late = copy.deepcopy(monitor)  # after a fit, with its history
    late.history.clear()
    assert measured_at(monitor) == [4, 8, 12]


def test_a_stream_as_a_sample():
    sample = lb.data.Batches(*SAMPLE, batch_size=8)
    monitors = [
        lb.callbacks.CurvatureMonitor(batches, prefix=prefix, tolerance=1e-5)
        for batches, prefix in ((sample, "a_"), (SAMPLE, "b_"))
    ]
    logs = fit(plain(linear=True), *monitors, epochs=1)
    np.testing.assert_allclose(logs["a_top_eigenvalue"], logs["b_top_eigenvalue"], rtol=1e-5)
    assert monitors[0].history[0]["examples"] == 21


def test_another_model_is_measured_anew():
    """The first eigenvalue of linear regression does not depend on the weights: the loss tells the models apart."""
    monitor = lb.callbacks.CurvatureMonitor(SAMPLE, tolerance=1e-5)
    fit(plain(linear=True), monitor, epochs=1)
    fit(plain(loss=lambda y, z: 3 * (y - z) ** 2, linear=True), monitor, epochs=1)
    first, second = (row["values"][0] for row in monitor.history)
    assert second == pytest.approx(3 * first, rel=1e-5)


def test_two_monitors_of_one_name_are_told_apart_or_refused():
    a, b = (lb.callbacks.CurvatureMonitor(SAMPLE) for _ in range(2))
    with pytest.raises(
        ValueError, match=r"Two monitors would log 'edge_of_stability'\. Tell them apart with prefix="
    ):
        fit(plain(), a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": "batch"}, "every='batch' is not known"),
        ({"every": 2, "max_overhead": 0.1}, "Leave one of them out"),
        ({"max_overhead": 5}, "max_overhead=5 should be a number between 0 and 1"),
        ({"k": 0}, "k=0 should be a whole number of at least 1"),
        ({"k": 2.0}, "k=2.0 should be a whole number"),
        ({"subsets": 0}, "subsets=0 should be"),
        ({"trace": -1}, "trace=-1 should be"),
        ({"density": True}, "density=True should be"),
        ({"which": "larges"}, "Did you mean 'largest'"),
        ({"operator": "hessean"}, "Did you mean 'hessian'"),
        ({"tolerance": 0}, "tolerance=0 should be a positive number"),
        ({"max_products": 1, "k": 3}, "max_products=1 should be a whole number of at least 3"),
        ({"batch_normalization": "exact"}, "batch_normalization is 'exact'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        lb.callbacks.CurvatureMonitor(SAMPLE, **options)


def test_wrong_samples_and_unknown_arguments_are_refused_at_once():
    for batches in (7, [], iter([])):
        with pytest.raises(ValueError, match="batches is"):
            lb.callbacks.CurvatureMonitor(batches)
    with pytest.raises(TypeError, match="no argument 'loss_weight'"):
        lb.callbacks.CurvatureMonitor(SAMPLE, loss_weight=1)


def test_what_the_model_cannot_give_is_refused_when_fit_begins():
    with pytest.raises(ValueError, match="k=14 eigenvalues were asked for, but the model has 13 weights"):
        fit(plain(), lb.callbacks.CurvatureMonitor(SAMPLE, k=14))
    with pytest.raises(ValueError, match="subsets=22 parts were asked for, but the sample has 21 examples"):
        fit(plain(), lb.callbacks.CurvatureMonitor(SAMPLE, subsets=22))

    class Own(keras.Sequential):
        def train_step(self, batch):
            return {"loss": 0.0}

    model = Own([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"the model was compiled without one\. Pass loss="):
        fit(model, lb.callbacks.CurvatureMonitor(SAMPLE))


def test_losses_of_several_outputs_come_from_the_model_with_their_weights():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", ["mse", "mae"], loss_weights=[3.0, 1.0])
    x, y = data()
    monitor = lb.callbacks.CurvatureMonitor((x, (y, y)), tolerance=1e-5)

    model.fit(x, (y, y), epochs=1, verbose=0, callbacks=[monitor])

    bias = np.hstack([x, np.ones((N, 1))]).astype("float64")
    expected = np.linalg.eigvalsh(3 * 2 / N * bias.T @ bias)[-1]
    np.testing.assert_allclose(monitor.history[0]["values"], [expected], rtol=1e-4)

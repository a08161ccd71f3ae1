"""A batch size chosen from what was measured: in a real `fit`, with exact numbers."""

import copy
import math
import types
import warnings

import keras
import numpy as np
import pytest
import recording as r
from event_files import events

import tf_lbgap as lb
from tf_lbgap.callbacks.ladder import next_size
from tf_lbgap.growth import Decision

N = 203


def criterion(decide, *needs):
    """A criterion of one's own: a function with needs."""
    decide.needs = needs
    return decide


def doubling(*needs):
    return criterion(lambda size, measured: Decision(2.0 * size, "It doubles.", {"size": size}), *needs)


def fit(model, batches, callbacks, epochs=3, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(
            batches, epochs=epochs, shuffle=False, callbacks=callbacks, **{"verbose": 0, **options}
        )


def linear(rate=0.0, optimizer=None, **options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[0.5], [0.5]])
    model.compile(optimizer or keras.optimizers.SGD(rate), "mse", **options)
    return model


def data(n=60, noise=1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)).astype("float32")
    return x, (x @ [[1.0], [-2.0]] + noise * rng.normal(size=(n, 1))).astype("float32")


# Which examples, how many updates, which sizes.


@pytest.mark.parametrize("last_batch", ["partial", "merge", "drop"])
def test_sizes_that_move_in_mid_epoch_see_every_example_once(last_batch):
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=8, seed=0, last_batch=last_batch)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, doubling("trace"), maximum=64, every=3, window=3, probe="separate"
    )

    fit(model, batches, [adaptive])

    moved = [(row["update"], row["new_batch_size"]) for row in adaptive.history]
    assert moved[:4] == [(9, 16), (18, 32), (27, 64), (36, 64)][: len(moved[:4])]
    moves = [row for row in adaptive.history[:-1] if row["new_batch_size"] != row["batch_size"]]
    lags = [row["lag"] for row in moves]
    assert lags == [0] * len(lags) if last_batch != "drop" else max(lags) <= 1
    sizes = r.sizes_seen(model)
    assert sizes[:9] == 9 * [8] and r.num_iterations(model) == len(sizes) == r.num_decays(model)
    position, epoch = 0, []
    for size, ids in zip(sizes, model.layers[0].seen, strict=True):
        epoch.append(ids)
        position += size
        if last_batch != "drop" and position == N:
            assert sorted(np.concatenate(epoch)) == list(range(N))
            position, epoch = 0, []
    assert sum(sizes) == 3 * N if last_batch != "drop" else 0 < 3 * N - sum(sizes) < 3 * 64


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_probed_updates_are_counted_once(steps_per_execution):
    """An update as micro-batches is one update, with one decay; the ids of its parts are its own."""
    model = r.recording_model(steps_per_execution=steps_per_execution)
    batches = lb.data.Batches(*r.ids(N), batch_size=8, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(batches, doubling("trace"), maximum=32, every=8, window=1)

    fit(model, batches, [adaptive], epochs=2)

    assert sum(r.sizes_seen(model)) == 2 * N
    seen = np.concatenate(model.layers[0].seen)
    assert sorted(seen[:N]) == sorted(seen[N:]) == list(range(N))
    assert r.num_iterations(model) == r.num_decays(model)
    assert adaptive.history[0]["update"] == 8 and adaptive.history[0]["new_batch_size"] == 16


def test_a_criterion_of_losses_alone_decides_after_each_epoch():
    """Without probes no update is run as micro-batches, and the train function is Keras' own."""
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    model = linear()
    model.make_train_function()
    own, seen = model.train_function, []
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches,
        criterion(
            lambda size, measured: seen.append(measured["losses"]) or Decision(2 * size, "", {}), "losses"
        ),
        maximum=40,
    )
    logs = fit(model, batches, [adaptive], epochs=4).history
    assert model.train_function is own
    assert [row["new_batch_size"] for row in adaptive.history] == [20, 40, 40, 40]
    assert logs["updates"] == [6, 9, 11, 13]
    assert [len(losses) for losses in seen] == [1, 1, 1, 2]  # since the size moved
    assert seen[0][0] == pytest.approx(logs["loss"][0])


# What is measured.


def test_all_measurements_by_hand():
    """Micro-batches of one example, weights that stay: the numbers of the papers, of one batch."""
    x, y = data(12)
    batches = lb.data.Batches(x, y, batch_size=12, seed=0)
    kept = {}
    names = [
        "trace",
        "squared_norm",
        "noise_scale",
        "batch_squared_norm",
        "inner_product_variance",
        "loss",
        "learning_rate",
        "momentum",
        "updates",
        "progress",
        "num_examples",
        "first_batch_size",
        "first_trace",
    ]
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches,
        criterion(lambda size, measured: kept.update(measured) or Decision(size, "", {}), *names),
        every=1,
        window=1,
        num_micro_batches=12,
    )
    fit(linear(), batches, [adaptive], epochs=3)

    gradients = 2 * (np.float64(x) @ [0.5, 0.5] - y[:, 0])[:, None] * x
    mean = gradients.mean(0)
    trace = np.trace(np.cov(gradients.T))
    expected = {
        "trace": trace,
        "squared_norm": mean @ mean,  # of the training set, which is the batch
        "noise_scale": trace / (mean @ mean),
        "batch_squared_norm": mean @ mean,
        "inner_product_variance": np.var(gradients @ mean, ddof=1),
        "loss": np.mean((np.float64(x) @ [0.5, 0.5] - y[:, 0]) ** 2),
        "learning_rate": 0.0,
        "momentum": 0.0,
        "updates": 2,
        "progress": 3.0,
        "num_examples": 12,
        "first_batch_size": 12,
        "first_trace": trace,
    }
    assert {name: kept[name] for name in names} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "made, wanted",
    [
        (lb.growth.NormTest(theta=0.1), lambda s, g, v, f: math.ceil(s / (0.01 * g))),
        (lb.growth.InnerProductTest(theta=0.1), lambda s, g, v, f: math.ceil(v / (0.01 * g * g))),
        (lb.growth.Cabs(), lambda s, g, v, f: round(0.9 * s / f)),
    ],
    ids=lambda made: type(made).__name__,
)
def test_a_criterion_in_fit_is_the_formula_of_its_paper(made, wanted):
    x, y = data(12)
    batches = lb.data.Batches(x, y, batch_size=12, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, made, minimum=1, every=1, window=1, num_micro_batches=12
    )
    fit(linear(0.9), batches, [adaptive], epochs=1)
    gradients = 2 * (np.float64(x) @ [0.5, 0.5] - y[:, 0])[:, None] * x
    mean = gradients.mean(0)
    loss = np.mean((np.float64(x) @ [0.5, 0.5] - y[:, 0]) ** 2)
    by_hand = wanted(np.trace(np.cov(gradients.T)), mean @ mean, np.var(gradients @ mean, ddof=1), loss)
    assert adaptive.history[0]["wanted"] == pytest.approx(by_hand, rel=1e-6)


def test_noise_makes_the_batch_grow_and_its_absence_does_not():
    """At the solution of a noisy regression |G|² is 0 and tr(Σ) is not; without noise both are 0."""
    for noise, last in ((3.0, 256), (0.0, 8)):
        x, y = data(600, noise)
        batches = lb.data.Batches(x, y, batch_size=8, seed=0)
        adaptive = lb.callbacks.AdaptiveBatchSize(
            batches, lb.growth.NormTest(theta=0.5), maximum=256, every=2, window=8
        )
        fit(linear(0.05), batches, [adaptive], epochs=8)
        sizes = [row["new_batch_size"] for row in adaptive.history]
        if noise:
            assert sizes[-1] == last and sizes == sorted(sizes)
        assert all(row["reason"] for row in adaptive.history)


# Sizes and rates.


@pytest.mark.parametrize(
    "size, wanted, rung",
    [
        (10, 10, 10),
        (10, 19.9, 10),
        (10, 20, 20),
        (10, 85, 80),
        (80, 41, 80),
        (80, 40, 40),
        (80, 5, 5),
        (80, 6, 10),
        (80, 0.1, 1),
        (100, 1000, 640),
        (100, 30, 40),
        (10, math.inf, 10),
        (10, math.nan, 10),
    ],
)
def test_rungs_have_an_inertia_of_a_factor_of_two(size, wanted, rung):
    """The first size is 10, and 100 is no rung; it counts as 80."""
    assert next_size(wanted, size, 10, "ladder") == rung


def test_any_size_is_what_was_wanted():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches,
        criterion(lambda size, measured: Decision(1.3 * size, "", {}), "losses"),
        sizes="any",
        maximum=20,
    )
    fit(linear(), batches, [adaptive], epochs=5)
    assert [row["new_batch_size"] for row in adaptive.history] == [13, 17, 20, 20, 20]


def test_the_rate_follows_and_takes_what_the_maximum_keeps_from_the_batch():
    x, y = data()
    for rule, rates in (
        ("linear", [0.01, 0.02, 0.04, 0.04]),
        ("smith", [0.01, 0.01, 0.01, 0.005]),
    ):
        batches = lb.data.Batches(x, y, batch_size=10, seed=0)
        adaptive = lb.callbacks.AdaptiveBatchSize(batches, doubling("losses"), maximum=40, learning_rate=rule)
        model = linear(0.01)
        logs = fit(model, batches, [adaptive], epochs=4).history
        assert logs["learning_rate"] == pytest.approx(rates)
        assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.01)


def test_what_the_maximum_kept_from_the_batch_stays_with_the_rate():
    """160 were wanted and 40 can be; a criterion that is then content does not take the decay back."""
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    wanted = iter([160.0, 40.0, 20.0])
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches,
        criterion(lambda size, measured: Decision(next(wanted), "", {}), "losses"),
        maximum=40,
        learning_rate="smith",
    )
    logs = fit(linear(0.01), batches, [adaptive], epochs=3).history
    assert logs["batch_size"] == [10, 40, 40] and batches.batch_size == 20
    assert logs["learning_rate"] == pytest.approx([0.01, 0.0025, 0.0025])


def test_at_the_maximum_each_plateau_decays_the_rate():
    """No epoch improves by min_delta, so every second one is a plateau: 10, 20, then half the rate, and half again."""
    batches = lb.data.Batches(*data(), batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.Plateau(patience=1), maximum=20, learning_rate="smith"
    )
    logs = fit(linear(1e-8), batches, [adaptive], epochs=8).history
    assert logs["batch_size"] == [10, 10, 20, 20, 20, 20, 20, 20]
    assert logs["learning_rate"] == pytest.approx(np.array([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]) * 1e-8)
    assert [row["wanted"] for row in adaptive.history] == [10, 20, 20, 40, 40, 80, 80, 160]


def test_adascale_takes_the_gain_from_the_probes():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, doubling("trace"), maximum=20, learning_rate="adascale", every=1, window=6
    )
    logs = fit(linear(1e-6), batches, [adaptive], epochs=2).history
    noise = adaptive.noise()
    gain = lb.scaling.adascale_gain(noise["trace"], noise["squared_norm"], 20, 10)
    assert 1 < gain < 2
    assert logs["learning_rate"][0] == pytest.approx(1e-6, rel=1e-4)
    assert logs["batch_size"][1] == 20


def test_the_gain_is_not_made_of_a_single_probe():
    """With a window of one the rate would jump with each probe; it moves by less than a tenth from decision to decision."""
    x, y = data(600)
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, doubling("trace"), maximum=20, learning_rate="adascale", every=1, window=1
    )
    logged = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: logged.append(batches.learning_rate_factor)
    )
    fit(linear(1e-6), batches, [adaptive, note], epochs=4)
    steps = np.abs(np.diff(np.log(logged[40:])))
    assert len(steps) > 60 and 0 < steps.max() < 0.1


# Beside others.


def test_decisions_are_told_and_written(tmp_path, capsys):
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, doubling("noise_scale"), maximum=20, every=1, window=6, log_dir=tmp_path, verbose=1
    )
    fit(linear(), batches, [adaptive], epochs=2)
    assert "Update 6: AdaptiveBatchSize setting the batch size to 20. It doubles." in capsys.readouterr().out
    row = adaptive.history[0]
    assert row["numbers"] == {"size": 10} and row["examples"] == 60 and row["progress"] == 1.0
    found = events(tmp_path)
    assert float(found["schedule/wanted_batch_size"][6]) == 20
    assert set(found) >= {f"schedule/gradient_noise_scale{s}" for s in ("", "_low", "_high")}


def test_a_state_goes_on():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    first = lb.callbacks.AdaptiveBatchSize(
        batches, doubling("losses"), maximum=40, sizes="any", learning_rate="smith"
    )
    model = linear(0.01)
    fit(model, batches, [first], epochs=3)
    state = first.get_state()

    again = lb.data.Batches(x, y, batch_size=10, seed=0)
    second = lb.callbacks.AdaptiveBatchSize(
        again, doubling("losses"), maximum=40, sizes="any", learning_rate="smith"
    )
    second.set_state(state)
    logs = fit(model, again, [second], epochs=4, initial_epoch=3).history
    assert logs["batch_size"] == [40] and logs["learning_rate"] == pytest.approx([0.005])


def test_ghost_batches_keep_their_size_as_the_batch_grows():
    """Batch normalization sees 10 examples at a time: moving averages move once per ghost batch."""
    x, y = data()
    model = keras.Sequential([keras.Input((2,)), r.Recorder(), keras.layers.BatchNormalization()])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    schedule = lb.schedules.staircase(10, factor=3, milestones=[1])
    fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, schedule, ghost_batch_size=10)], epochs=2)
    assert [len(ids) for ids in model.layers[0].seen] == 12 * [10]
    assert int(model.optimizer.iterations.numpy()) == 6 + 2


def test_a_copy_steers_the_same_stream():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    adaptive = copy.deepcopy(lb.callbacks.AdaptiveBatchSize(batches, doubling("trace"), every=1, window=6))
    assert adaptive.batches is batches
    fit(linear(), batches, [adaptive], epochs=1)
    assert adaptive.history[0]["new_batch_size"] == 20


def test_auto_is_found_once_and_then_kept(monkeypatch):
    """What fits is asked for with the largest batch there will be; larger batches come in parts of it."""
    asked = []

    def find(model, batches, maximum):
        asked.append(maximum)
        return 4

    monkeypatch.setattr("tf_lbgap.callbacks.micro_batches.find_micro_batch_size", find)
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(20), batch_size=4, seed=0)
    schedule = lb.schedules.staircase(4, factor=2.5, milestones=[1])
    callback = lb.callbacks.BatchSizeScheduler(batches, schedule, micro_batch_size="auto")
    for _ in range(2):
        fit(model, batches, [callback], epochs=2)
    assert asked == [10]
    assert r.sizes_seen(model) == 2 * (5 * [4] + 2 * [3, 3, 4])
    assert r.num_iterations(model) == r.num_decays(model) == 14


# Wrong use.


def test_wrong_use_is_told_where_it_enters():
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    make = lb.callbacks.AdaptiveBatchSize
    for build, told in (
        (lambda: make(batches, 2.0), "criterion=2.0 should be one of lb.growth"),
        (lambda: make(batches, lambda size, measured: None), "with an attribute needs"),
        (lambda: make(batches, lb.growth.Plateau), r"is a class. Make one: Plateau\(\)"),
        (lambda: make(batches, doubling("trase")), "needs 'trase'.* Did you mean 'trace'"),
        (lambda: make(batches, doubling("losses"), minimum=20), "batch_size=10 is the first size"),
        (lambda: make(batches, doubling("losses"), maximum=61), "maximum=61 is not a batch size"),
        (lambda: make(batches, doubling("losses"), sizes="all"), "sizes='all'"),
        (lambda: make(batches, doubling("losses"), window=0), "window=0"),
        (lambda: make(batches, lb.growth.BigBatch()), 'Pass sizes="any"'),
        (lambda: make(batches, doubling("losses"), learning_rate="cubic"), "must be one of 'none', 'linear'"),
        (lambda: make(batches, doubling("losses"), ghost_batch_size=8, micro_batch_size=4), "above micro"),
        (lambda: make(types.SimpleNamespace(), doubling("losses")), "works with a tf_lbgap.data.Batches"),
    ):
        with pytest.raises(ValueError, match=told):
            build()


def test_a_fit_too_short_for_a_decision_is_told():
    batches = lb.data.Batches(*data(), batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(batches, lb.growth.NormTest(), every=2)
    told = "no decision: after 12 updates there are 6 probes, one every 2, and a decision takes 20"
    with pytest.warns(UserWarning, match=told):
        linear(0.01).fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[adaptive])


def test_a_function_that_decides_nothing_is_told():
    batches = lb.data.Batches(*data(), batch_size=10, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(batches, criterion(lambda size, measured: size, "losses"))
    with pytest.raises(ValueError, match=r"returned 10, but should return lb.growth.Decision\(batch_size"):
        fit(linear(), batches, [adaptive])


@pytest.mark.parametrize(
    "options, optimizer, told",
    [
        ({"criterion": lb.growth.Cabs()}, keras.optimizers.SGD(0.1, momentum=0.9), "momentum"),
        ({"learning_rate": "sqrt"}, keras.optimizers.SGD(0.1), "check_rule=False"),
        ({"learning_rate": "linear"}, keras.optimizers.Adam(0.1), "check_rule=False"),
        ({"ghost_batch_size": 4}, keras.optimizers.SGD(0.1), "has no BatchNormalization"),
    ],
    ids=["cabs", "sqrt", "linear", "ghost"],
)
def test_what_does_not_hold_for_the_model_is_told_when_fit_begins(options, optimizer, told):
    x, y = data()
    batches = lb.data.Batches(x, y, batch_size=10, seed=0)
    options = {"criterion": doubling("losses"), **options}
    adaptive = lb.callbacks.AdaptiveBatchSize(batches, **options)
    with pytest.raises(ValueError, match=told):
        fit(linear(optimizer=optimizer), batches, [adaptive])
    if "learning_rate" in options:
        adaptive = lb.callbacks.AdaptiveBatchSize(batches, **options, check_rule=False)
        fit(linear(optimizer=optimizer), batches, [adaptive], epochs=1)

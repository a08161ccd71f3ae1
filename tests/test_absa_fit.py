"""ABSA in a real `fit`: batches, rates, adversarial examples, and eigenvalues that are really measured."""

import math
import warnings

import keras
import numpy as np
import pytest
import recording as r
from event_files import events
from replicas import mirrored

import tf_lbgap as lb
from tf_lbgap.callbacks.top_eigenvalue import TopEigenvalue

N = 50


def told(monkeypatch, values):
    """Let the measurement find these eigenvalues, one after the other; returns the epochs in which it was asked."""
    left, asked = list(values), []

    def at_epoch_end(self, epoch, logs):
        asked.append(epoch)
        logs["growth_top_eigenvalue"] = left[0]
        return left.pop(0)

    monkeypatch.setattr(TopEigenvalue, "at_epoch_end", at_epoch_end)
    return asked


def far_away(model, loss, x, y, *, epsilon, data_range):
    """An attack whose examples can be told from others."""
    return x + 1000.0


def fit(model, batches, callbacks, epochs, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(
            batches, epochs=epochs, shuffle=False, callbacks=callbacks, **{"verbose": 0, **options}
        ).history


def absa(batches, criterion=None, **options):
    """The three callbacks of ABSA, on a stream of ids."""
    x, y = r.ids(N)
    change = lb.training.Adversarial(far_away, epsilon=0.005, ratio=0.25)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, criterion or lb.growth.Absa(), maximum=32, learning_rate="linear", sample=(x[:8], y[:8])
    )
    share = lb.callbacks.AdversarialShare(batches, change, **options)
    return [lb.callbacks.ChangeUpdates(change), adaptive, share]


def stream(**options):
    return lb.data.Batches(*r.ids(N), batch_size=8, seed=0, **options)


# Batches, rates, ratios.


def test_batches_rates_and_ratios_are_those_of_the_rule(monkeypatch):
    """50 examples make 7 updates of 8, or 4 of 16, or 2 of 32, the last of them ragged; 2 of each batch are moved far away."""
    asked = told(monkeypatch, [8.0, 4.0, 3.0, 9.0, 2.0])
    batches, model = stream(), r.recording_model()
    callbacks = absa(batches, half=False)

    logs = fit(model, batches, callbacks, epochs=7)

    assert r.sizes_seen(model) == 2 * [*6 * [8], 2] + 3 * [16, 16, 16, 2] + 2 * [32, 18]
    assert logs["updates"] == [7, 14, 18, 22, 26, 28, 30]
    assert r.num_iterations(model) == 30
    assert logs["learning_rate"] == pytest.approx(np.array([1, 1, 2, 2, 2, 4, 4]) * r.RATE)
    assert logs["adversarial_ratio"] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.0625, 0.0625]
    moved = [int((ids >= 1000).sum()) for ids in model.layers[0].seen]
    assert moved == 2 * [*6 * [2], 0] + 3 * [2, 2, 2, 0] + 2 * [2, 1]
    assert callbacks[0].changes[0].ratio == 0.25
    adaptive = callbacks[1]
    assert [row["new_batch_size"] for row in adaptive.history] == [8, 16, 16, 16, 32]
    # At the maximum there is nothing to decide: nothing is measured, and the logs have their names all the same.
    assert asked == [0, 1, 2, 3, 4]
    assert logs["growth_top_eigenvalue"][:5] == [8.0, 4.0, 3.0, 9.0, 2.0]
    assert all(math.isnan(value) for value in logs["growth_top_eigenvalue"][5:])


def test_without_a_fall_duration_makes_it_grow(monkeypatch):
    told(monkeypatch, [1.0, 1.0, 2.0, 3.0])
    batches, model = stream(), r.recording_model()
    logs = fit(model, batches, absa(batches, lb.growth.Absa(duration=2)), epochs=6)
    assert logs["batch_size"] == [8, 8, 16, 16, 32, 32]
    assert logs["updates"] == [7, 14, 18, 22, 24, 26]


@pytest.mark.parametrize(
    ("options", "epochs", "ratios"),
    [
        ({}, 6, [1 / 4, 1 / 4, 1 / 8, 0, 0, 0]),
        ({}, 5, [1 / 4, 1 / 4, 0, 0, 0]),
        ({}, 1, [1 / 4]),
        ({"half": False}, 6, [1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 16, 1 / 16]),
        ({"half": False, "maximum": 32}, 6, [1 / 4, 1 / 4, 1 / 8, 1 / 8, 0, 0]),
        ({"half": False, "maximum": 16}, 6, [1 / 4, 1 / 4, 0, 0, 0, 0]),
        ({"half": False, "maximum": 8}, 3, [1 / 4, 1 / 4, 0]),  # to which it has not grown at first
    ],
)
def test_the_share_falls_to_nothing_in_the_second_half_and_at_the_maximum(
    monkeypatch, options, epochs, ratios
):
    """Fits twice: the second begins with the ratio that the change was made with."""
    told(monkeypatch, 100 * [1.0])
    batches, model = stream(), r.recording_model()
    callbacks = absa(batches, lb.growth.Absa(duration=2), **options)
    for _ in range(2):
        batches.batch_size = 8
        callbacks[1]._top_eigenvalues.clear()
        assert fit(model, batches, callbacks, epochs=epochs)["adversarial_ratio"] == ratios


def test_the_share_follows_a_schedule_of_sizes_too():
    batches, model = stream(), r.recording_model()
    change = lb.training.Adversarial(far_away, epsilon=1.0, ratio=0.5)
    steps = lb.schedules.staircase(8, factor=2, milestones=[1, 2.5])
    callbacks = [
        lb.callbacks.ChangeUpdates(change),
        lb.callbacks.BatchSizeScheduler(batches, steps),
        lb.callbacks.AdversarialShare(batches, change, half=False),
    ]
    logs = fit(model, batches, callbacks, epochs=4)
    assert logs["adversarial_ratio"] == [0.5, 0.25, 0.25, 0.125]  # the step in mid-epoch counts from the next


def test_a_criterion_of_ones_own_may_ask_for_probes_and_eigenvalues(monkeypatch):
    """It decides in mid-epoch, from the eigenvalues of the epochs that are over, until it has come to the maximum."""
    told(monkeypatch, [5.0, 6.0, 7.0, 8.0])
    seen = []

    def doubling(size, measured):
        seen.append(measured["top_eigenvalues"])
        return lb.growth.Decision(2 * size, "It doubles.", {})

    doubling.needs, doubling.ends_at_maximum = ("trace", "top_eigenvalues"), True
    batches, model = stream(), r.recording_model()
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, doubling, maximum=32, every=1, window=9, sample=r.ids(N)
    )
    fit(model, batches, [adaptive], epochs=14)
    # A last batch of 2 is too small to be probed: 6 probes in the first epoch, and 3; then 2, 3, 3 and 1.
    assert seen == [(5.0,), (5.0, 6.0, 7.0, 8.0)]
    assert [row["new_batch_size"] for row in adaptive.history] == [16, 32]


# Eigenvalues that are measured.


def softmax_data(n=45, apart=0.8):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    return x + apart * np.eye(4)[labels], labels


class Weights(keras.callbacks.Callback):
    """Keeps the weights of the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append([weight.numpy() for weight in self.model.trainable_variables])


def softmax_hessian(x, kernel, bias):
    """1/n Σ (diag(p) - ppᵀ) ⊗ (x, 1)(x, 1)ᵀ, dense, by NumPy."""
    logits = x @ kernel + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    x1 = np.hstack([x, np.ones((len(x), 1))])
    return sum(
        np.kron(np.diag(q) - np.outer(q, q), np.outer(v, v)) for q, v in zip(p, x1, strict=True)
    ) / len(x)


def test_a_measured_eigenvalue_is_the_largest_of_the_dense_hessian_of_the_sample():
    """Classes so far apart that their probabilities, and with them curvature, go to 0 and 1 as training goes on."""
    keras.config.set_floatx("float64")
    x, labels = softmax_data(apart=3)
    batches = lb.data.Batches(x, labels, batch_size=10, seed=0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="float64")])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    sample = [(x[:8], labels[:8]), (x[8:21], labels[8:21])]
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.Absa(factor=1.25), sample=sample, maximum=45, sizes="any"
    )
    weights = Weights()

    logs = fit(model, batches, [adaptive, weights], epochs=10)

    tops = [np.linalg.eigvalsh(softmax_hessian(x[:21], *kept))[-1] for kept in weights.kept]
    measured = [row["numbers"]["last"] for row in adaptive.history]
    assert logs["growth_top_eigenvalue"] == measured
    np.testing.assert_allclose(measured, tops, rtol=1e-2)
    print(tops, [row["new_batch_size"] for row in adaptive.history])
    # And the decisions are those of the true ones: the first fall by a fifth, from the first epoch on.
    first = next(i for i, top in enumerate(tops) if top <= tops[0] / 1.25)
    assert [row["new_batch_size"] for row in adaptive.history][: first + 1] == [*first * [10], 12]


def test_it_is_measured_on_exact_statistics_and_without_dropout():
    """After the normalization the loss is that of a linear regression, whose Hessian is 2/n ZᵀZ; moving averages would give another."""
    keras.config.set_floatx("float64")
    rng = np.random.default_rng(0)
    x, y = 5 + rng.normal(size=(30, 3)) * [1, 2, 3], rng.normal(size=(30, 1))
    normalization = keras.layers.BatchNormalization(center=False, scale=False, epsilon=1e-3, dtype="float64")
    model = keras.Sequential([keras.Input((3,)), normalization, keras.layers.Dropout(0.5, seed=0)])
    model.add(keras.layers.Dense(1, use_bias=False, dtype="float64"))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    batches = lb.data.Batches(x, y, batch_size=8, seed=0)
    adaptive = lb.callbacks.AdaptiveBatchSize(batches, lb.growth.Absa(), sample=(x[:17], y[:17]))
    logs = fit(model, batches, [adaptive], epochs=1)
    z = (x[:17] - x[:17].mean(0)) / np.sqrt(x[:17].var(0) + 1e-3)
    top = np.linalg.eigvalsh(2 / 17 * z.T @ z)[-1]
    assert logs["growth_top_eigenvalue"] == pytest.approx([top], rel=1e-2)


def deep(optimizer=None):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization()]
    )
    model.add(keras.layers.Dropout(0.3, seed=5))
    model.add(keras.layers.Dense(3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    return model


def test_training_is_bit_for_bit_what_it_is_without_measuring():
    x, labels = softmax_data()
    found = []
    for criterion, sample in (
        (lb.growth.Absa(factor=1e9), (x, labels)),
        (lb.growth.Plateau(patience=9), None),
    ):
        batches, model = lb.data.Batches(x.astype("float32"), labels, batch_size=10, seed=0), deep()
        adaptive = lb.callbacks.AdaptiveBatchSize(batches, criterion, sample=sample)
        logs = fit(model, batches, [adaptive], epochs=3)
        found.append(([v.numpy() for v in model.variables + model.optimizer.variables], logs))
    (ours, our_logs), (theirs, their_logs) = found
    assert all(one.tobytes() == other.tobytes() for one, other in zip(ours, theirs, strict=True))
    assert all(our_logs[name] == values for name, values in their_logs.items())
    assert set(our_logs) - set(their_logs) == {"growth_top_eigenvalue", "growth_top_eigenvalue_residual"}


@pytest.mark.slow
def test_it_stands_beside_a_monitor_and_is_written_for_tensorboard(tmp_path):
    x, labels = softmax_data()
    batches, model = lb.data.Batches(x, labels, batch_size=10, seed=0), deep(keras.optimizers.RMSprop(0.01))
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.Absa(duration=1), sample=(x, labels), maximum=20, log_dir=tmp_path
    )
    monitor = lb.callbacks.CurvatureMonitor((x, labels), which="largest", tolerance=1e-3, trace=0)
    with pytest.warns(UserWarning) as warned:
        logs = model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[adaptive, monitor]).history
    assert ["edge of stability of RMSprop" in str(w.message) for w in warned] == [True]  # the monitor's alone
    found = events(tmp_path)
    assert float(found["sharpness/growth_top_eigenvalue"][5]) == pytest.approx(
        logs["growth_top_eigenvalue"][0]
    )
    assert list(found["sharpness/growth_top_eigenvalue"]) == [5]  # then it is at its maximum
    assert float(found["schedule/wanted_batch_size"][5]) == 20
    assert logs["growth_top_eigenvalue"][0] == pytest.approx(logs["top_eigenvalue"][0], rel=1e-2)


def test_where_training_has_diverged_the_batch_stays():
    x, labels = softmax_data()
    batches, model = lb.data.Batches(x, labels, batch_size=10, seed=0), deep()
    adaptive = lb.callbacks.AdaptiveBatchSize(batches, lb.growth.Absa(duration=2), sample=(x, labels))
    diverge = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch == 1 and model.layers[-1].bias.assign(3 * [math.nan])
    )
    with pytest.warns(UserWarning, match="training has diverged"):
        model.fit(batches, epochs=4, shuffle=False, verbose=0, callbacks=[adaptive, diverge])
    assert [row["new_batch_size"] for row in adaptive.history] == 4 * [10]
    assert "from which nothing follows" in adaptive.history[-1]["reason"]


@pytest.mark.slow
def test_replicas_measure_and_grow_to_what_they_can_share():
    """Of a maximum of 33 two replicas share 32: there nothing is left to decide."""
    x, labels = softmax_data()
    with mirrored().scope():
        model = deep()
    batches = lb.data.Batches(x.astype("float32"), labels, batch_size=8, seed=0)
    change = lb.training.Adversarial("fgsm", epsilon=0.1, ratio=0.5)
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.Absa(duration=1), sample=(x, labels), maximum=33
    )
    share = lb.callbacks.AdversarialShare(batches, change, half=False, maximum=33)
    logs = model.fit(
        batches,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[lb.callbacks.ChangeUpdates(change), adaptive, share],
    ).history
    assert logs["batch_size"] == [8, 16, 32, 32] and logs["adversarial_ratio"] == [0.5, 0.25, 0, 0]
    assert [math.isfinite(value) for value in logs["growth_top_eigenvalue"]] == [True, True, False, False]


# Going on.


def test_the_eigenvalues_so_far_are_part_of_the_state(monkeypatch):
    """Half of the first epoch's eigenvalue is reached in the fourth, in another fit by another callback."""
    told(monkeypatch, [8.0, 7.0, 6.0, 4.0])
    batches, model = stream(), r.recording_model()
    callbacks = absa(batches)
    fit(model, batches, callbacks, epochs=3)
    state = callbacks[1].get_state()
    assert state["top_eigenvalues"] == [8.0, 7.0, 6.0]

    again = stream()
    others = absa(again)
    others[1].set_state(state)
    fit(model, again, others, epochs=4, initial_epoch=3)
    assert [row["new_batch_size"] for row in others[1].history] == [8, 8, 8, 16]
    assert others[1].history[-1]["numbers"] == {"reference": 8.0, "last": 4.0, "waited": 4}


@pytest.mark.slow
def test_after_a_crash_training_goes_on_as_if_there_had_been_none(tmp_path):
    """Real eigenvalues, with starts from the last ones; the crash comes in mid-epoch, with the batch grown."""
    x, labels = softmax_data()

    def train(folder, breaks_at=None):
        batches, model = lb.data.Batches(x.astype("float32"), labels, batch_size=8, seed=0), deep()
        change = lb.training.Adversarial("fgsm", epsilon=0.1, ratio=0.5)
        adaptive = lb.callbacks.AdaptiveBatchSize(
            batches,
            lb.growth.Absa(duration=2),
            sample=(x[:21], labels[:21]),
            learning_rate="linear",
            maximum=32,
        )

        def crash(batch, logs):
            if breaks_at is not None and int(model.optimizer.iterations.numpy()) == breaks_at:
                raise InterruptedError

        callbacks = [
            lb.callbacks.ChangeUpdates(change),
            adaptive,
            lb.callbacks.AdversarialShare(batches, change),
            keras.callbacks.LambdaCallback(on_train_batch_end=crash),
            lb.callbacks.Checkpoint(folder, every=1, verbose=0),
        ]
        logs = fit(model, batches, callbacks, epochs=8)
        return [v.numpy() for v in model.variables + model.optimizer.variables], adaptive.history, logs

    whole, history, logs = train(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tmp_path / "broken", breaks_at=14)
    resumed, its_history, its_logs = train(tmp_path / "broken")

    assert {row["new_batch_size"] for row in history} >= {8, 16}
    assert its_history == history
    assert its_logs["adversarial_ratio"] == logs["adversarial_ratio"]
    np.testing.assert_array_equal(its_logs["growth_top_eigenvalue"], logs["growth_top_eigenvalue"])
    assert all(one.tobytes() == other.tobytes() for one, other in zip(resumed, whole, strict=True))


def test_a_state_may_be_asked_for_before_anything_was_measured():
    batches, states = stream(), []
    adaptive = absa(batches)[1]
    early = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: states.append(adaptive.get_state()))
    states.append(adaptive.get_state())
    fit(r.recording_model(), batches, [adaptive, early], epochs=1)
    assert [state["curvature"] for state in states] == [None, None]
    adaptive.set_state(states[1])
    assert len(fit(r.recording_model(), batches, [adaptive], epochs=2)["loss"]) == 2


# Wrong use.


def test_wrong_use_is_told_where_it_enters():
    x, y = r.ids(N)
    batches, change = stream(), lb.training.Adversarial("fgsm", epsilon=0.01, ratio=0.2)
    adaptive, share = lb.callbacks.AdaptiveBatchSize, lb.callbacks.AdversarialShare
    for build, told_so in (
        (
            lambda: adaptive(batches, lb.growth.Absa()),
            r"Absa needs top_eigenvalues.*pass sample=\(x\[:128\], y\[:128\]\)",
        ),
        (
            lambda: adaptive(batches, lb.growth.Plateau(), sample=(x, y)),
            "Plateau does not need top_eigenvalues",
        ),
        (lambda: adaptive(batches, lb.growth.Absa(), sample=3), "batches"),
        (
            lambda: adaptive(batches, lb.growth.Absa(), sample=x),
            r"array of shape \(50, 1\).*needs targets, too",
        ),
        (lambda: adaptive(batches, lb.growth.Absa(factor=1.5), sample=(x, y)), 'Pass sizes="any"'),
        (lambda: share(batches, "fgsm"), "change='fgsm' must be the training.Adversarial"),
        (lambda: share(batches, lb.training.Adversarial(ratio=0.0)), "The change has ratio=0"),
        (lambda: share(batches, change, half=0.5), "half=0.5 must be True or False"),
        (lambda: share(batches, change, maximum=4), "maximum=4 is below the stream's first batch_size=8"),
        (lambda: share(batches, change, maximum=51), "maximum=51 is not a batch size"),
        (lambda: share([(x, y)], change), "works with a tf_lbgap.data.Batches"),
    ):
        with pytest.raises(ValueError, match=told_so) as error:
            build()
        assert "\n" not in str(error.value)


def test_a_share_that_nobody_makes_and_one_that_looks_too_early_are_told():
    batches, change = stream(), lb.training.Adversarial("fgsm", epsilon=0.01, ratio=0.2)
    share = lb.callbacks.AdversarialShare(batches, change)
    steer = lb.callbacks.BatchSizeScheduler(batches)
    for callbacks, told_so in (
        ([steer, share], "a change that this fit does not make"),
        ([lb.callbacks.ChangeUpdates(lb.training.Adversarial()), steer, share], "does not make"),
        (
            [lb.callbacks.ChangeUpdates(change), share, steer],
            "Put AdversarialShare behind BatchSizeScheduler",
        ),
    ):
        with pytest.raises(ValueError, match=told_so):
            fit(r.recording_model(), batches, callbacks, epochs=1)

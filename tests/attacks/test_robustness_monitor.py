"""RobustnessMonitor in `fit`: training is what it is without, and the numbers are those measured afterwards by hand."""

import copy
import functools
import math

import keras
import numpy as np
import pytest
from event_files import events
from slow import slow
from victims import C, D, crossentropy, each_loss, noisy, told_apart

import tf_lbgap as lb
from tf_lbgap import attacks

X, Y = told_apart(60)
SAMPLE = X[:21].astype("float32"), Y[:21]
RANGE = (-2.0, 2.0)


def in_batches():
    """Three batches of 8, 8 and 5."""
    return [tuple(part[i : i + 8] for part in SAMPLE) for i in range(0, 21, 8)]


def fit(model, *callbacks, epochs=2, **options):
    """Return the logs of a fit with 6 updates an epoch."""
    settings = {"batch_size": 10, "epochs": epochs, "verbose": 0, "callbacks": list(callbacks), **options}
    return model.fit(X.astype("float32"), Y, **settings).history


def by_hand(model, attack, epsilon, sample=SAMPLE, **options):
    x, y = sample
    moved = attack(model, crossentropy, x, y, epsilon=epsilon, **options).numpy()
    return np.mean(np.argmax(model(moved), 1) == y), each_loss(model, crossentropy, moved, y).mean()


def recalibrated(model, sample=SAMPLE):
    twin = noisy()
    twin.set_weights(model.get_weights())
    lb.batch_normalization.recalibrate(twin, sample)
    return twin


@pytest.mark.parametrize("steps", [1, slow(3)])
def test_training_is_bit_identical_with_and_without_it(steps, tmp_path):
    """Dropout, batch normalization, Adam; two attacks by gradients, one by noise, measured within epochs."""

    def trained(*callbacks):
        model = noisy()
        model.compile("adam", crossentropy, metrics=["accuracy"], steps_per_execution=steps)
        logs = fit(model, *callbacks)
        seeds = [g.state for layer in model.layers for g in getattr(layer, "_seed_generators", ())]
        states = [*model.variables, *model.optimizer.variables, *seeds]
        return logs, [v.numpy() for v in states], keras.random.uniform(()).numpy()

    ours = lb.callbacks.RobustnessMonitor(
        SAMPLE, attack=["fgsm", "l2hess", "gaussian"], every=2, subsets=2, log_dir=tmp_path, at_start=True
    )
    logs, states, drawn = trained()
    watched_logs, watched_states, watched_drawn = trained(ours)

    assert len(ours.history) > 2
    for key, values in logs.items():
        assert watched_logs[key] == values
    for got, wanted in zip(watched_states, states, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert watched_drawn == drawn


@pytest.mark.parametrize(
    ("sample", "mode"),
    [(in_batches(), "recalibrated"), slow(SAMPLE, "recalibrated"), (SAMPLE, "inference")],
    ids=["three batches, recalibrated", "one batch, recalibrated", "one batch, inference"],
)
def test_logs_and_rows_are_what_is_measured_afterwards(sample, mode):
    model = noisy()
    monitor = lb.callbacks.RobustnessMonitor(
        sample,
        attack={"sign": attacks.fgsm, "strong": functools.partial(attacks.pgd, num_steps=3)},
        epsilons=(0.0, 0.5),
        data_range=RANGE,
        batch_normalization=mode,
        chunk_size=4,
    )
    logs = fit(model, monitor, epochs=3)

    assert [row["update"] for row in monitor.history] == [6, 12, 18]
    after = recalibrated(model) if mode == "recalibrated" else model
    for name, attack in (("sign", attacks.fgsm), ("strong", functools.partial(attacks.pgd, num_steps=3))):
        for epsilon in (0.0, 0.5):
            accuracy, loss = by_hand(after, attack, epsilon, data_range=RANGE)
            key, row = f"{name}_{epsilon:g}", monitor.history[-1]
            assert logs[f"robust_accuracy_{key}"][-1] == row[f"robust_accuracy_{key}"] == accuracy
            # float32, and exact statistics summed in another order
            assert (
                logs[f"robust_loss_{key}"][-1] == row[f"robust_loss_{key}"] == pytest.approx(loss, rel=1e-4)
            )
            error = np.sqrt(accuracy * (1 - accuracy) / 21)
            assert row[f"robust_accuracy_{key}_standard_error"] == pytest.approx(error)


@pytest.mark.slow
def test_parts_are_measured_one_by_one_and_their_spread_is_told():
    """Examples 0, 2, 4, ... and 1, 3, 5, ...: 11 and 10 of them, each part with statistics of its own."""
    model = noisy()
    monitor = lb.callbacks.RobustnessMonitor(SAMPLE, epsilons=0.5, subsets=2)
    logs = fit(model, monitor)
    parts = [tuple(part[i::2] for part in SAMPLE) for i in (0, 1)]
    values = [by_hand(recalibrated(model, part), attacks.fgsm, 0.5, part) for part in parts]
    row = monitor.history[-1]
    np.testing.assert_allclose(np.ravel(row["values_of_subsets"]), np.ravel(values), rtol=1e-4)
    accuracies = [accuracy for accuracy, _ in values]
    assert logs["robust_accuracy_fgsm_0.5"][-1] == pytest.approx(np.mean(accuracies))
    assert logs["robust_accuracy_fgsm_0.5_spread"][-1] == pytest.approx(np.std(accuracies, ddof=1))
    assert row["examples"] == 21


def test_tensorboard_has_accuracies_losses_and_stock_scalars(tmp_path):
    monitor = lb.callbacks.RobustnessMonitor(
        SAMPLE,
        attack=("fgsm", "l2grad"),
        epsilons={"fgsm": (0.1,), "l2grad": (0.0, 1.0)},
        log_dir=tmp_path,
        prefix="test_",
    )
    logs = fit(noisy(), monitor)
    found = events(tmp_path)
    tags = [
        f"robustness/test_{key}{end}" for key in ("fgsm_0.1", "l2grad_0", "l2grad_1") for end in ("", "_loss")
    ]
    assert {tag for tag in found if tag.startswith("robustness/")} == set(tags)
    assert (
        set(found) >= {"lbgap/test_fgsm_0.1", "lbgap/test_l2grad_1"}
        and "lbgap/test_fgsm_0.1_loss" not in found
    )
    for tag, log in (
        ("robustness/test_l2grad_1", "test_robust_accuracy_l2grad_1"),
        ("robustness/test_l2grad_1_loss", "test_robust_loss_l2grad_1"),
        ("lbgap/test_l2grad_1", "test_robust_accuracy_l2grad_1"),
    ):
        assert sorted(found[tag]) == [6, 12]
        np.testing.assert_allclose([found[tag][6], found[tag][12]], logs[log], rtol=1e-6)


@pytest.mark.slow
def test_a_second_fit_continues_and_a_stream_of_ours_can_be_the_sample():
    batches = lb.data.Batches(X.astype("float32"), Y, batch_size=10, seed=0)
    monitor = lb.callbacks.RobustnessMonitor(batches, epsilons=0.5, every={"epochs": 2})
    model = noisy()
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
    model.fit(batches, epochs=4, initial_epoch=2, shuffle=False, verbose=0, callbacks=[monitor])
    assert [row["update"] for row in monitor.history] == [12, 24]
    whole = X.astype("float32"), Y
    accuracy, _ = by_hand(recalibrated(model, whole), attacks.fgsm, 0.5, whole)
    assert monitor.history[-1]["robust_accuracy_fgsm_0.5"] == accuracy


def test_a_diverged_model_is_logged_as_nan_and_training_goes_on():
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                kernel = self.model.layers[0].kernel
                kernel.assign(kernel * math.nan)

    monitor = lb.callbacks.RobustnessMonitor(SAMPLE, epsilons=0.5)
    with pytest.warns(UserWarning, match="nothing could be measured"):
        logs = fit(noisy(), monitor, Break(), epochs=3)
    values = logs["robust_accuracy_fgsm_0.5"]
    assert len(values) == 3 and math.isfinite(values[0]) and np.isnan(values[1:]).all()


def test_its_state_and_copies_carry_what_it_found():
    monitor = lb.callbacks.RobustnessMonitor(SAMPLE, epsilons=0.5)
    fit(noisy(), monitor)
    assert copy.deepcopy(monitor).history == monitor.history
    assert monitor.get_state()["history"] == monitor.history


def test_one_logit_of_two_classes():
    model = keras.Sequential([keras.Input((D,)), keras.layers.Dense(1)])
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    y = (Y > 0).astype("float32")[:, None]
    monitor = lb.callbacks.RobustnessMonitor((SAMPLE[0], y[:21]), epsilons=0.0)
    logs = model.fit(X, y, verbose=0, callbacks=[monitor]).history
    wanted = np.mean((model(SAMPLE[0]).numpy() > 0) == (y[:21] > 0))
    assert logs["robust_accuracy_fgsm_0"] == [wanted]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attack": "fsgm"}, ValueError, "no attack 'fsgm'"),
        ({"attack": []}, ValueError, "attack is empty"),
        ({"attack": [attacks.pgd, functools.partial(attacks.pgd, num_steps=3)]}, ValueError, "by a dict"),
        ({"epsilons": -1}, ValueError, "epsilons is -1"),
        ({"epsilons": (0.1, 0.10000000001)}, ValueError, "share a name"),
        ({"epsilons": {"pgd": 0.1}}, ValueError, "epsilons names"),
        ({"batch_normalization": "batch"}, ValueError, "no attack is its own"),
        ({"regularization": True}, TypeError, "no argument 'regularization'"),
        ({"every": 0}, ValueError, "every"),
    ],
)
def test_mistakes_are_told_before_training(options, error, message):
    with pytest.raises(error, match=message):
        lb.callbacks.RobustnessMonitor(SAMPLE, **options)


def test_mistakes_that_need_the_model_stop_the_fit():
    a = keras.Input((D,))
    two = keras.Model(a, [keras.layers.Dense(C)(a), keras.layers.Dense(C)(a)])
    two.compile("sgd", [crossentropy, crossentropy])
    with pytest.raises(ValueError, match="one output and one loss"):
        two.fit(X, [Y, Y], verbose=0, callbacks=[lb.callbacks.RobustnessMonitor(SAMPLE)])
    regression = keras.Sequential([a, keras.layers.Dense(1)])
    regression.compile("sgd", "mse")
    with pytest.raises(ValueError, match="correct="):
        regression.fit(X, Y, verbose=0, callbacks=[lb.callbacks.RobustnessMonitor(SAMPLE)])
    with pytest.raises(ValueError, match="not within data_range"):
        fit(noisy(), lb.callbacks.RobustnessMonitor(SAMPLE, data_range=(0, 1)))
    one, other = lb.callbacks.RobustnessMonitor(SAMPLE), lb.callbacks.RobustnessMonitor(SAMPLE)
    with pytest.raises(ValueError, match="prefix="):
        fit(noisy(), one, other)

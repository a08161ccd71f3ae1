"""Changes of the update beside penalties, probes, replicas, static shapes and callbacks that raise."""

import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicas import mirrored
from slow import slow, slow_but
from ways import LABELS, X, Y, fit, flat, linear, network

import tf_lbgap as lb
from tf_lbgap.callbacks.executions import executions_of
from tf_lbgap.training import (
    Adversarial,
    Backtracking,
    Conservative,
    NoisyGradient,
    SharpnessAware,
    Stability,
)

IDLE = {
    "sam": lambda: SharpnessAware(0.0),
    "m_sam": lambda: SharpnessAware(0.0, m=16),
    "conservative": lambda: Conservative(0.0, steps=1),
    "adversarial": lambda: Adversarial("fgsm", 0.0),
    "adversarial_add": lambda: Adversarial("fgsm", 0.0, ratio=0.5, mix="add"),
    "stability": lambda: Stability(0.0),
    "noisy_gradient": lambda: NoisyGradient(sigma=0.0),
    "conservative_of_sam": lambda: [Conservative(0.0, steps=1), SharpnessAware(0.0)],
}


class Adding(keras.layers.Layer):
    """Adds to the loss what depends on its inputs."""

    def call(self, inputs):
        self.add_loss(0.3 * keras.ops.mean(inputs**2))
        return inputs


def penalized():
    """A model whose loss has a penalty on weights, one on activities, and one that a layer adds."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.25)),
        keras.layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.125)),
        Adding(),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.0625), "mse")
    return model


@pytest.mark.parametrize("make", slow_but([IDLE["sam"], IDLE["adversarial_add"]], IDLE.values()))
@pytest.mark.usefixtures("_float64")
def test_a_change_that_changes_nothing_makes_the_plain_update_of_a_loss_with_penalties(make):
    """ρ = 0, ε = 0, α = 0, one step: the second pass has the same loss as the first, penalties included."""
    plain, changed = penalized(), penalized()
    histories = [fit(model, change, X, Y) for model, change in ((plain, None), (changed, make()))]
    np.testing.assert_allclose(flat(changed), flat(plain), rtol=0, atol=1e-14)
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-6)


@pytest.mark.usefixtures("_float64")
def test_two_conservative_steps_without_a_pull_are_two_updates_of_the_batch():
    """The second has all penalties, too."""
    twice, changed = penalized(), penalized()
    fit(changed, Conservative(0.0, steps=2), X, Y, epochs=1, batch_size=37)
    fit(twice, None, X, Y, epochs=2, batch_size=37)
    np.testing.assert_allclose(flat(changed), flat(twice), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "make", [lambda: SharpnessAware(0.5), slow(lambda: Conservative(0.5)), slow(lambda: Backtracking())]
)
@pytest.mark.usefixtures("_float64")
def test_a_probe_notes_the_gradient_at_the_weights_and_not_that_of_a_second_pass(make):
    model = linear()
    expected = 2 / 37 * np.sum((X.T @ (X @ flat(model)[:4] + 1 - Y)) ** 2 + 0.0) * 2 / 37
    expected += np.mean(2 * (X @ flat(model)[:4] + 1 - Y)) ** 2

    class Probe(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            executions_of(self.model).probe(self, 10)

        def on_train_batch_end(self, batch, logs=None):
            found.append(executions_of(self.model).gradients.squared_norm.sum())
            executions_of(self.model).probe(self, None)

    found = []
    callbacks = [lb.callbacks.ChangeUpdates(make()), Probe()]
    model.fit(X, Y, batch_size=37, shuffle=False, verbose=0, callbacks=callbacks)
    np.testing.assert_allclose(found, [expected], rtol=1e-10)


@pytest.mark.parametrize("make", [lambda: SharpnessAware(0.3), slow(lambda: Conservative(0.5))])
@pytest.mark.usefixtures("_float64")
def test_probed_updates_of_two_replicas_are_those_without_a_probe(make):
    """A gradient that was summed over the replicas for the probe must not be summed again."""

    def trained(probes):
        with mirrored().scope():
            model = linear(keras.optimizers.SGD(0.05))
        batches = lb.data.Batches(X[:36], Y[:36], batch_size=12, seed=0)
        callbacks = [lb.callbacks.ChangeUpdates(make())]
        if probes:
            callbacks.append(lb.callbacks.GradientNoiseMonitor(batches, every=1, window=2, burn_in=0))
        model.fit(batches, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
        return flat(model)

    np.testing.assert_allclose(trained(True), trained(False), rtol=0, atol=1e-13)


@pytest.mark.usefixtures("_float64")
def test_a_line_search_of_two_replicas_leaves_nothing_on_the_optimizer():
    with mirrored().scope():
        model = linear(keras.optimizers.SGD(0.5))
    fit(model, Backtracking(), X[:36], Y[:36], batch_size=12)
    assert "_all_reduce_sum_gradients" not in vars(model.optimizer)
    fit(model, None, X[:36], Y[:36], batch_size=12)
    for variable in model.trainable_variables:
        one, other = (copy.numpy() for copy in variable.value.values)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin"])
def test_a_callback_that_refuses_the_fit_leaves_the_model_as_it_was(hook):
    class Refuse(keras.callbacks.Callback):
        pass

    def refuse(self, *args, **kwargs):
        raise ValueError("no")

    setattr(Refuse, hook, refuse)
    model, other = linear(), linear()
    with pytest.raises(ValueError, match="no"):
        model.fit(X, Y, verbose=0, callbacks=[lb.callbacks.ChangeUpdates(SharpnessAware(0.5)), Refuse()])
    assert "train_step" not in vars(model)
    for one in (model, other):
        fit(one, None, X, Y)
    np.testing.assert_array_equal(flat(model), flat(other))


def static(model, change, epochs=1):
    batches = lb.data.Batches(X[:36].astype("float32"), Y[:36], batch_size=12, seed=0)
    schedule = lb.schedules.constant(12)
    steering = lb.callbacks.BatchSizeScheduler(batches, schedule, micro_batch_size=4, static_shapes=True)
    changing = [lb.callbacks.ChangeUpdates(change)] if change is not None else []
    model.fit(batches, epochs=epochs, verbose=0, shuffle=False, callbacks=[*changing, steering])
    return steering


def test_static_micro_batches_draw_numbers_of_their_own_with_the_noise_of_the_whole_batch():
    """NoisyGradient(4) at a batch of 12 has σ² = 2; from micro-batches of 4 taken for the batch it would be 0."""
    plain, noisy = linear(), linear()
    static(plain, None), static(noisy, NoisyGradient(4))
    assert np.linalg.norm(flat(noisy) - flat(plain)) > 0.01


def test_static_programs_are_made_anew_for_a_change():
    model = linear()
    steering = static(model, None)
    before = flat(model)
    changing = lb.callbacks.ChangeUpdates(Adversarial("fgsm", 1.0))
    plain = linear()
    for variable, value in zip(plain.variables, model.variables, strict=True):
        variable.assign(value)
    model.fit(steering.batches, verbose=0, shuffle=False, callbacks=[changing, steering])
    static(plain, None)
    assert not np.array_equal(flat(model), before)
    assert not np.allclose(flat(model), flat(plain), atol=1e-3)


def test_shares_of_examples_add_up_over_micro_batches():
    """⌊0.2 · 12⌋ = 2 of a batch, though no micro-batch of 4 has a whole one: of 36, 6 move."""
    seen = []

    def attack(model, loss, x, y, *, epsilon, data_range=None):
        return x + 100.0

    class Spied(keras.Sequential):
        def train_step(self, data):
            tf.py_function(lambda x: seen.extend(x.numpy()[:, 0] > 50), [data[0]], [])
            return super().train_step(data)

    model = Spied([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = lb.data.Batches(X[:36].astype("float32"), Y[:36], batch_size=12, seed=0)
    steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(12), micro_batch_size=4)
    changing = lb.callbacks.ChangeUpdates(Adversarial(attack, 1.0, ratio=0.2))
    model.fit(batches, verbose=0, shuffle=False, callbacks=[changing, steering])
    assert len(seen) == 36 and sum(seen) == 6


def test_a_subclassed_model_is_trained_with_changes():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    model(X[:2].astype("float32"))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    changes = [SharpnessAware(0.05, m=5), Adversarial("fgsm", 0.1), Stability(0.1)]
    fit(model, changes, X.astype("float32"), LABELS, micro_batch_size=10)
    assert np.isfinite(flat(model)).all()


def test_the_distance_of_stability_training_does_not_depend_on_how_the_loss_was_spelt():
    losses = []
    for loss in ("sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        keras.utils.set_random_seed(1)
        model = keras.models.clone_model(model)
        model.compile("sgd", loss)
        start = model.predict(X, verbose=0), model.get_weights()
        losses.append(fit(model, Stability(1.0, sigma=0.5), X, LABELS, epochs=1, batch_size=37)["loss"][0])
    own, (kernel, bias) = start
    z = tf.random.stateless_normal([37, 4], [zlib.crc32(b"Stability") * 2**20, 0]).numpy()
    logits = (X + 0.5 * z) @ kernel + bias
    other = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(own[np.arange(37), LABELS]).mean() - (own * np.log(other)).sum(1).mean()
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "data", "words"),
    [
        (Adversarial(), ({"a": X, "b": X}, Y), "x is a dict"),
        (Stability(), ((X > 0).astype("uint8"), Y), "x is uint8"),
    ],
)
def test_inputs_that_cannot_move_are_refused(change, data, words):
    if isinstance(data[0], dict):
        inputs = {name: keras.Input((4,), name=name) for name in "ab"}
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.add(list(inputs.values()))))
        model.compile("sgd", "mse")
    else:
        model = keras.Sequential([keras.Input((4,), dtype="uint8"), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=words):
        fit(model, change, *data)


def test_a_loss_of_groups_within_a_change_of_the_loss_is_refused():
    with pytest.raises(ValueError, match="Name SharpnessAware first"):
        lb.training.Changes([Stability(), SharpnessAware(m=4)])
    lb.training.Changes([SharpnessAware(m=4), Stability()])


def test_changes_that_stand_around_each_other_draw_other_numbers():
    model = network()
    seeds = []
    for change in (Stability(), NoisyGradient(4)):
        change.begin_fit(model)
        seeds.append(change.seed_of_update(model).numpy())
    assert not np.array_equal(*seeds)

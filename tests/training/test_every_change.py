"""What holds for every change of the update: micro-batches, replicas, precision, files, and the model afterwards."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicas import mirrored
from ways import (
    BY_PART,
    CHANGES,
    LABELS,
    NUM_EXAMPLES,
    RATE,
    X,
    Y,
    each_change,
    each_whole_change,
    fit,
    flat,
    linear,
    network,
)

import tf_lbgap as lb
from tf_lbgap.training import Adversarial, Conservative, NoisyGradient, SharpnessAware, Stability


@each_whole_change
def test_micro_batches_change_nothing_but_rounding(_float64, make):
    """5 examples at a time, of a model without batch normalization. Random changes draw per part, so they are left out."""
    models = [linear(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["mae"]) for _ in range(2)]
    histories = [
        fit(model, make(), X, Y, micro_batch_size=size)
        for model, size in zip(models, (NUM_EXAMPLES, 5), strict=True)
    ]
    np.testing.assert_allclose(flat(models[1]), flat(models[0]), rtol=0, atol=1e-13)
    for name in ("loss", "mae"):
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-6)


@each_change
def test_every_change_trains_from_micro_batches(make):
    model = network()
    fit(model, make(), X, LABELS, micro_batch_size=5)
    assert np.isfinite(flat(model)).all()
    assert int(model.optimizer.iterations.numpy()) == (18 if isinstance(make(), Conservative) else 6)


@each_change
def test_two_replicas_make_the_update_of_one(_float64, make):
    """Of 36 examples in batches of 12 that two replicas share equally; changes that draw or group do so by replica."""
    alone = linear(keras.optimizers.SGD(0.05, momentum=0.9))
    with mirrored().scope():
        together = linear(keras.optimizers.SGD(0.05, momentum=0.9))
    for model in (alone, together):
        fit(model, make(), X[:36], Y[:36], batch_size=12)
    if make in BY_PART:
        assert np.isfinite(flat(together)).all()
        assert int(together.optimizer.iterations.numpy()) == 6
    else:
        np.testing.assert_allclose(flat(together), flat(alone), rtol=0, atol=1e-13)


@each_change
def test_mixed_precision_trains_as_float32_does_nearly(make):
    """float16 layers and a loss scale, which must cancel out of the ascent and of the pull to the centre."""
    models = [
        network(keras.optimizers.SGD(0.05), dropout=0.0),
        network(
            keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=1024.0),
            dropout=0.0,
            dtype="mixed_float16",
        ),
    ]
    start = flat(models[0])
    for model in models:
        fit(model, make(), X, LABELS, epochs=3)
    moved = np.linalg.norm(flat(models[0]) - start)
    assert np.linalg.norm(flat(models[1]) - flat(models[0])) < 0.1 * moved


@pytest.mark.parametrize(
    "make",
    [
        CHANGES["sam"],
        pytest.param(CHANGES["adversarial_add"], marks=pytest.mark.slow),
        pytest.param(CHANGES["conservative"], marks=pytest.mark.slow),
    ],
)
def test_replicas_may_share_the_statistics_of_batch_normalization(_float64, make):
    """They then wait for each other in the middle of both passes."""

    def model(synchronized):
        keras.utils.set_random_seed(1)
        normalization = keras.layers.BatchNormalization(synchronized=synchronized)
        layers = [keras.layers.Dense(6), normalization, keras.layers.Dense(3)]
        made = keras.Sequential([keras.Input((4,)), *layers])
        made.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return made

    alone = model(False)
    with mirrored().scope():
        together = model(True)
    for one in (alone, together):
        fit(one, make(), X[:36], LABELS[:36], batch_size=12)
    np.testing.assert_allclose(flat(together), flat(alone), rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="replicas cannot share statistics within an accumulated update"):
        fit(together, make(), X, LABELS, micro_batch_size=5)


def test_an_overflow_of_the_loss_scale_skips_the_update():
    """Gradients of float16 that are infinite make the ascent NaN; the weights stay, and the scale halves."""
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=2.0**40)
    model = network(optimizer, dropout=0.0, dtype="mixed_float16")
    before = flat(model)
    fit(model, SharpnessAware(), X, LABELS, epochs=1)
    np.testing.assert_array_equal(flat(model), before)
    assert float(optimizer.dynamic_scale.numpy()) < 2.0**40


@each_change
def test_a_model_that_was_trained_with_a_change_is_saved_and_loaded(make, tmp_path):
    model = network(dropout=0.0)  # Keras does not save how far a seed has come
    fit(model, make(), X, LABELS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for one in (model, loaded):
        fit(one, make(), X, LABELS, epochs=1)
    np.testing.assert_array_equal(flat(loaded), flat(model))


@each_change
def test_a_change_is_made_again_from_its_configuration(make):
    change = make()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(change))
    assert type(again) is type(change)
    assert again.get_config() == change.get_config()
    models = network(), network()
    for model, one in zip(models, (change, again), strict=True):
        fit(model, one, X, LABELS)
    np.testing.assert_array_equal(flat(models[0]), flat(models[1]))


@pytest.mark.parametrize(
    ("steps_per_execution", "jit_compile"),
    [
        (2, False),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(2, True, marks=pytest.mark.slow),
    ],
)
def test_executions_of_several_steps_and_xla_train_as_one_step_does(
    _float64, steps_per_execution, jit_compile
):
    change = [SharpnessAware(0.1), Adversarial("fgsm", 0.1)]
    models = linear(), linear(steps_per_execution=steps_per_execution, jit_compile=jit_compile)
    for model in models:
        fit(model, change, X, Y)
    np.testing.assert_allclose(flat(models[1]), flat(models[0]), rtol=0, atol=1e-12)


# In and out of the model.


def test_the_model_has_its_own_step_between_epochs_after_the_fit_and_after_an_error():
    model, seen = network(), []
    own = model.train_step

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.train_step)

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("stop")

    callbacks = [lb.callbacks.ChangeUpdates(SharpnessAware()), Look()]
    model.fit(X, LABELS, epochs=2, verbose=0, callbacks=callbacks)
    with pytest.raises(RuntimeError):
        model.fit(X, LABELS, epochs=2, verbose=0, callbacks=[*callbacks, Fail()])
    assert seen == [own, own] and model.train_step == own
    assert "train_step" not in vars(model)


def test_a_fit_after_a_changed_one_is_plain(_float64):
    model, other = linear(), linear()
    fit(model, SharpnessAware(0.3), X, Y, epochs=1)
    for one, new in zip(other.variables, model.variables, strict=True):
        one.assign(new)
    for one in (model, other):
        fit(one, None, X, Y)
    np.testing.assert_array_equal(flat(model), flat(other))


def test_a_second_fit_traces_nothing_anew():
    traces = []

    class Counted(keras.Sequential):
        def train_step(self, data):
            traces.append(None)
            return super().train_step(data)

    model = Counted([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = lb.data.Batches(X, Y, batch_size=16, seed=0)
    schedule = lb.schedules.constant(16)
    steering = lb.callbacks.BatchSizeScheduler(batches, schedule, micro_batch_size=5)
    callbacks = [lb.callbacks.ChangeUpdates(SharpnessAware()), steering]
    model.fit(batches, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
    count = len(traces)
    model.fit(batches, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
    assert len(traces) == count


def test_a_users_own_train_step_is_changed_too(_float64):
    class Own(keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(y - tf.squeeze(self(x, training=True), 1)))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"mine": loss}

    keras.utils.set_random_seed(1)
    own = Own([keras.Input((4,)), keras.layers.Dense(1, bias_initializer="ones")])
    own.compile(keras.optimizers.SGD(RATE), "mse")
    usual = linear()
    fit(usual, SharpnessAware(0.3), X, Y)
    history = fit(own, SharpnessAware(0.3), X, Y)
    np.testing.assert_allclose(flat(own), flat(usual), rtol=0, atol=1e-13)
    assert list(history) == ["mine"]
    with pytest.raises(ValueError, match=r"calls self.compute_loss.* 0 times"):
        fit(own, Stability(), X, Y)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SharpnessAware(-1), "rho must be a number from 0 up"),
        (lambda: SharpnessAware(eta=0.1), "pass adaptive=True too"),
        (lambda: SharpnessAware(m=0), "m must be a whole number"),
        (lambda: Conservative(steps=1.5), "steps must be a whole number"),
        (lambda: Conservative("a"), "strength must be a number"),
        (lambda: Adversarial("fgms"), "There is no attack 'fgms'; there are fgsm"),
        (lambda: Adversarial("transfer"), "There is no attack 'transfer'"),
        (lambda: Adversarial(ratio=1.5), "ratio must be a number from 0 to 1"),
        (lambda: Adversarial(mix="both"), "mix must be 'replace' or 'add'"),
        (lambda: Adversarial(data_range=(1, 0)), r"data_range must be \(low, high\)"),
        (lambda: NoisyGradient(), "needs reference_batch_size"),
        (lambda: NoisyGradient(4, sigma=1), "needs reference_batch_size"),
        (lambda: lb.training.Changes("sam"), "is no change of the update"),
        (lambda: lb.training.Changes([SharpnessAware(), Conservative()]), "Name Conservative first"),
    ],
)
def test_mistakes_are_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.slow
def test_order_and_number_of_callbacks_are_checked():
    batches = lb.data.Batches(X, LABELS, batch_size=16, seed=0)
    steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(16), micro_batch_size="auto")
    change = lb.callbacks.ChangeUpdates(SharpnessAware())
    with pytest.raises(ValueError, match="Put ChangeUpdates before it"):
        network().fit(batches, verbose=0, shuffle=False, callbacks=[steering, change])
    with pytest.raises(ValueError, match="fit has two ChangeUpdates"):
        network().fit(X, LABELS, verbose=0, callbacks=[change, lb.callbacks.ChangeUpdates(Stability())])

"""Evaluation on exact statistics, which leaves the model as it was, against a model that was recalibrated."""

import keras
import numpy as np
import pytest
from references import floatx
from replicas import mirrored

import tf_lbgap as lb
from tf_lbgap.callbacks import Recalibration, WeightAveraging

N = 23
RNG = np.random.default_rng(0)
X, Y = 3 + RNG.normal(size=(N, 3)), RNG.integers(0, 3, N)
NEW_X, NEW_Y = 3 + RNG.normal(size=(10, 3)), RNG.integers(0, 3, 10)


@pytest.fixture(autouse=True)
def _float64():
    with floatx("float64"):
        yield


def network():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def fit(model, *callbacks, **options):
    """Two large batches an epoch: the moving averages hold 2 or 4 % of what they should."""
    return model.fit(
        X, Y, batch_size=12, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks), **options
    ).history


def loss_by_hand(model, x, y):
    """The loss at x with the statistics of all of X."""
    dense, normalization, head = model.layers
    mean, variance = (X @ dense.kernel.numpy()).mean(0), (X @ dense.kernel.numpy()).var(0)
    hidden = (x @ dense.kernel.numpy() - mean) / np.sqrt(variance + normalization.epsilon)
    hidden = hidden * normalization.gamma.numpy() + normalization.beta.numpy()
    logits = hidden @ head.kernel.numpy() + head.bias.numpy()
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y])


def state(model):
    return [variable.numpy() for variable in model.variables + model.optimizer.variables]


def assert_same_state(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


BATCHES = {
    "a tuple": lambda: (X, Y),
    "ragged parts": lambda: [(X[:10], Y[:10]), (X[10:20], Y[10:20]), (X[20:], Y[20:])],
    "a generator": lambda: ((X[i : i + 7], Y[i : i + 7]) for i in range(0, N, 7)),
    "a stream": lambda: lb.data.Batches(X, Y, batch_size=5),
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_evaluate_is_on_exact_statistics_and_leaves_the_models_own(batches):
    model = network()
    fit(model)
    before = state(model)
    stale = model.evaluate(NEW_X, NEW_Y, verbose=0)
    callback = Recalibration(batches())

    for _ in range(2):  # again, as what is read once is kept
        exact = model.evaluate(NEW_X, NEW_Y, verbose=0, callbacks=[callback])
        np.testing.assert_allclose(
            exact[0], loss_by_hand(model, NEW_X, NEW_Y), rtol=1e-6
        )  # Keras' metrics are float32

    assert_same_state(state(model), before)
    assert model.evaluate(NEW_X, NEW_Y, verbose=0) == stale
    assert abs(exact[0] - stale[0]) > 0.01
    lb.training.recalibrate(model, (X, Y))
    np.testing.assert_allclose(model.evaluate(NEW_X, NEW_Y, verbose=0), exact, rtol=1e-6)


def test_predict_is_on_exact_statistics_too():
    model = network()
    fit(model)
    before = state(model)
    exact = model.predict(NEW_X, verbose=0, callbacks=[Recalibration((X, Y))])
    assert_same_state(state(model), before)
    lb.training.recalibrate(model, (X, Y))
    np.testing.assert_allclose(model.predict(NEW_X, verbose=0), exact, rtol=1e-12)


def test_validation_of_fit_is_on_exact_statistics_and_training_as_without_to_the_bit():
    class ByHand(keras.callbacks.Callback):
        losses = ()

        def on_epoch_end(self, epoch, logs=None):
            self.losses += (loss_by_hand(self.model, NEW_X, NEW_Y),)

    plain, exact, by_hand = network(), network(), ByHand()
    one = fit(plain, validation_data=(NEW_X, NEW_Y))
    other = fit(exact, Recalibration((X, Y)), by_hand, validation_data=(NEW_X, NEW_Y))

    np.testing.assert_allclose(other["val_loss"], by_hand.losses, rtol=1e-6)
    assert one["loss"] == other["loss"]
    assert np.abs(np.subtract(one["val_loss"], other["val_loss"])).min() > 0.01
    assert_same_state(state(exact), state(plain))


def test_a_steered_stream_is_validated_on_exact_statistics():
    model = network()
    batches = lb.data.Batches(X, Y, batch_size=6)
    steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.staircase(6, factor=2, milestones=[1]))
    history = model.fit(
        batches,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(NEW_X, NEW_Y),
        callbacks=[steering, Recalibration(batches)],
    ).history
    np.testing.assert_allclose(history["val_loss"][-1], loss_by_hand(model, NEW_X, NEW_Y), rtol=1e-6)


class Stop(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("trained_since", [False, True])
def test_an_evaluation_that_broke_off_is_undone_by_the_next_unless_the_model_was_trained_since(trained_since):
    model, callback = network(), Recalibration((X, Y))
    fit(model)
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(NEW_X, NEW_Y, verbose=0, callbacks=[callback, Stop()])
    if trained_since:
        fit(model)
        before = state(model)
    model.evaluate(NEW_X, NEW_Y, verbose=0, callbacks=[callback])
    assert_same_state(state(model), before)


def test_statistics_that_are_not_finite_are_an_error_that_leaves_the_model_as_it_was():
    """The first layer has its exact ones when those of the second turn out to be NaN."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((3,)), layers.BatchNormalization(), layers.Dense(3), layers.BatchNormalization()]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.layers[1].kernel.assign(np.full((3, 3), np.nan))
    before = state(model)
    with pytest.raises(ValueError, match="no finite mean"):
        model.evaluate(NEW_X, NEW_Y, verbose=0, callbacks=[Recalibration((X, Y))])
    assert_same_state(state(model), before)


def test_a_model_without_batch_normalization_is_evaluated_as_it_is():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    plain = model.evaluate(NEW_X, NEW_Y, verbose=0)
    assert model.evaluate(NEW_X, NEW_Y, verbose=0, callbacks=[Recalibration((X, Y))]) == plain


def test_replicas_are_evaluated_on_exact_statistics():
    with mirrored().scope():
        model = network()
    batches = lb.data.Batches(X[:20], Y[:20], batch_size=10)
    steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(10))
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[steering])
    before = state(model)
    exact = model.evaluate(NEW_X, NEW_Y, verbose=0, callbacks=[Recalibration((X, Y))])
    np.testing.assert_allclose(exact[0], loss_by_hand(model, NEW_X, NEW_Y), rtol=1e-6)
    assert_same_state(state(model), before)


def test_two_that_change_an_evaluation_are_refused():
    """Keras ends callbacks in the order in which it began them: nested changes would be undone in the wrong one."""
    model = network()
    with pytest.raises(ValueError, match="Recalibration both change the model"):
        model.evaluate(X, Y, verbose=0, callbacks=[Recalibration((X, Y)), Recalibration((X, Y))])
    averaging = WeightAveraging(recalibrate=(X, Y), validate=True)
    for callbacks in ([averaging, Recalibration((X, Y))], [Recalibration((X, Y)), averaging]):
        with pytest.raises(ValueError, match="both change the model"):
            fit(model, *callbacks, validation_data=(NEW_X, NEW_Y))
    last = WeightAveraging(recalibrate=(X, Y))  # which leaves validation alone
    fit(model, last, Recalibration((X, Y)), validation_data=(NEW_X, NEW_Y))


@pytest.mark.parametrize("batches", [None, 3, []])
def test_what_are_no_batches_is_refused(batches):
    with pytest.raises(ValueError, match="batches is"):
        Recalibration(batches)


def test_statistics_are_put_back_whatever_stops_the_recalibration():
    """Data that raise in the third pass; the next evaluation goes as if nothing had been."""

    class Failing:
        def __init__(self):
            self.passes = 0

        def __iter__(self):
            self.passes += 1
            if self.passes == 2:
                raise OSError("gone")
            return iter([(np.ones((4, 3), "float32"), None)])

    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = [v.numpy() for v in model.variables]
    callback = lb.callbacks.Recalibration(Failing())
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    with pytest.raises(OSError, match="gone"):
        model.evaluate(x, y, verbose=0, callbacks=[callback])
    for variable, value in zip(model.variables, before, strict=False):
        np.testing.assert_array_equal(variable.numpy(), value)
    model.evaluate(x, y, verbose=0, callbacks=[callback])

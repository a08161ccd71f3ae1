"""What every optimizer has to survive: `.keras`, mixed precision, replicas, accumulation, XLA, options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicas import mirrored
from short_fits import LABELS, MAKE, X, assert_same, classifier, fit
from slow import slow_but

import tf_lbgap as lb
from tf_lbgap.training import TrainFunctions

LEFT_OUT = {"weight_decay": 0.1, "exclude": ("a", "b"), "exclude_vectors": False}
SETTINGS = {
    "Lars": {"momentum": 0.5, "trust_coefficient": 0.02, **LEFT_OUT},
    "Lamb": {"beta_1": 0.5, "beta_2": 0.6, "epsilon": 0.1, "phi_bounds": (0.0, 2.0), "bias_correction": False}
    | LEFT_OUT,
    "RmspropWarmup": {
        "center": 3.0,
        "period": 4.0,
        "rmsprop_rate": 0.1,
        "momentum": 0.5,
        "rho": 0.6,
        "epsilon": 0.2,
    },
}
NAMES = pytest.mark.parametrize("name", MAKE)
LARS_LAMB = pytest.mark.parametrize("name", slow_but(["Lars", "Lamb"], MAKE))
MOST = pytest.mark.parametrize("name", slow_but(["Lamb"], MAKE))


def floats(name, policy=None):
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(policy or name)


@LARS_LAMB
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(name, tmp_path):
    model = classifier(MAKE[name]())
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert int(loaded.optimizer.iterations.numpy()) == 6
    fit(model), fit(loaded)
    assert_same(model, loaded, atol=1e-6)


@NAMES
def test_a_configuration_is_read_back_whole_with_its_schedule(name):
    """No setting is the default one."""
    own, schedule = SETTINGS[name], keras.optimizers.schedules.CosineDecay(0.1, 100)
    optimizer = getattr(lb.optimizers, name)(schedule, clipnorm=0.5, name="mine", **own)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert {option: getattr(again, option) for option in own} == own
    assert again.clipnorm == 0.5 and again.name == "mine"


@NAMES
def test_accumulated_updates_are_those_of_whole_batches(name):
    """In parts of 3 at most, also of the last batch, 5: in float64 to the order of summation."""
    floats("float64")
    plain, accumulated = classifier(MAKE[name]()), classifier(MAKE[name]())
    fit(plain, epochs=3)
    functions = TrainFunctions(accumulated)
    functions.use_accumulating(3)
    fit(accumulated, epochs=3)
    functions.restore()
    assert_same(plain, accumulated, atol=1e-11)


@pytest.mark.slow
@LARS_LAMB
def test_two_replicas_make_the_updates_of_one(name):
    """32 examples in batches of 16: halves of equal size."""
    x, y = X[:32].astype("float32"), LABELS[:32]
    one = classifier(MAKE[name]())
    with mirrored().scope():
        two = classifier(MAKE[name]())
    fit(one, x=x, y=y), fit(two, x=x, y=y)
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(second, first, atol=2e-6)


@MOST
def test_mixed_precision_keeps_weights_and_buffers_in_float32_and_follows_the_float32_training(name):
    """Activations in float16 have 3 digits; Keras puts a `LossScaleOptimizer` around the optimizer."""
    single = classifier(MAKE[name]())
    losses = fit(single)
    floats("float32", "mixed_float16")
    mixed = classifier(MAKE[name]())
    found = fit(mixed)
    assert isinstance(mixed.optimizer, keras.optimizers.LossScaleOptimizer)
    inner = mixed.optimizer.inner_optimizer
    buffers = [v for v in inner.variables if len(v.shape) > 0]
    assert {str(v.dtype) for v in mixed.trainable_variables + buffers} == {"float32"}
    np.testing.assert_allclose(found, losses, rtol=5e-3)


@MOST
def test_compiled_by_xla_it_makes_the_same_updates(name):
    plain, compiled = classifier(MAKE[name]()), classifier(MAKE[name](), jit_compile=True)
    fit(plain, x=X[:32], y=LABELS[:32]), fit(compiled, x=X[:32], y=LABELS[:32])
    assert_same(plain, compiled, atol=5e-6)


@pytest.mark.slow
@NAMES
def test_keras_accumulation_makes_one_update_of_two_gradients(name):
    """With clipping of the mean gradient; LAMB and the warm-up read a count, which is of updates, too."""
    floats("float64")
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 2)), rng.normal(size=(8, 3, 2))
    w, two_by_two = keras.Variable(start), MAKE[name](gradient_accumulation_steps=2, clipnorm=1.0)
    for gradient in gradients:
        two_by_two.apply([tf.constant(gradient)], [w])
    v, whole = keras.Variable(start), MAKE[name](clipnorm=1.0)
    for pair in gradients.reshape(4, 2, 3, 2):
        whole.apply([tf.constant(pair.mean(0))], [v])
    np.testing.assert_allclose(w.numpy(), v.numpy(), rtol=1e-10)


@MOST
def test_every_batch_size_runs_in_one_trace(name):
    """An odd batch does not make anything of the optimizer anew: sizes 16, 16, 5, twice, are two traces."""
    model = classifier(MAKE[name]())
    traces = []
    step = model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    fit(model)
    assert len(traces) <= 2


@MOST
def test_an_embedding_learns_as_with_its_dense_gradient(name):
    """Rows that no example of a batch has are decayed as well, or move by momentum."""
    rng = np.random.default_rng(0)
    rows, y = rng.integers(0, 5, (12, 1)), rng.normal(size=(12, 2))
    weights = []
    for inputs in (rows, np.eye(5)[rows[:, 0]]):
        keras.utils.set_random_seed(0)
        first = (
            [keras.layers.Embedding(5, 2), keras.layers.Flatten()]
            if inputs is rows
            else [keras.layers.Dense(2, use_bias=False)]
        )
        model = keras.Sequential([keras.Input(inputs.shape[1:]), *first])
        model.compile(MAKE[name](), "mse")
        model.set_weights([np.arange(10.0).reshape(5, 2) / 10])
        fit(model, x=inputs, y=y, batch_size=5)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(*weights, atol=1e-5)

"""Attacks along the gradient against formulas, and what all attacks owe: ball, range, rise, an untouched model."""

import functools
import gc
import random
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx
from replicas import mirrored
from slow import slow
from victims import (
    ALL,
    RANGE,
    C,
    D,
    crossentropy,
    each_loss,
    examples,
    linear,
    linear_gradient,
    noisy,
    relu_network,
    told_apart,
)

from tf_lbgap import attacks
from tf_lbgap.attacks import calls

IN_L2 = {"l2grad", "l2hess", "gaussian"}
CONTROLS = {"random_sign", "gaussian"}


def quick(*names):
    """All attacks, of which a run by hand takes these."""
    return [name if name in names else slow(name) for name in ALL]


@pytest.fixture
def float64():
    with floatx("float64"):
        yield


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Formulas.


def test_fgsm_and_l2grad_of_a_linear_model_are_the_closed_form(float64):
    """g = (p - e_y) Wᵀ of each example, whatever else is in the batch, with class numbers or rows with a one."""
    model, (x, y) = linear(), examples()
    g = linear_gradient(model, x, y)
    one_hot = keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(C)[y]
    for loss, labels in ((crossentropy, y), (crossentropy, y[:, None]), one_hot):
        found = attacks.fgsm(model, loss, x, labels, epsilon=0.1)
        np.testing.assert_allclose(found, x + 0.1 * np.sign(g), rtol=0, atol=1e-14)
        found = attacks.l2grad(model, loss, x, labels, epsilon=0.3)
        np.testing.assert_allclose(found, x + 0.3 * unit(g), rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "none"])
def test_an_example_is_attacked_alone_whatever_the_reduction(float64, reduction):
    model, (x, y) = relu_network(), examples()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    for name in ("l2grad", "pgd", "l2hess"):
        together = ALL[name](model, loss, x, y, epsilon=0.3)
        alone = [ALL[name](model, crossentropy, x[i : i + 1], y[i : i + 1], epsilon=0.3)[0] for i in range(4)]
        np.testing.assert_allclose(together[:4], alone, rtol=0, atol=1e-9, err_msg=name)


def test_fgsm_10_takes_ten_steps_of_a_tenth_and_clips_each(float64):
    model, (x, y) = linear(), examples()
    expected = x
    for _ in range(10):
        expected = np.clip(expected + 0.05 * np.sign(linear_gradient(model, expected, y)), *RANGE)
    found = attacks.fgsm_10(model, crossentropy, x, y, epsilon=0.5, data_range=RANGE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_pgd_is_a_loop_of_steps_and_projections(float64):
    """In L2 steps of 0.4 leave the ball of 1 after three, and are scaled back onto it."""
    model, (x, y) = linear(), examples()
    expected = x
    for _ in range(5):
        moved = expected + 0.4 * unit(linear_gradient(model, expected, y)) - x
        moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1)
        expected = np.clip(x + moved, *RANGE)
    found = attacks.pgd(
        model, crossentropy, x, y, epsilon=1.0, norm="l2", num_steps=5, step_size=0.4, data_range=RANGE
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_pgd_of_one_whole_step_is_fgsm(float64):
    model, (x, y) = relu_network(), examples()
    one = attacks.pgd(model, crossentropy, x, y, epsilon=0.2, num_steps=1, data_range=RANGE)
    np.testing.assert_array_equal(one, attacks.fgsm(model, crossentropy, x, y, epsilon=0.2, data_range=RANGE))


def test_a_random_start_is_somewhere_in_the_ball(float64):
    """One tiny step from it: uniform in [-ε, ε] in L∞; in L2 the d-th power of the radius is uniform."""
    model, x, y = linear(), np.zeros((2000, D)), np.zeros(2000, int)
    options = {"epsilon": 2.0, "num_steps": 1, "step_size": 1e-9, "seed": 1}
    box = attacks.pgd(model, crossentropy, x, y, **options).numpy() / 2
    assert np.abs(box).max() <= 1 and abs(box.mean()) < 0.02 and box.var() == pytest.approx(1 / 3, rel=0.03)
    ball = attacks.pgd(model, crossentropy, x, y, norm="l2", **options).numpy() / 2
    volume = np.linalg.norm(ball, axis=1) ** D
    assert volume.max() <= 1 + 1e-6 and volume.mean() == pytest.approx(0.5, abs=0.02)
    assert volume.var() == pytest.approx(1 / 12, rel=0.1)


def test_noise_has_the_size_of_the_attack_and_the_seed_decides_it(float64):
    model, (x, y) = linear(), examples(400)
    sign, normal = (
        functools.partial(a, model, crossentropy, x, y, epsilon=0.1)
        for a in (attacks.random_sign, attacks.gaussian)
    )
    signs = (sign(seed=3) - x) / 0.1
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-12)
    assert abs(np.mean(signs)) < 4 / np.sqrt(signs.shape[0] * D)
    np.testing.assert_allclose(np.linalg.norm(normal(seed=3) - x, axis=1), 0.1, rtol=1e-12)
    for noise in (sign, normal):
        np.testing.assert_array_equal(noise(seed=3), noise(seed=3))
        assert np.any(noise(seed=3) != noise(seed=4)) and np.any(noise(seed=3) != noise(seed=3 + 2**31))
        generator = keras.random.SeedGenerator(5)
        assert np.any(noise(seed=generator) != noise(seed=generator))


# What all attacks owe.


@pytest.fixture(scope="module")
def trained():
    """A trained network with batch normalization and Dropout, its data, and the losses of the examples."""
    model, (x, y) = noisy(), told_apart()
    model.fit(x, y, batch_size=16, epochs=25, verbose=0)
    return model, x, y, each_loss(model, crossentropy, x, y)


@pytest.mark.parametrize(
    "data_range",
    [None, RANGE, pytest.param(([-2.0] * D, np.full(D, 2.0)), marks=pytest.mark.slow)],
    ids=["free", "range", "arrays"],
)
@pytest.mark.parametrize("name", ALL)
def test_an_attack_stays_in_its_ball_and_range_and_raises_the_loss(trained, name, data_range):
    """In float32 a sum rounds by 1.2e-7 of its size, which is at most 2.5."""
    model, x, y, clean = trained
    for epsilon in (0.05, 0.5):
        found = ALL[name](model, crossentropy, x, y, epsilon=epsilon, data_range=data_range)
        assert found.dtype == x.dtype and found.shape == x.shape
        moved = found.numpy().astype("float64") - x
        size = np.linalg.norm(moved, axis=1) if name in IN_L2 else np.abs(moved).max(1)
        assert (size <= epsilon + 1e-6).all() and size.max() == pytest.approx(epsilon, abs=1e-6)
        if data_range is not None:
            assert np.abs(found).max() <= 2
        if name not in CONTROLS:
            rise = each_loss(model, crossentropy, found.numpy(), y) - clean
            assert rise.mean() > 0.1 * epsilon and (epsilon > 0.1 or name == "fhsm" or (rise > -1e-6).all())


def test_stronger_attacks_raise_the_loss_more(trained):
    model, x, y, _ = trained
    losses = {
        name: each_loss(
            model, crossentropy, ALL[name](model, crossentropy, x, y, epsilon=0.5).numpy(), y
        ).mean()
        for name in ALL
    }
    assert losses["random_sign"] < losses["fgsm"] <= losses["pgd"]
    assert losses["fgsm"] <= losses["fgsm_10"] and losses["gaussian"] < losses["l2grad"]
    assert losses["fhsm"] < losses["pgd"]


def everything(model):
    """All that an attack could change."""
    layers = model._flatten_layers()
    states = [*model.variables, *model.optimizer.variables, *(v for m in model.metrics for v in m.variables)]
    states += [g.state for layer in layers for g in getattr(layer, "_seed_generators", ())]
    settings = [
        (layer.trainable, layer.dtype_policy.name, layer.losses, sorted(vars(layer)))
        for layer in model._flatten_layers()
    ]
    drawn = (
        random.random(),
        np.random.random(),  # noqa: NPY002
        tf.random.uniform([]).numpy(),
        float(keras.random.uniform(())),
    )
    return [v.numpy() for v in states], settings, drawn


@pytest.mark.parametrize("name", quick("fgsm", "l2hess", "random_sign"))
def test_an_attack_leaves_the_model_and_all_random_states_untouched(name):
    keras.utils.set_random_seed(1)
    model, (x, y) = noisy(), told_apart()
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    keras.utils.set_random_seed(2)
    states, settings, drawn = everything(model)
    keras.utils.set_random_seed(2)
    ALL[name](model, crossentropy, x, y, epsilon=0.1)
    after = everything(model)
    for got, wanted in zip(after[0], states, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert after[1] == settings and after[2] == drawn


@pytest.mark.parametrize("name", ALL)
def test_at_epsilon_0_x_comes_back(name):
    model, (x, y) = relu_network(), examples(dtype="float32")
    found = ALL[name](model, crossentropy, x, y, epsilon=tf.constant(0.0), data_range=RANGE)
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("name", sorted(set(ALL) - CONTROLS))
def test_where_the_gradient_is_0_nothing_moves(name):
    """p_y = 1 to the last bit of float32: the loss is flat, and x stays, without 0 / 0."""
    model = linear()
    model.set_weights([w * 1e4 for w in model.get_weights()])
    x, _ = examples(dtype="float32")
    y = np.argmax(model(x), 1)
    found = ALL[name](model, crossentropy, x, y, epsilon=0.1)
    np.testing.assert_array_equal(found, x)


def test_gradients_whose_squares_vanish_still_have_a_direction():
    """Entries of 1e-30: their squares are 0 in float32, their direction is not."""
    model, (x, y) = linear(), examples(dtype="float32")
    g = linear_gradient(model, x.astype("float64"), y)

    def tiny(y_true, y_pred):
        return 1e-30 * crossentropy(y_true, y_pred)

    found = attacks.l2grad(model, tiny, x, y, epsilon=0.1)
    np.testing.assert_allclose(found, x + 0.1 * unit(g), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["fgsm", "l2grad", "l2hess"])
def test_mixed_precision_is_attacked_in_float32(name, policy):
    """Gradients of confident examples are below the 6e-8 where float16 ends; the twin in float32 has the same."""
    x, y = told_apart()
    twin = noisy()
    twin.set_weights([w * 4 if w.ndim == 2 else w for w in twin.get_weights()])
    model = noisy(dtype=policy)
    model.set_weights(twin.get_weights())
    y = np.argmax(twin(x), 1)
    assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")
    found, wanted = (ALL[name](m, crossentropy, x, y, epsilon=0.1) for m in (model, twin))
    np.testing.assert_array_equal(found, wanted)
    assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")


def test_a_confident_softmax_layer_is_not_clipped_away(float64):
    """Keras clips probabilities at 1e-7, where the gradient is 0, unless it finds the logits before the softmax."""
    model = linear()
    x, _ = examples()
    model.set_weights([w * 30 for w in model.get_weights()])
    y = np.argmax(model(x), 1)
    ending = keras.Sequential([model, keras.layers.Activation("softmax")])
    ending.build((None, D))
    found = attacks.fgsm(ending, "sparse_categorical_crossentropy", x, y, epsilon=0.1)
    np.testing.assert_allclose(found, attacks.fgsm(model, crossentropy, x, y, epsilon=0.1), atol=1e-12)


def test_inputs_of_another_float_type_keep_it():
    """float64 data and a float32 model: the sum is made in float64, so the ball holds to its last digits."""
    model, (x, y) = relu_network(), examples()
    found = attacks.fgsm(model, crossentropy, x, y, epsilon=0.1)
    assert found.dtype == tf.float64 and np.abs(found - x).max() <= 0.1 + 1e-15
    half = x.astype("float16")
    assert attacks.pgd(model, crossentropy, half, y, epsilon=0.1).dtype == tf.float16


# Eagerly, traced, in training.


@pytest.mark.parametrize("name", quick("pgd", "fhsm", "gaussian"))
def test_inside_a_traced_function_of_any_batch_size_it_is_what_it_is_outside(float64, name):
    model, (x, y) = relu_network(), examples()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, D], "float64"),
            tf.TensorSpec([None], "int64"),
            tf.TensorSpec([]),
        ]
    )
    def inside(x, y, epsilon):
        return ALL[name](model, crossentropy, x, y, epsilon=epsilon, data_range=RANGE)

    for n in (11, 3):
        found = inside(x[:n], y[:n], 0.25)
        assert found.shape == (n, D)
        wanted = ALL[name](model, crossentropy, x[:n], y[:n], epsilon=0.25, data_range=RANGE)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", quick("fgsm"))
def test_inside_a_function_that_xla_compiles_too(float64, name):
    model, (x, y) = relu_network(), examples()
    inside = tf.function(lambda x, y: ALL[name](model, crossentropy, x, y, epsilon=0.25), jit_compile=True)
    wanted = ALL[name](model, crossentropy, x, y, epsilon=0.25)
    found = inside(tf.constant(x), tf.constant(y))
    if name == "gaussian":  # XLA draws normal numbers of its own
        found, wanted = (np.linalg.norm(each - x, axis=1) for each in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)


class Attacked(keras.Model):
    """Trains on attacked examples."""

    def __init__(self, inner, attack):
        super().__init__()
        self.inner, self.attack = inner, attack

    def call(self, x, training=None):
        return self.inner(x, training=training)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            x = self.attack(self.inner, crossentropy, x, y)
            loss = tf.reduce_mean(crossentropy(y, self.inner(x, training=True)))
        gradients = tape.gradient(loss, self.inner.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.inner.trainable_variables, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_in_a_training_step_the_attacked_examples_are_constants(float64, run_eagerly):
    """One step of SGD on x' made inside the tape is one on x' made before: no gradient flows through the attack."""
    x, y = examples()
    inner = relu_network()
    made = attacks.pgd(inner, crossentropy, x, y, epsilon=0.3)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        moved = attacks.pgd(inner, crossentropy, inputs, y, epsilon=0.3)
    assert tape.gradient(moved, [inputs, *inner.trainable_variables]) == [None] * 7
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(crossentropy(y, inner(made)))
    steps = tape.gradient(loss, inner.trainable_variables)
    wanted = [w - 0.1 * g.numpy() for w, g in zip(inner.get_weights(), steps, strict=True)]

    model = Attacked(inner, functools.partial(attacks.pgd, epsilon=0.3))
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=run_eagerly)
    model.fit(x, y, batch_size=11, epochs=1, verbose=0)

    for got, want in zip(inner.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_in_a_training_step_a_generator_gives_new_noise_each_time():
    generator, seen = keras.random.SeedGenerator(1), []

    def attack(model, loss, x, y):
        found = attacks.random_sign(model, loss, x, y, epsilon=0.3, seed=generator)
        tf.py_function(lambda t: seen.append(t.numpy()), [found - x], [])
        return found

    x, y = examples(dtype="float32")
    model = Attacked(relu_network(), attack)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, batch_size=11, epochs=2, shuffle=False, verbose=0)
    assert len(seen) == 2 and np.any(seen[0] != seen[1])


@pytest.mark.parametrize("traced", [False, True])
def test_inside_a_stateless_scope_the_weights_of_the_scope_count(float64, traced):
    model, other = relu_network(), relu_network(scale=0.9)
    x, y = examples()
    weights = [tf.constant(w) for w in other.get_weights()]

    def inside(x, y):
        with keras.StatelessScope(state_mapping=list(zip(model.variables, weights, strict=True))):
            return attacks.l2hess(model, crossentropy, x, y, epsilon=0.3)

    attacks.l2hess(model, crossentropy, x, y, epsilon=0.3)  # a trace with other weights is there
    found = (tf.function(inside) if traced else inside)(tf.constant(x), tf.constant(y))
    np.testing.assert_allclose(found, attacks.l2hess(other, crossentropy, x, y, epsilon=0.3), atol=1e-10)


@pytest.mark.parametrize("name", ["fgsm", "fhsm"])
def test_replicas_attack_their_own_examples(float64, name):
    x, y = examples(8)
    strategy = mirrored()
    with strategy.scope():
        model = relu_network()

    @tf.function
    def step(x, y):
        return strategy.run(lambda x, y: ALL[name](model, crossentropy, x, y, epsilon=0.2), args=(x, y))

    halves = [
        strategy.experimental_distribute_values_from_function(
            lambda c, a=a: tf.constant(np.split(a, 2)[c.replica_id_in_sync_group])
        )
        for a in (x, y)
    ]
    found = np.concatenate([t.numpy() for t in strategy.experimental_local_results(step(*halves))])
    plain = relu_network()
    wanted = ALL[name](plain, crossentropy, x, y, epsilon=0.2)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        ALL[name](model, crossentropy, x, y, epsilon=0.2), wanted, atol=1e-10
    )  # outside of a replica


def test_a_trace_serves_all_sizes_and_weights_and_dies_with_the_model(float64):
    model, (x, y) = linear(), examples()
    for n in (11, 4, 1):
        attacks.fgsm(model, crossentropy, x[:n], y[:n], epsilon=n)
    assert len(calls._traces[model]) == 1
    model.set_weights([-w for w in model.get_weights()])
    g = linear_gradient(model, x, y)
    np.testing.assert_allclose(
        attacks.fgsm(model, crossentropy, x, y, epsilon=0.1), x + 0.1 * np.sign(g), rtol=0, atol=1e-14
    )
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_frozen_network_can_be_attacked(float64):
    model, (x, y) = linear(), examples()
    model.trainable = False
    found = attacks.fgsm(model, crossentropy, x, y, epsilon=0.1)
    np.testing.assert_allclose(found, x + 0.1 * np.sign(linear_gradient(model, x, y)), rtol=0, atol=1e-14)


def test_images_and_other_shapes(float64):
    rng = np.random.default_rng(0)
    stack = keras.layers.Conv2D(3, 2, activation="relu"), keras.layers.MaxPooling2D(2), keras.layers.Flatten()
    model = keras.Sequential([keras.Input((5, 5, 2)), *stack, keras.layers.Dense(3)])
    x, y = rng.uniform(size=(7, 5, 5, 2)), rng.integers(0, 3, 7)
    for name, attack in ALL.items():
        found = attack(model, crossentropy, x, y, epsilon=0.5, data_range=(0, 1))
        moved = (found - x).numpy().reshape(7, -1)
        size = np.linalg.norm(moved, axis=1) if name in IN_L2 else np.abs(moved).max(1)
        assert (size <= 0.5 + 1e-12).all() and size.max() > 0.3


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": -0.1}, "epsilon is -0.1"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
        ({"epsilon": [0.1, 0.2]}, "one number"),
        ({"epsilon": tf.constant([0.1])}, "one number"),
        ({"epsilon": "0.1"}, "one number"),
        ({"data_range": (1.0, 0.0)}, "data_range is"),
        ({"data_range": 1.0}, "data_range is"),
        ({"data_range": (np.zeros(4), np.ones(4))}, "data_range is"),
        ({"data_range": (0.0, 1.0)}, "not within data_range"),
        ({"x": np.zeros((11, D), int)}, "floating-point"),
        ({"x": np.zeros(11)}, "has shape"),
        ({"x": {"a": np.zeros((11, D))}}, "x is a dict"),
        ({"x": np.zeros((0, D)), "y": np.zeros(0, int)}, "at least 1"),
        ({"y": np.zeros(3, int)}, "same number of examples"),
        ({"y": None}, "labels"),
        ({"loss": "no_such_loss"}, "no_such_loss"),
        ({"loss": [crossentropy]}, "Pass one loss"),
        ({"loss": lambda y, p: tf.reduce_mean(p)}, "one number per batch"),
        ({"loss": lambda y, p: tf.zeros_like(p[:, 0])}, "no gradient by the input"),
        ({"loss": lambda y, p: p[:, 0] * float("nan")}, "NaN or infinity"),
    ],
)
def test_mistakes_are_told(arguments, message):
    x, y = examples(dtype="float32")
    given = {"loss": crossentropy, "x": x, "y": y, "epsilon": 0.1, **arguments}
    with pytest.raises(ValueError, match=message):
        attacks.fgsm(linear(), **given)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (attacks.pgd, {"norm": "l1"}, "norm is 'l1'"),
        (attacks.pgd, {"num_steps": 0}, "num_steps is 0"),
        (attacks.pgd, {"step_size": 0}, "step_size is 0"),
        (attacks.pgd, {"seed": 0.5}, "seed is 0.5"),
        (attacks.random_sign, {"seed": "a"}, "seed is 'a'"),
        (attacks.gaussian, {"seed": None}, "seed is None"),
        (attacks.fhsm, {"damping": -1}, "damping is -1"),
        (attacks.l2hess, {"tolerance": 1.0}, "tolerance is 1.0"),
        (attacks.l2hess, {"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_mistakes_in_options_are_told(attack, options, message):
    x, y = examples(dtype="float32")
    with pytest.raises(ValueError, match=message):
        attack(linear(), crossentropy, x, y, epsilon=0.1, **options)


def test_models_that_cannot_be_attacked_are_refused():
    x, y = examples(dtype="float32")
    with pytest.raises(ValueError, match="no weights yet"):
        attacks.fgsm(keras.Sequential([keras.layers.Dense(2)]), crossentropy, x, y, epsilon=0.1)
    a = keras.Input((D,))
    two = keras.Model(a, [keras.layers.Dense(2)(a), keras.layers.Dense(2)(a)])
    with pytest.raises(ValueError, match="2 outputs"):
        attacks.fgsm(two, crossentropy, x, y, epsilon=0.1)

    class Shaking(keras.Layer):
        def __init__(self):
            super().__init__()
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)

    with pytest.raises(ValueError, match="draws random numbers"):
        attacks.fgsm(keras.Sequential([a, Shaking(), keras.layers.Dense(C)]), crossentropy, x, y, epsilon=0.1)

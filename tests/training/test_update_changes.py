"""Each change of the update against its paper's formula, by hand, in float64; two epochs end in a ragged batch."""

import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from ways import (
    BATCH_SIZE,
    CHANGES,
    LABELS,
    NUM_EXAMPLES,
    RATE,
    A,
    X,
    Y,
    batches_of,
    fit,
    flat,
    gradient,
    linear,
    network,
)

import tf_lbgap as lb
from tf_lbgap.training import Adversarial, Conservative, NoisyGradient, SharpnessAware, Stability


def trained_by_hand(update, model, epochs=2):
    """Weights after `update(w, rows)` for each batch, which returns the new weights."""
    w = flat(model)
    for rows in batches_of(epochs):
        w = update(w, rows)
    return w


# Sharpness-aware minimisation.


def test_sam_takes_the_gradient_a_step_of_length_rho_up_the_gradient(_float64):
    model = linear()

    def update(w, rows):
        g = gradient(w, rows)
        return w - RATE * gradient(w + 0.3 * g / np.linalg.norm(g), rows)

    expected = trained_by_hand(update, model)
    fit(model, SharpnessAware(0.3), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale_biases", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.1])
def test_asam_scales_the_step_by_the_weights(_float64, scale_biases, eta):
    """e = ρ T² g / ‖T g‖, T = |w| + η, and 1 for the bias unless biases are scaled."""
    model = linear()

    def update(w, rows):
        g, t = gradient(w, rows), np.abs(w) + eta
        if not scale_biases:
            t[-1] = 1
        return w - RATE * gradient(w + 0.3 * t**2 * g / np.linalg.norm(t * g), rows)

    expected = trained_by_hand(update, model)
    fit(model, SharpnessAware(0.3, adaptive=True, eta=eta, scale_biases=scale_biases), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


def test_m_sam_lets_each_group_take_its_own_step(_float64):
    """Groups of at most m = 6: of 16 examples 5, 5, 6, of 5 all; their gradients weigh by their sizes."""
    model = linear()

    def update(w, rows):
        examples = np.arange(NUM_EXAMPLES)[rows]
        k = -(-len(examples) // 6)
        total = 0
        for i in range(k):
            group = examples[i * len(examples) // k : (i + 1) * len(examples) // k]
            g = gradient(w, group)
            total = total + len(group) * gradient(w + 0.3 * g / np.linalg.norm(g), group)
        return w - RATE * total / len(examples)

    expected = trained_by_hand(update, model)
    fit(model, SharpnessAware(0.3, m=6), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


def test_a_gradient_of_zero_takes_no_step(_float64):
    """At the least squares solution of a linear problem without noise g = 0, and 0 / 0 must not come in."""
    model = linear()
    model.set_weights([np.array([[1.0], [2.0], [0.0], [0.0]]), np.array([0.5])])
    y = X @ [1.0, 2.0, 0.0, 0.0] + 0.5
    before = flat(model)
    for adaptive in (False, True):
        fit(model, SharpnessAware(0.3, adaptive=adaptive), X * 0, np.full(NUM_EXAMPLES, 0.5))
    np.testing.assert_array_equal(flat(model), before)
    fit(model, SharpnessAware(0.0), X, y)
    np.testing.assert_allclose(flat(model), before, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "make", [CHANGES["sam"], CHANGES["asam"], CHANGES["m_sam"]], ids=["sam", "asam", "m"]
)
def test_weights_come_back_bit_for_bit_from_the_ascent(make):
    """With a rate of 0 they do not change at all, in float32, where w + e - e would."""
    model = network(keras.optimizers.SGD(0.0))
    before = flat(model)
    fit(model, make(), X, LABELS)
    np.testing.assert_array_equal(flat(model), before)


@pytest.mark.parametrize(
    "change", [SharpnessAware(0.5), Stability(0.5, sigma=1.0), SharpnessAware(0.5, m=16)]
)
def test_statistics_metrics_and_seeds_know_of_one_pass(change):
    """With a rate of 0 everything but the weights goes as in a plain fit, also the logged loss, with dropout on."""
    models = [network(keras.optimizers.SGD(0.0), metrics=["accuracy"]) for _ in range(2)]
    plain, changed = (fit(m, c, X, LABELS) for m, c in zip(models, (None, change), strict=True))
    if isinstance(change, Stability):  # its loss is another
        plain.pop("loss"), changed.pop("loss")
    assert changed == plain
    for one, other in zip(*(m.non_trainable_variables for m in models), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


def test_both_passes_of_sam_draw_the_same_masks(_float64):
    """The gradient of the second pass is that of the same function: by finite differences, of the masked loss."""
    model = network(keras.optimizers.SGD(1.0))
    rows, start = slice(0, BATCH_SIZE), flat(model)
    seed = next(v for v in model.variables if "seed" in v.path)
    state = seed.numpy()

    def loss(w):
        seed.assign(state)
        _put(model, w)
        return float(model.compute_loss(X[rows], LABELS[rows], model(X[rows], training=True)))

    def numeric(w):
        return np.array([(loss(w + d) - loss(w - d)) / 2e-6 for d in 1e-6 * np.eye(len(w))])

    g = numeric(start)
    expected = start - numeric(start + 0.1 * g / np.linalg.norm(g))
    _put(model, start)
    seed.assign(state)
    fit(model, SharpnessAware(0.1), X[rows], LABELS[rows], epochs=1)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-7)


def _put(model, w):
    for variable in model.trainable_variables:
        size = int(np.prod(variable.shape))
        variable.assign(w[:size].reshape(variable.shape))
        w = w[size:]


# Conservative training.


def test_conservative_training_takes_steps_of_sgd_on_the_proximal_objective(_float64):
    model = linear()

    def update(w, rows):
        centre = w
        for _ in range(3):
            w = w - RATE * (gradient(w, rows) + 0.7 * (w - centre))
        return w

    expected = trained_by_hand(update, model)
    fit(model, Conservative(0.7, steps=3), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)
    assert int(model.optimizer.iterations.numpy()) == 3 * 6


def test_conservative_training_with_adam_carries_its_moments(_float64):
    """ADAM as published, with bias correction by the number of steps."""
    model = linear(keras.optimizers.Adam(RATE, 0.875, 0.9375, 2.0**-20))
    m = v = t = 0

    def update(w, rows):
        nonlocal m, v, t
        centre = w
        for _ in range(3):
            g = gradient(w, rows) + 1e-3 * (w - centre)
            t, m, v = t + 1, 0.875 * m + 0.125 * g, 0.9375 * v + 0.0625 * g**2
            w = w - RATE * np.sqrt(1 - 0.9375**t) / (1 - 0.875**t) * m / (np.sqrt(v) + 2.0**-20)
        return w

    expected = trained_by_hand(update, model)
    fit(model, Conservative(), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-12)


def test_metrics_and_statistics_of_conservative_training_are_those_of_the_first_step():
    plain, changed = (network(keras.optimizers.SGD(0.0)) for _ in range(2))
    histories = fit(plain, None, X, LABELS), fit(changed, Conservative(0.5), X, LABELS)
    assert histories[0] == histories[1]
    for one, other in zip(plain.non_trainable_variables, changed.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


# Adversarial training, and its control.


def signed(w, rows):
    """Inputs of some rows, moved by FGSM: the gradient of (xᵀw - y)² by x is 2 (xᵀw - y) w."""
    return np.c_[X + 0.3 * np.sign(2 * (A @ w - Y)[:, None] * w[None, :4]), np.ones(NUM_EXAMPLES)]


@pytest.mark.parametrize("ratio", [0.0, 0.29, 1.0])
def test_adversarial_training_replaces_the_first_examples(_float64, ratio):
    model = linear()

    def update(w, rows):
        inputs, moved = A.copy(), signed(w, rows)
        examples = np.arange(NUM_EXAMPLES)[rows]
        first = examples[: int(ratio * len(examples))]
        inputs[first] = moved[first]
        return w - RATE * gradient(w, rows, inputs)

    expected = trained_by_hand(update, model)
    fit(model, Adversarial("fgsm", 0.3, ratio=ratio), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_adversarial_training_mixes_two_losses(_float64, reduction):
    """(1 - r) J(x) + r J(x'), Goodfellow et al., for a mean and for a sum."""
    model = linear(keras.optimizers.SGD(RATE / 16), keras.losses.MeanSquaredError(reduction=reduction))

    def update(w, rows):
        g = 0.6 * gradient(w, rows) + 0.4 * gradient(w, rows, signed(w, rows))
        count = len(A[rows]) if reduction == "sum" else 1
        return w - RATE / 16 * g * count

    expected = trained_by_hand(update, model)
    fit(model, Adversarial("fgsm", 0.3, ratio=0.4, mix="add"), X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


def test_the_ratio_may_change_while_training(_float64):
    """As ABSA does; nothing is traced anew."""
    change, model = Adversarial("fgsm", 0.3, ratio=0.5), linear()
    expected = flat(model)
    fit(model, change, X, Y, epochs=1)
    change.ratio = 0.0
    model.trainable_variables[0].assign(expected[:4, None])
    model.trainable_variables[1].assign(expected[4:])
    for rows in batches_of(1):
        expected = expected - RATE * gradient(expected, rows)
    fit(model, change, X, Y, epochs=1)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


@pytest.mark.slow
def test_random_signs_are_other_ones_at_each_update_and_the_same_in_a_second_training():
    seen = []

    class Spied(keras.Sequential):
        def train_step(self, data):
            tf.py_function(lambda x: seen.append(x.numpy()), [data[0]], [])
            return super().train_step(data)

    def train():
        seen.clear()
        model = Spied([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        fit(model, Adversarial("random_sign", 0.25, seed=5), X.astype("float32"), Y, batch_size=37, epochs=3)
        return [batch - X.astype("float32") for batch in seen]

    first, again = train(), train()
    for noise, same in zip(first, again, strict=True):
        np.testing.assert_allclose(np.abs(noise), 0.25, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(noise, same)
    agreement = np.mean(np.sign(first[0]) == np.sign(first[1]))
    assert 0.35 < agreement < 0.65


# Stability training and noisy gradients.


def seed(kind, number):
    """Of the first update, as the docstring of `draws` says."""
    return [number + zlib.crc32(kind.__name__.encode()) * 2**20, 0]


def test_stability_training_adds_a_cross_entropy_between_two_outputs(_float64):
    """The gradient by finite differences of J + α mean(-Σ p log p'), p and p' written out."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    change, start = Stability(0.7, sigma=0.4, seed=3), flat(model)
    noise = tf.random.stateless_normal([37, 4], seed(Stability, 3), dtype="float64").numpy()

    def log_softmax(w, x):
        z = x @ w[:12].reshape(4, 3) + w[12:]
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    def loss(w):
        own, other = log_softmax(w, X), log_softmax(w, X + 0.4 * noise)
        return -own[np.arange(37), LABELS].mean() - 0.7 * (np.exp(own) * other).sum(1).mean()

    numeric = [(loss(start + d) - loss(start - d)) / 2e-6 for d in 1e-6 * np.eye(15)]
    history = fit(model, change, X, LABELS, epochs=1, batch_size=37)
    np.testing.assert_allclose(start - flat(model), numeric, rtol=0, atol=1e-8)
    np.testing.assert_allclose(history["loss"], loss(start), rtol=1e-7)


def test_stability_training_of_a_regression_adds_squared_distances(_float64):
    """Of a linear model ‖f(x) - f(x')‖² = σ² (zᵀw)², without the bias."""
    model, start = linear(keras.optimizers.SGD(1.0)), flat(linear())
    z = tf.random.stateless_normal([37, 4], seed(Stability, 0), dtype="float64").numpy()
    g = gradient(start, slice(None))
    g[:4] += 0.7 * 0.16 * 2 / 37 * z.T @ (z @ start[:4])
    fit(model, Stability(0.7, sigma=0.4), X, Y, epochs=1, batch_size=37)
    np.testing.assert_allclose(flat(model), start - g, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_noisy_gradients_weigh_examples(_float64, weighted):
    """σ² = M/m - 1 for M = 37, m = 4, and the user's weights beside."""
    model, start = linear(keras.optimizers.SGD(1.0)), flat(linear())
    own = np.linspace(0.5, 2, 37) if weighted else np.ones(37)
    z = 1 + np.sqrt(37 / 4 - 1) * tf.random.stateless_normal([37], seed(NoisyGradient, 2)).numpy()
    options = {"sample_weight": own} if weighted else {}
    fit(model, NoisyGradient(4, seed=2), X, Y, epochs=1, batch_size=37, **options)
    expected = start - gradient(start, slice(None), weight=own * z)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-5)  # z in float32


@pytest.mark.slow
def test_noisy_gradients_have_the_mean_of_the_batch_and_the_noise_of_a_small_one(_float64):
    """Over 2,000 updates at fixed weights: mean G within 5 standard errors, tr Cov = σ²/M (1/M Σ|g_i|²)."""
    start = flat(linear())
    per_example = 2 * A * (A @ start - Y)[:, None]
    updates, model = [], linear(keras.optimizers.SGD(1.0))

    class Back(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            updates.append(start - flat(self.model))
            self.model.trainable_variables[0].assign(start[:4, None])
            self.model.trainable_variables[1].assign(start[4:])

    many = np.tile(X, (2000, 1)), np.tile(Y, 2000)
    callbacks = [lb.callbacks.ChangeUpdates(NoisyGradient(4)), Back()]
    model.fit(*many, batch_size=37, verbose=0, shuffle=False, callbacks=callbacks)
    updates = np.array(updates)
    error = updates.std(0) / np.sqrt(len(updates))
    assert np.all(np.abs(updates.mean(0) - per_example.mean(0)) < 5 * error)
    expected = (37 / 4 - 1) / 37 * np.mean(np.sum(per_example**2, 1))
    np.testing.assert_allclose(updates.var(0).sum(), expected, rtol=0.1)


# Together.


def test_changes_stand_around_each_other(_float64):
    """SAM of adversarial examples that are made anew at w + e; the norm of what comes out is clipped by Keras."""
    model = linear(keras.optimizers.SGD(RATE, global_clipnorm=0.5))

    def update(w, rows):
        g = gradient(w, rows, signed(w, rows))
        up = w + 0.3 * g / np.linalg.norm(g)
        g = gradient(up, rows, signed(up, rows))
        return w - RATE * g * min(1, 0.5 / np.linalg.norm(g))

    expected = trained_by_hand(update, model)
    fit(model, [SharpnessAware(0.3), Adversarial("fgsm", 0.3)], X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)


def test_the_steps_of_conservative_training_draw_the_same_numbers(_float64):
    """The batch is one function for all of them: both steps weigh examples by the same z."""
    model, w = linear(), flat(linear())
    z = 1 + tf.random.stateless_normal([37], seed(NoisyGradient, 0)).numpy()
    for _ in range(2):
        w = w - RATE * gradient(w, slice(None), weight=z)
    fit(model, [Conservative(0.0, steps=2), NoisyGradient(sigma=1.0)], X, Y, epochs=1, batch_size=37)
    np.testing.assert_allclose(flat(model), w, rtol=0, atol=1e-5)


def test_the_pull_to_the_centre_is_scaled_as_the_loss_is():
    """By a loss scale of 1024, else it would be that much weaker."""
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=1024.0)
    models = linear(), linear(scaled)
    for model in models:
        fit(model, Conservative(4.0), X, Y)
    np.testing.assert_allclose(flat(models[1]), flat(models[0]), rtol=0, atol=1e-5)


def test_conservative_training_of_sharpness_aware_steps(_float64):
    model = linear()

    def update(w, rows):
        centre = w
        for _ in range(2):
            g = gradient(w, rows)
            w = w - RATE * (gradient(w + 0.3 * g / np.linalg.norm(g), rows) + 0.7 * (w - centre))
        return w

    expected = trained_by_hand(update, model)
    fit(model, [Conservative(0.7, steps=2), SharpnessAware(0.3)], X, Y)
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-13)

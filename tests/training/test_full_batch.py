"""Full-batch descents against closed forms, SciPy on a NumPy function, and a loop in NumPy."""

import csv

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from references import floatx
from replicas import mirrored

import tf_lbgap as lb

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(37, 4)), RNG.normal(size=(37, 2))
W = RNG.normal(size=(4, 2))
RAGGED = [(X[:16], Y[:16]), (X[16:32], Y[16:32]), (X[32:], Y[32:])]


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def linear(rate=8.0, *layers, penalty=None, loss="mse", optimizer=None, **options):
    """Least squares in 8 weights: l(w) = mean (xᵀw - y)², with a penalty if there is one."""
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((4,)), *layers, dense])
    model.compile(optimizer or keras.optimizers.SGD(rate), loss, **options)
    dense.kernel.assign(W)
    return model


def value_and_gradient(w, l2=0.0):
    w = w.reshape(4, 2)
    value = np.mean((X @ w - Y) ** 2) + l2 * np.sum(w**2)
    return value, (2 * X.T @ (X @ w - Y) / Y.size + 2 * l2 * w).ravel()


def descended(iterations, rate, c=0.1, factor=0.5, growth=2.0, l2=0.0):
    """Gradient descent by hand: losses, steps, passes so far, and weights."""
    w, at_once, passes, rows = W.ravel(), False, 1, []
    value, g = value_and_gradient(w, l2)
    for _ in range(iterations):
        rate, trials = rate * growth if at_once else rate, 1
        while value_and_gradient(w - rate * g, l2)[0] > value - c * rate * g @ g:
            rate, trials = rate * factor, trials + 1
        at_once, passes, w = trials == 1, passes + trials, w - rate * g
        value, g = value_and_gradient(w, l2)
        rows.append((value, rate, passes))
    return *zip(*rows, strict=True), w.reshape(4, 2)


def kernel(model):
    return model.layers[-1].kernel.numpy()


@pytest.mark.parametrize("chunk_size", [512, 7], ids=lambda n: f"chunk_size={n}")
@pytest.mark.parametrize("options", [{}, {"c": 0.6, "factor": 0.7, "growth": 3.0}], ids=str)
def test_gradient_descent_is_the_loop(options, chunk_size):
    model = linear()
    full = lb.training.FullBatch(model, "gradient_descent", chunk_size=chunk_size, **options)
    logs = full.fit(RAGGED, iterations=7, verbose=0).history
    losses, rates, passes, w = descended(7, 8.0, **options)
    np.testing.assert_allclose(logs["loss"], losses, rtol=1e-10)
    np.testing.assert_allclose(logs["learning_rate"], rates, rtol=1e-12)
    assert tuple(logs["passes"]) == passes and passes[0] > 2 and full.passes == passes[-1]
    np.testing.assert_allclose(kernel(model), w, rtol=0, atol=1e-10)
    assert int(model.optimizer.iterations.numpy()) == 7 and full.reason == "iterations"
    np.testing.assert_allclose(model.optimizer.learning_rate.numpy(), rates[-1], rtol=1e-12)


def test_lbfgs_finds_the_solution():
    """The normal equations, with penalties counted once however the data are cut."""
    for l2 in (0.0, 0.25):
        model = linear(penalty=keras.regularizers.L2(l2) if l2 else None)
        full = lb.training.FullBatch(model)
        full.fit(RAGGED, tolerance=1e-10, verbose=0)
        exact = np.linalg.solve(X.T @ X + l2 * Y.size * np.eye(4), X.T @ Y)
        np.testing.assert_allclose(kernel(model), exact, rtol=0, atol=1e-8)
        assert full.reason == "tolerance" and full.passes < 40


@pytest.mark.parametrize("options", [{}, {"memory": 1}], ids=str)
def test_iterates_of_lbfgs_are_those_of_scipy(options):
    expected = []
    scipy.optimize.minimize(
        value_and_gradient,
        W.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=lambda w: expected.append(w.copy()),
        options={"maxcor": options.get("memory", 10), "maxiter": 6},
    )
    model, found = linear(), []
    noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: found.append(kernel(model).ravel()))
    lb.training.FullBatch(model, **options).fit(RAGGED, iterations=6, callbacks=[noted], verbose=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_trials_bound_one_line_search():
    """The first step has length 1, and the start is 1000 times as far: a search of three trials does not get there."""
    for trials, ended in ((3, ("stalled", 0)), (20, ("iterations", 2))):
        model = linear()
        model.layers[-1].kernel.assign(1000 * W)
        full = lb.training.FullBatch(model, trials=trials)
        history = full.fit(RAGGED, iterations=2, verbose=0)
        assert (full.reason, len(history.epoch)) == ended


def test_a_budget_of_passes_is_kept():
    """The fourth pass would belong to an iteration that is not accepted yet: the model has the last that is."""
    _, _, passes, _ = descended(5, 0.25)
    for method in ("l-bfgs", "gradient_descent"):
        for budget in (1, 2, passes[2], passes[2] + 1, 9):
            model = linear(0.25)
            full = lb.training.FullBatch(model, method)
            logs = full.fit(RAGGED, passes=budget, verbose=0).history
            assert full.passes == budget and full.reason == "passes"
            assert logs.get("passes", [1])[-1] <= budget
            loss = value_and_gradient(kernel(model))[0]
            assert loss == pytest.approx(logs.get("loss", [value_and_gradient(W)[0]])[-1], rel=1e-10)


def test_a_target_ends_it_at_the_first_loss_that_meets_it():
    losses, _, passes, _ = descended(5, 0.25)
    model = linear(0.25)
    full = lb.training.FullBatch(model, "gradient_descent")
    history = full.fit(RAGGED, target_loss=losses[2] + 1e-9, verbose=0)
    assert (full.reason, len(history.history["loss"]), full.passes) == ("target_loss", 3, passes[2])
    again = full.fit(RAGGED, target_loss=losses[2] + 1e-9, verbose=0)
    assert (full.reason, again.history, full.passes) == ("target_loss", {}, 1)


@pytest.mark.parametrize("method", ["l-bfgs", "gradient_descent"])
def test_it_ends_where_no_step_lowers_the_loss(method):
    """In float32 the loss stops falling long before 10,000 iterations, and within its digits of the least there is."""
    with floatx("float32"):
        model = linear(1.0)
        full = lb.training.FullBatch(model, method)
        full.fit(
            [tuple(a.astype("float32") for a in batch) for batch in RAGGED], iterations=10_000, verbose=0
        )
    least = np.mean((X @ np.linalg.lstsq(X, Y)[0] - Y) ** 2)
    assert full.reason == "stalled"
    assert value_and_gradient(kernel(model).astype("float64"))[0] == pytest.approx(least, rel=1e-6)


def test_keras_callbacks_see_epochs_of_one_update(tmp_path):
    """EarlyStopping, CSVLogger, ModelCheckpoint and a monitor, in the order of `fit`; and the progress bar."""
    model, order = linear(0.25, metrics=["mae"]), []
    hooks = ("on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_test_end")
    hooks += ("on_epoch_end", "on_train_end")
    noted = keras.callbacks.LambdaCallback()
    for hook in hooks:
        setattr(noted, hook, lambda *_, hook=hook, **__: order.append(hook))
    monitor = lb.callbacks.CurvatureMonitor((X, Y), log_dir=tmp_path, batch_normalization="inference")
    stopping = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=2)
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    table = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    full = lb.training.FullBatch(model, "gradient_descent")
    history = full.fit(
        RAGGED, validation_data=(X[:5], Y[:5]), callbacks=[noted, monitor, stopping, saving, table]
    )
    assert full.reason == "callback" and history.epoch == [0, 1, 2]
    assert order == [hooks[0], *hooks[1:-1] * 3, hooks[-1]]
    w = descended(3, 0.25)[3]
    assert history.history["val_loss"][-1] == pytest.approx(np.mean((X[:5] @ w - Y[:5]) ** 2), rel=1e-6)
    assert history.history["val_mae"][-1] == pytest.approx(np.mean(np.abs(X[:5] @ w - Y[:5])), rel=1e-6)
    assert [row["update"] for row in monitor.history] == [1, 2, 3]
    eigenvalue = np.linalg.eigvalsh(X.T @ X / 37)[-1]
    np.testing.assert_allclose(history.history["top_eigenvalue"], eigenvalue, rtol=1e-3)
    edges = 2 / np.array(history.history["learning_rate"])
    np.testing.assert_allclose(history.history["edge_of_stability"], edges, rtol=1e-6)
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["loss"]) for row in rows], history.history["loss"])
    model.load_weights(tmp_path / "2.weights.h5")
    np.testing.assert_allclose(kernel(model), descended(2, 0.25)[3], rtol=0, atol=1e-10)


def test_a_fit_goes_on_from_a_backup(tmp_path):
    """Keras' own: weights, rate and number of the iteration. (A step that is to double is not remembered.)"""

    def trained(*callbacks):
        model = linear(1.0)
        lb.training.FullBatch(model, "gradient_descent", growth=1.0).fit(
            RAGGED, iterations=5, callbacks=list(callbacks), verbose=0
        )
        return model

    def crash(epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt

    whole = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(
            keras.callbacks.BackupAndRestore(tmp_path), keras.callbacks.LambdaCallback(on_epoch_begin=crash)
        )
    resumed = trained(keras.callbacks.BackupAndRestore(tmp_path))
    np.testing.assert_allclose(kernel(resumed), kernel(whole), rtol=0, atol=1e-14)
    assert int(resumed.optimizer.iterations.numpy()) == 5


def test_batch_normalization_is_that_of_training_and_its_statistics_are_exact_then():
    """On one batch of all data; the loss at inference is then that of training."""
    model = linear(0.5, keras.layers.Dense(4), keras.layers.BatchNormalization(epsilon=1e-3))
    with_stats = keras.models.clone_model(model)
    with_stats.set_weights(model.get_weights())

    history = lb.training.FullBatch(model).fit((X, Y), iterations=5, validation_data=(X, Y), verbose=0)

    z = model.layers[0](X).numpy()
    norm = model.layers[1]
    np.testing.assert_allclose(norm.moving_mean.numpy(), z.mean(0), atol=1e-10)
    np.testing.assert_allclose(norm.moving_variance.numpy(), z.var(0), rtol=1e-10)
    np.testing.assert_allclose(history.history["val_loss"], history.history["loss"], rtol=1e-6)
    with tf.GradientTape() as tape:  # the gradient goes through the statistics
        loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
    grads = tape.gradient(loss, model.trainable_variables)
    norm = np.sqrt(sum(float(tf.reduce_sum(g**2)) for g in grads))
    assert history.history["gradient_norm"][-1] == pytest.approx(norm, rel=1e-8)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_dropout_is_off_and_weights_count():
    weight = RNG.uniform(0.1, 2, 37)
    model = linear(8.0, keras.layers.Dropout(0.5))
    lb.training.FullBatch(model).fit(lb.data.Batches(X, Y, weight, batch_size=16), tolerance=1e-10, verbose=0)
    exact = np.linalg.solve(X.T @ (weight[:, None] * X), X.T @ (weight[:, None] * Y))
    np.testing.assert_allclose(kernel(model), exact, rtol=0, atol=1e-8)


def test_several_outputs_with_their_weights():
    x = keras.Input((4,))
    outputs = [keras.layers.Dense(1, use_bias=False)(x) for _ in range(2)]
    model = keras.Model(x, outputs)
    model.compile("sgd", ["mse", "mse"], loss_weights=[1.0, 3.0])
    data = (X, (Y[:, :1], Y[:, 1:]))
    history = lb.training.FullBatch(model).fit(data, tolerance=1e-10, verbose=0)
    residuals = np.mean((X @ np.linalg.lstsq(X, Y)[0] - Y) ** 2, axis=0)
    assert history.history["loss"][-1] == pytest.approx(residuals @ [1.0, 3.0], rel=1e-10)


def test_replicas_and_mixed_precision():
    """Neither changes what is minimised: sums over all data, in float32 at least."""
    with mirrored().scope():
        model = linear()
    lb.training.FullBatch(model).fit(RAGGED, tolerance=1e-10, verbose=0)
    exact = np.linalg.lstsq(X, Y)[0]
    np.testing.assert_allclose(kernel(model), exact, rtol=0, atol=1e-8)
    for copy in model.layers[-1].kernel.value.values:
        np.testing.assert_array_equal(copy.numpy(), kernel(model))
    with floatx("float32"):
        keras.config.set_dtype_policy("mixed_float16")
        model = linear(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0)))
        data = X.astype("float32"), Y.astype("float32")
        history = lb.training.FullBatch(model, "gradient_descent").fit(data, iterations=60, verbose=0)
    np.testing.assert_allclose(kernel(model), exact, rtol=0, atol=1e-3)
    assert int(model.optimizer.iterations.numpy()) == len(history.epoch) > 5


def test_a_saved_model_trains_on(tmp_path):
    model = linear()
    lb.training.FullBatch(model, "gradient_descent").fit(RAGGED, iterations=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        lb.training.FullBatch(each, "gradient_descent").fit(RAGGED, iterations=2, verbose=0)
    np.testing.assert_array_equal(kernel(loaded), kernel(model))
    assert int(loaded.optimizer.iterations.numpy()) == 5


class OwnStep(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def test_what_cannot_be_minimised_is_refused():
    bound = linear()
    bound.layers[-1].kernel.constraint = keras.constraints.NonNeg()
    x = keras.Input((4,))
    own = OwnStep(x, keras.layers.Dense(2)(x))
    own.compile("sgd", "mse")
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)
    scheduled = linear(optimizer=keras.optimizers.SGD(schedule))
    of_nothing = linear(loss=None)  # compiled anew without a loss, a model keeps the one it had
    for call, told in (
        (lambda: lb.training.FullBatch(bound), "has a constraint"),
        (lambda: lb.training.FullBatch(own), "has a train_step of its own"),
        (lambda: lb.training.FullBatch(of_nothing), "compiled without a loss"),
        (lambda: lb.training.FullBatch(linear(), "lbfgs"), "Did you mean 'l-bfgs'"),
        (lambda: lb.training.FullBatch(linear(), memory=0), "memory must be a whole number"),
        (lambda: lb.training.FullBatch(linear(), c=0.1), "of 'l-bfgs' has no 'c'; it takes memory, trials"),
        (lambda: lb.training.FullBatch(linear(), "gradient_descent", c=1.0), "c must be a number"),
        (lambda: lb.training.FullBatch(linear(), "gradient_descent", step=1.0), "has no 'step'"),
        (lambda: lb.training.FullBatch(scheduled, "gradient_descent").fit(RAGGED), "from a schedule"),
        (lambda: lb.training.FullBatch(linear()).fit(RAGGED, iterations=0), "iterations must be a whole"),
        (lambda: lb.training.FullBatch(linear()).fit(RAGGED, passes=0), "passes must be a whole"),
        (lambda: lb.training.FullBatch(linear()).fit((X, np.inf * Y), verbose=0), "The loss is inf"),
        (
            lambda: lb.training.FullBatch(linear()).fit(
                RAGGED, callbacks=[keras.callbacks.ReduceLROnPlateau()]
            ),
            "ReduceLROnPlateau acts on",
        ),
        (
            lambda: lb.training.FullBatch(linear()).fit(
                RAGGED, callbacks=[lb.callbacks.ChangeUpdates(lb.training.Backtracking())]
            ),
            "ChangeUpdates acts on",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            call()
    lb.training.FullBatch(own, loss="mse").fit(RAGGED, iterations=1, verbose=0)

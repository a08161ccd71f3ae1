"""Small classifiers to be attacked, and what NumPy says about them."""

import keras
import numpy as np

from tf_lbgap import attacks

N, D, C = 11, 5, 3
RANGE = (-2.0, 2.0)
ALL = {
    "fgsm": attacks.fgsm,
    "fgsm_10": attacks.fgsm_10,
    "l2grad": attacks.l2grad,
    "fhsm": attacks.fhsm,
    "l2hess": attacks.l2hess,
    "pgd": attacks.pgd,
    "random_sign": attacks.random_sign,
    "gaussian": attacks.gaussian,
}


def crossentropy(y, y_pred):
    """A function, because a loss object keeps the float type that was set when it was made."""
    return keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)


def examples(n=N, d=D, classes=C, dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.uniform(-2, 2, size=(n, d)).astype(dtype), rng.integers(0, classes, n)


def _with_weights(model, seed=1, scale=1.0):
    rng = np.random.default_rng(seed)
    model.set_weights([scale * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def linear(d=D, classes=C):
    """Logits x W + b."""
    return _with_weights(keras.Sequential([keras.Input((d,)), keras.layers.Dense(classes)]))


def relu_network(d=D, classes=C, widths=(8, 7), activation="relu", scale=0.5):
    layers = [keras.layers.Dense(w, activation) for w in widths]
    model = keras.Sequential([keras.Input((d,)), *layers, keras.layers.Dense(classes)])
    return _with_weights(model, scale=scale)


def noisy(compiled=True, dtype=None):
    """Batch normalization and Dropout, trained for a while on classes that can be told apart."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(16, dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.Activation("relu", dtype=dtype),
        keras.layers.Dropout(0.3, dtype=dtype),
        keras.layers.Dense(C, dtype=dtype),
    ]
    model = keras.Sequential([keras.Input((D,)), *layers])
    model.compile(keras.optimizers.Adam(0.02), crossentropy)
    return model


def told_apart(n=60):
    """Classes that a network can learn, a third each."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, size=(n, D))
    return x.astype(keras.config.floatx()), np.argmax(x[:, :C] + 0.5 * x[:, 2:], 1)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def linear_gradient(model, x, y):
    """(p - e_y) Wᵀ, the gradient of softmax cross-entropy by the input of a linear model."""
    W, b = model.get_weights()
    return (softmax(x @ W + b) - np.eye(len(b))[y]) @ W.T


def each_loss(model, loss, x, y):
    """The loss of each example, by Keras, one at a time."""
    return np.array(
        [float(np.mean(loss(y[i : i + 1], model(x[i : i + 1], training=False)))) for i in range(len(x))]
    )


def logits_and_jacobian(model, x):
    """Logits (C,) and their Jacobian (C, d) of a network of Dense layers and ReLUs at one input, by the chain rule."""
    weights = model.get_weights()
    jacobian = np.eye(len(x))
    for W, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        z = x @ W + b
        jacobian = (W * (z > 0)).T @ jacobian
        x = np.maximum(z, 0)
    return x @ weights[-2] + weights[-1], weights[-2].T @ jacobian


def dense(model, x, y):
    """Gradients (N, d) and Hessians (N, d, d) of softmax cross-entropy by the inputs: Jᵀ(diag(p) - ppᵀ)J."""
    gradients, hessians = [], []
    for row, label in zip(x, y, strict=True):
        z, J = logits_and_jacobian(model, row)
        p = softmax(z[None])[0]
        gradients.append(J.T @ (p - np.eye(len(p))[label]))
        hessians.append(J.T @ (np.diag(p) - np.outer(p, p)) @ J)
    return np.array(gradients), np.array(hessians)

"""Relative flatness of a layer: its curvature, weighed by the size of the weights, neuron by neuron.

    κ = Σ_{s,s'} ⟨w_s, w_s'⟩ Tr(H_{s,s'}),

with w_s the weights into neuron s and H_{s,s'} the block of the Hessian that belongs to the neurons s and s'. (The name
is the paper's: a large κ is sharp.) If the layer is multiplied and its inputs are divided, or the other way round, H
changes by what w changes by, squared and upside down, so κ does not.

In Keras a neuron, or a filter, is an entry of the last axis of a kernel, so the kernel is a matrix W [inputs,
neurons], whatever it is shaped like. With W Wᵀ's twin WᵀW = C Cᵀ, C of as many columns as W has rank at most,

    κ = Σ_i tr(Cᵀ H_i C),    H_i [s, s'] = H_{(i, s), (i, s')}: the trace of (I ⊗ C)ᵀ H (I ⊗ C),

a symmetric matrix that is known by its products, so `curvature.trace` finds it exactly or estimates it.

References:
    Petzka, Kamp, Adilova, Sminchisescu & Boley, "Relative flatness and generalization", 2021 (arXiv 2001.00939),
    definition 3.
"""

import keras
import numpy as np

from tf_lbgap.curvature import HessianOperator, Operator, trace
from tf_lbgap.sharpness.subject import subject

_LAYERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def relative_flatness(model, loss=None, batches=None, *, layer=None, num_products=None, seed=0, **options):
    """Petzka's relative flatness of one layer, of which a large value is sharp.

    Exactly, it takes inputs x min(inputs, neurons) products with the Hessian restricted to the kernel, 640 for a
    layer of 64 inputs and 10 outputs. Such a product goes no deeper into the network than that layer, so for the
    last one it costs far less than a gradient; earlier or wide layers are better estimated.

    Args:
        model: A built Keras model; or a `Subject`, alone. Of its `variables` nothing is used.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        layer: A Dense or convolutional layer of the model, or its name; None: the last of them, as in the paper.
        num_products: None for the exact value; or how many products to estimate it from by Hutch++, at least 6.
        seed: Of the estimate.
        **options: Of `Subject`.

    Returns:
        A float, in the unit of the loss.

    Raises:
        ValueError: If there is no such layer, or it has no trainable kernel, or the loss is not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0]])])
        >>> relative_flatness(model, "mse", (np.array([[1.0]]), np.array([[0.0]])))    # w² H = 9 · 2
        18.0
    """
    s = subject(model, loss, batches, options)
    kernel = _kernel(s.model, layer)
    made = {**s.options, "variables": kernel}
    hessian = s.made(("hessian", id(kernel)), lambda: HessianOperator(s.model, s.loss, s.batches, **made))
    weighed = _WeighedByNeurons(hessian, np.asarray(kernel.numpy(), "float64"))
    return trace(weighed, num_products=num_products or max(weighed.shape[0], 6), seed=seed).value


class _WeighedByNeurons(Operator):
    """(I ⊗ C)ᵀ H (I ⊗ C), H the Hessian of a kernel W [..., neurons], I of the size of its inputs, C Cᵀ = WᵀW."""

    def __init__(self, hessian, kernel):
        matrix = kernel.reshape(-1, kernel.shape[-1])
        _, sizes, directions = np.linalg.svd(matrix, full_matrices=False)
        self._root = directions.T * sizes  # [neurons, rank]
        self._hessian = hessian
        n = len(matrix) * len(sizes)
        super().__init__((n, n), hessian.dtype)

    def _multiply(self, rows):
        k, (neurons, rank) = len(rows), self._root.shape
        spread = rows.reshape(k, -1, rank) @ self._root.T
        products = self._hessian.matmat(spread.reshape(k, -1).T).T
        return (products.reshape(k, -1, neurons) @ self._root).reshape(k, -1).astype(self.dtype)


def _kernel(model, layer):
    trainable = list(getattr(model, "trainable_variables", ()))
    layers = [x for x in getattr(model, "_flatten_layers", list)() if isinstance(x, _LAYERS) and x.built]
    if layer is None:
        position = {id(v): i for i, v in enumerate(trainable)}
        layers = sorted((x for x in layers if id(x.kernel) in position), key=lambda x: position[id(x.kernel)])
    else:
        layers = [x for x in layers if x is layer or x.name == layer]
    if not layers:
        wanted = (
            "no Dense or convolutional layer"
            if layer is None
            else f"no Dense or convolutional layer {layer!r}"
        )
        raise ValueError(
            f"Model {getattr(model, 'name', model)!r} has {wanted} with a kernel to train, and the neurons of others are "
            "not known. Pass layer=, a Dense or Conv layer of the model or its name."
        )
    return layers[-1].kernel

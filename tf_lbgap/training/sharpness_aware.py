"""Sharpness-aware minimisation: the gradient is taken where the loss is highest nearby.

    SAM     w <- w - lr ∇L(w + e),   e = ρ g / ‖g‖,              g = ∇L(w)
    ASAM    the same with            e = ρ T² g / ‖T g‖,         T = diag(|w| + η)

One norm over all weights. The optimizer gets ∇L(w + e) and moves w, so any optimizer will do. Metrics, the logged
loss and the statistics of batch normalization are those of the first pass, at w; both passes draw the same dropout masks.

References:
    Foret, Kleiner, Mobahi & Neyshabur, "Sharpness-aware minimization for efficiently improving generalization", 2021
    (arXiv 2010.01412): equation 2, algorithm 1; section 4.1 for m-sharpness.
    Kwon, Kim, Park & Choi, "ASAM", 2021 (arXiv 2102.11600): equation 8, and the authors' code for what T is.
"""

import tensorflow as tf

from tf_lbgap.training import gradients, replicas
from tf_lbgap.training.accumulation import Accumulation
from tf_lbgap.training.checked import at_least, check_whole
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.update_change import UpdateChange, register

_NEEDS = "sharpness-aware minimisation", "train without SharpnessAware"


@register
class SharpnessAware(UpdateChange):
    """Take the gradient a step of length ρ up the loss (SAM; with `adaptive=True` ASAM; with `m` m-SAM).

    The ascent follows the gradient of the whole batch, over all micro-batches and replicas, so the update does not
    depend on how the batch is worked off. With `m` each group of m examples takes a step of its own (on each
    replica, in the order of the batch), and the gradients of the groups are averaged by their sizes: Foret et al.
    found it to generalise better the smaller m is. (Batch normalization then sees groups.)

    Costs twice the gradients. A gradient of 0 takes no step.

    Args:
        rho: ρ, in the unit of the weights; for ASAM relative to them. None: 0.05, and 0.5 for ASAM, what the authors
            used for CIFAR-10.
        adaptive: Whether lengths are relative to the weights (ASAM).
        eta: η of ASAM, in the unit of the weights: lets weights near 0 move too. The default of the authors' script is 0,
            that of their class 0.01.
        scale_biases: For ASAM: False, as in the authors' code: T is 1 for biases and for the shift β of normalization.
        m: Examples in a group, or None.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model.fit(x, y, callbacks=[lb.callbacks.ChangeUpdates(lb.training.SharpnessAware(rho=0.05))])
    ```
    """

    arguments = ("rho", "adaptive", "eta", "scale_biases", "m")

    def __init__(self, rho=None, *, adaptive=False, eta=0.0, scale_biases=False, m=None):
        rho = (0.5 if adaptive else 0.05) if rho is None else rho
        self.rho = at_least(0.0, "SharpnessAware", rho=rho)
        self.eta = at_least(0.0, "SharpnessAware", eta=eta)
        if not adaptive and (eta or scale_biases):
            raise ValueError("SharpnessAware: eta and scale_biases are of ASAM: pass adaptive=True too.")
        self.adaptive, self.scale_biases = bool(adaptive), bool(scale_biases)
        self.m = None if m is None else check_whole("SharpnessAware", m=m)

    @property
    def per_micro_batch(self):
        return self.m is not None

    def around(self, model, step):
        if self.m is None:
            return self._ascending(model, step, replicas.summed)
        group = self._ascending(model, step, lambda grads: grads)
        return Accumulation(model, lambda: self.m, static=_compiles(model), train_step=group).step

    def _ascending(self, model, step, summed):
        def ascending(data):
            seeds, optimizer = Seeds(model), model.optimizer
            with gradients.taken(optimizer) as calls:
                logs = step(data)
            grads, variables = gradients.once(calls, _NEEDS)
            seeds.rewind()
            offsets = self._offsets(grads, variables, summed)
            with Elsewhere(model, offsets, variables), gradients.taken(optimizer) as calls:
                step(data)
            optimizer.apply(*gradients.once(calls, _NEEDS))
            return logs

        return ascending

    def _offsets(self, grads, variables, summed):
        """e of each variable, None where there is no gradient. A loss scale cancels out."""
        there = [i for i, gradient in enumerate(grads) if gradient is not None]
        whole = summed([gradients.dense(grads[i], variables[i].value) for i in there])
        scales = [self._scale(variables[i]) for i in there]
        lengths = [tf.norm(tf.cast(t * g, tf.float64)) for t, g in zip(scales, whole, strict=True)]
        factor = tf.math.divide_no_nan(tf.constant(self.rho, tf.float64), tf.norm(tf.stack(lengths)))
        offsets = [None] * len(grads)
        for i, t, g in zip(there, scales, whole, strict=True):
            offsets[i] = tf.cast(factor, g.dtype) * t * t * g
        return offsets

    def _scale(self, variable):
        is_shift = variable.name == "beta" or "bias" in variable.name
        if not self.adaptive or (is_shift and not self.scale_biases):
            return tf.ones([], variable.dtype)
        return tf.abs(variable.value) + tf.constant(self.eta, variable.dtype)


def refuse_groups(change, inner, changes_loss=True):
    """Raise if a change of the loss of a batch would stand around a pass over groups of it."""
    if changes_loss and any(isinstance(other, SharpnessAware) and other.m is not None for other in inner):
        name = type(change).__name__
        raise ValueError(
            f"{name} adds to the loss of the examples it sees, and SharpnessAware(m=...) within it works them off in groups. "
            f"Name SharpnessAware first, so that {name} stands within."
        )


def _compiles(model):
    return bool(model.jit_compile) and not model.run_eagerly

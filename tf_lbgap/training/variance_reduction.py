"""Variance-reduced gradients (SVRG): the noise of a batch is taken out, as far as it was there at earlier weights, too.

    g = ∇f_B(w) - ∇f_B(s) + μ,   μ = ∇f(s) the gradient of all data at the snapshot s

g has the expectation ∇f(w), and its variance vanishes with the distance of w and s: near the snapshot each update is one
of full-batch gradient descent. The opposite experiment to noise that is added: does the noise of small batches matter?

References:
    Johnson & Zhang, "Accelerating stochastic gradient descent using predictive variance reduction", NeurIPS 2013: figure 1,
    option I (the snapshot is the last iterate of an epoch).
    Defazio & Bottou, "On the ineffectiveness of variance reduced optimization for deep learning", NeurIPS 2019 (arXiv
    1812.04529): why it gains little in deep networks, and how dropout, batch normalization and augmentation break it.
"""

import keras
import tensorflow as tf

from tf_lbgap.curvature import LossSurface
from tf_lbgap.data.keras_calls import keras_calls
from tf_lbgap.training import gradients, replicas
from tf_lbgap.training.checked import check_whole
from tf_lbgap.training.elsewhere import Elsewhere
from tf_lbgap.training.noisy_gradient import NoisyGradient
from tf_lbgap.training.update_change import UpdateChange, register

_NEEDS = "variance reduction", "train without VarianceReduced"


@register
class VarianceReduced(UpdateChange):
    """Take the noise of a batch out of its gradient by what it was at a snapshot of the weights (SVRG).

    The snapshot is taken, and μ measured over all of `batches`, before the first update of every `every`-th epoch; both are
    kept, two copies of the weights. Costs two gradients per update and a pass over the data per snapshot. The logged loss is
    that of the batch at w. A `Checkpoint` holds snapshot and μ, so a resumed fit goes on with them.

    f_B must be one function of w, whose mean over the batches is f, or μ is not what the batches' gradients at s average to.
    So models are refused that drop out or draw noise, that normalise by the statistics of a batch, or whose loss is no mean
    over examples. (Masked losses, means over what a mask leaves, fit as far as it leaves equally much of each batch.)

    Args:
        batches: All the data that `fit` trains on, as for `curvature.HessianOperator`: a tuple `(x, y)` or `(x, y, weight)`, a
            list of such batches, `data.Batches`.
        every: Epochs from snapshot to snapshot.

    Raises:
        ValueError: If `every` is out of range, `batches` have a `map`, or it is to stand around a change of the loss; at the
            start of `fit` if the model is one of those.

    Example:

    ```python
    batches = lb.data.Batches(x, y, batch_size=128, seed=0)
    model.fit(batches, epochs=20, callbacks=[lb.callbacks.ChangeUpdates(lb.training.VarianceReduced(batches))])
    ```
    """

    arguments = ("every",)

    def __init__(self, batches, *, every=1):
        mapped = getattr(getattr(getattr(batches, "_epochs", None), "_source", None), "mapped", None)
        if mapped is not None and mapped.function is not None:
            raise ValueError(
                "VarianceReduced needs the gradient of all data as fit sees them, and batches have a map, which measuring does "
                "not apply. Apply it to the data beforehand, or train without VarianceReduced."
            )
        self.batches, self.every = batches, check_whole("VarianceReduced", every=every)
        self._for = self._surface = self._taken_at = None

    @classmethod
    def from_config(cls, config):
        """Refuse: data have no configuration."""
        raise ValueError(
            "VarianceReduced holds data, which no configuration does. Make it anew: VarianceReduced(batches, every=...)."
        )

    def check_within(self, inner):
        for other in inner:
            if not isinstance(other, NoisyGradient):
                raise ValueError(
                    f"VarianceReduced measures the gradient of the model's own loss, and {type(other).__name__} within it hands "
                    f"on another. Name {type(other).__name__} first, if it may stand around, or leave one of the two out."
                )

    def check(self, model):
        _check_one_function(model)
        _check_loss(model)
        _check_weights()

    def begin_fit(self, model):
        weights = model.trainable_variables
        wanted = [model, model.optimizer, *weights]
        if self._for is None or len(wanted) != len(self._for) or any(map(_is_not, wanted, self._for)):
            self._for, self._surface = wanted, None
            self._snapshot, self._mean = (
                [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in weights] for _ in range(2)
            )
        self._taken_at = None

    def begin_epoch(self, model, epoch):
        if self._taken_at is not None and 0 <= epoch - self._taken_at < self.every:
            return
        if self._surface is None:
            options = {}
            if isinstance(model.loss, (list, tuple, dict)):
                options["loss_weights"] = (model.get_compile_config() or {}).get("loss_weights")
            self._surface = LossSurface(model, model.loss, self.batches, regularization=True, **options)
        surface = self._surface
        _, gradient = surface.value_and_gradient(surface.weights())
        for variable, weight in zip(self._snapshot, model.trainable_variables, strict=True):
            variable.assign(weight.numpy())
        for variable, part in zip(self._mean, surface.parameters.split(gradient), strict=True):
            variable.assign(tf.cast(part, variable.dtype))
        self._taken_at = epoch

    def get_state(self):
        """Return when the snapshot was taken, the snapshot, and μ."""
        if self._taken_at is None:
            return None
        return [self._taken_at, *([v.numpy() for v in part] for part in (self._snapshot, self._mean))]

    def set_state(self, state):
        """Go on from `get_state`."""
        if state is None:
            return
        self._taken_at, *parts = state
        for variables, values in zip((self._snapshot, self._mean), parts, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def around(self, model, step):
        def reduced(data):
            optimizer = model.optimizer
            with gradients.taken(optimizer) as calls:
                logs = step(data)
            grads, variables = gradients.once(calls, _NEEDS)
            # From where the pass is: within sharpness-aware minimisation that is not w.
            offsets = [s - v.value for s, v in zip(self._snapshot, model.trainable_variables, strict=True)]
            with Elsewhere(model, offsets, model.trainable_variables), gradients.taken(optimizer) as calls:
                step(data)
            earlier, _ = gradients.once(calls, _NEEDS)
            means = {id(v): m for v, m in zip(model.trainable_variables, self._mean, strict=True)}
            reduced = [
                None if g is None else self._reduced(optimizer, g, h, means[id(v)], v)
                for g, h, v in zip(grads, earlier, variables, strict=True)
            ]
            optimizer.apply(reduced, variables)
            return logs

        return reduced

    def _reduced(self, optimizer, gradient, earlier, mean, variable):
        """The gradient of one variable; on each of R replicas with 1/R of μ, for they are added up."""
        gradient, earlier = (gradients.dense(g, variable.value) for g in (gradient, earlier))
        return gradient - earlier + optimizer.scale_loss(mean / replicas.count())


def _is_not(one, other):
    return one is not other


def _check_one_function(model):
    for layer in model._flatten_layers():
        rates = (getattr(layer, name, 0) for name in ("rate", "dropout", "recurrent_dropout", "stddev"))
        # A recurrent layer has a generator without using it.
        draws = bool(getattr(layer, "_seed_generators", ())) and (
            not isinstance(layer, keras.layers.RNN) or any(r for r in rates if isinstance(r, float))
        )
        normalizes = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        if draws or normalizes:
            does = "draws random numbers" if draws else "normalises by the statistics of the batch"
            raise ValueError(
                f"VarianceReduced needs the loss of a batch to be one function of the weights, and layer {layer.name!r} {does} "
                "(Defazio & Bottou 2019, section 3). Train a model without it, or without VarianceReduced."
            )


def _check_weights():
    arguments = next((arguments for method, arguments in keras_calls() if method == "fit"), {})
    for name in ("sample_weight", "class_weight"):
        if arguments.get(name) is not None:
            raise ValueError(
                f"VarianceReduced measures the gradient over its own batches, which know nothing of {name} of fit. Put weights "
                "into the batches, (x, y, sample_weight), and give these to fit, too."
            )


def _check_loss(model):
    for name in ("train_step", "compute_loss"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise ValueError(
                f"VarianceReduced measures the gradient of the compiled loss, and model {model.name!r} has a {name} of its own, "
                "which may train on another. Give compile the loss, or train without VarianceReduced."
            )
    for loss in tf.nest.flatten(model.loss):
        reduction = getattr(loss, "reduction", None)
        if reduction in ("sum", "mean_with_sample_weight"):
            raise ValueError(
                f"VarianceReduced needs a loss that is a mean over examples, and {loss.name!r} has reduction={reduction!r}. "
                "Compile it with reduction='sum_over_batch_size'."
            )

"""How a model runs while it is measured, set for as long as its function is traced.

Layers of a mixed-precision policy run in float32: a float16 Hessian has two digits. Batch normalization uses
its stored statistics, exact ones, or those of the batch, all without Dropout.
"""

import contextlib

import keras

from tf_lbgap import batch_normalization

MODES = ("inference", "recalibrated", "batch")
"""Of batch normalization: moving statistics; exact ones of the data measured on; those of each batch."""


def checked_mode(mode):
    """Return the mode, or raise if there is none of that name."""
    if mode not in MODES:
        raise ValueError(
            f"batch_normalization is {mode!r}, but should be 'inference' (the model's moving statistics), 'recalibrated' "
            "(exact ones over the batches), or 'batch' (each batch its own)."
        )
    return mode


def lowered_precision(model):
    """The name of a policy in which layers compute in less than float32, or None."""
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16"):
            return layer.dtype_policy.name
    return None


@contextlib.contextmanager
def measured(model, mode="inference"):
    """Trace inside this context: layers compute in float32 at least, batch normalization as `mode` says."""
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():
            if layer.compute_dtype in ("float16", "bfloat16"):
                stack.enter_context(_policy(layer, keras.DTypePolicy("float32")))
            if mode == "batch" and isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                stack.enter_context(_batch_statistics(layer))
        yield


class ExactStatistics:
    """The statistics of batch normalization that belong to the present weights, kept until these change.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model):
        self._model = model
        self.variables = [
            v
            for layer in batch_normalization.recalibrated_layers(model)
            for v in (layer.moving_mean, layer.moving_variance)
        ]
        self._key = self._values = None

    def __call__(self, batches):
        """Return a list of arrays, one per entry of `variables`."""
        if not self.variables:
            return []
        own = {id(v) for v in self.variables}
        key = [v.numpy() for v in self._model.variables if id(v) not in own]
        if self._key is None or batches is not self._batches or not _same(key, self._key):
            with measured(self._model), batch_normalization.recalibrated(self._model, batches):
                self._values = [v.numpy() for v in self.variables]
            self._key, self._batches = key, batches
        return self._values


def _same(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


@contextlib.contextmanager
def _policy(layer, policy):
    before = layer.dtype_policy
    layer.dtype_policy = policy
    try:
        yield
    finally:
        layer.dtype_policy = before


@contextlib.contextmanager
def _batch_statistics(layer):
    call, before = layer.call, vars(layer).get("call")
    # not setattr, by which Keras tracks what a layer owns
    vars(layer)["call"] = lambda inputs, training=None, mask=None: call(inputs, training=True, mask=mask)
    try:
        yield
    finally:
        if before is None:
            del vars(layer)["call"]
        else:
            vars(layer)["call"] = before

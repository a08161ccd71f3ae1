"""The variables of a compiled model: weights, statistics, seeds, optimizer, metrics."""

import numpy as np

from tf_lbgap import strategy


def read(model):
    """Return their values, lists of arrays by kind.

    Under a strategy of several workers each of them has to call this at the same time.
    """
    return {kind: [_value(v) for v in variables] for kind, variables in _kinds(model).items()}


def write(model, values, kinds=("weights", "optimizer")):
    """Give the variables of some kinds the values that `read` returned.

    Raises:
        ValueError: If they belong to another model or optimizer.
    """
    own = _kinds(model)
    for kind in kinds:
        _check(kind, own[kind], values[kind])
    for kind in kinds:
        for variable, value in zip(own[kind], values[kind], strict=True):
            variable.assign(value)


def restore_metrics(model, values, element_spec):
    """Give the metrics their values, so that those of the running epoch are of the whole of it.

    Args:
        model: A compiled and built model.
        values: What `read` returned.
        element_spec: Of the batches: Keras makes the variables of metrics at the first of them, which is yet to come.

    Returns:
        Whether it could be done.
    """
    if len(_kinds(model)["metrics"]) != len(values["metrics"]):
        try:
            with strategy.of(model).scope():
                model._symbolic_build(data_batch=element_spec)
        except (ValueError, RuntimeError, AttributeError):  # ragged batches
            return False
    if [tuple(v.shape) for v in _kinds(model)["metrics"]] != [np.shape(value) for value in values["metrics"]]:
        return False
    write(model, values, ["metrics"])
    return True


def _kinds(model):
    if not model.optimizer.built:
        with strategy.of(model).scope():
            model.optimizer.build(model.trainable_variables)
    return {
        "weights": _once(model.variables),
        "optimizer": _once(model.optimizer.variables),
        "metrics": _once(model.metrics_variables),
    }


def _once(variables):
    return list({id(variable): variable for variable in variables}.values())


def _value(variable):
    return np.asarray(variable.numpy())


def _check(kind, variables, values):
    ours = [(tuple(v.shape), v.dtype) for v in variables]
    theirs = [(np.shape(value), np.asarray(value).dtype.name) for value in values]
    if ours == theirs:
        return
    what = "weights" if kind == "weights" else "variables of the optimizer"
    if len(ours) != len(theirs):
        difference = f"it has {len(theirs)} {what}, the model {len(ours)}"
    else:
        i = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        difference = f"{variables[i].path!r} is {ours[i]}, and {theirs[i]} there"
    raise ValueError(f"the checkpoint is of another model: {difference}")

"""Optimizers inside wrappers such as `LossScaleOptimizer`."""


def innermost(optimizer):
    """Return the optimizer inside wrappers, itself if there is none."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer

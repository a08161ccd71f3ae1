"""An experiment's clock also times the train functions that are made after the first, as for accumulated updates."""

import keras
import numpy as np
import pytest
from both_ways import LABELS, X, fit, mlp

from tf_lbgap.experiment.clock import Clock, TimedSteps
from tf_lbgap.training import TrainFunctions


@pytest.mark.parametrize("accumulates", [False, True])
def test_train_functions_made_by_force_are_timed(accumulates):
    clock = Clock()
    model = mlp()
    TimedSteps.install(model, lambda: clock)
    if accumulates:
        functions = TrainFunctions(model)
        functions.use_accumulating(3)
    else:
        model.make_train_function(force=True)
    assert isinstance(model.train_function, TimedSteps)
    fit(model, X, LABELS, epochs=2)
    assert min(clock.seconds[part] for part in ("compile", "train", "input")) > 0
    if accumulates:
        functions.restore()
        assert isinstance(model.train_function, TimedSteps)


def test_a_timed_model_trains_as_another():
    models = [mlp(keras.optimizers.SGD(0.1)) for _ in range(2)]
    TimedSteps.install(models[1], Clock)
    for model in models:
        fit(model, X, LABELS, epochs=2)
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())

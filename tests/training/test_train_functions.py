"""Swapping train functions costs no trace, and what `fit` uses without need is Keras' own, the very object."""

import keras
import numpy as np
import pytest
from both_ways import LABELS, X, fit, mlp

from tf_lbgap.callbacks import learning_rate
from tf_lbgap.training import TrainFunctions


class Counting(keras.layers.Layer):
    """Counts how often Python runs it, which is once per trace."""

    def __init__(self):
        super().__init__()
        self.runs = 0

    def call(self, x):
        self.runs += 1
        return x


def counting(**options):
    counter = Counting()
    model = keras.Sequential([keras.Input((4,)), counter, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    counter.runs = 0
    return model, counter


def test_where_nothing_is_accumulated_the_function_is_the_same_object_and_traced_as_often():
    model, counter = counting()
    fit(model, X, LABELS, epochs=1)
    plain_runs = counter.runs

    model, counter = counting()
    model.make_train_function()
    before = model.train_function
    functions = TrainFunctions(model)
    functions.use_plain()
    fit(model, X, LABELS, epochs=1)
    functions.restore()
    assert model.train_function is before
    assert counter.runs == plain_runs
    assert "make_train_function" not in vars(model) and "train_step" not in vars(model)


def test_swaps_back_and_forth_and_other_sizes_trace_nothing():
    model, counter = counting()
    functions = TrainFunctions(model)
    plain = model.train_function

    def round_of_three(size):
        functions.use_accumulating(size)
        fit(model, X, LABELS, epochs=1)
        functions.use_probing(size)
        fit(model, X, LABELS, epochs=1)
        functions.use_plain()
        assert model.train_function is plain
        fit(model, X, LABELS, epochs=1)

    round_of_three(3)
    runs = counter.runs
    for size in (3, 5, 8, 100):
        round_of_three(size)
    assert counter.runs == runs


def test_a_swap_between_two_updates_of_one_epoch_holds_at_once():
    """16, 16 and 5 examples: accumulated, plain, accumulated, so 6, 1 and 2 parts of at most 3 run in eager mode."""
    model, counter = counting(run_eagerly=True)
    functions = TrainFunctions(model)
    runs = []

    class Swap(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            functions.use_plain() if batch == 1 else functions.use_accumulating(3)
            counter.runs = 0

        def on_train_batch_end(self, batch, logs=None):
            runs.append(counter.runs)

    fit(model, X, LABELS, epochs=1, callbacks=[Swap()])
    assert runs == [6, 1, 2]


@pytest.mark.parametrize("in_place", ["plain", "accumulating"])
def test_a_train_function_made_anew_is_noticed(in_place):
    """A Keras schedule is replaced while training, so functions traced with the old one would use its rate for ever."""
    model = mlp(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 1, 1.0)))
    functions = TrainFunctions(model)
    functions.use_accumulating(3)
    fit(model, X, LABELS, epochs=1)
    stale, old = model.train_function, functions
    if in_place == "plain":
        functions.use_plain()
    learning_rate.scale_rate(model, 0.0)
    plain = model.train_function if in_place == "plain" else None
    old.use_accumulating(3)
    assert model.train_function is not stale
    before = [v.numpy() for v in model.weights]
    fit(model, X, LABELS, epochs=1)
    assert all((v.numpy() == w).all() for v, w in zip(model.weights, before, strict=True))  # the rate is 0
    functions.restore()
    if plain is not None:
        assert model.train_function is plain
    fit(model, X, LABELS, epochs=1)
    assert all((v.numpy() == w).all() for v, w in zip(model.weights, before, strict=True))


def test_a_new_train_function_while_accumulating_leaves_the_next_execution_accumulating():
    model, counter = counting(run_eagerly=True)
    functions = TrainFunctions(model)
    functions.use_accumulating(4)
    model.make_train_function(force=True)
    counter.runs = 0
    model.train_function(iter([(X[:16], LABELS[:16])]))
    assert counter.runs == 4
    functions.restore()
    assert "make_train_function" not in vars(model)


def test_compiled_anew_needs_train_functions_anew():
    model = mlp()
    functions = TrainFunctions(model)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="compiled anew"):
        functions.use_accumulating(3)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "many", None, np.nan])
def test_a_micro_batch_is_a_whole_number(size):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
        TrainFunctions(mlp()).use_accumulating(size)


def unbuilt():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    return model


def uncompiled():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


@pytest.mark.parametrize(
    "make, message",
    [
        (unbuilt, "has no weights yet"),
        (uncompiled, r"Call model.compile\(optimizer, loss\)"),
        (lambda: mlp(keras.optimizers.SGD(gradient_accumulation_steps=4)), "gradient_accumulation_steps=4"),
        (
            lambda: mlp(
                keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=2))
            ),
            "gradient_accumulation_steps=2",
        ),
    ],
)
def test_models_whose_updates_cannot_be_accumulated(make, message):
    with pytest.raises(ValueError, match=message):
        TrainFunctions(make())

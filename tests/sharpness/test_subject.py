"""Measuring changes nothing, and a Subject traces once."""

import keras
import numpy as np
import pytest
from cases import cut
from valleys import RAGGED, relu_network

from tf_lbgap import sharpness
from tf_lbgap.sharpness import Subject, top_eigenvalue

layers = keras.layers
MEASURES = {
    "top_eigenvalue": {},
    "hessian_trace": {"num_products": 6},
    "epsilon_sharpness": {"epsilon": [1e-3, 1e-2], "iterations": 2},
    "ascent_sharpness": {},
    "m_sharpness": {"m": 2},
    "adaptive_sharpness": {},
    "average_sharpness": {"num_samples": 2},
    "sampled_average_sharpness": {"num_samples": 2},
    "relative_flatness": {"num_products": 6},
    "squared_fisher_rao_norm": {},
}


CALLS = []


@keras.saving.register_keras_serializable()
class Counted(keras.losses.SparseCategoricalCrossentropy):
    """Notes each time that Python calls it, which is when something is traced."""

    def call(self, y_true, y_pred):
        CALLS.append(1)
        return super().call(y_true, y_pred)


def test_every_measure_is_listed_here():
    others = {"AverageSharpness", "Subject", "rescale_relu"}
    of_evidence = {name for name in sharpness.__all__ if "vidence" in name}
    assert set(sharpness.__all__) == set(MEASURES) | others | of_evidence


def test_nothing_in_the_model_changes():
    """With statistics recalibrated, which takes most steps that could: weights, statistics, seeds and optimizer slots, to the bit; after a step, so that none of them is 0."""
    stack = layers.Dense(5, "relu"), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3)
    model = keras.Sequential([keras.Input((4,)), *stack])
    _, loss, (x, y) = relu_network()
    x = x.astype("float32")
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=3, verbose=0)
    subject = Subject(model, loss, cut((x, y), RAGGED), batch_normalization="recalibrated")
    state = {v.path + str(i): v.numpy() for i, v in enumerate(model.variables + model.optimizer.variables)}

    for name, options in MEASURES.items():
        getattr(sharpness, name)(subject, **options)
        for i, variable in enumerate(model.variables + model.optimizer.variables):
            np.testing.assert_array_equal(variable.numpy(), state[variable.path + str(i)], err_msg=name)


@pytest.mark.parametrize("name", MEASURES)
def test_a_subject_is_traced_once_and_sees_new_weights_and_data(name):
    """Ragged batches, batches of other sizes, and other weights: the loss is called by Python for the first only."""
    CALLS.clear()
    model, crossentropy, (x, y) = relu_network()
    x = x.astype("float32")

    measure, options = getattr(sharpness, name), MEASURES[name]
    subject = Subject(model, Counted(from_logits=True), cut((x, y), RAGGED))
    measure(subject, **options)
    traced = len(CALLS)
    assert traced > 0
    first = measure(subject, **options)

    model.set_weights([0.9 * w for w in model.get_weights()])
    second = measure(subject, **options)
    subject.batches = cut((x[:5] + 1, y[:5]), (2, 3))
    third = measure(subject, **options)

    assert len(CALLS) == traced
    assert len({str(first), str(second), str(third)}) == 3
    fresh = measure(model, crossentropy, (x[:5] + 1, y[:5]), **options)
    if name != "sampled_average_sharpness":
        assert third == pytest.approx(fresh, rel=2e-3)


def test_an_iterator_is_read_once_for_all_measures():
    model, loss, data = relu_network()
    subject = Subject(model, loss, iter(cut(data, RAGGED)))
    for name, options in MEASURES.items():
        getattr(sharpness, name)(subject, **options)


def test_options_reach_the_measure():
    """The top eigenvalue of a block is at most that of the whole, and a penalty adds to it."""
    model, loss, data = relu_network()
    whole = top_eigenvalue(model, loss, data)
    assert 0 < top_eigenvalue(model, loss, data, variables="last") < whole
    with pytest.raises(TypeError, match="epsilons"):
        sharpness.epsilon_sharpness(model, loss, data, epsilons=1e-3)


def test_what_is_missing_or_said_twice_is_refused():
    model, loss, data = relu_network()
    with pytest.raises(ValueError, match="loss on data"):
        top_eigenvalue(model, loss)
    with pytest.raises(ValueError, match="Pass it alone"):
        top_eigenvalue(Subject(model, loss, data), batches=data)

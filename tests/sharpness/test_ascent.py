"""The rise after the step of SAM and ASAM against formulas, and m-sharpness against a loop over groups."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import cut
from references import floatx
from valleys import RAGGED, Prediction, bowl, dinh, flat, loss_and_gradient, loss_at, relu_network, slope

from tf_lbgap.sharpness import Subject, adaptive_sharpness, ascent_sharpness, m_sharpness
from tf_lbgap.sharpness.groups import Groups


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


WEIGHTS = np.array([2.0, -1.0, 0.5, 0.1, 3.0])


def test_a_linear_loss_rises_by_the_norm_of_its_gradient():
    """SAM: ρ ‖g‖, one norm over all weights. ASAM: ρ ‖T g‖."""
    model, loss, data, g = slope(WEIGHTS)
    batches = cut(data, RAGGED)
    assert ascent_sharpness(model, loss, batches) == pytest.approx(0.05 * np.linalg.norm(g), rel=1e-10)
    for eta in (0.0, 0.3):
        T = np.abs(WEIGHTS) + eta
        found = adaptive_sharpness(model, loss, batches, eta=eta)
        assert found == pytest.approx(0.5 * np.linalg.norm(T * g), rel=1e-10)


def test_a_bowl_rises_by_slope_and_curvature_along_the_step():
    """L(w + e) - L(w) = gᵀe + eᵀHe/2."""
    diagonal = np.array([1.0, 5.0, 0.1, 3.0, 0.5])
    model, loss, data = bowl(WEIGHTS, diagonal)
    g, T = diagonal * WEIGHTS, np.abs(WEIGHTS)
    for measure, e in (
        (ascent_sharpness, 0.2 * g / np.linalg.norm(g)),
        (adaptive_sharpness, 0.2 * T**2 * g / np.linalg.norm(T * g)),
    ):
        found = measure(model, loss, cut(data, (2, 2, 1)), rho=0.2)
        assert found == pytest.approx(g @ e + diagonal / 2 @ e**2, rel=1e-10)


def test_the_norm_goes_over_all_layers_and_asam_leaves_biases_at_one():
    """A bias of 0.7 times a random number counts as 1 in T, unless told otherwise; kernels as |w| + η."""
    model, loss, data = relu_network()
    value, g = loss_and_gradient(model, loss, *data)
    w = flat(model.trainable_variables)
    bias = flat([np.full(v.shape, v.name == "bias") for v in model.trainable_variables])
    for options, T in (
        ({}, np.where(bias, 1, np.abs(w))),
        ({"eta": 0.1}, np.where(bias, 1, np.abs(w) + 0.1)),
        ({"eta": 0.1, "scale_biases": True}, np.abs(w) + 0.1),
    ):
        e = 0.5 * T**2 * g / np.linalg.norm(T * g)
        found = adaptive_sharpness(model, loss, cut(data, RAGGED), **options)
        assert found == pytest.approx(loss_at(model, loss, *data, w + e) - value, rel=1e-9)
    step = 0.05 * g / np.linalg.norm(g)
    found = ascent_sharpness(model, loss, cut(data, RAGGED))
    assert found == pytest.approx(loss_at(model, loss, *data, w + step) - value, rel=1e-9)


def test_the_scale_of_normalization_counts_as_a_weight_and_its_shift_as_a_bias():
    """As in the authors' code, which goes by the name 'weight'. L = mean(γ x̂ + β) has ∂L/∂β = 1, whose T is 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
    gamma, beta = model.trainable_variables
    gamma.assign([0.0]), beta.assign([3.0])
    found = adaptive_sharpness(model, lambda y, p: p[:, 0], (np.ones((2, 1)), np.ones((2, 1))), rho=0.5)
    assert found == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("measure", [ascent_sharpness, adaptive_sharpness, m_sharpness])
def test_at_a_gradient_of_zero_there_is_no_step(measure):
    model, loss, data = bowl(np.zeros(5), np.ones(5))
    assert measure(model, loss, data) == 0.0
    for a in (1.0, 8.0):
        assert measure(*dinh(a)) == 0.0


@pytest.mark.parametrize("m", [1, 2, 3, 7, 20])
def test_m_sharpness_is_the_mean_over_groups_of_m_in_order_however_the_data_come(m):
    """Groups of 2, 2, 2, 1: each example counts the same, so the last group counts half of the others."""
    model, loss, data = relu_network()
    w, rises = flat(model.trainable_variables), []
    for start in range(0, 7, m):
        group = [part[start : start + m] for part in data]
        value, g = loss_and_gradient(model, loss, *group)
        there = loss_at(model, loss, *group, w + 0.3 * g / np.linalg.norm(g))
        rises += [there - value] * len(group[0])

    subject = Subject(model, loss, data)
    for sizes in (RAGGED, (7,), (1,) * 7, (2, 5)):
        subject.batches = cut(data, sizes)
        assert m_sharpness(subject, m=m, rho=0.3) == pytest.approx(np.mean(rises), rel=1e-9)


def test_m_sharpness_grows_as_groups_get_smaller_and_is_sams_in_one_group():
    model, loss, data = relu_network()
    whole, *smaller = (m_sharpness(model, loss, data, m=m) for m in (7, 3, 1))
    assert whole == pytest.approx(ascent_sharpness(model, loss, data), rel=1e-12)
    assert whole < smaller[0] < smaller[1]


def test_a_group_counts_by_what_its_loss_is_averaged_over():
    """Weights of "mean_with_sample_weight" count, and a group of weight 0 does not: L = Σ weight x / Σ weight w."""
    model, _, (x, y), _ = slope([1.0])
    weight = np.array([1.0, 2.0, 0.0, 0.0, 3.0, 1.0, 5.0])

    found = m_sharpness(
        model, Prediction(reduction="mean_with_sample_weight"), cut((x, y, weight), RAGGED), m=2, rho=1.0
    )

    steps = [np.abs(weight[i : i + 2] @ x[i : i + 2, 0]) for i in range(0, 7, 2)]
    assert found == pytest.approx(np.sum(steps) / weight.sum(), rel=1e-10)


def test_groups_keep_order_and_structure():
    x = {"a": tf.range(7), "b": tf.reshape(tf.range(14), [7, 2])}
    groups = list(Groups(cut((x, tf.range(7)), (1, 4, 2)), 3))
    assert [len(y) for _, y in groups] == [3, 3, 1]
    assert np.concatenate([g[0]["b"] for g in groups])[:, 0].tolist() == list(range(0, 14, 2))


def test_groups_of_examples_of_several_shapes_are_refused():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(2), keras.layers.Dense(1)])
    batches = [(np.ones((2, 3, 2)), np.ones((2, 1))), (np.ones((2, 4, 2)), np.ones((2, 1)))]
    with pytest.raises(ValueError, match="multiples of m"):
        m_sharpness(model, "mse", batches, m=3)
    assert m_sharpness(model, "mse", batches, m=2) > 0


def test_with_statistics_of_the_batch_a_group_is_normalised_by_its_own():
    """p = (x - mean) / std sums to 0 in each group, so with L = (w-scaled) mean(p) nothing rises; else it does."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(epsilon=0.0, center=False)])
    x = np.array([[1.0], [2.0], [4.0], [9.0]])
    found = {
        mode: m_sharpness(model, lambda y, p: p[:, 0], (x, x), m=2, rho=1.0, batch_normalization=mode)
        for mode in ("batch", "recalibrated")
    }
    assert found["batch"] == pytest.approx(0, abs=1e-12)
    normalised = (x - x.mean()) / x.std()
    assert found["recalibrated"] == pytest.approx(np.abs(normalised.reshape(2, 2).mean(1)).mean(), rel=1e-10)


@pytest.mark.parametrize("measure", [ascent_sharpness, adaptive_sharpness, m_sharpness])
def test_several_rhos_give_what_each_gives_alone(measure):
    case = relu_network()
    rhos = (0.5, 0.01)
    assert measure(*case, rho=rhos) == pytest.approx([measure(*case, rho=r) for r in rhos], rel=1e-12)


@pytest.mark.parametrize("measure", [ascent_sharpness, adaptive_sharpness, m_sharpness])
def test_a_loss_that_is_not_finite_is_refused_at_the_weights_and_warned_of_after_the_step(measure):
    model, _, data, _ = slope([0.5])
    data = (np.ones((3, 1)), data[1][:3])
    with pytest.warns(UserWarning, match="smaller rho"):
        assert measure(model, lambda y, p: -tf.math.log(1 - p[:, 0]), data, rho=2.0) != 0
    with pytest.raises(ValueError, match="training diverged"):
        measure(model, lambda y, p: tf.math.log(p[:, 0] - 1), data)


def test_bad_arguments_are_refused():
    case = relu_network()
    for measure, arguments, message in (
        (ascent_sharpness, {"rho": -1}, "rho is -1"),
        (adaptive_sharpness, {"eta": -1}, "eta is -1"),
        (m_sharpness, {"m": 0}, "m is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(*case, **arguments)


def test_groups_in_which_nothing_counts_are_refused():
    model, _, (x, y), _ = slope([1.0])
    loss = Prediction(reduction="mean_with_sample_weight")
    with pytest.raises(ValueError, match="averaged over nothing"):
        m_sharpness(model, loss, (x, y, np.zeros(7)), m=2)

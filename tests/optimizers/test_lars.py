"""LARS against its formula by hand, in NumPy and float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from steps import GRADIENTS, STARTS, after_each, assert_steps

import tf_lbgap as lb
from tf_lbgap.optimizers import Lars

RATES = [0.5, 0.25, 0.125]  # Keras' schedules compute in float32, which has these exactly


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def by_hand(momentum, weight_decay, trust, rates=(0.5,) * 3):
    """Algorithm 1 of You et al. 2017, with 1 for the local rate at a norm of 0."""

    def steps(w, gradients, excluded):
        v, found = np.zeros_like(w), []
        for g, rate in zip(gradients, rates, strict=True):
            decay, local = (0.0 if excluded else weight_decay), 1.0
            lengths = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
            if min(lengths) > 0 and not excluded:
                local = trust * lengths[0] / (lengths[1] + decay * lengths[0])
            v = momentum * v + rate * local * (g + decay * w)
            w = w - v
            found.append(w)
        return found

    return steps


@pytest.mark.parametrize("weight_decay", [0.0, 0.3], ids=lambda d: f"weight_decay={d}")
@pytest.mark.parametrize("momentum", [0.0, 0.9], ids=lambda m: f"momentum={m}")
def test_updates_are_those_of_the_paper_zero_norms_and_biases_included(momentum, weight_decay):
    """Keras' own decay, of the weights by rate times λ, would show: it would shrink the bias as well."""
    optimizer = Lars(0.5, momentum=momentum, weight_decay=weight_decay, trust_coefficient=0.02)
    assert_steps(optimizer, by_hand(momentum, weight_decay, 0.02))


def test_the_rate_of_a_schedule_is_inside_the_buffer():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], RATES)
    optimizer = Lars(schedule, weight_decay=0.1, trust_coefficient=0.02)
    assert_steps(optimizer, by_hand(0.9, 0.1, 0.02, RATES))


@pytest.mark.parametrize(
    ("options", "excluded"),
    [
        ({"exclude": ["embed"]}, ("bias", "embedding")),
        ({"exclude": ["^zeros$", "bias"], "exclude_vectors": False}, ("zeros", "bias")),
        ({"exclude_vectors": False}, ()),
    ],
    ids=["by name", "by expression", "nothing"],
)
def test_what_is_left_out_takes_plain_steps_without_decay(options, excluded):
    optimizer = Lars(0.5, weight_decay=0.3, trust_coefficient=0.02, **options)
    assert_steps(optimizer, by_hand(0.9, 0.3, 0.02), excluded)


def test_keras_way_of_leaving_out_of_decay_leaves_the_length():
    """`exclude_from_weight_decay` sets λ = 0 for the variable, in the step and in its length."""
    optimizer = Lars(0.5, weight_decay=0.3, trust_coefficient=0.02)
    optimizer.exclude_from_weight_decay(var_names=["embedding"])
    names = ("embedding",)
    starts = {name: STARTS[name] for name in names}
    gradients = [{name: gradient[name] for name in names} for gradient in GRADIENTS]
    assert_steps(optimizer, by_hand(0.9, 0.0, 0.02), starts=starts, gradients=gradients)


def test_float32_agrees_to_a_millionth():
    keras.config.set_floatx("float32")
    optimizer = Lars(0.5, weight_decay=0.3, trust_coefficient=0.02)
    assert_steps(optimizer, by_hand(0.9, 0.3, 0.02), rtol=1e-6)


def test_a_layer_ten_times_as_large_takes_steps_ten_times_as_long_whatever_its_gradient():
    start, gradient = STARTS["kernel"], GRADIENTS[0]["kernel"]
    lengths = []
    for scale, slope in ((1.0, 1.0), (10.0, 1.0), (10.0, 0.001)):
        found = after_each(
            Lars(1.0, trust_coefficient=0.01), {"kernel": scale * start}, [{"kernel": slope * gradient}]
        )
        lengths.append(np.linalg.norm(found[0]["kernel"] - scale * start))
    np.testing.assert_allclose(lengths, np.array([1, 10, 10]) * 0.01 * np.linalg.norm(start), rtol=1e-10)


def test_float16_weights_do_not_overflow_the_norm():
    """A square of 300 is above the largest float16, 65504; ‖w‖ = 600, ‖g‖ = 2, so local is 0.3."""
    w = keras.Variable(np.full((2, 2), 300.0), dtype="float16")
    Lars(1.0, momentum=0.0).apply([tf.ones((2, 2), "float16")], [w])
    np.testing.assert_allclose(w.numpy(), 300 - 0.3, rtol=1e-3)


def test_sparse_gradients_count_twice_where_a_row_comes_twice():
    values = GRADIENTS[0]["embedding"]
    rows = tf.IndexedSlices(tf.constant(values[:3]), tf.constant([2, 0, 2]), dense_shape=[4, 1])
    whole = np.zeros((4, 1))
    np.add.at(whole, [2, 0, 2], values[:3])
    w = keras.Variable(STARTS["embedding"])
    Lars(0.5, weight_decay=0.3, trust_coefficient=0.02).apply([rows], [w])
    expected = by_hand(0.9, 0.3, 0.02, [0.5])(STARTS["embedding"], [whole], False)[0]
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-12)


def test_momentum_is_corrected_after_a_jump_of_the_rate():
    """Goyal's correction, v = m (new / old) v + new (...), is the buffer with the rate outside of it."""
    data = np.random.default_rng(0).normal(size=(8, 3)), np.ones((8, 2))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([STARTS["kernel"]])
    model.compile(Lars(0.5, momentum=0.9, trust_coefficient=0.02), "mse")
    batches = lb.data.Batches(*data, batch_size=8)
    schedule = lb.schedules.staircase(0.5, factor=0.125, milestones=[1])
    steering = lb.callbacks.LearningRateScheduler(batches, schedule, momentum_correction=True)
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[steering])

    w, v = STARTS["kernel"], 0.0
    for rate, ratio in ((0.5, 1.0), (0.0625, 0.125)):
        g = 2 * data[0].T @ (data[0] @ w - data[1]) / 16
        v = 0.9 * ratio * v + rate * 0.02 * np.linalg.norm(w) / np.linalg.norm(g) * g
        w = w - v
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum of Lars must be a number from 0 to below 1, but got 1.0"),
        ({"momentum": "0.9"}, "momentum of Lars must be a number"),
        ({"learning_rate": -0.1}, "learning_rate of Lars must be a number from 0 up"),
        ({"weight_decay": float("nan")}, "weight_decay of Lars must be a number from 0 up, but got nan"),
        ({"weight_decay": None}, "weight_decay of Lars must be a number from 0 up, but got None"),
        ({"trust_coefficient": 0}, "trust_coefficient of Lars is 0"),
        ({"exclude": "bias"}, "exclude of Lars must be a list of regular expressions"),
        ({"exclude": ["("]}, "which is no regular expression"),
        ({"exclude_vectors": "no"}, "exclude_vectors of Lars must be True or False"),
        ({"nesterov": True}, "nesterov"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Lars(**options)
    assert "\n" not in str(error.value)


def test_a_pattern_that_no_variable_has_is_refused_and_says_what_there_is():
    with pytest.raises(ValueError, match="'layernorm', which is in no variable's path"):
        after_each(Lars(0.1, exclude=["layernorm"]))


def test_a_whole_number_is_a_rate():
    assert float(Lars(10).learning_rate) == 10.0

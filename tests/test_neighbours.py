"""Training sets that differ in one example."""

import dataclasses

import numpy as np
import pytest

import tf_lbgap as lb
from tf_lbgap.experiment.making import load_split


def test_two_examples_change_places_and_nothing_else():
    split = lb.data.datasets.digits(num_train=50, seed=3)
    kept = dataclasses.replace(split, x_train=split.x_train.copy(), y_train=split.y_train.copy())
    found = lb.data.neighbours.one_example_replaced(split, index=7, by=2)
    for train, test in (("x_train", "x_test"), ("y_train", "y_test")):
        np.testing.assert_array_equal(getattr(found, train)[7], getattr(split, test)[2])
        np.testing.assert_array_equal(getattr(found, test)[2], getattr(split, train)[7])
        others = np.arange(50) != 7
        np.testing.assert_array_equal(getattr(found, train)[others], getattr(split, train)[others])
        assert len(getattr(found, test)) == len(getattr(split, test))
        assert getattr(found, train).dtype == getattr(split, train).dtype
    np.testing.assert_array_equal(split.x_train, kept.x_train)  # what came in is left as it was
    np.testing.assert_array_equal(split.y_train, kept.y_train)
    assert found.pool == split.pool and found.name == "digits, example 7 replaced"


def test_in_a_configuration_it_is_of_the_seed_of_the_data_within():
    inner = {"call": "data.datasets.digits", "num_train": 50}
    found = load_split({"call": "data.neighbours.one_example_replaced", "data": inner}, 5)
    of_seed = lb.data.datasets.digits(num_train=50, seed=5)
    assert len((found.x_train != of_seed.x_train).any(1).nonzero()[0]) == 1
    named = load_split(
        {"call": "data.neighbours.one_example_replaced", "data": inner, "index": 3, "by": 4}, 5
    )
    np.testing.assert_array_equal(named.x_train[3], of_seed.x_test[4])


def exchanged(num_train, **options):
    """Return the positions that changed places, in sets whose examples are their numbers, the same for every seed."""
    x = np.arange(num_train + 1000.0)[:, None]
    data = (x[:num_train], x[:num_train, 0].astype(int)), (x[num_train:], x[num_train:, 0].astype(int))
    found = lb.data.neighbours.one_example_replaced(data, **options)
    ((index,), (by,)) = (
        np.flatnonzero(part[:, 0] != was[:, 0])
        for part, was in ((found.x_train, x[:num_train]), (found.x_test, x[num_train:]))
    )
    assert found.x_train[index, 0] == num_train + by == found.y_train[index]
    return index, by


def test_each_seed_exchanges_another_image_of_the_same_test_set():
    pairs = [exchanged(500, seed=seed) for seed in range(5)]
    assert len({index for index, _ in pairs}) == len({by for _, by in pairs}) == 5
    assert pairs == [exchanged(500, seed=seed) for seed in range(5)]
    assert [exchanged(40, seed=seed)[1] for seed in range(5)] == [
        by for _, by in pairs
    ]  # whatever the training set
    assert exchanged(500, index=7, seed=1) == (7, pairs[1][1])
    assert exchanged(500, index=7, by=2, seed=1) == (7, 2)


def test_what_is_exchanged_is_not_drawn_by_the_numbers_that_drew_the_training_set():
    """`default_rng(seed)` permutes the data sets; beside it `default_rng([seed, 0])` is no other stream."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert exchanged(500, seed=seed)[::-1] != (rng.integers(1000), rng.integers(500))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"index": 50}, "index=50 must be a position from 0 to 49"),
        ({"by": -1}, "by=-1 must be"),
        ({"index": True}, "True"),
    ],
)
def test_positions_that_are_none_are_told(options, told):
    with pytest.raises(ValueError, match=told):
        lb.data.neighbours.one_example_replaced(lb.data.datasets.digits(num_train=50), **options)


def test_several_inputs_are_refused():
    x, y = np.zeros((3, 2)), np.zeros(3, int)
    split = lb.data.datasets.Split((x, x), y, (x, x), y, name="pairs")
    with pytest.raises(ValueError, match="several arrays"):
        lb.data.neighbours.one_example_replaced(split)

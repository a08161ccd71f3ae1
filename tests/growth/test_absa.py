"""ABSA's rule: eigenvalues in, epochs of growth out, against hand-made cases and a loop with a memory."""

import math

import numpy as np
import pytest

from tf_lbgap.growth import Absa


def growths(criterion, eigenvalues, size=64.0):
    """Return after which epochs, from 1, the batch grows, asking after each of them."""
    grown = []
    for epoch in range(1, len(eigenvalues) + 1):
        new = criterion(size, {"top_eigenvalues": eigenvalues[:epoch]}).batch_size
        assert new in (size, criterion.factor * size)
        if new > size:
            grown.append(epoch)
        size = new
    return grown


@pytest.mark.parametrize(
    ("criterion", "eigenvalues", "grown"),
    [
        (Absa(), (8, 4), [2]),
        (Absa(), (8, 4.001), []),
        (Absa(), (8, 4, 3, 2), [2, 4]),  # compared with 4, not with 8
        (Absa(), (8, 16, 5, 8, 4), [5]),  # a rise is no new reference
        (Absa(), (8, 1, 1, 1), [2]),  # one growth, however far it fell
        (Absa(factor=4), (8, 4, 2, 1, 0.5), [3, 5]),
        (Absa(), 25 * (1,), [10, 20]),
        (Absa(duration=3), 9 * (1,), [3, 6, 9]),
        (Absa(duration=3), (8, 8, 4, 4, 4, 4), [3, 6]),  # a fall begins the count anew
        (
            Absa(duration=3),
            (8, 8, 8, 6, 4),
            [3, 5],
        ),  # growth by duration leaves the reference: 4 is half of 8
        (Absa(duration=3), (8, 9, 20, 10, 11, 12), [3, 6]),  # and not half of 20
        (Absa(duration=1), (1, 2, 3), [1, 2, 3]),
        (Absa(duration=None), 30 * (1,), []),
    ],
)
def test_it_grows_after_these_epochs_and_no_others(criterion, eigenvalues, grown):
    assert growths(criterion, eigenvalues) == grown


@pytest.mark.parametrize("duration", [1, 4, 10, None])
@pytest.mark.parametrize("factor", [1.5, 2.0, 5.0])
def test_replayed_it_is_the_loop_with_a_memory(factor, duration):
    """Of each random walk every epoch's decision, against variables that live as long as the loop."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        walk = np.exp(np.cumsum(rng.normal(scale=0.5, size=40))).tolist()
        grown, kept, epochs = [], math.inf, 0
        for epoch, now in enumerate(walk, 1):
            epochs += 1
            if math.isinf(kept):
                kept = now
            elif now <= kept / factor:
                grown, kept, epochs = [*grown, epoch], now, 0
            if duration is not None and epochs == duration:
                grown, epochs = [*grown, epoch], 0
        assert growths(Absa(factor, duration), walk) == grown


def test_an_unknown_eigenvalue_is_an_epoch_that_goes_by():
    nan = math.nan
    assert growths(Absa(), (8, nan, 4)) == [3]
    assert growths(Absa(), (nan, 8, nan, nan, 4)) == [5]
    assert growths(Absa(duration=3), (8, nan, nan, 8, 8, 8, 8)) == [4, 7]  # due when it was unknown, so later
    decision = Absa()(64, {"top_eigenvalues": (8.0, nan)})
    assert (
        decision.reason == "top_eigenvalues is (8.0, nan), from which nothing follows: the batch size stays."
    )


def test_a_reference_that_is_not_above_0_gives_way():
    """Half of 0 is 0, and half of -2 is -1: a flat, or a concave, loss would fall epoch after epoch."""
    assert growths(Absa(duration=None), (0.0, 0.0, 0.0, 6.0, 3.0)) == [5]
    assert growths(Absa(duration=None), (-2.0, -2.0, -5.0, 6.0, 3.0)) == [5]
    assert growths(Absa(duration=None), (6.0, -1.0, -1.0, 4.0, 2.0)) == [2, 5]


def test_the_reason_has_the_numbers_that_decided():
    fallen = Absa()(64, {"top_eigenvalues": (8.0, 9.0, 4.0)})
    assert fallen.reason == "The top eigenvalue 4 is at most 1/2 of 8: times 2."
    assert fallen.numbers == {"reference": 8.0, "last": 4.0, "waited": 3}
    stays = Absa()(64, {"top_eigenvalues": (8.0, 9.0)})
    assert stays.reason == "The top eigenvalue 9 is above 1/2 of 8: the batch size stays."
    long = Absa(duration=2)(64, {"top_eigenvalues": (8.0, 9.0)})
    assert long.reason == "The batch did not grow for 2 epochs: times 2." and long.numbers["waited"] == 2
    first = Absa()(64, {"top_eigenvalues": (8.0,)})
    assert first.reason == "The top eigenvalue 8 has none to be compared with: the batch size stays."
    assert Absa()(64, {"top_eigenvalues": ()}).reason == "No epoch is over yet: the batch size stays."


@pytest.mark.parametrize(
    ("make_it", "told"),
    [
        (lambda: Absa(factor=1), r"Absa\(factor=1\): factor must be above 1"),
        (lambda: Absa(factor=math.nan), "factor must be a number above 0"),
        (lambda: Absa(duration=0), "duration must be a number above 0"),
        (lambda: Absa(duration=2.5), "duration must be a whole number of epochs, or None"),
        (lambda: Absa(duration=True), "duration=True"),
        (
            lambda: Absa()(64, {"loss": 1.0}),
            r"needs 'top_eigenvalues'.*loss.*AdaptiveBatchSize.*sample=\(x, y\)",
        ),
    ],
)
def test_wrong_use_is_told_in_one_line(make_it, told):
    with pytest.raises(ValueError, match=told) as error:
        make_it()
    assert "\n" not in str(error.value)


def test_steps_below_two_need_any_size_and_the_maximum_is_the_end():
    assert Absa(factor=1.5).in_small_steps and not Absa().in_small_steps
    assert Absa.ends_at_maximum and not Absa.multiplies

"""Statistics of two comparisons, against numbers by hand and against regression with an interaction."""

import math

import numpy as np
import pytest

from tf_lbgap import claims

ROWS = {
    name: {"x": x, "batch_size": size}
    for name, x, size in [("a", 6.0, 256), ("b", 2.0, 16), ("c", 8.0, 256), ("d", 2.0, 16)]
}


def test_a_ratio_of_ratios_is_what_one_comparison_is_to_another():
    """3 against 4."""
    statistic = claims.ratio_of_ratios("x", ["a", "b"], ["c", "d"])
    assert statistic.outward(statistic(ROWS)) == pytest.approx(3 / 4)
    assert statistic.arms == ("a", "b", "c", "d") and statistic.kind == "ratio"


def test_a_difference_of_differences_is_the_interaction_of_a_regression():
    """x = c₀ + c₁ large + c₂ method + c₃ large · method, solved for c₃."""
    large, method = np.array([1, 0, 1, 0]), np.array([1, 1, 0, 0])
    x = [ROWS[name]["x"] for name in "abcd"]
    expected = np.linalg.solve(np.stack([np.ones(4), large, method, large * method], 1), x)[3]
    assert claims.difference_of_differences("x", ["a", "b"], ["c", "d"])(ROWS) == pytest.approx(expected)


@pytest.mark.parametrize("make", [claims.ratio_of_ratios, claims.difference_of_differences])
def test_an_arm_that_failed_leaves_no_number(make):
    statistic = make("x", ["a", "b"], ["c", "d"])
    for rows in (
        {**ROWS, "d": {"x": math.nan}},
        {k: ROWS[k] for k in "abc"},
        {**ROWS, "a": {"x": 1.0, "why_not": "diverged"}},
    ):
        with pytest.raises(claims.Missing):
            statistic(rows)
    with pytest.raises(ValueError, match="must be two arms"):
        make("x", ["a"], ["c", "d"])

"""Claims: what may be said of arms, against formulas computed by hand and by SciPy."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from tf_lbgap.claims import LEVEL, QUANTITIES, compare, holm, summarize

ACCURACY = QUANTITIES[:1]
EIGENVALUE = [quantity for quantity in QUANTITIES if quantity.ratio]


def rows(arm, values, key="test_accuracy", **more):
    return [{"arm": arm, "seed": seed, key: value, **more} for seed, value in enumerate(values)]


def test_holm_multiplies_sorted_p_values_by_the_number_of_hypotheses_left_and_never_decreases():
    """Sorted 0.01 0.02 0.03 0.3 times 4 3 2 1 is 0.04 0.06 0.06 0.3; 0.06 then is also the least for the third."""
    assert holm([0.3, 0.02, 0.01, 0.03]).tolist() == pytest.approx([0.3, 0.06, 0.04, 0.06])


def test_holm_of_large_p_values_stops_at_one_and_of_none_is_empty():
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_p_value_and_interval_are_those_of_scipys_paired_t_test():
    a, b = np.random.default_rng(0).normal(size=(2, 6))

    (found,) = compare(rows("small", a) + rows("large", b), "small", ACCURACY)

    expected = scipy.stats.ttest_rel(b, a)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.difference == pytest.approx(np.mean(b - a), rel=1e-12)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert (found.arm, found.reference, found.num_seeds) == ("large", "small", 6)


def test_arms_are_paired_by_seed_and_not_by_position():
    a, b = rows("small", [1.0, 2.0, 4.0]), rows("large", [2.0, 3.5, 6.0])

    (found,) = compare(a + b[::-1], "small", ACCURACY)

    assert found.difference == pytest.approx((1.0 + 1.5 + 2.0) / 3)


def test_eigenvalues_are_compared_by_the_geometric_mean_of_their_ratios():
    """Ratios 2, 8 and 4 have the geometric mean 4, and the test is the paired one of the logarithms."""
    a, b = [1.0, 2.0, 3.0], [2.0, 16.0, 12.0]

    (found,) = compare(rows("a", a, "top_eigenvalue") + rows("b", b, "top_eigenvalue"), "a", EIGENVALUE)

    assert found.difference == pytest.approx(4.0)
    assert found.p_value == pytest.approx(scipy.stats.ttest_rel(np.log(b), np.log(a)).pvalue)
    low, high = found.interval
    assert math.sqrt(low * high) == pytest.approx(4.0)


def test_p_values_are_corrected_for_all_arms_and_quantities_together():
    rng = np.random.default_rng(1)
    keys = [quantity.key for quantity in QUANTITIES]
    made = [
        {"arm": arm, "seed": seed, **{key: rng.uniform(1, 2) + shift for key in keys}}
        for arm, shift in (("a", 0), ("b", 0.3), ("c", 1))
        for seed in range(4)
    ]

    together = compare(made, "a")

    alone = [
        compare(
            [r for r in made if r["arm"] in ("a", c.arm)], "a", [q for q in QUANTITIES if q.key == c.quantity]
        )
        for c in together
    ]
    assert len(together) == 6
    assert [c.p_value for c in together] == pytest.approx(holm([c.p_value for (c,) in alone]).tolist())


@pytest.mark.parametrize(
    "bad",
    [{"reached": False}, {"test_accuracy": None}, {"test_accuracy": math.nan}],
    ids=["not reached", "null", "nan"],
)
def test_rows_that_missed_the_target_or_have_no_number_are_left_out_with_their_pair(bad):
    a, b = rows("small", [1.0, 2.0, 100.0]), rows("large", [2.0, 3.5, 6.0])
    a[2] |= bad

    (found,) = compare(a + b, "small", ACCURACY)

    assert found.num_seeds == 2
    assert found.difference == pytest.approx(1.25)


def test_an_eigenvalue_that_did_not_converge_is_left_out():
    a, b = (rows(arm, [1.0, 1.0, 1.0], "top_eigenvalue", top_eigenvalue_converged=True) for arm in "ab")
    b[1] |= {"top_eigenvalue": 1000.0, "top_eigenvalue_converged": False}

    (found,) = compare(a + b, "a", EIGENVALUE)

    assert (found.num_seeds, found.difference) == (2, 1.0)


def test_an_eigenvalue_without_a_logarithm_is_left_out():
    a, b = rows("a", [1.0, 1.0, 1.0], "top_eigenvalue"), rows("b", [2.0, -1.0, 2.0], "top_eigenvalue")
    (found,) = compare(a + b, "a", EIGENVALUE)
    assert found.num_seeds == 2


@pytest.mark.parametrize("arms", ["ab", "a"])
def test_a_single_seed_or_a_single_arm_gives_no_comparison(arms):
    made = [row for arm in arms for row in rows(arm, [1.0] if len(arms) > 1 else [1.0, 2.0])]
    assert compare(made, "a") == []


def test_a_reference_that_has_no_rows_gives_no_comparison():
    assert compare(rows("b", [1.0, 2.0]), "a") == []


def test_identical_differences_are_judged_by_the_sign_test_and_not_by_an_infinite_t():
    """Two seeds that agree have the two-sided probability 2 / 2²; six have 2 / 2⁶ = 0.03."""
    for count, expected in ((2, 0.5), (6, 0.03125)):
        (found,) = compare(rows("a", [0.0] * count) + rows("b", [1.0] * count), "a", ACCURACY)
        assert found.p_value == expected
        assert found.significant == (expected < LEVEL)


def test_arms_with_equal_results_do_not_differ():
    (found,) = compare(rows("a", [1.0, 2.0]) + rows("b", [1.0, 2.0]), "a", ACCURACY)
    assert (found.p_value, found.difference, found.significant) == (1.0, 0.0, False)


def test_summary_is_the_mean_and_standard_error_of_the_finite_values():
    assert dataclasses.astuple(summarize([1.0, 3.0, None, math.nan])) == (2.0, 1.0, 2)  # sqrt(2) / sqrt(2)
    single, none = summarize([4.0]), summarize([None])
    assert (single.mean, single.num_seeds) == (4.0, 1)
    assert math.isnan(single.standard_error)
    assert math.isnan(none.mean)
    assert none.num_seeds == 0


def test_of_experiments_in_which_nothing_differs_about_one_in_twenty_shows_a_difference():
    """Holm keeps the share of experiments with any false claim at 5 % or a little below (arms share a reference).

    300 experiments give 15 +- 3.8; 3 to 28 are within four standard errors of it.
    """
    rng = np.random.default_rng(7)

    def experiment():
        level = rng.normal(size=5)  # what a seed does to all arms
        return [
            {
                "arm": arm,
                "seed": seed,
                "test_accuracy": level[seed] + rng.normal(),
                "test_loss": level[seed] + rng.normal(),
                "top_eigenvalue": math.exp(level[seed] + rng.normal()),
            }
            for arm in "abc"
            for seed in range(5)
        ]

    false = sum(any(c.significant for c in compare(experiment(), "a")) for _ in range(300))

    assert 3 <= false <= 28

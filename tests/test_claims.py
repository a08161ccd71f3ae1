"""Claims: what may be said of arms, against formulas computed by hand and by SciPy."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from tf_lbgap.claims import (
    COSTS,
    LEVEL,
    QUANTITIES,
    compare,
    equivalence,
    holm,
    non_inferiority,
    power,
    summarize,
)

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


# Against a margin.


@pytest.mark.parametrize("test", [non_inferiority, equivalence])
@pytest.mark.parametrize("shift", [-0.03, -0.012, -0.01, -0.008, 0.0, 0.008, 0.012, 0.03])
def test_verdicts_against_a_margin_are_those_of_scipys_one_sided_paired_tests(test, shift):
    """SciPy is given arms moved by the margin of 0.01; the one-sided bounds are those of its 90 % interval."""
    rng = np.random.default_rng(3)
    a = 0.9 + 0.02 * rng.normal(size=8)
    b = a + shift + 0.004 * rng.normal(size=8)

    (found,) = test(rows("small", a) + rows("large", b), "small", 0.01)

    def p(margin, side):
        return scipy.stats.ttest_rel(b, a + margin, alternative=side).pvalue

    if test is non_inferiority:
        expected, against = p(-0.01, "greater"), p(-0.01, "less")
    else:
        expected = max(p(-0.01, "greater"), p(0.01, "less"))
        against = min(p(-0.01, "less"), p(0.01, "greater"))
    verdict = "PASS" if expected < 0.05 else "FAIL" if against < 0.05 else "INCONCLUSIVE"
    assert (found.verdict, found.p_value) == (verdict, pytest.approx(expected, rel=1e-6))
    assert (found.lower, found.upper) == pytest.approx(
        tuple(scipy.stats.ttest_rel(b, a).confidence_interval(0.9)), rel=1e-9
    )


def experiments(mean, count=2000, seeds=5):
    """Rows of `count` independent arms, whose seeds differ from the reference's by `mean` ± 0.01."""
    values = mean + 0.01 * np.random.default_rng(0).normal(size=(count, seeds))
    return rows("a", np.zeros(seeds)) + [row for i, own in enumerate(values) for row in rows(f"b{i}", own)]


def share(tests, verdict):
    return np.mean([test.verdict == verdict for test in tests])


def test_an_arm_that_is_worse_by_the_margin_is_called_no_worse_in_one_of_twenty_experiments():
    """At the margin either error has 5 %: of 2000, ± 0.5 %, so within 4 standard errors."""
    tests = non_inferiority(experiments(-0.02), "a", 0.02)
    assert share(tests, "PASS") == pytest.approx(0.05, abs=0.02)
    assert share(tests, "FAIL") == pytest.approx(0.05, abs=0.02)
    assert share(non_inferiority(experiments(-0.024), "a", 0.02), "PASS") < 0.03


@pytest.mark.parametrize("side", [-1, 1])
def test_an_arm_that_differs_by_the_margin_is_called_equal_in_one_of_twenty_experiments(side):
    assert share(equivalence(experiments(side * 0.03), "a", 0.03), "PASS") == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("test", "two_sided"), [(non_inferiority, False), (equivalence, True)])
@pytest.mark.parametrize("seeds", [3, 6])
def test_power_is_the_share_of_experiments_without_a_difference_that_pass(test, two_sided, seeds):
    """The margin is 1.5 true deviations. 2000 experiments know the share to 1.1 %."""
    passed = share(test(experiments(0.0, seeds=seeds), "a", 0.015), "PASS")
    assert power(1.5, seeds, two_sided=two_sided) == pytest.approx(passed, abs=0.04)


def test_one_sided_power_is_that_of_the_noncentral_t_distribution():
    for ratio, seeds in ((0.3, 2), (1.0, 3), (0.7, 12)):
        critical = scipy.stats.t.ppf(0.95, seeds - 1)
        expected = scipy.stats.nct.sf(critical, seeds - 1, ratio * math.sqrt(seeds))
        assert power(ratio, seeds) == pytest.approx(expected, abs=1e-4)


def test_as_many_seeds_are_needed_as_give_a_power_of_eighty_percent():
    for test in (non_inferiority, equivalence):
        (found,) = test(rows("a", [0.0] * 5) + rows("b", [0.0, 0.01, -0.01, 0.02, -0.02]), "a", 0.01)
        ratio, needed = 0.01 / found.deviation, found.seeds_needed
        own = [power(ratio, n, two_sided=found.two_sided) for n in (needed - 1, needed)]
        assert own[0] < 0.8 <= own[1]
        assert found.power == power(ratio, 5, two_sided=found.two_sided)


def test_so_many_seeds_that_nobody_has_them_are_not_told():
    (found,) = non_inferiority(rows("a", [0.0, 0.0]) + rows("b", [-1.0, 1.0]), "a", 0.001)
    assert found.seeds_needed is None


@pytest.mark.parametrize("test", [non_inferiority, equivalence])
@pytest.mark.parametrize(("count", "told"), [(1, "a single pair of seeds"), (0, "no pair of seeds")])
def test_fewer_than_two_pairs_are_inconclusive_and_say_so(test, count, told):
    made = rows("a", [0.9] * count) + rows("b", [0.9, 0.9][: count or 2])
    (found,) = test(made, "a", 0.5)
    assert (found.verdict, found.num_seeds, found.seeds_needed) == ("INCONCLUSIVE", count, None)
    assert found.note.startswith(told)
    assert math.isnan(found.lower)
    assert math.isnan(found.power)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"reached": False}, "missed the target or diverged"),
        ({"test_accuracy": None}, "has no test_accuracy"),
        ({"test_accuracy": math.nan}, "has no test_accuracy"),
    ],
    ids=["not reached", "null", "nan"],
)
def test_an_arm_that_failed_in_some_seeds_cannot_pass_by_its_good_ones(bad, why):
    a, b = rows("a", [0.9, 0.8, 0.7, 0.6]), rows("b", [0.901, 0.8, 0.699, 0.6])
    assert non_inferiority(a + b, "a", 0.1)[0].verdict == "PASS"
    b[2] |= bad
    (found,) = non_inferiority(a + b, "a", 0.1)
    assert (found.verdict, found.num_seeds) == ("INCONCLUSIVE", 3)
    assert found.note == f"left out: seed 2 (b {why})"
    a[2] |= bad  # a seed in which both failed says nothing of the arm
    assert non_inferiority(a + b, "a", 0.1)[0].verdict == "PASS"


def test_an_arm_that_never_reached_the_target_is_named():
    a, b = rows("a", [0.9, 0.8, 0.7]), rows("b", [0.9, 0.8, 0.7], reached=False)
    (found,) = non_inferiority(a + b, "a", 0.1)
    assert (found.verdict, found.num_seeds) == ("INCONCLUSIVE", 0)
    assert found.note.endswith("left out: seeds 0, 1, 2 (b missed the target or diverged)")


def test_seeds_that_one_arm_lacks_are_left_out_and_named_and_do_not_count_as_failed():
    made = rows("a", [0.9, 0.8, 0.7, 0.6]) + rows("b", [0.901, 0.8, 0.699])
    (found,) = non_inferiority(made, "a", 0.1)
    assert (found.verdict, found.num_seeds) == ("PASS", 3)
    assert found.note == "left out: seed 3 (b has no result)"


def test_differences_without_a_spread_are_judged_by_the_sign_test():
    """One-sided, five seeds that agree have the probability 1 / 2⁵ = 0.03, four have 0.06."""
    for count, verdict in ((4, "INCONCLUSIVE"), (5, "PASS")):
        made = rows("a", [0.9] * count) + rows("b", [0.898] * count)
        for test in (non_inferiority, equivalence):
            (found,) = test(made, "a", 0.005)
            assert (found.verdict, found.p_value) == (verdict, 0.5**count)
            assert "sign test" in found.note
        assert non_inferiority(made, "a", 0.001)[0].verdict == ("FAIL" if count == 5 else "INCONCLUSIVE")


@pytest.mark.parametrize("margin", [0, -0.005, math.nan, math.inf, "0.5", True, None])
def test_a_margin_that_is_no_margin_is_refused(margin):
    with pytest.raises(ValueError, match="must be a number above 0, in the unit of test_accuracy"):
        non_inferiority([], "a", margin)


def test_updates_and_seconds_are_compared_by_their_ratio():
    """Ratios 1/2 and 1/8 have the geometric mean 1/4."""
    made = rows("a", [100, 200], "updates") + rows("b", [50, 25], "updates")
    (found,) = compare(made, "a", COSTS)
    assert (found.quantity, found.difference) == ("updates", pytest.approx(0.25))

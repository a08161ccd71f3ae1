"""Verdicts of claims, against SciPy's tests, closed forms, and simulations in which the truth is known."""

import math

import numpy as np
import pytest
import scipy.stats

from tf_lbgap import claims
from tf_lbgap.claims.dependence import dependence
from tf_lbgap.claims.one_test_set import variance_of_test_set

RNG = np.random.default_rng(0)
SMALL = 0.8 + 0.01 * RNG.normal(size=10)
LARGE = SMALL - 0.02 + 0.005 * RNG.normal(size=10)


def rows(key="x", **arms):
    return [
        {"arm": arm, "seed": seed, key: float(value)}
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]


def claim(statistic=None, **bounds):
    return claims.Claim("a", "A claim.", statistic or claims.difference("x", "large", "small"), **bounds)


def verdict(made, own):
    (found,) = claims.judge([made], [own])
    return found


# Verdicts.


def test_the_interval_and_p_value_are_those_of_a_paired_t_test():
    found = verdict(claim(low=-0.015), rows(small=SMALL, large=LARGE))
    test = scipy.stats.ttest_rel(LARGE, SMALL)
    interval = test.confidence_interval(0.95)
    np.testing.assert_allclose(found.interval, interval, rtol=1e-12)
    np.testing.assert_allclose(found.estimate, (LARGE - SMALL).mean(), rtol=1e-12)
    np.testing.assert_allclose(
        found.p_value, scipy.stats.ttest_1samp(LARGE - SMALL, -0.015).pvalue, rtol=1e-12
    )


def test_differences_that_cancel_are_seen_as_nothing_and_not_as_rounding():
    small = [0.1, 0.2, 0.3]
    large = [0.1 + 0.7, 0.2 - 0.4, 0.3 - 0.3]
    assert np.subtract(large, small).mean() != 0
    found = verdict(claim(low=0.0), rows(small=small, large=large))
    assert found.estimate == 0 and ": 0 (" in found.seen and found.interval[0] == -found.interval[1]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"low": -0.03}, "PASS"),
        ({"low": -0.02}, "INCONCLUSIVE"),
        ({"low": 0.0}, "FAIL"),
        ({"high": 0.0}, "PASS"),
        ({"high": -0.03}, "FAIL"),
        ({"low": -0.03, "high": -0.01}, "PASS"),
        ({"low": -0.01, "high": 0.01}, "FAIL"),
        ({"low": -0.021, "high": -0.019}, "INCONCLUSIVE"),
    ],
)
def test_a_verdict_is_read_off_the_interval(bounds, expected):
    found = verdict(claim(**bounds), rows(small=SMALL, large=LARGE))
    assert found.verdict == expected
    low, high = found.interval
    inside = bounds.get("low", -math.inf) < low and high < bounds.get("high", math.inf)
    outside = high < bounds.get("low", -math.inf) or low > bounds.get("high", math.inf)
    assert expected == ("PASS" if inside else "FAIL" if outside else "INCONCLUSIVE")
    assert ("covers both" in found.seen) == (expected == "INCONCLUSIVE")


def test_arms_that_are_swapped_do_not_pass():
    own = rows(small=SMALL, large=LARGE)
    swapped = [{**row, "arm": {"small": "large", "large": "small"}[row["arm"]]} for row in own]
    assert [verdict(claim(high=-0.01), each).verdict for each in (own, swapped)] == ["PASS", "FAIL"]


def test_holm_corrects_for_all_claims_of_a_paper():
    """p of 0.04 decides alone; beside one of 0.03 it takes 0.06 for both."""
    shift = scipy.stats.t.isf(0.02, 9) * (LARGE - SMALL).std(ddof=1) / math.sqrt(10)
    at = (LARGE - SMALL).mean() - shift
    own = rows(small=SMALL, large=LARGE)
    assert verdict(claim(low=at), own).verdict == "PASS"
    found = claims.judge([claim(low=at), claim(low=at + shift / 20)], [own, own])
    assert [each.verdict for each in found] == ["INCONCLUSIVE"] * 2
    assert "Holm" in found[0].seen
    np.testing.assert_allclose(found[0].p_value, max(2 * 0.04, found[1].p_value), rtol=1e-9)


def test_an_arm_that_failed_in_a_seed_cannot_pass_and_the_sentence_says_which():
    own = rows(small=SMALL, large=LARGE)
    own[13]["why_not"] = "missed the target"
    found = verdict(claim(high=0.0), own)
    assert found.verdict == "INCONCLUSIVE" and "seed 3: large missed the target" in found.seen
    assert found.seeds == (0, 1, 2, 4, 5, 6, 7, 8, 9)
    assert verdict(claim(low=0.0), own).verdict == "FAIL", "what refutes the claim may rest on the others"


@pytest.mark.parametrize(("count", "told"), [(0, "No seed"), (1, "A single seed")])
def test_fewer_than_two_seeds_decide_nothing(count, told):
    found = verdict(claim(high=0.0), rows(small=SMALL[:count], large=LARGE[:count]))
    assert found.verdict == "INCONCLUSIVE" and found.seen.startswith(told)


def test_what_is_the_same_in_all_seeds_is_a_count():
    own = rows("updates", small=[100] * 3, large=[25] * 3)
    statistic = claims.ratio("updates", "large", "small")
    found = verdict(claim(statistic, low=0.2, high=0.3), own)
    assert (found.verdict, found.p_value) == ("PASS", 0.0)
    np.testing.assert_allclose(found.interval, [0.25, 0.25])
    assert verdict(claim(statistic, low=0.3), own).verdict == "FAIL"


def test_a_ratio_is_averaged_in_logarithms():
    found = verdict(claim(claims.ratio("x", "large", "small"), low=1), rows(small=[1, 1, 1], large=[2, 4, 8]))
    np.testing.assert_allclose(found.estimate, 4)
    np.testing.assert_allclose(found.values, [2, 4, 8])
    np.testing.assert_allclose(found.interval[0] * found.interval[1], 16)


# Seeds that depend on each other.


def with_data(own, **data):
    return [{**row, **{k: v(row["seed"]) if callable(v) else v for k, v in data.items()}} for row in own]


@pytest.mark.parametrize(
    ("of", "data", "extra"),
    [
        ("test_accuracy", {"num_train": 100, "num_test": 80, "pool": 180, "test_set": str}, 80 / 100),
        ("test_accuracy", {"num_train": 100, "num_test": 80, "pool": None, "test_set": str}, 80 / 100),
        ("test_accuracy", {"num_train": 100, "num_test": 80, "pool": 1080, "test_set": str}, 80 / 1000),
        ("top_eigenvalue", {"num_train": 100, "num_test": 80, "pool": 180, "test_set": str}, 100 / 80),
        ("test_accuracy", {"num_train": 200, "num_test": 50, "pool": 6000, "test_set": "a"}, 200 / 5800),
        ("test_accuracy", {"num_train": 200, "num_test": 50, "pool": 200, "test_set": "a"}, 0.0),
        ("test_accuracy", {"num_train": 200, "num_test": 50, "pool": None, "test_set": "a"}, 0.0),
        ("test_accuracy", {}, 0.0),
    ],
)
def test_what_seeds_share_widens_the_interval(of, data, extra):
    own = with_data(rows(of, small=SMALL, large=LARGE), **data)
    np.testing.assert_allclose(dependence(own, of).extra, extra)
    found = verdict(claim(claims.difference(of, "large", "small"), low=-1), own)
    reach = scipy.stats.t.ppf(0.975, 9) * (LARGE - SMALL).std(ddof=1) * math.sqrt(1 / 10 + extra)
    np.testing.assert_allclose(np.ptp(found.interval), 2 * reach, rtol=1e-12)


def test_an_interval_over_overlapping_draws_holds_the_truth_of_the_population():
    """Means of 50 of a pool of 100, ten draws: the pool itself is a sample, which the naive interval forgets."""
    rng, held = np.random.default_rng(1), []
    for _ in range(400):
        pool = rng.normal(size=100)
        means = [rng.choice(pool, 50, replace=False).mean() for _ in range(10)]
        own = rows(small=[0] * 10, large=means)
        shared = with_data(own, num_train=50, num_test=50, pool=100, test_set=str)
        held.append(
            [low < 0 < high for low, high in (verdict(claim(low=-9), r).interval for r in (own, shared))]
        )
    naive, corrected = np.mean(held, axis=0)
    assert naive < 0.6 and 0.92 < corrected < 0.99, (naive, corrected)


def test_the_variance_of_one_test_set_is_that_of_a_mean_over_its_examples():
    right = RNG.random((2, 500)) < [[0.8], [0.7]]
    statistic = claims.difference("test_accuracy", "large", "small")
    own = [{"small": {"test_accuracy": right[0].mean()}, "large": {"test_accuracy": right[1].mean()}}]
    each = [{"small": {"test_accuracy": right[0]}, "large": {"test_accuracy": right[1]}}]
    found = variance_of_test_set(statistic, own, each)
    expected = (right[1] * 1.0 - right[0]).var() / 500
    assert abs(found / expected - 1) < 4 * math.sqrt(2 / 400), "400 resamples"
    assert variance_of_test_set(claims.difference("updates", "large", "small"), own, each) == 0


def test_one_test_set_is_allowed_for_and_one_of_each_seed_is_not():
    right = {(arm, s): RNG.random(300) < 0.8 for arm in ("small", "large") for s in range(4)}
    own = [{"arm": a, "seed": s, "test_accuracy": v.mean()} for (a, s), v in right.items()]
    made = claim(claims.difference("test_accuracy", "large", "small"), low=-1)

    def lookup(arm, seed):
        return {"test_accuracy": right[arm, seed], "test_loss": right[arm, seed]}

    widths = []
    for test_set in ("one", str):
        data = {"num_train": 10, "num_test": 0, "pool": 10, "test_set": test_set}
        (found,) = claims.judge([made], [with_data(own, **data)], [lookup])
        widths.append(np.ptp(found.interval))
        assert ("bootstrapped" in found.note) == (test_set == "one")
    assert widths[0] > widths[1]


# Power.


@pytest.mark.parametrize("num_claims", [1, 5])
def test_power_against_one_bound_is_that_of_the_noncentral_t_distribution(num_claims):
    made = claim(low=1.0, expected=2.0, deviation=1.5)
    noncentral = (2 - 1) / (1.5 / math.sqrt(8))
    critical = scipy.stats.t.ppf(1 - 0.025 / num_claims, 7)
    expected = scipy.stats.nct.sf(critical, 7, noncentral)
    assert abs(claims.power_of(made, 8, num_claims=num_claims) - expected) < 2e-3


def test_power_is_the_share_of_experiments_that_pass():
    made = claim(claims.ratio("x", "large", "small"), low=0.8, high=1.25, expected=1.05, deviation=0.15)
    rng, passed = np.random.default_rng(2), 0
    for _ in range(500):
        values = np.exp(math.log(1.05) + 0.15 * rng.normal(size=8))
        passed += verdict(made, rows(small=np.ones(8), large=values)).verdict == "PASS"
    assert abs(passed / 500 - claims.power_of(made, 8)) < 3 * math.sqrt(0.25 / 500)


def test_power_is_not_known_without_what_is_expected_and_none_with_one_seed():
    assert claims.power_of(claim(low=0.0), 10) is None
    assert claims.power_of(claim(low=0.0, expected=1.0, deviation=1.0), 1) == 0


# Statistics.


def power_law(exponent, sizes=(8, 16, 64)):
    return {f"b{b}": {"batch_size": b, "x": 3.0 * b**exponent} for b in sizes}


def test_slope_is_the_exponent_of_a_power_law_and_bend_its_change():
    np.testing.assert_allclose(claims.slope("x", "batch_size")(power_law(0.7)), 0.7)
    own = {f"b{b}": {"batch_size": b, "x": b**0.5 if b < 32 else 32**-0.5 * b} for b in (8, 16, 32, 64, 128)}
    np.testing.assert_allclose(claims.bend("x", "batch_size", at=32)(own), 0.5)
    with pytest.raises(claims.Missing, match="fewer than two arms on one side"):
        claims.bend("x", "batch_size", at=100)(own)


def test_a_quotient_is_of_two_quantities_of_one_arm_or_of_two():
    own = {"a": {"before": 2.0, "after": 6.0}, "b": {"before": 12.0}}
    statistic = claims.quotient("after", "a", per="before")
    assert statistic.arms == ("a",) and statistic.outward(statistic(own)) == pytest.approx(3)
    statistic = claims.quotient("after", "a", per="before", per_arm="b")
    assert statistic.arms == ("a", "b") and statistic.outward(statistic(own)) == pytest.approx(0.5)
    with pytest.raises(claims.Missing, match="b has no after"):
        claims.quotient("after", "b", per="before")(own)


def test_correlation_and_spread_are_over_arms():
    own = {name: {"x": x, "y": y} for name, x, y in (("a", 1, 9), ("b", 2, 3), ("c", 5, 4))}
    np.testing.assert_allclose(claims.correlation("x", "y")(own), -0.5)
    for name, z in (("a", 1), ("b", 2), ("c", 7)):
        own[name]["z"] = z
    np.testing.assert_allclose(claims.closer_correlation("x", to="z", than="y")(own), 0.5)
    np.testing.assert_allclose(claims.closer_correlation("x", to="y", than="z", arms=["a", "b"])(own), 0)
    np.testing.assert_allclose(claims.spread("x")(own), math.log(5))
    np.testing.assert_allclose(claims.spread("x", ["a", "b"])(own), math.log(2))


@pytest.mark.parametrize("exponent", [1.5, 0.8])
def test_the_best_batch_of_exact_parabolas_grows_with_its_exponent(exponent):
    own = {}
    for rate in (0.01, 0.04, 0.16):
        for batch in (2, 8, 32, 128, 512, 2048):
            value = -((math.log(batch) - exponent * math.log(rate / 0.04) - math.log(40)) ** 2)
            own[f"{rate}-{batch}"] = {"batch_size": batch, "learning_rate": rate, "x": value}
    statistic = claims.optimum_slope("x", "batch_size", "learning_rate")
    np.testing.assert_allclose(statistic(own), exponent)
    least = claims.optimum_slope("x", "batch_size", "learning_rate", best="smallest")
    flipped = {name: {**row, "x": -row["x"]} for name, row in own.items()}
    np.testing.assert_allclose(least(flipped), exponent)


def test_the_critical_batch_of_an_exact_hyperbola_and_its_ratio_to_the_noise_scale():
    own = {
        f"b{b}": {"batch_size": b, "updates": round(10_000 * (1 + 100 / b))} for b in (10, 50, 100, 400, 2000)
    }
    np.testing.assert_allclose(math.exp(claims.critical_batch()(own)), 100, rtol=1e-3)
    own["b50"]["noise_scale"] = 50.0
    np.testing.assert_allclose(math.exp(claims.critical_batch(per="noise_scale")(own)), 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "large has no result"),
        ({}, "large has no x"),
        ({"x": None}, "large has no x"),
        ({"x": math.nan}, "large has no x"),
        ({"x": 1.0, "x_converged": False}, "x of large did not converge"),
        ({"x": 1.0, "why_not": "diverged"}, "large diverged"),
        ({"x": -1.0}, "x of large is not above 0"),
    ],
)
def test_a_value_that_is_none_is_missing_and_says_why(row, reason):
    own = {"small": {"x": 1.0}} | ({} if row is None else {"large": row})
    with pytest.raises(claims.Missing, match=reason):
        claims.ratio("x", "large", "small")(own)

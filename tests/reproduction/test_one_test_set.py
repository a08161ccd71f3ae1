"""The luck of one test set, against bootstraps that draw the examples one by one and rank arms by sorting."""

import contextlib
import functools
import math

import numpy as np
import pytest

from tf_lbgap import claims

NUM, ARMS, SEEDS = 400, ("a", "b", "c", "d", "e"), (0, 1)
RNG = np.random.default_rng(0)
RIGHT = {(arm, s): RNG.random(NUM) < 0.7 + 0.01 * i for i, arm in enumerate(ARMS) for s in SEEDS}
LOSS = {place: RNG.exponential(1.0, NUM) for place in RIGHT}
ORIGIN = {"num_train": 10, "num_test": NUM, "pool": 10, "test_set": "one"}


def row(arm, seed, **more):
    i = ARMS.index(arm)
    return {
        "arm": arm,
        "seed": seed,
        **ORIGIN,
        "sharpness": (i - 2) ** 2 + 0.1 * i + seed,
        "rate": float(i),
        "updates": 10.0 + i * seed,
        "test_accuracy": RIGHT[arm, seed].mean(),
        "test_loss": LOSS[arm, seed].mean(),
        "accuracy_gap": 1 - RIGHT[arm, seed].mean(),
        "loss_gap": LOSS[arm, seed].mean() - 0.2,
        **more,
    }


ROWS = [row(*place) for place in RIGHT]


def lookup(arm, seed):
    return {"test_accuracy": RIGHT[arm, seed], "test_loss": LOSS[arm, seed]} if (arm, seed) in RIGHT else None


def judged(statistic, rows=ROWS, found=lookup):
    (verdict,) = claims.judge([claims.Claim("a", "A.", statistic, low=-9.0)], [rows], [found])
    return verdict


def of_test_set(statistic):
    """The variance of the mean that knowing the test examples adds: from the half widths with and without, of 1 degree of freedom."""
    with_luck, without = judged(statistic), judged(statistic, found=None)
    assert with_luck.note.endswith("one test set, its examples bootstrapped")
    halves = [
        (statistic.inward(v.interval[1]) - statistic.inward(v.interval[0])) / 2 for v in (with_luck, without)
    ]
    return (halves[0] ** 2 - halves[1] ** 2) / math.tan(0.475 * math.pi) ** 2


@functools.cache
def drawn():
    """The means of each arm and seed in 2,000 resamples, (accuracies, losses)."""
    indices = np.random.default_rng(1).integers(NUM, size=(2000, NUM))
    return {place: (RIGHT[place][indices].mean(1), LOSS[place][indices].mean(1)) for place in RIGHT}


def by_hand(function):
    """The variance over resamples of the mean over seeds of a function of {arm: (accuracy, loss)} and the seed."""
    found = [
        np.mean(
            [function({a: [mean[i] for mean in drawn()[a, s]] for a in ARMS}, s) for s in SEEDS],
        )
        for i in range(2000)
    ]
    return np.var(found)


def spearman(x, y):
    ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    return np.corrcoef(*ranks)[0, 1]


SHARPNESS = {s: [row(arm, s)["sharpness"] for arm in ARMS] for s in SEEDS}


CASES = {
    "correlation with the gap of accuracy": (
        claims.correlation("sharpness", "accuracy_gap"),
        lambda means, s: spearman(SHARPNESS[s], [1 - means[a][0] for a in ARMS]),
    ),
    "correlation of the gap of loss": (
        claims.correlation("loss_gap", "sharpness"),
        lambda means, s: spearman(SHARPNESS[s], [means[a][1] - 0.2 for a in ARMS]),
    ),
    "closer correlation": (
        claims.closer_correlation("sharpness", to="rate", than="accuracy_gap"),
        lambda means, s: -abs(spearman(SHARPNESS[s], [1 - means[a][0] for a in ARMS])),
    ),
    "gap of accuracy per accuracy: they move against each other": (
        claims.quotient("accuracy_gap", "a", per="test_accuracy"),
        lambda means, s: math.log(1 - means["a"][0]) - math.log(means["a"][0]),
    ),
    "gap of loss per loss: they move together": (
        claims.quotient("loss_gap", "b", per="test_loss"),
        lambda means, s: math.log(means["b"][1] - 0.2) - math.log(means["b"][1]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_gaps_owe_to_the_test_examples_is_that_of_a_bootstrap_by_hand(case):
    """Of 400 and 2,000 resamples: within 4 standard errors of a variance of normal numbers, and there are no heavier tails."""
    statistic, function = CASES[case]
    found, expected = of_test_set(statistic), by_hand(function)
    assert expected > 1e-6 and abs(found / expected - 1) < 4 * math.sqrt(2 / 400 + 2 / 2000)


def test_a_gap_between_two_arms_is_that_of_the_first():
    pairs = [
        {**each, "arm": f"{each['arm']} to {other['arm']}", "generalization_gap": each["loss_gap"]}
        for each, other in zip(ROWS, ROWS[2:], strict=False)
        if each["arm"] in "ab"
    ]
    own = {f"{arm} to {other}": arm for arm, other in ("ab", "bc")}
    made = claims.difference("generalization_gap", *own)
    found = judged(made, pairs)
    np.testing.assert_allclose(
        np.ptp(found.interval), np.ptp(judged(claims.difference("loss_gap", "a", "b")).interval)
    )
    assert "bootstrapped" in found.note


NOT_COUNTED = "the luck of the one test set is not counted"


@pytest.mark.parametrize(
    ("statistic", "found", "note"),
    [
        (claims.value("robust_accuracy_fgsm", "a"), lookup, NOT_COUNTED),
        (claims.value("gap_over_bound", "a"), lookup, NOT_COUNTED),
        (claims.correlation("sharpness", "accuracy_gap"), None, NOT_COUNTED),
        (claims.correlation("sharpness", "accuracy_gap"), lambda *place: None, NOT_COUNTED),
        (
            claims.correlation("accuracy_gap", "robust_accuracy_fgsm"),
            lookup,
            f"one test set, its examples bootstrapped; {NOT_COUNTED} for robust accuracy fgsm",
        ),
        (claims.correlation("sharpness", "rate"), lookup, ""),
    ],
    ids=["attack", "bound", "no examples at all", "none of these arms", "half of it", "no test set"],
)
def test_what_is_not_counted_is_said(statistic, found, note):
    rows = [{**each, "robust_accuracy_fgsm": each["rate"] ** 2, "gap_over_bound": 0.1} for each in ROWS]
    told = judged(statistic, rows, found).note
    assert told == "; ".join(filter(None, ["one training set: nothing is said of others", note]))


def test_a_ratio_of_gaps_that_some_resample_has_below_zero_is_not_counted_and_no_error():
    rows = [{**each, "accuracy_gap": 0.001 * (each["seed"] + 1)} for each in ROWS]
    assert judged(claims.ratio("accuracy_gap", "a", "b"), rows).note.endswith(NOT_COUNTED)


def test_test_sets_of_each_seed_or_none_that_is_known_are_passed_over():
    for test_set in (lambda seed: str(seed), lambda seed: None):
        rows = [{**each, "test_set": test_set(each["seed"])} for each in ROWS]
        assert "test set" not in judged(claims.correlation("sharpness", "accuracy_gap"), rows, None).note


KEYS = {
    "bend": {"of": "y", "against": "x", "at": 2, "arms": ["a", "b", "c"]},
    "closer_correlation": {"of": "y", "to": "x", "than": "z"},
    "correlation": {"of": "y", "against": "x"},
    "critical_batch": {"of": "y", "against": "x", "per": "z"},
    "difference": {"of": "y", "arm": "a", "to": "b"},
    "difference_of_differences": {"of": "y", "arms": ["a", "b"], "to": ["b", "c"]},
    "optimum_slope": {"of": "y", "over": "x", "against": "z"},
    "quotient": {"of": "y", "arm": "a", "per": "x"},
    "ratio": {"of": "y", "arm": "a", "to": "b"},
    "ratio_of_ratios": {"of": "y", "arms": ["a", "b"], "to": ["b", "c"]},
    "slope": {"of": "y", "against": "x"},
    "spread": {"of": "y"},
    "value": {"of": "y", "arm": "a"},
}


class Noting(dict):
    """A row that notes which keys were asked for."""

    seen: set

    def _note(self, key):
        if key != "why_not" and not key.endswith("_converged"):
            self.seen.add(key)

    def get(self, key, default=None):
        self._note(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self._note(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("name", KEYS)
def test_a_statistic_names_the_keys_that_it_reads(name):
    statistic, seen = getattr(claims, name)(**KEYS[name]), set()
    values = {"a": (8.0, 1.0, 1.0), "b": (5.0, 2.0, 1.0), "c": (4.0, 4.0, 2.0)}
    rows = {arm: Noting(zip("yxz", numbers, strict=True)) for arm, numbers in values.items()}
    for each in rows.values():
        each.seen = seen
    with contextlib.suppress(claims.Missing):  # what has no value has read them all the same
        statistic(rows)
    assert set(statistic.keys) == seen

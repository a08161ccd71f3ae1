"""The parts of the advisor that are numbers alone: sizes, timings, curves, noise, rates, plans and races."""

import math

import numpy as np
import pytest

from tf_lbgap.pilot import noise, prediction, rates, stopwatch
from tf_lbgap.pilot.curve import Point, lowest_passed, passed
from tf_lbgap.pilot.ladder import sizes_from
from tf_lbgap.pilot.race import Entry, Race
from tf_lbgap.pilot.results import NoiseRow
from tf_lbgap.pilot.stopwatch import Stamp


def test_ladders_are_powers_of_two_around_the_users_size():
    assert sizes_from(25, 1000) == [6, 12, 25, 50, 100, 200, 400, 800]
    assert sizes_from(1, 3) == [1, 2] and sizes_from(2, 5) == [1, 2, 4]
    assert sizes_from(24, 100, multiple_of=8) == [8, 24, 48, 96]


def stamps(times, per_epoch):
    return [Stamp(i + 1, i // per_epoch, i % per_epoch, t) for i, t in enumerate(times)]


def test_an_epochs_end_is_shared_by_its_updates():
    """Updates of 1 s, ends of epochs of 3 s more: whole epochs of 4 take 7 s."""
    times = np.cumsum([9, 5] + [1, 1, 4, 1] * 3).tolist()  # the first two warm up
    got = stamps(times, 4)
    assert stopwatch.seconds_per_update(got, 4) == pytest.approx(7 / 4)
    assert stopwatch.ends_of_epochs(got) == pytest.approx([3.0] * 3)
    inside = stamps([9, 14, 15, 16, 17], 100)
    assert stopwatch.seconds_per_update(inside, 100, epoch_seconds=50.0) == pytest.approx(1.5)
    assert stopwatch.seconds_per_update(inside[:3], 100) is None


@pytest.mark.parametrize("count, low, high", [(5, 0, 4), (6, 0, 5), (9, 1, 7), (20, 5, 14)])
def test_the_interval_of_a_median_is_that_of_the_tables(count, low, high):
    """Conover, table of the sign test's quantile interval at 95 %: x_2 to x_8 of 9, x_6 to x_15 of 20."""
    assert stopwatch.median_and_interval(range(count))[1:] == (low, high)


def test_a_loss_is_passed_when_it_stays_below_and_between_looks():
    points = [
        Point(0, 0.0, 4.0),
        Point(10, 1.0, 0.9),
        Point(20, 2.0, 2.0),
        Point(30, 3.0, 0.5),
        Point(40, 4.0, 0.4),
    ]
    assert passed(points, 1.0) == Point(25.0, 2.5, 1.0)  # log(2), log(1), log(1/2)
    assert passed(points, 0.3) is None
    assert passed(points, 0.45) is None  # seen once
    assert lowest_passed(points) == 0.5
    assert math.isnan(lowest_passed(points[:2]))


def test_a_noise_scale_that_grows_is_found_through_its_scatter():
    updates = [0, 1, 2, 4, 8, 16, 32, 64, 100]
    scale = [10 * 30 ** (u / 100) for u in updates]
    rows = [NoiseRow(u, 0.0, 1.0, s, 0.0, math.inf) for u, s in zip(updates, scale, strict=True)]
    assert noise.pair(rows) == pytest.approx((10, 300))
    assert noise.pair([*rows, NoiseRow(101, 0.0, 1.0, math.inf, 0.0, math.inf)]) == pytest.approx((10, 300))
    assert noise.pair([]) is None
    assert noise.mean(10, 300) == pytest.approx(290 / math.log(30)) and noise.mean(7, 7) == 7


@pytest.mark.parametrize(
    "optimizer, known, rule",
    [("SGD", True, "adascale"), ("SGD", False, "linear"), ("AdamW", True, "sqrt"), ("Mine", True, "sqrt")],
)
def test_the_rule_is_one_that_holds(optimizer, known, rule):
    assert rates.rule_for(optimizer, 0.9, known) == rule


def test_the_gain_by_hand():
    """(1000 / 100 + 1) / (1000 / 1000 + 1)."""
    assert rates.rate_factor("adascale", 1000, 100, 1000.0) == pytest.approx(5.5)
    assert rates.rate_factor("sqrt", 400, 100, None) == 2.0
    assert rates.rate_factor("none", 400, 100, None) == 1.0


def test_a_plan_changes_where_another_size_is_cheaper():
    """Costs (1 + Bn / B) t(B) of 10 and 100 with t = 1 and 2 are equal at Bn = 12.5, a factor of 1000 from 0.5 to 500."""
    plan = prediction.growth_plan(1000, 10, (0.5, 500.0), {10: 1.0, 100: 2.0}, 1000, lambda size: size / 10)
    assert plan.batch_sizes == (10, 100) and plan.rate_factors == (1.0, 10.0)
    least = 1000 / (1 + 499.5 / math.log(1000) / 10)
    share = math.log(12.5 / 0.5) / math.log(1000)
    first = least * (share + (12.5 - 0.5) / math.log(1000) / 10)  # ∫ (1 + Bn(u) / 10) du up to there
    assert plan.milestones[0] == pytest.approx(first * 10 / 1000, abs=2e-3)
    assert prediction.growth_plan(1000, 10, (20.0, 20.0), {10: 1.0, 100: 2.0}, 1000, float) is None
    # 0.5 epochs are 50 updates of 10 and 1 s, the next 1.5 epochs 15 of 100 and 2 s.
    half = prediction.GrowthPlan((10, 100), (0.5,), (1.0, 1.0), 0.0, 0.1)
    assert prediction.seconds_of_plan(half, 2.0, {10: 1.0, 100: 2.0}, 1000) == pytest.approx(50 + 30)


# The race.


def raced(updates_of, seconds, start=8, most_seeds=4, **more):
    """Run a race of entries whose updates a function tells; return it and what was run."""
    ran = []

    def run(entry, seed, most_updates):
        ran.append((entry, seed))
        updates = updates_of(entry, seed)
        return updates if updates is None or updates <= most_updates else math.inf

    race = Race(run, seconds, most_seeds=most_seeds, **more)
    race.enter(Entry(start, 0), updates=updates_of(Entry(start, 0), 0))
    race.go()
    return race, ran


SECONDS = {2**i: 1.0 + 2**i / 32 for i in range(1, 9)}


def bowl(entry, seed):
    """Updates fall with the size, and rise away from step 1: 100 (1 + 64 / B) (1 + (step - 1)² / 2)."""
    return 100 * (1 + 64 / entry.size) * (1 + 0.5 * (entry.step - 1) ** 2)


def test_a_race_finds_the_fastest_size_and_rate():
    race, ran = raced(bowl, SECONDS)
    costs = {Entry(b, s): bowl(Entry(b, s), 0) * t for b, t in SECONDS.items() for s in range(-2, 3)}
    assert race.leader == min(costs, key=costs.get)
    assert len({entry for entry, _ in ran}) < len(costs) / 2
    assert len(race.updates[race.leader]) == 4


def test_a_lead_by_luck_on_one_seed_is_lost_on_others():
    """Size 16 is the fastest by 25 %, but with the first seed size 8 needs half of what it usually needs."""

    def updates(entry, seed):
        usual = {8: 100.0, 16: 80.0}[entry.size] * (1 + abs(entry.step))
        return usual / 2 if entry == Entry(8, 0) and seed == 0 else usual

    race, _ = raced(updates, {8: 1.0, 16: 1.0}, most_seeds=6)
    assert race.leader == Entry(16, 0)


def test_who_sometimes_fails_is_not_advised():
    def updates(entry, seed):
        return (
            math.inf
            if entry.size == 16 and seed == 2
            else {8: 100.0, 16: 90.0}[entry.size] * (1 + abs(entry.step))
        )

    race, _ = raced(updates, {8: 1.0, 16: 1.0})
    assert race.leader == Entry(8, 0)


def test_a_race_without_time_ends():
    race, ran = raced(lambda entry, seed: 100.0 if entry == Entry(8, 0) and seed == 0 else None, SECONDS)
    assert len(ran) == 1 and race.leader == Entry(8, 0)


def test_who_is_slow_is_stopped():
    """At 1.5 times the leader's seconds."""
    most = {}
    race = Race(lambda entry, seed, limit: most.setdefault(entry, limit), {8: 1.0, 16: 2.0})
    race.enter(Entry(8, 0), updates=100.0)
    race.enter(Entry(16, 0))
    assert most[Entry(16, 0)] == pytest.approx(75.0)


# What is handed out.

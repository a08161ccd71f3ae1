"""The advisor that spends a minute: which batch size, and which learning rate?

On paper (`advisor`) the answer follows from the noise scale, the throughput, and a run that is known. Here all three are measured
on the user's own model: a pilot training with the noise scale at several points, a ladder of sizes that are timed in turn, and then
a race, for the noise scale is an estimate of when returns diminish and no measurement of what is fastest. Where the two
disagree the race counts.

References:
    McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, section 2.2.
    Shallue et al., "Measuring the effects of data parallelism on neural network training", 2019: updates to a goal, by size.
    Johnson et al., "AdaScale SGD: a user-friendly algorithm for distributed training", 2020, section 3 (the rate for SGD).
"""

import dataclasses
import math
import statistics
import time

from tf_lbgap import strategy
from tf_lbgap.callbacks.learning_rate import kind_of
from tf_lbgap.pilot import noise, prediction, racing, rates, rows, words
from tf_lbgap.pilot.budget import Budget
from tf_lbgap.pilot.checks import check_question, check_start
from tf_lbgap.pilot.curve import passed
from tf_lbgap.pilot.first_training import goal_of, run_pilot
from tf_lbgap.pilot.ladder import Ladder, sizes_from
from tf_lbgap.pilot.race import NEAR, STEPS, Entry, Race
from tf_lbgap.pilot.results import Advice
from tf_lbgap.pilot.trainings import Trainings
from tf_lbgap.training import memory

PILOT, LADDER, RACE, PLAN = (
    0.25,
    0.4,
    0.92,
    0.96,
)  # shares of the budget that are spent when each of them ends
RACES = 6  # the goal is one that the pilot reached in this fraction of the time left, so that so many can be raced
ROUNDS = 7  # further timings of each size, if there is time
SETTLED = 0.75  # share of the budget that is spent at the latest when the leaders have been timed again
PROMISING = 3.0  # of the least seconds predicted after one timing: sizes that need more are not timed further


def advise(
    model,
    batches,
    *,
    target_loss=None,
    budget=60.0,
    learning_rate=None,
    check_examples=1000,
    micro_batch_size=None,
    ghost_batch_size=None,
    clock=time.perf_counter,
    available=memory.available,
    tell=None,
):
    """Spend a minute on the questions which batch size and which learning rate.

    Trains the model many times for moments, each time from its present weights, with its own `train_step` and by `fit` itself:

    1. a pilot with your own batch and rate, which tells the gradient noise scale tr(Σ) / |G|² at several points, with intervals;
    2. a ladder of batches, your own over 4 to the whole data set by powers of two, each timed up to 9 times in turn with the
       others, with the memory that it took. It ends where the next might not fit, or where neither throughput nor noise scale
       promise anything;
    3. a race of sizes and rates to one clean training loss: `target_loss` if the pilot reached it soon enough that others can be
       raced to it, else a loss that it did reach. What is counted is updates x seconds per update; who is
       near the leader is timed again.

    Only a size that was run is advised. Model and stream are as before, bit for bit: weights, optimizer, statistics, metrics, seeds.

    Args:
        model: A compiled and built Keras model, as you would train it.
        batches: `data.Batches` with the batch size you would use.
        target_loss: The clean training loss to reach, as `callbacks.TargetLoss`; None: whatever the pilot reaches.
        budget: Seconds. A few updates of your own batch are always made, and a race needs some seconds.
        learning_rate: Function of progress, if your rate is one; None: the optimizer's own.
        check_examples: Examples of the training set that the clean loss is over.
        micro_batch_size, ghost_batch_size: As for `callbacks.BatchSizeScheduler`.
        clock: Function that returns the time in seconds.
        available: Function that returns the bytes that the process may still take. Used on a CPU alone.
        tell: Function of a text that is called as it goes on, or None.

    Returns:
        `Advice`: tables as data, sentences, and what it does not know. `print` shows the sentences.

    Raises:
        ValueError: If the model is not compiled and built, `batches` is no `data.Batches`, the target is reached before the first
            update, training diverges at the own rate and at a sixteenth of it, or a number is out of range.

    Example:
        >>> batches = lb.data.Batches(x, y, batch_size=25)
        >>> advice = lb.advise(model, batches, target_loss=0.01)
        >>> advice.batch_size, advice.learning_rate
        (200, 0.2)
    """
    check_question(model, batches, target_loss, budget)
    steering = {"micro_batch_size": micro_batch_size, "ghost_batch_size": ghost_batch_size}
    time_left = Budget(budget, clock)
    trainings = Trainings(
        model, batches, clock, learning_rate=learning_rate, check_examples=check_examples, steering=steering
    )
    try:
        check_start(trainings.start_loss, target_loss)
        session = _Session(model, batches, trainings, target_loss, time_left, tell or (lambda text: None))
        return session.advice(available)
    finally:
        trainings.end()


class _Session:
    """One advice in the making."""

    def __init__(self, model, batches, trainings, target_loss, budget, tell):
        self._model, self._trainings, self._target = model, trainings, target_loss
        self._budget, self._tell = budget, tell
        self._own, self._num_examples = batches.batch_size, batches.num_examples
        self._points = noise.NoisePoints(model, batches)
        self._kind = kind_of(model.optimizer)

    def advice(self, available):
        """Do it all."""
        self._tell(f"pilot at batch {self._own:,}")
        pilot, self._pilot_factor = run_pilot(
            self._trainings, self._own, self._target, self._budget, PILOT, self._points
        )
        self._pair = noise.pair(self._points.rows)
        self._rule = "none"
        if not self._trainings.has_keras_schedule:
            self._rule = rates.rule_for(*self._kind, self._pair is not None)
        ladder = self._run_ladder(pilot, available)
        seconds = _medians(ladder)
        goal = goal_of(pilot, self._target, max(self._budget.until(RACE) - self._budget.clock(), 0.0) / RACES)
        known = goal and passed(pilot.points, goal)
        expected = self._predicted(known, seconds)
        race = self._run_race(goal, known, expected, seconds, ladder)
        seconds = _medians(ladder)
        expected = self._predicted(known, seconds)
        return self._concluded(pilot, ladder, seconds, goal, expected, race)

    def _run_ladder(self, pilot, available):
        ladder = Ladder(self._trainings, self._num_examples, self._budget.clock, available)
        ladder.note(pilot.stamps)
        sizes = sizes_from(self._own, self._num_examples, strategy.num_replicas(self._model))
        self._tell(f"timing batches from {sizes[0]:,} on")
        now, deadline = self._budget.clock(), self._budget.until(LADDER)
        ladder.climb(sizes, self._own, self._pair and max(self._pair), now + 0.4 * (deadline - now))
        now, sizes = self._budget.clock(), list(ladder.seconds)
        promising = self._promising(pilot, _medians(ladder))
        both = ROUNDS * len(promising)
        ladder.repeat(sizes, 1, now + (deadline - now) * len(sizes) / (len(sizes) + both))
        ladder.repeat(promising, ROUNDS, deadline)
        return ladder

    def _promising(self, pilot, seconds):
        """The sizes that a first look does not rule out."""
        expected = self._predicted(pilot.points[-1], seconds)
        most = PROMISING * min((took for _, took in expected.values()), default=math.inf)
        return [size for size in seconds if size == self._own or expected.get(size, (0, 0))[1] <= most]

    def _predicted(self, known, seconds):
        """Size -> updates and seconds to where a point of the pilot was; empty without a noise scale."""
        if not known or not self._pair or not known.updates:
            return {}
        return prediction.predicted(known.updates, self._own, self._pair, seconds)

    def _rate_factor(self, entry):
        mean = noise.mean(*self._pair) if self._pair else None
        by_rule = rates.rate_factor(self._rule, entry.size, self._own, mean)
        return self._pilot_factor * by_rule * 2.0**entry.step

    def _run_race(self, goal, known, expected, seconds, ladder):
        steps = (0,) if self._trainings.has_keras_schedule else tuple(STEPS)
        run = racing.runner(self._trainings, goal, self._rate_factor, self._budget, RACE, self._tell)
        race = Race(run, dict(seconds), steps)
        if known and self._own in seconds:
            race.enter(Entry(self._own, 0), updates=max(known.updates, 1.0))
            fastest = _fastest(expected, self._own)
            if fastest != self._own:
                race.enter(Entry(fastest, 0))
            race.go()
            if race.leader is not None:
                self._settle(race, ladder)
        return race

    def _settle(self, race, ladder):
        """Time those that are near the leader again, a while later, and see whether it still leads."""
        near = {e.size for e in race.updates if race.mean(e) <= NEAR * race.mean(race.leader)}
        now = self._budget.clock()
        deadline = min(now + (SETTLED - LADDER) * self._budget.seconds, self._budget.until(SETTLED))
        if len(near) > 1 and now < deadline:
            self._tell(f"timing {', '.join(f'{size:,}' for size in sorted(near))} again")
            ladder.repeat(near, ROUNDS, deadline)
            race.seconds.update(_medians(ladder))
            race.go()

    def _plan(self, leader, race, goal, seconds):
        if not self._pair or self._trainings.rate is None:
            return None
        plan = prediction.growth_plan(
            statistics.fmean(race.updates[leader].values()),
            leader.size,
            self._pair,
            seconds,
            self._num_examples,
            lambda size: self._rate_factor(Entry(size, leader.step)),
        )
        return plan and racing.race_plan(
            self._trainings, plan, goal, seconds, self._num_examples, self._budget, PLAN, self._tell
        )

    def _concluded(self, pilot, ladder, seconds, goal, expected, race):
        is_raced = len(race.updates) > 1 and race.leader is not None
        leader = race.leader if is_raced else Entry(_fastest(expected, self._own), 0)
        factor, own = self._rate_factor(leader), self._trainings.rate
        advice = Advice(
            batch_size=leader.size,
            learning_rate=None if own is None else float(f"{factor * own:.6g}"),
            rate_factor=factor,
            rate_rule=self._rule,
            plan=self._plan(leader, race, goal, seconds) if is_raced else None,
            known_batch_size=self._own,
            known_learning_rate=own,
            goal_loss=goal,
            target_loss=self._target,
            start_loss=self._trainings.start_loss,
            is_raced=is_raced,
            sizes=rows.size_rows(ladder, expected, race, self._rate_factor),
            noise=tuple(self._points.rows),
            noise_pair=self._pair,
            races=rows.race_rows(race, self._rate_factor),
            num_examples=self._num_examples,
            num_weights=sum(math.prod(v.shape) for v in self._model.trainable_variables),
            stopped_growing=ladder.stopped,
            compile_seconds=self._trainings.compile_seconds,
            seconds=self._budget.spent,
        )
        about = words.About(
            *self._kind, self._pilot_factor, leader.step, self._points.reason, words.kinds_of(self._model)
        )
        return dataclasses.replace(
            advice,
            sentences=tuple(words.sentences(advice, about)),
            unknowns=tuple(words.unknowns(advice, about)),
        )


def _medians(ladder):
    return {size: statistics.median(told) for size, told in ladder.seconds.items()}


def _fastest(expected, own):
    """The size with the least predicted seconds, or the user's own without a prediction."""
    return min(expected, key=lambda size: expected[size][1], default=own)

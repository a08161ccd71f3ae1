"""What an advisor found, as tables of plain numbers."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class SizeRow:
    """What was found of one batch size that was run.

    Attributes:
        batch_size: Examples per update.
        seconds_per_update: Of `fit`, the median of `repeats`; the end of an epoch is shared out among its updates.
        seconds_low, seconds_high: A 95 % interval of the median, from 6 repeats on; else their range.
        repeats: How many times it was timed, in turn with the other sizes.
        examples_per_second: The median examples of a second.
        bytes: The most memory above that at the start, or None where it is unknown.
        predicted_updates, predicted_seconds: To the goal, by S = S_min (1 + B_noise / B) from the pilot; None without.
        raced_updates, raced_seconds: To the goal, the mean over seeds at the fastest rate; None if it was not raced there.
        raced_seeds: How many seeds.
        rate_factor: That rate, over the user's own.
    """

    batch_size: int
    seconds_per_update: float
    seconds_low: float
    seconds_high: float
    repeats: int
    examples_per_second: float
    bytes: int | None = None
    predicted_updates: float | None = None
    predicted_seconds: float | None = None
    raced_updates: float | None = None
    raced_seconds: float | None = None
    raced_seeds: int = 0
    rate_factor: float | None = None


@dataclasses.dataclass(frozen=True)
class NoiseRow:
    """The gradient noise scale at a moment of the pilot, in examples, with a 95 % interval."""

    updates: int
    progress: float  # epochs
    loss: float  # clean training loss there
    noise_scale: float
    low: float
    high: float  # infinite where the data do not rule out that the gradient is 0


@dataclasses.dataclass(frozen=True)
class RaceRow:
    """A size and a rate that were raced.

    Attributes:
        batch_size: Examples per update.
        rate_factor: Its rate, over the user's own.
        updates: To the goal, one per seed; infinite where it was given up, being too slow or having diverged.
        seconds: The mean over seeds of updates x seconds per update; infinite if it was given up.
    """

    batch_size: int
    rate_factor: float
    updates: tuple
    seconds: float


@dataclasses.dataclass(frozen=True)
class GrowthPlan:
    """A batch that grows with the noise scale.

    Attributes:
        batch_sizes: Examples, one after the other.
        milestones: When each but the first begins, epochs.
        rate_factors: The rate with each, over the user's own.
        predicted_seconds: To the goal.
        predicted_saving: Share of the seconds of the fastest fixed batch, by the model.
        raced_seconds: To the goal, the mean over seeds; None if there was no time to race it.
        raced_seeds: How many.
    """

    batch_sizes: tuple
    milestones: tuple
    rate_factors: tuple
    predicted_seconds: float
    predicted_saving: float
    raced_seconds: float | None = None
    raced_seeds: int = 0


@dataclasses.dataclass(frozen=True)
class Advice:
    """Which batch size and which rate, and what that rests on. Print it for the sentences.

    Attributes:
        batch_size: The advised one, examples; a size that was run.
        learning_rate: The advised rate; None where the rate is a schedule: then see `rate_factor`.
        rate_factor: The advised rate over the user's own.
        rate_rule: How the rate was made to follow the batch, a name of `scaling.RATE_RULES`; a race may have found another
            multiple of what the rule says: `rate_factor` tells.
        plan: `GrowthPlan`, or None where growing saves nothing.
        known_batch_size, known_learning_rate: The user's own.
        goal_loss: The clean training loss that was raced to.
        target_loss: The one asked for, or None.
        start_loss: That of the model as it came.
        is_raced: Whether the advice rests on a race, or on the model of it alone.
        sizes: `SizeRow`s, ascending.
        noise: `NoiseRow`s, from beginning to end of the pilot.
        noise_pair: B_noise at its beginning and end, of a curve through them, examples; None if it is not known.
        races: `RaceRow`s, fastest first.
        num_examples: N, of the training set.
        num_weights: Of the model, trainable ones.
        stopped_growing: Why no larger size was run.
        compile_seconds: Seconds spent on tracing and compiling, in none of the rates.
        seconds: What all of it took.
        sentences: What it means, in plain words.
        unknowns: What it does not know.
    """

    batch_size: int
    learning_rate: float | None
    rate_factor: float
    rate_rule: str
    plan: GrowthPlan | None
    known_batch_size: int
    known_learning_rate: float | None
    goal_loss: float | None
    target_loss: float | None
    start_loss: float
    is_raced: bool
    sizes: tuple
    noise: tuple
    noise_pair: tuple | None
    races: tuple
    num_examples: int
    num_weights: int
    stopped_growing: str
    compile_seconds: float
    seconds: float
    sentences: tuple = ()
    unknowns: tuple = ()

    def row(self, batch_size):
        """Return the `SizeRow` of a size."""
        return next(row for row in self.sizes if row.batch_size == batch_size)

    def arms(self):
        """Return arms of an experiment, as far as they can be known: dicts of `batch_size` and `learning_rate`.

        Where the rate is a schedule, `learning_rate` is missing; it is the schedule times `rate_factor`.
        """
        arms = {"known": {"batch_size": self.known_batch_size}, "advised": {"batch_size": self.batch_size}}
        if self.plan is not None:
            arms["grown"] = {"batch_size": _joined(self.plan.batch_sizes, self.plan.milestones)}
        if self.known_learning_rate is not None:
            arms["known"]["learning_rate"] = self.known_learning_rate
            arms["advised"]["learning_rate"] = self.learning_rate
            if self.plan is not None:
                rates = [_short(factor * self.known_learning_rate) for factor in self.plan.rate_factors]
                arms["grown"]["learning_rate"] = _joined(rates, self.plan.milestones)
        return arms

    def to_dict(self):
        """Return plain dicts, lists and numbers; what is infinite or NaN is None, as JSON wants it."""
        return _plain(dataclasses.asdict(self))

    def __str__(self):
        return "\n".join(
            [*self.sentences, "What this does not know:", *(f"- {text}" for text in self.unknowns)]
        )


def _joined(values, milestones):
    if len(set(values)) == 1:
        return values[0]
    return {"call": "schedules.join", "schedules": list(values), "milestones": list(milestones)}


def _short(number):
    return float(f"{number:.6g}")


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

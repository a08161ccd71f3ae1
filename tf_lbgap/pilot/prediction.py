"""What the noise scale says before anything is raced: updates and seconds by size, and a batch that grows.

S = S_min (1 + B_noise / B) updates, of t(B) seconds each; see `advisor`.
"""

import dataclasses

from tf_lbgap import advisor
from tf_lbgap.pilot.results import GrowthPlan

LEAST_SAVING = 0.02  # of the fastest fixed batch's seconds; less is not worth a schedule
SHORTEST = 0.03  # share of all examples; a size that is due for less is left out of a plan


def machine_of(seconds, **several):
    """Return the `advisor.Machine` of seconds per update by size.

    Args:
        seconds: Size -> seconds per update.
        **several: Further arguments of `advisor.Machine`, for several devices.
    """
    return advisor.Machine({size: size / value for size, value in seconds.items()}, **several)


def predicted(updates, batch_size, noise_pair, seconds):
    """Return, for each size, the updates and the seconds to where a known run came.

    Args:
        updates, batch_size: Of that run.
        noise_pair: B_noise at its beginning and at its end.
        seconds: Size -> seconds per update.

    Returns:
        A dict from size to (updates, seconds).

    Example:
        >>> predicted(100, 10, (30, 30), {10: 1.0, 30: 2.0})    # S_min = 25, and 25 (1 + 30 / 30) = 50
        {10: (100.0, 100.0), 30: (50.0, 100.0)}
    """
    training, machine = advisor.Training(updates, batch_size, noise_pair), machine_of(seconds)
    plans = {size: advisor.fixed(training, machine, size) for size in seconds}
    return {size: (round(plan.updates, 6), round(plan.seconds, 9)) for size, plan in plans.items()}


def growth_plan(updates, batch_size, noise_pair, seconds, num_examples, rate_factor):
    """Return the `GrowthPlan` of sizes that were run, or None where it saves less than 2 %.

    Args:
        updates, batch_size: Of a run that reaches the goal.
        noise_pair: B_noise at its beginning and at its end.
        seconds: Size -> seconds per update.
        num_examples: N, which makes epochs of examples.
        rate_factor: Function size -> rate over the user's own.
    """
    training, machine = advisor.Training(updates, batch_size, noise_pair), machine_of(seconds)
    best = min(advisor.fixed(training, machine, size).seconds for size in seconds)
    plan = _without_short_ones(training, machine, sorted(seconds))
    saving = 1 - plan.seconds / best
    if not plan.is_grown or saving < LEAST_SAVING:
        return None
    return GrowthPlan(
        plan.batch_sizes,
        tuple(round(seen / num_examples, 3) for seen in plan.milestones[1:]),
        tuple(rate_factor(size) for size in plan.batch_sizes),
        plan.seconds,
        saving,
    )


def seconds_of_plan(plan, progress, seconds, num_examples):
    """Return the seconds that a plan takes until some progress, in epochs."""
    starts = (0.0, *plan.milestones)
    ends = (*plan.milestones, progress)
    return sum(
        max(min(end, progress) - start, 0.0) * num_examples / size * seconds[size]
        for size, start, end in zip(plan.batch_sizes, starts, ends, strict=True)
    )


def raced(plan, seconds):
    """Return a plan with the seconds to the goal of each seed."""
    return dataclasses.replace(plan, raced_seconds=sum(seconds) / len(seconds), raced_seeds=len(seconds))


def _without_short_ones(training, machine, sizes):
    while True:
        plan = advisor.grown(training, machine, sizes)
        ends = (*plan.milestones[1:], plan.examples)
        shares = [(b - a) / plan.examples for a, b in zip(plan.milestones, ends, strict=True)]
        if min(shares) >= SHORTEST or len(shares) < 2:
            return plan
        shortest = plan.batch_sizes[shares.index(min(shares))]
        sizes = [size for size in sizes if size != shortest]

"""Trainings as entries of a race: each to the goal, or until it is given up, or the time is over."""

import math

from tf_lbgap import schedules
from tf_lbgap.pilot import prediction
from tf_lbgap.pilot.curve import passed

SEEDS_OF_A_PLAN = 3


def runner(trainings, goal, rate_factor, budget, share, tell):
    """Return the function `run` of a `Race`.

    Args:
        trainings: `Trainings`.
        goal: The clean loss to reach.
        rate_factor: Function of an entry that returns its rate over the user's own.
        budget, share: Time, and the share of it at which the race is over.
        tell: Function of a text.
    """
    deadline = budget.until(share)

    def run(entry, seed, most_updates):
        if budget.clock() >= deadline:
            return None
        factor = rate_factor(entry)
        tell(f"racing batch {entry.size:,}, rate x {factor:.3g}, seed {seed}")
        recorder = trainings.run(
            entry.size,
            lambda r: r.is_at(goal) or r.updates > most_updates or budget.clock() >= deadline,
            rate_factor=factor,
            seed=seed,
            looks=True,
        )
        point = passed(recorder.points, goal)
        if point is not None:
            return max(point.updates, 1.0)
        return math.inf if recorder.diverged or recorder.updates > most_updates else None

    return run


def race_plan(trainings, plan, goal, seconds, num_examples, budget, share, tell):
    """Return a `GrowthPlan` with the seconds that it takes, as far as there is time to find out.

    Args:
        plan: `GrowthPlan`.
        seconds: Size -> seconds per update.
        num_examples: N.
        trainings, goal, budget, share, tell: As for `runner`.
    """
    sizes = schedules.join(list(plan.batch_sizes), list(plan.milestones))
    factors = schedules.join(list(plan.rate_factors), list(plan.milestones))
    deadline, told = budget.until(share), []
    for seed in range(SEEDS_OF_A_PLAN):
        tell(f"racing a batch that grows, seed {seed}")
        recorder = trainings.run(
            plan.batch_sizes[0],
            lambda r: r.is_at(goal) or budget.clock() >= deadline,
            rate_factor=factors,
            seed=seed,
            schedule=sizes,
            looks=True,
        )
        point = passed(recorder.points, goal)
        if point is None:
            break
        told.append(prediction.seconds_of_plan(plan, point.progress, seconds, num_examples))
    return prediction.raced(plan, told) if told else plan

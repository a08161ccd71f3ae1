"""The pilot: the user's own batch and rate, for a while, with the noise scale at several points; and a loss to race to."""

from tf_lbgap.pilot import stopwatch
from tf_lbgap.pilot.curve import lowest_passed

RATES = (1.0, 1 / 4, 1 / 16)  # one after the other, as long as training diverges
LEAST_PROGRESS = 0.98  # of the loss at the start: a goal above it says nothing


def run_pilot(trainings, batch_size, target, budget, share, noise):
    """Train at the user's own batch and rate, or at a quarter or a sixteenth of it if that diverges.

    Args:
        trainings: `Trainings`.
        batch_size: The user's.
        target: Loss at which it is over, or None.
        budget: `Budget`.
        share: Of it, when it is over at the latest.
        noise: `NoisePoints`, called before the first update, as the updates double, and at the end.

    Returns:
        The `Recorder`, and the factor of the rate.

    Raises:
        ValueError: If all of them diverge.
    """
    deadline = budget.until(share)

    def is_over(recorder):
        if recorder.updates < stopwatch.WARM + 3:
            return False
        return (target is not None and recorder.is_at(target)) or budget.clock() >= deadline

    with trainings.put_back():
        noise(0, 0.0, trainings.start_loss)
    factors = (1.0,) if trainings.has_keras_schedule else RATES
    for factor in factors:
        del noise.rows[1:]
        pilot = trainings.run(batch_size, is_over, rate_factor=factor, looks=True, probe=noise)
        if not pilot.diverged:
            return pilot, factor
        deadline += (budget.until(1.0) - deadline) / 8
    also = ", at your learning rate, and at a quarter and a sixteenth of it too" if len(factors) > 1 else ""
    raise ValueError(
        f"Training diverged at batch {batch_size} after {pilot.updates} updates{also}. Compile the model with a lower "
        "learning rate."
    )


def goal_of(pilot, target, seconds):
    """Return the loss to race to: the target if the pilot reached it in so many seconds, else the lowest it reached in them.

    Args:
        pilot: `Recorder`.
        target: The loss asked for, or None.
        seconds: Of training.

    Returns:
        The loss, or None if there was no progress worth the name.
    """
    began = pilot.stamps[0].seconds
    in_time = {stamp.updates for stamp in pilot.stamps if stamp.seconds - began <= seconds}
    points = [point for point in pilot.points if point.updates == 0 or point.updates in in_time]
    level = lowest_passed(points)
    if target is not None and level <= target:
        return target
    return level if level < LEAST_PROGRESS * pilot.points[0].loss else None

"""Advice from numbers alone, as a table and sentences."""

from rich.table import Table

from tf_lbgap import advisor


def on_paper(machine, training, largest=None):
    """Return a table of plans, and sentences on the best of them.

    Args:
        machine: Arguments of `advisor.Machine`.
        training: Arguments of `advisor.Training`.
        largest: Largest batch to look at; None: 8 times the largest noise scale.

    Raises:
        ValueError: If a number is out of range.
    """
    machine, training = advisor.Machine(**machine), advisor.Training(**training)
    smallest = min(training.batch_size, machine.devices)
    top = largest or max(advisor.BEYOND * max(training.noise_scale), 2 * training.batch_size, machine.devices)
    sizes = [size for size in advisor.ladder(machine, smallest, top) if 4 * size >= training.batch_size]
    plans = [advisor.fixed(training, machine, size) for size in sizes]
    best = min(plans, key=lambda plan: plan.seconds)
    grown = advisor.grown(training, machine, sizes)
    known = advisor.fixed(training, machine, training.batch_size)
    table = Table(box=None)
    for name in ("batch", "updates", "examples", "seconds", "of the known run", "efficiency"):
        table.add_column(name, justify="right")
    for plan in [*plans, *[grown] * grown.is_grown]:
        mark = " *" if plan is best else ""
        share = "" if plan.is_grown else f"{advisor.efficiency(machine, plan.batch_sizes[0]):.0%}"
        name = (
            f"{plan.batch_sizes[0]:,} to {plan.batch_sizes[-1]:,}"
            if plan.is_grown
            else f"{plan.batch_sizes[0]:,}"
        )
        table.add_row(
            name + mark,
            f"{plan.updates:,.0f}",
            f"{plan.examples:,.0f}",
            f"{plan.seconds:,.4g}",
            f"{plan.seconds / known.seconds:.2f}",
            share,
        )
    return table, list(_sentences(machine, training, known, best, grown))


def _sentences(machine, training, known, best, grown):
    first, second = training.batch_size, best.batch_sizes[0]
    where = f"{machine.devices} devices" if machine.devices > 1 else "one device"
    yield (
        f"* the fastest fixed batch on {where}: {second:,}, {best.seconds / known.seconds:.2f} of the seconds of {first:,}, with "
        f"{best.examples / known.examples:.2f} times the examples."
    )
    if grown.is_grown:
        steps = ", ".join(
            f"{size:,} from {seen:,.0f}"
            for size, seen in zip(grown.batch_sizes, grown.milestones, strict=True)
        )
        yield (
            f"Growing with the noise scale saves another {1 - grown.seconds / best.seconds:.1%}: {steps} examples on."
        )
    else:
        yield "Growing the batch saves nothing here: one size is the fastest all the time."
    if second > first:
        share = advisor.break_even(
            first, second, *(min(advisor.efficiency(machine, size), 1.0) for size in (first, second))
        )
        yield (
            f"{second:,} is faster than {first:,} as long as it takes less than {share:.0%} of its updates (Keskar et al., "
            f"appendix C); by the noise scale it takes {best.updates / known.updates:.0%}."
        )
    yield "By S = S_min (1 + B_noise / B), with the rate tuned for each batch: a model, not a measurement."

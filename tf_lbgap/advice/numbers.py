"""Advice from numbers alone, as a table and sentences."""

from rich.table import Table

from tf_lbgap import advisor
from tf_lbgap.experiment import ConfigError

BANDWIDTH, LATENCY = 10e9, 1e-5  # of messages between devices, if nobody says: bytes per second, seconds


def run(options, console):
    """Print what fixed and grown batches would take, from the numbers of the command line; return the exit code.

    Raises:
        ConfigError: If a number is out of range.
    """
    training = {key: getattr(options, key) for key in ("updates", "batch_size", "noise_scale")}
    try:
        table, sentences = on_paper(_machine(options, options.throughput), training, options.largest)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    console.print(table)
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    return 0


def predicted_on_devices(found, options):
    """Return a table and sentences of so many devices, from what was measured on this one; None without a noise scale."""
    if found.noise_pair is None:
        return None
    row = found.row(found.batch_size)
    throughput = {size.batch_size: size.examples_per_second for size in found.sizes}
    machine = _machine(options, throughput, 4.0 * found.num_weights)
    training = {
        "updates": row.raced_updates or row.predicted_updates,
        "batch_size": found.batch_size,
        "noise_scale": found.noise_pair,
    }
    if training["updates"] is None:
        return None
    return on_paper(machine, training, options.largest or found.num_examples)


def _machine(options, throughput, gradient_bytes=0.0):
    """Return the arguments of `advisor.Machine`."""
    return {
        "throughput": throughput,
        "devices": options.devices,
        "gradient_bytes": options.gradient_bytes or gradient_bytes,
        "bandwidth": options.bandwidth or BANDWIDTH,
        "latency": options.latency or LATENCY,
        "largest_share": options.largest_share,
    }


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

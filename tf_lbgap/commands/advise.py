"""`lbgap advise`: which batch size and learning rate."""

import argparse

from tf_lbgap.commands import arguments


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "advise",
        help="which batch size and learning rate: by a minute of trial on a YAML file, or from given numbers",
        description="With a CONFIG: spend a minute on an arm of it, timing batch sizes, measuring the gradient noise scale and racing "
        "sizes and rates to a training loss; print what was found and write it as an experiment. Without: print what fixed batches "
        "and a batch that grows would take on so many devices, updates, examples, seconds, from numbers alone: a throughput curve, "
        "the gradient noise scale, and a run that is known to reach the target.",
    )
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="YAML file, such as configs/quickstart.yaml"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as target_loss=0.1 or data.num_train=5000"
    )
    parser.add_argument(
        "--budget", type=arguments.above_zero, metavar="SECONDS", help="with CONFIG, 60 by default"
    )
    parser.add_argument(
        "--branched",
        type=_ascending,
        metavar="E,...",
        help="with CONFIG, in place of the advice: the critical batch size by branched training after so many epochs, such as 0,1,5",
    )
    parser.add_argument("--arm", metavar="NAME", help="with CONFIG, its reference by default")
    parser.add_argument(
        "--target-loss",
        type=arguments.above_zero,
        metavar="X",
        help="training loss to reach, the arm's own by default",
    )
    parser.add_argument(
        "--output",
        metavar="FILE.yaml",
        help="with CONFIG: the experiment, by default runs/NAME/advice.yaml; a file of numbers, .json, is put beside it",
    )
    parser.add_argument("--quiet", action="store_true", help="no line of progress")
    parser.add_argument(
        "--devices", type=arguments.positive, default=1, metavar="N", help="devices that share each batch"
    )
    parser.add_argument(
        "--throughput",
        type=_curve,
        metavar="B:R,...",
        help="examples per second of one device at some batches, such as 64:900,256:2000; or one number",
    )
    parser.add_argument(
        "--noise-scale",
        type=_pair,
        metavar="A[:B]",
        help="gradient noise scale in examples, or at the beginning and at the end, such as 200:5000",
    )
    parser.add_argument("--updates", type=arguments.above_zero, metavar="S", help="updates of the known run")
    parser.add_argument("--batch-size", type=arguments.positive, metavar="B", help="its batch, examples")
    parser.add_argument(
        "--gradient-bytes", type=arguments.above_zero, metavar="G", help="4 per weight in float32"
    )
    parser.add_argument("--bandwidth", type=arguments.above_zero, metavar="W", help="bytes/s between devices")
    parser.add_argument("--latency", type=arguments.above_zero, metavar="T", help="seconds per message")
    parser.add_argument(
        "--largest-share", type=arguments.positive, metavar="B", help="most examples of a device at a time"
    )
    parser.add_argument("--largest", type=arguments.positive, metavar="B", help="largest batch to look at")
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    from rich.console import Console

    from tf_lbgap import advice

    return advice.run(options, Console(highlight=False, markup=False, emoji=False))


def _curve(text):
    """Return {batch size: examples per second}, or a number."""
    if ":" not in text:
        return arguments.above_zero(text)
    points = (part.partition(":") for part in text.split(","))
    return {arguments.positive(size): arguments.above_zero(rate) for size, _, rate in points}


def _pair(text):
    first, _, second = text.partition(":")
    return arguments.above_zero(first), arguments.above_zero(second or first)


def _ascending(text):
    """Return whole numbers, the least first."""
    numbers = [arguments.count(part) for part in text.split(",")]
    if numbers != sorted(set(numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} are not whole numbers that ascend, such as 0,1,5")
    return numbers

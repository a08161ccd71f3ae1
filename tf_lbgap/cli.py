"""The command line: `lbgap`, or `python -m tf_lbgap`."""

import argparse
import sys

from tf_lbgap.commands import COMMANDS


def main(arguments=None):
    """Run a command and return its exit code: 0, 1 if training failed, 2 for a mistake in what was typed."""
    options = _parse(arguments)
    from tf_lbgap import interrupts
    from tf_lbgap.experiment import ConfigError, RunFailed

    try:
        with interrupts.kept():
            return options.command(options)
    except (ConfigError, RunFailed) as error:
        print(f"lbgap: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(
            "\nlbgap: stopped; what finished is kept, and the same command goes on from there.",
            file=sys.stderr,
        )
        return 130


def _parse(arguments):
    # argparse takes all of `nargs="*"` at once, so key=value after an option is left over.
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(options, "overrides")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides += rest
    return options


def _parser():
    from tf_lbgap import __version__

    parser = argparse.ArgumentParser(
        prog="lbgap", description="Large-batch training and the generalization gap."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser

"""`lbgap advise CONFIG`: measure, print, and write what was found as an experiment.

Nothing here imports TensorFlow until the configuration is known to be right.
"""

import os
import pathlib
import time

from tf_lbgap import experiment
from tf_lbgap.advice import branches, comparison, numbers, tables
from tf_lbgap.aside import written_aside
from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.files import write_json

MEASURED = ("throughput", "noise_scale", "updates", "batch_size")  # what is given as numbers without a CONFIG
OF_AN_ADVICE = ("budget", "target_loss", "output")
OF_A_CONFIG = (*OF_AN_ADVICE, "arm", "branched")
OF_DEVICES = ("gradient_bytes", "bandwidth", "latency", "largest_share", "largest")
BUDGET = 60.0


def check_options(options):
    """Raise a ConfigError if options are mixed of which some need a CONFIG, and others are measured with one."""
    given = [name for name in MEASURED if getattr(options, name) is not None]
    if options.config is not None and given:
        raise ConfigError(
            f"With {options.config}, {_flags(given)} {'is' if len(given) == 1 else 'are'} measured. Leave it out."
        )
    of_devices = [name for name in OF_DEVICES if getattr(options, name) is not None]
    if options.config is not None and options.devices == 1 and of_devices:
        raise ConfigError(
            f"With {options.config}, {_flags(of_devices)} is for --devices above 1. Leave it out."
        )
    if options.branched is not None and options.devices > 1:
        raise ConfigError("--branched measures on this device: leave out --devices.")
    useless = [name for name in OF_AN_ADVICE if getattr(options, name) is not None]
    if options.branched is not None and useless:
        raise ConfigError(f"--branched measures, and advises nothing: leave out {_flags(useless)}.")
    if options.config is None:
        missing = [name for name in MEASURED if name not in given]
        if missing:
            raise ConfigError(
                f"Without a file, advise needs {_flags(missing)}. Or let it measure: lbgap advise configs/quickstart.yaml"
            )
        alone = [name for name in OF_A_CONFIG if getattr(options, name) is not None]
        if alone:
            raise ConfigError(f"{_flags(alone)} needs a file to measure, such as configs/quickstart.yaml.")


def run(options, console):
    """Do what was asked for: advice on an arm, its critical batch size by branches, or a calculation from numbers.

    Args:
        options: Of the command line.
        console: A rich console.

    Returns:
        The exit code.

    Raises:
        ConfigError: If options, file or arm are wrong.
    """
    check_options(options)
    if options.config is None:
        return numbers.run(options, console)
    return advise(options, console) if options.branched is None else branches.run(options, console)


def advise(options, console):
    """Advise on an arm, print tables and sentences, write YAML and JSON, and return the exit code.

    Args:
        options: Of the command line.
        console: A rich console.

    Raises:
        ConfigError: If the file, the arm or an option is wrong.
    """
    started = time.perf_counter()
    loaded = experiment.load(options.config, options.overrides)
    name = comparison.arm_of(loaded, options)
    output = pathlib.Path(options.output or comparison.default_output(loaded))
    check_output(output)
    found = _measure(loaded, name, options, started, console)
    _print(found, options, console)
    write(loaded, name, found, output)
    for path in (output, output.with_suffix(".json")):
        console.print(str(path), soft_wrap=True)
    console.print(f"the advice as an experiment: lbgap run {output}", soft_wrap=True)
    return 0


def write(loaded, arm, found, output):
    """Write the experiment of an advice, and the advice itself beside it as JSON."""
    text = comparison.text_of(comparison.content_of(loaded, arm, found), found)
    with written_aside(output) as file:
        file.write(text.encode())
    write_json(output.with_suffix(".json"), found.to_dict())


def check_output(output):
    """Raise a ConfigError, before a minute is spent, if a YAML file cannot be written there."""
    if output.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--output: {str(output)!r} should end in .yaml; advice.json is put beside it.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        is_there = output.parent.is_dir() and os.access(output.parent, os.W_OK) and not output.is_dir()
    except OSError:
        is_there = False
    if not is_there:
        raise ConfigError(f"--output: {str(output)!r} cannot be written. Name a file in a folder of yours.")


def _measure(loaded, name, options, started, console):
    from tf_lbgap.experiment.quiet import import_tensorflow

    import_tensorflow()
    from tf_lbgap.pilot.configured import advise_arm

    with console.status("") as status:
        budget = BUDGET if options.budget is None else options.budget
        return advise_arm(
            loaded.arms[name],
            check_examples=loaded.measure.check_examples,
            target_loss=options.target_loss,
            budget=max(budget - (time.perf_counter() - started), budget / 2),
            tell=lambda text: status.update(text) if console.is_terminal and not options.quiet else None,
        )


def _print(found, options, console):
    console.print(tables.speeds_table(found))
    console.print(tables.races_table(found))
    for sentence in found.sentences:
        console.print(sentence, soft_wrap=True)
    console.print("What this does not know:")
    for text in found.unknowns:
        console.print(f"- {text}", soft_wrap=True)
    if options.devices > 1:
        on_devices = numbers.predicted_on_devices(found, options)
        title = f"On {options.devices} devices, a prediction from one: none of it was run."
        console.print(
            title if on_devices else f"{title} There is nothing to predict from: no noise scale, or no race.",
            soft_wrap=True,
        )
        for part in [on_devices[0], *on_devices[1]] if on_devices else ():
            console.print(part, soft_wrap=True)


def _flags(names):
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)

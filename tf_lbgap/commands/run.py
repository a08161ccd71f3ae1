"""`lbgap run`: train the arms of a YAML file."""

import os

from tf_lbgap.commands import arguments


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "run",
        help="train the arms of a YAML file and print a table",
        description="Train every arm of a YAML file with every seed, write a run directory, print a table.",
    )
    parser.add_argument("config", help="YAML file, such as configs/quickstart.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as seeds=10 or arms.small.batch_size=8"
    )
    parser.add_argument(
        "--jobs",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="processes that train at the same time",
    )
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        help="what to train on: default, mirrored, multiworker, tpu, parameter_server or auto; as strategy=NAME",
    )
    parser.add_argument("--again", action="store_true", help="train anew what is finished")
    parser.add_argument("--quiet", action="store_true", help="print the table and the paths only")
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    from rich.console import Console

    from tf_lbgap import experiment, report
    from tf_lbgap.bars import Bars

    strategy = [f"strategy={options.strategy}"] * (options.strategy is not None)
    loaded = experiment.load(options.config, options.overrides + strategy)
    console = Console(highlight=False, markup=False, emoji=False)  # names are printed as they are
    with Bars(console, quiet=options.quiet) as bars:
        rows = experiment.run(loaded, jobs=options.jobs, again=options.again, listen=bars)
    if not rows:  # of several machines the chief says it
        return 0
    console.print(report.rich_table(report.results_grid(loaded, rows), whole="numbers"))
    for grid in (report.differences_grid(loaded, rows), report.margin_grid(loaded, rows)):
        if grid is not None:
            console.print(report.rich_table(grid))
    console.print(report.sentence(loaded, rows), soft_wrap=True)
    report.write([loaded.output], figures=False)
    for name in ("results.json", "results.csv", "config.yaml", "report.html"):
        console.print(os.path.join(loaded.output, name), soft_wrap=True)
    console.print(f"curves: tensorboard --logdir {loaded.output}", soft_wrap=True)
    console.print(f"figures and tables for a paper: lbgap report {loaded.output}", soft_wrap=True)
    return 0

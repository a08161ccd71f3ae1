"""`lbgap measure`: the sharpness of saved weights."""

import os

from tf_lbgap.commands import arguments


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "measure",
        help="measure the sharpness of a run's saved weights",
        description="Measure the saved weights of a run, write RUN/measures.json, print a table.",
    )
    parser.add_argument("run", metavar="RUN", help="run directory, such as runs/quickstart")
    parser.add_argument(
        "names", nargs="*", metavar="MEASURE", help="names in tf_lbgap.sharpness, such as top_eigenvalue"
    )
    parser.add_argument(
        "--examples",
        type=arguments.count,
        metavar="N",
        help="how many training examples to measure on; 0: all",
    )
    parser.add_argument(
        "--subsets",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="disjoint subsets, each measured alone",
    )
    parser.add_argument("--quiet", action="store_true", help="print the table and the paths only")
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    from rich.console import Console

    from tf_lbgap import experiment, report
    from tf_lbgap.experiment.measure import DEFAULT

    console = Console(highlight=False, markup=False, emoji=False)

    def tell(arm, seed, row):
        if not options.quiet:
            console.print(f"measured {arm}, seed {seed}")

    names = tuple(dict.fromkeys(options.names)) or DEFAULT
    loaded, rows = experiment.measure(
        options.run, names, examples=options.examples, subsets=options.subsets, listen=tell
    )
    console.print(report.rich_table(report.measures_grid(loaded, rows, names), whole="names"))
    for name in ("measures.json", "measures.csv"):
        console.print(os.path.join(options.run, name), soft_wrap=True)
    return 0

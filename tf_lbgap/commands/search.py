"""`lbgap search`: search by Keras Tuner, train the winners anew."""

import os

from tf_lbgap.commands import arguments


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "search",
        help="search over batch size, learning rate and more, and train the winners anew",
        description="Search over the ranges of a YAML file by Keras Tuner, train the winners anew on fresh seeds, write a run "
        "directory, print a table. With KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT set, this is the "
        "chief or a worker of several.",
    )
    parser.add_argument("config", help="YAML file, such as configs/search.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as max_trials=60 or output=runs/again"
    )
    parser.add_argument(
        "--jobs",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="trials that are trained at the same time",
    )
    parser.add_argument("--again", action="store_true", help="begin anew, whatever was found before")
    parser.add_argument("--quiet", action="store_true", help="print the tables and the paths only")
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    from rich.console import Console

    from tf_lbgap import experiment, report, search
    from tf_lbgap.bars import TrialBars

    loaded = search.load(options.config, options.overrides)
    console = Console(highlight=False, markup=False, emoji=False)
    with TrialBars(console, quiet=options.quiet) as bars:
        results = search.run(loaded, jobs=options.jobs, again=options.again, listen=bars)
    if not results:  # of several processes the chief says it
        return 0
    objective = search.OBJECTIVES[loaded.objective]
    console.print(report.rich_table(report.trials_grid(results, objective), whole="numbers"))
    for sentence in report.edge_sentences(results):
        console.print(sentence, soft_wrap=True)
    winners = os.path.join(loaded.output, "winners", "config.yaml")
    final, rows = experiment.load(winners), results["runs"]
    console.print(report.rich_table(report.results_grid(final, rows), whole="numbers"))
    for grid in (report.differences_grid(final, rows), report.margin_grid(final, rows)):
        if grid is not None:
            console.print(report.rich_table(grid))
    report.write([final.output], figures=False)
    for path in report.write_search(loaded.output, results):
        console.print(str(path), soft_wrap=True)
    for name in ("results.json", "trials.csv", "winners/report.html"):
        console.print(os.path.join(loaded.output, name), soft_wrap=True)
    console.print(f"the winners as an experiment: lbgap run {winners}", soft_wrap=True)
    console.print(
        f"every trial: tensorboard --logdir {loaded.output}, tabs SHARPNESS and HPARAMS", soft_wrap=True
    )
    return 0

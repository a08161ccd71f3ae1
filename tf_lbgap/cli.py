"""The command line: `lbgap`, or `python -m tf_lbgap`."""

import argparse
import os
import sys


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
    run = commands.add_parser(
        "run",
        help="train the arms of a YAML file and print a table",
        description="Train every arm of a YAML file with every seed, write a run directory, print a table.",
    )
    run.add_argument("config", help="YAML file, such as configs/quickstart.yaml")
    run.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as seeds=10 or arms.small.batch_size=8"
    )
    run.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="processes that train at the same time"
    )
    run.add_argument(
        "--strategy",
        metavar="NAME",
        help="what to train on: default, mirrored, multiworker, tpu, parameter_server or auto; as strategy=NAME",
    )
    run.add_argument("--again", action="store_true", help="train anew what is finished")
    run.add_argument("--quiet", action="store_true", help="print the table and the paths only")
    run.set_defaults(command=_run)
    reproduce = commands.add_parser(
        "reproduce",
        help="run a paper's experiments and give its claims verdicts",
        description="Run the experiments of a paper's YAML file, measure, and print a table of its claims with PASS, FAIL or "
        "INCONCLUSIVE, by criteria that stand in the file. What is finished is not run again, unless the file or the code changed.",
    )
    reproduce.add_argument("papers", nargs="*", metavar="NAME", help="such as keskar2017, or a YAML file")
    reproduce.add_argument("--all", action="store_true", help="all papers of configs/")
    reproduce.add_argument("--scale", default="small", metavar="SCALE", help="small (2 cores), gpu or full")
    reproduce.add_argument(
        "--seeds", type=_positive, metavar="N", help="how many, in place of what the file says"
    )
    reproduce.add_argument("--first-seed", type=_count, metavar="N", help="the first of them")
    reproduce.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="processes side by side; by default one a core, at other scales than small 1",
    )
    reproduce.add_argument("--output", metavar="DIR", help="by default runs/reproduce")
    reproduce.add_argument("--again", action="store_true", help="train anew what is finished")
    reproduce.add_argument("--quiet", action="store_true", help="print the tables and the paths only")
    reproduce.add_argument(
        "--rehearse",
        nargs="?",
        type=_positive,
        const=True,
        metavar="BATCH",
        help="only fit two updates of each arm, on random examples in place of a download; BATCH caps their batches",
    )
    reproduce.set_defaults(command=_reproduce)
    gallery = commands.add_parser(
        "gallery",
        help="show reproductions on one page of Markdown",
        description="Collect the results of lbgap reproduce: write DOCS/gallery.md, its figures, and DOCS/results/NAME.json.",
    )
    gallery.add_argument(
        "runs", nargs="?", default="runs/reproduce", metavar="DIR", help="by default runs/reproduce"
    )
    gallery.add_argument("--second", metavar="DIR", help="the same with other seeds, shown beside")
    gallery.add_argument(
        "--scale", default="small", choices=("small", "gpu", "full"), help="whose results; by default small"
    )
    gallery.add_argument("--output", default="docs", metavar="DOCS", help="by default docs")
    gallery.set_defaults(command=_gallery)
    search = commands.add_parser(
        "search",
        help="search over batch size, learning rate and more, and train the winners anew",
        description="Search over the ranges of a YAML file by Keras Tuner, train the winners anew on fresh seeds, write a run "
        "directory, print a table. With KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT set, this is the "
        "chief or a worker of several.",
    )
    search.add_argument("config", help="YAML file, such as configs/search.yaml")
    search.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as max_trials=60 or output=runs/again"
    )
    search.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="trials that are trained at the same time"
    )
    search.add_argument("--again", action="store_true", help="begin anew, whatever was found before")
    search.add_argument("--quiet", action="store_true", help="print the tables and the paths only")
    search.set_defaults(command=_search)
    measure = commands.add_parser(
        "measure",
        help="measure the sharpness of a run's saved weights",
        description="Measure the saved weights of a run, write RUN/measures.json, print a table.",
    )
    measure.add_argument("run", metavar="RUN", help="run directory, such as runs/quickstart")
    measure.add_argument(
        "names", nargs="*", metavar="MEASURE", help="names in tf_lbgap.sharpness, such as top_eigenvalue"
    )
    measure.add_argument(
        "--examples", type=_count, metavar="N", help="how many training examples to measure on; 0: all"
    )
    measure.add_argument(
        "--subsets", type=_positive, default=1, metavar="N", help="disjoint subsets, each measured alone"
    )
    measure.add_argument("--quiet", action="store_true", help="print the table and the paths only")
    measure.set_defaults(command=_measure)
    report = commands.add_parser(
        "report",
        help="write one HTML page, figures and LaTeX tables of runs",
        description="Write RUN/report.html, which opens without TensorBoard, figures as SVG and PDF into RUN/figures, and "
        "LaTeX tables into RUN/tables.",
    )
    report.add_argument(
        "runs", nargs="+", metavar="RUN", help="run directory, such as runs/quickstart; several are compared"
    )
    report.add_argument("--output", metavar="FILE", help="the HTML file, by default RUN/report.html")
    report.add_argument("--quiet", action="store_true", help="print the path of the page only")
    report.set_defaults(command=_report)
    advise = commands.add_parser(
        "advise",
        help="which batch size and learning rate: by a minute of trial on a YAML file, or from given numbers",
        description="With a CONFIG: spend a minute on an arm of it, timing batch sizes, measuring the gradient noise scale and racing "
        "sizes and rates to a training loss; print what was found and write it as an experiment. Without: print what fixed batches "
        "and a batch that grows would take on so many devices, updates, examples, seconds, from numbers alone: a throughput curve, "
        "the gradient noise scale, and a run that is known to reach the target.",
    )
    advise.add_argument(
        "config", nargs="?", metavar="CONFIG", help="YAML file, such as configs/quickstart.yaml"
    )
    advise.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as target_loss=0.1 or data.num_train=5000"
    )
    advise.add_argument("--budget", type=_above_zero, metavar="SECONDS", help="with CONFIG, 60 by default")
    advise.add_argument(
        "--branched",
        type=_ascending,
        metavar="E,...",
        help="with CONFIG, in place of the advice: the critical batch size by branched training after so many epochs, such as 0,1,5",
    )
    advise.add_argument("--arm", metavar="NAME", help="with CONFIG, its reference by default")
    advise.add_argument(
        "--target-loss",
        type=_above_zero,
        metavar="X",
        help="training loss to reach, the arm's own by default",
    )
    advise.add_argument(
        "--output",
        metavar="FILE.yaml",
        help="with CONFIG: the experiment, by default runs/NAME/advice.yaml; a file of numbers, .json, is put beside it",
    )
    advise.add_argument("--quiet", action="store_true", help="no line of progress")
    advise.add_argument(
        "--devices", type=_positive, default=1, metavar="N", help="devices that share each batch"
    )
    advise.add_argument(
        "--throughput",
        type=_curve,
        metavar="B:R,...",
        help="examples per second of one device at some batches, such as 64:900,256:2000; or one number",
    )
    advise.add_argument(
        "--noise-scale",
        type=_pair,
        metavar="A[:B]",
        help="gradient noise scale in examples, or at the beginning and at the end, such as 200:5000",
    )
    advise.add_argument("--updates", type=_above_zero, metavar="S", help="updates of the known run")
    advise.add_argument("--batch-size", type=_positive, metavar="B", help="its batch, examples")
    advise.add_argument("--gradient-bytes", type=_above_zero, metavar="G", help="4 per weight in float32")
    advise.add_argument("--bandwidth", type=_above_zero, metavar="W", help="bytes/s between devices")
    advise.add_argument("--latency", type=_above_zero, metavar="T", help="seconds per message")
    advise.add_argument(
        "--largest-share", type=_positive, metavar="B", help="most examples of a device at a time"
    )
    advise.add_argument("--largest", type=_positive, metavar="B", help="largest batch to look at")
    advise.set_defaults(command=_advise)
    return parser


def _curve(text):
    """Return {batch size: examples per second}, or a number."""
    if ":" not in text:
        return _above_zero(text)
    points = (part.partition(":") for part in text.split(","))
    return {_positive(size): _above_zero(rate) for size, _, rate in points}


def _pair(text):
    first, _, second = text.partition(":")
    return _above_zero(first), _above_zero(second or first)


def _above_zero(text):
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def _count(text):
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _ascending(text):
    """Return whole numbers, the least first."""
    numbers = [_count(part) for part in text.split(",")]
    if numbers != sorted(set(numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} are not whole numbers that ascend, such as 0,1,5")
    return numbers


def _positive(text):
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _run(options):
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


def _reproduce(options):
    from rich.console import Console

    from tf_lbgap import report, reproduction
    from tf_lbgap.bars import PieceBars
    from tf_lbgap.experiment import ConfigError

    if bool(options.papers) == options.all:
        raise ConfigError("Name papers, such as  lbgap reproduce keskar2017, or type --all; not both.")
    names = reproduction.known_papers() if options.all else dict.fromkeys(options.papers)
    papers = [_paper(name, options) for name in names]
    console = Console(highlight=False, markup=False, emoji=False)
    if options.rehearse:
        return _rehearse(papers, options.rehearse, console)
    for paper in papers:
        if reproduction.finished_results(paper) is None:
            console.print(report.rich_table(report.power_grid(reproduction.expected(paper))))
    jobs = options.jobs or ((os.cpu_count() or 1) if options.scale == "small" else 1)
    with PieceBars(console, quiet=options.quiet) as bars:
        for paper, results in reproduction.reproduce(papers, jobs=jobs, again=options.again, listen=bars):
            console.print(report.rich_table(report.claims_grid(results, narrow=True)))
            for path in (
                os.path.join(paper.output, "results.json"),
                report.write_paper(results, paper.output)[0],
            ):
                console.print(str(path), soft_wrap=True)
    return 0


def _rehearse(papers, batch_size, console):
    from tf_lbgap import reproduction

    cap = None if batch_size is True else batch_size
    failed = 0
    for row in reproduction.rehearse(papers, batch_size=cap):
        failed += row["failure"] is not None
        outcome = row["failure"] or f"{row['updates']} updates, batch {row['batch_size']:,}"
        places = ", ".join(row["experiments"])
        console.print(f"{row['arm']} ({places}): {outcome}, {row['seconds']:.1f} s", soft_wrap=True)
    console.print(f"{failed} failed" if failed else "none failed")
    return 1 if failed else 0


def _gallery(options):
    from tf_lbgap import report

    for path in report.write_gallery(
        options.runs, options.output, second=options.second, scale=options.scale
    ):
        print(path)
    return 0


def _paper(name, options):
    from tf_lbgap import reproduction

    stem = os.path.splitext(os.path.basename(str(name)))[0]
    output = options.output and os.path.join(options.output, f"{stem}-{options.scale}")
    return reproduction.load(
        name, options.scale, seeds=options.seeds, first_seed=options.first_seed, output=output
    )


def _search(options):
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


def _measure(options):
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


def _report(options):
    _read_events_without_tensorflow()
    from tf_lbgap import report

    paths = report.write(options.runs, options.output)
    for path in paths[:1] if options.quiet else paths:
        print(path)
    return 0


def _advise(options):
    from rich.console import Console

    from tf_lbgap import advice

    return advice.run(options, Console(highlight=False, markup=False, emoji=False))


def _read_events_without_tensorflow():
    """Let TensorBoard take its own reader of files instead of TensorFlow's, which takes seconds to import."""
    import types

    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))

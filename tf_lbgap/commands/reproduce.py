"""`lbgap reproduce`: run papers, and give their claims verdicts."""

import os

from tf_lbgap.commands import arguments


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "reproduce",
        help="run a paper's experiments and give its claims verdicts",
        description="Run the experiments of a paper's YAML file, measure, and print a table of its claims with PASS, FAIL or "
        "INCONCLUSIVE, by criteria that stand in the file. What is finished is not run again, unless the file or the code changed.",
    )
    parser.add_argument("papers", nargs="*", metavar="NAME", help="such as keskar2017, or a YAML file")
    parser.add_argument("--all", action="store_true", help="all papers of configs/ that have the scale")
    parser.add_argument("--scale", default="small", metavar="SCALE", help="small (2 cores), gpu or full")
    parser.add_argument(
        "--seeds", type=arguments.positive, metavar="N", help="how many, in place of what the file says"
    )
    parser.add_argument("--first-seed", type=arguments.count, metavar="N", help="the first of them")
    parser.add_argument(
        "--jobs",
        type=arguments.positive,
        metavar="N",
        help="processes side by side; by default one a core, at other scales than small 1",
    )
    parser.add_argument("--output", metavar="DIR", help="by default runs/reproduce")
    parser.add_argument("--again", action="store_true", help="train anew what is finished")
    parser.add_argument("--quiet", action="store_true", help="print the tables and the paths only")
    parser.add_argument(
        "--rehearse",
        nargs="?",
        type=arguments.positive,
        const=True,
        metavar="BATCH",
        help="only fit two updates of each arm, on random examples in place of a download; BATCH caps their batches",
    )
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    from rich.console import Console

    from tf_lbgap import report, reproduction
    from tf_lbgap.bars import PieceBars
    from tf_lbgap.experiment import ConfigError

    if bool(options.papers) == options.all:
        raise ConfigError("Name papers, such as  lbgap reproduce keskar2017, or type --all; not both.")
    console = Console(highlight=False, markup=False, emoji=False)
    names = _all(options.scale, console) if options.all else dict.fromkeys(options.papers)
    papers = [_paper(name, options) for name in names]
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
    failed = count = 0
    for row in reproduction.rehearse(papers, batch_size=cap):
        count += 1
        failed += row["failure"] is not None
        outcome = row["failure"] or f"{row['updates']} updates, batch {row['batch_size']:,}"
        places = ", ".join(row["experiments"])
        console.print(f"{row['arm']} ({places}): {outcome}, {row['seconds']:.1f} s", soft_wrap=True)
    console.print(
        f"{failed} failed" if failed else "none failed" if count else "nothing to rehearse: simulations only"
    )
    return 1 if failed else 0


def _all(scale, console):
    from tf_lbgap import reproduction

    names = [(path, reproduction.has_scale(path, scale)) for path in reproduction.known_papers()]
    without = [path.stem for path, has in names if not has]
    if without:
        console.print(f"without scale {scale}: {', '.join(without)}", soft_wrap=True)
    return [path for path, has in names if has]


def _paper(name, options):
    from tf_lbgap import reproduction

    stem = os.path.splitext(os.path.basename(str(name)))[0]
    output = options.output and os.path.join(options.output, f"{stem}-{options.scale}")
    return reproduction.load(
        name, options.scale, seeds=options.seeds, first_seed=options.first_seed, output=output
    )

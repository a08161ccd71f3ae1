"""`lbgap gallery`: what was reproduced, on pages of Markdown."""


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "gallery",
        help="show reproductions on one page of Markdown",
        description="Collect the results of lbgap reproduce: write DOCS/gallery.md, its figures, and DOCS/results/NAME.json.",
    )
    parser.add_argument(
        "runs", nargs="?", default="runs/reproduce", metavar="DIR", help="by default runs/reproduce"
    )
    parser.add_argument("--second", metavar="DIR", help="the same with other seeds, shown beside")
    parser.add_argument(
        "--scale", default="small", choices=("small", "gpu", "full"), help="whose results; by default small"
    )
    parser.add_argument("--output", default="docs", metavar="DOCS", help="by default docs")
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    from tf_lbgap import report

    for path in report.write_gallery(
        options.runs, options.output, second=options.second, scale=options.scale
    ):
        print(path)
    return 0

"""`lbgap report`: a page, figures and tables of runs."""

import sys


def add(commands):
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "report",
        help="write one HTML page, figures and LaTeX tables of runs",
        description="Write RUN/report.html, which opens without TensorBoard, figures as SVG and PDF into RUN/figures, and "
        "LaTeX tables into RUN/tables.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run directory, such as runs/quickstart; several are compared"
    )
    parser.add_argument("--output", metavar="FILE", help="the HTML file, by default RUN/report.html")
    parser.add_argument("--quiet", action="store_true", help="print the path of the page only")
    parser.set_defaults(command=execute)


def execute(options):
    """Run it, and return the exit code."""
    _read_events_without_tensorflow()
    from tf_lbgap import report

    paths = report.write(options.runs, options.output)
    for path in paths[:1] if options.quiet else paths:
        print(path)
    return 0


def _read_events_without_tensorflow():
    """Let TensorBoard take its own reader of files instead of TensorFlow's, which takes seconds to import."""
    import types

    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))

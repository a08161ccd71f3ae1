"""A report of runs: one HTML page, figures, tables, captions.

```
runs/quickstart/report.html          opens without TensorBoard
                figures/*.svg, *.pdf  one for each panel that has data; captions.md
                tables/*.tex          results, differences, what differs
```
"""

import dataclasses
import os
import pathlib
import re

from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.files import write_text
from tf_lbgap.report import captions, drawing, grids, page
from tf_lbgap.report.answers import answers
from tf_lbgap.report.audit import audit_grid
from tf_lbgap.report.curves import Curves
from tf_lbgap.report.figures import FIGURES, Subject
from tf_lbgap.report.latex import latex_table
from tf_lbgap.report.runs import read_runs


def write(paths, output=None, *, figures=True):
    """Write the report of one or several runs; several are compared by arm, under their names.

    Args:
        paths: Run directories.
        output: The HTML file. Defaults to `report.html` in the run directory; of several runs, in the
            directory that the first is in. Figures and tables are written into the run directory, or
            beside the page of several runs.
        figures: Whether to write figures and tables, too, which takes most of the time.

    Returns:
        List of the paths written, the page first.

    Raises:
        ConfigError: If a path is no run directory, holds nothing, or the report cannot be written.
    """
    runs = read_runs(paths)
    folder = runs[0].path if len(runs) == 1 else runs[0].path.resolve().parent
    target = folder / "report.html" if output is None else pathlib.Path(output)
    if len(runs) > 1 and output is not None:
        folder = target.parent
    try:
        return _write(runs, folder, target, figures)
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or target}"
        raise ConfigError(f"The report cannot be written: {reason}. Pass --output FILE.") from error


def _write(runs, folder, target, with_figures):
    found = answers(runs)
    all_grids = _grids(runs)
    pictures = _write_figures(runs, found, folder / "figures") if with_figures else []
    tables = [_write_table(grid, folder / "tables") for grid in all_grids] if with_figures else []
    title = ", ".join(run.name for run in runs)
    write_text(target, page.page(title, found, _findings(runs, all_grids, found)))
    return [target, *pictures, *tables]


def _write_figures(runs, found, folder):
    groups = [_group(runs, run, arm) for run in runs for arm in run.arms]
    rows = tuple({**row, "arm": _group(runs, run, row["arm"])} for run in runs for row in run.rows)
    drawn = _draw(Subject(found, Curves(found, groups), rows), folder)
    told = [f"**{name}.** {captions.caption(name, runs, found['runs'])}\n" for name in drawn]
    write_text(folder / "captions.md", "\n".join(told))
    return [*(path for paths in drawn.values() for path in paths), folder / "captions.md"]


def _group(runs, run, arm):
    return arm if len(runs) == 1 else f"{run.name}/{arm}"


def _grids(runs):
    found = []
    for run in runs:
        if run.rows:
            own = [
                grids.results_grid(run.experiment, run.rows),
                grids.differences_grid(run.experiment, run.rows),
            ]
            found += [grid if len(runs) == 1 else _of_run(grid, run) for grid in own if grid is not None]
    audit = audit_grid([run for run in runs if run.rows])
    return [*found, *([audit] if audit is not None else [])]


def _of_run(grid, run):
    """Return a grid that tells of which of several runs it is."""
    name = re.sub(r"[^\w.-]+", "_", run.name)
    return dataclasses.replace(grid, name=f"{grid.name}_{name}", title=f"{run.name}: {grid.title}")


def _draw(subject, folder):
    """Return {name: paths} of the figures that there is data for."""
    written = {}
    for name, make in FIGURES.items():
        with drawing.style():
            figure = make(subject)
        if figure is not None:
            os.makedirs(folder, exist_ok=True)
            written[name] = drawing.save(figure, folder / name)
    return written


def _write_table(grid, folder):
    path = folder / f"{grid.name}.tex"
    write_text(path, latex_table(grid, grid.name))
    return path


def _findings(runs, all_grids, found):
    parts = [page.text_html("What was trained", captions.subject(runs, found["runs"]))]
    said = [(run, grids.sentence(run.experiment, run.rows)) for run in runs if run.rows]
    parts += [
        page.text_html("Finding" if len(said) == 1 else f"Finding: {run.name}", text) for run, text in said
    ]
    parts += [page.grid_html(grid) for grid in all_grids]
    return "".join(parts)

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
import types

from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.files import write_text
from tf_lbgap.report import captions, drawing, grids, page
from tf_lbgap.report.answers import Plugin, answers
from tf_lbgap.report.audit import audit_grid
from tf_lbgap.report.curves import Curves
from tf_lbgap.report.equivalence import compare_noise, equivalence_grid, sentences
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
    plugin = Plugin(runs)
    found, noise = answers(runs, plugin), compare_noise(runs, plugin)
    compared = [each for each, _ in noise]
    all_grids = [*_grids(runs), *filter(None, [equivalence_grid(compared)])]
    ratios = {each.arm: parting for each, parting in noise if parting is not None}
    pictures = _write_figures(runs, found, ratios, folder / "figures") if with_figures else []
    tables = [_write_table(grid, folder / "tables") for grid in all_grids] if with_figures else []
    title = ", ".join(run.name for run in runs)
    told = page.text_html("What is equal, and what is not", *sentences(compared)) if compared else ""
    write_text(target, page.page(title, found, _findings(runs, all_grids, found) + told))
    return [target, *pictures, *tables]


def _write_figures(runs, found, ratios, folder):
    groups = [run.group(arm, runs) for run in runs for arm in run.arms]
    drawn = _draw(Subject(found, Curves(found, groups), _rows(runs), ratios), folder)
    told = [f"**{name}.** {captions.caption(name, runs, found['runs'])}\n" for name in drawn]
    write_text(folder / "captions.md", "\n".join(told))
    return [*(path for paths in drawn.values() for path in paths), folder / "captions.md"]


def _grids(runs):
    done = [run for run in runs if run.rows]
    several = len(runs) > 1
    found = [_results_of_all(done)] if several and done else []
    for run in done:
        if not several:
            found.append(grids.results_grid(run.experiment, run.rows))
        for make in (grids.differences_grid, grids.margin_grid):
            grid = make(run.experiment, run.rows)
            found.append(_of_run(grid, run) if several and grid else grid)
    return [grid for grid in [*found, audit_grid(done)] if grid is not None]


def _results_of_all(runs):
    """Return one table of results, with the arms under the names of their runs."""
    seeds = sorted({run.experiment.seeds for run in runs})
    arms = dict.fromkeys(run.group(arm, runs) for run in runs for arm in run.arms)
    everything = types.SimpleNamespace(name="all runs", seeds=seeds[-1], arms=arms)
    grid = grids.results_grid(everything, _rows(runs))
    told = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return dataclasses.replace(grid, title=f"all runs: mean ± standard error over {told} seeds")


def _of_run(grid, run):
    """Return a grid that tells of which of several runs it is."""
    name = re.sub(r"[^\w.-]+", "_", run.name)
    return dataclasses.replace(grid, name=f"{grid.name}_{name}", title=f"{run.name}: {grid.title}")


def _rows(runs):
    return tuple({**row, "arm": run.group(row["arm"], runs)} for run in runs for row in run.rows)


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

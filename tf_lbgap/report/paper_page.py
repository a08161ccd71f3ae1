"""A reproduction as one HTML page, and its figures and tables as files for a paper.

```
runs/reproduce/keskar2017-small/report.html           opens from the file, on a telephone, in the dark
                                figures/*.svg, *.pdf   with captions.md
                                tables/*.tex
```
The page holds no script and asks nobody for anything, which a content security policy enforces; figures stand in it as SVG.
What files say is text and never markup.
"""

import html
import pathlib
import re

import yaml

from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.files import write_json, write_text
from tf_lbgap.report import drawing, paper_figures
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.latex import latex_table
from tf_lbgap.report.page import document, grid_html, text_html
from tf_lbgap.report.paper_captions import caption_of, subject
from tf_lbgap.report.paper_grids import arms_grid, claims_grid, study_grid
from tf_lbgap.report.paper_results import claims_of, command_of, environment_text, seconds_of
from tf_lbgap.report.paper_svg import svg_of

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# Greys are those of the tab. In the dark a figure is turned over: white becomes the page's ground, hues stay.
_STYLE = """
:root { --ground: #ffffff; --text: #212121; --soft: #5f6368; --rule: #dfe1e4; --code: #f3f4f5; --pass: #00588c; --fail: #b34700; color-scheme: light dark; font: 400 14px/1.5 Roboto, "Helvetica Neue", Helvetica, Arial, sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #303030; --text: #eeeeee; --soft: #b4b4b4; --rule: #4a4a4a; --code: #3c3c3c; --pass: #7cc0ee; --fail: #ffa25e; }
  figure svg { filter: invert(0.812) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); }
main { max-width: 1240px; margin: 0 auto; padding: 24px 24px 64px; }
h1 { font-size: 22px; font-weight: 500; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 16px; font-weight: 500; margin: 36px 0 6px; overflow-wrap: anywhere; }
p, li, figcaption { max-width: 92ch; overflow-wrap: anywhere; }
.note, figcaption { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 0 5px 16px; vertical-align: top; text-align: right; white-space: pre-line; }
th { font-weight: 500; white-space: pre; vertical-align: bottom; border-bottom: 1px solid var(--soft); }
td { border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { padding-left: 0; text-align: left; overflow-wrap: anywhere; min-width: 14ch; }
.facts td { text-align: left; }
.claims table { width: 100%; }
.claims td:first-child { min-width: 34ch; }
.claims td:not(:first-child) { white-space: pre; }
.pass, .fail, .other { font-weight: 600; }
.pass { color: var(--pass); }
.fail { color: var(--fail); }
.other { color: var(--soft); }
figure { margin: 28px 0 0; }
figure svg { display: block; width: 100%; height: auto; }
pre { margin: 6px 0; padding: 10px 12px; overflow-x: auto; border-radius: 6px; background: var(--code); font: 12px/1.5 "Roboto Mono", Menlo, Consolas, "Liberation Mono", monospace; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media (max-width: 640px) {
  main { padding: 16px 14px 48px; }
  .claims thead { display: none; }
  .claims tr { display: block; padding: 8px 0 12px; border-bottom: 1px solid var(--rule); }
  .claims td, .claims td:first-child { display: block; min-width: 0; padding: 1px 0; border: 0; text-align: left; white-space: normal; }
  .claims td:first-child { white-space: pre-line; }
  .claims td:nth-child(2)::before { content: "equal: "; color: var(--soft); }
  .claims td:nth-child(3)::before { content: "claimed: "; color: var(--soft); }
  .claims td:nth-child(4)::before { content: "seen: "; color: var(--soft); }
  .claims td:nth-child(5)::before { content: "seeds: "; color: var(--soft); }
}
"""
_INCOMPLETE = "Some runs or studies did not finish; what stands here is of those that did."
_LEAST, _MOST = 600, 860  # pixels of a figure as wide as a page of a paper


def write_paper(results, folder):
    """Write the report of a reproduction: a page, figures, tables and captions; and its `results.json`, whose figures may be newer.

    Args:
        results: Content of its `results.json`.
        folder: Its directory; `paper.yaml` in it, if there, is shown in full.

    Returns:
        List of the paths written, the page first.

    Raises:
        ConfigError: If a figure's call means nothing, or the report cannot be written.
    """
    folder = pathlib.Path(folder)
    drawn = {name: paper_figures.draw(results, name) for name in paper_figures.figures_of(results)}
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    tables = tables_of(results)
    try:
        written = [folder / "report.html"]
        write_text(written[0], paper_page(results, figures, tables, _settings(results, folder)))
        for name, figure in figures.items():
            written += _save(figure, folder / "figures" / _file_name(name))
        told = [f"**{name}.** {caption_of(results, name)}\n" for name in figures]
        written.append(folder / "figures" / "captions.md")
        write_text(written[-1], "\n".join(told))
        for grid in tables:
            written.append(folder / "tables" / f"{_file_name(grid.name)}.tex")
            write_text(written[-1], latex_table(grid, grid.name))
        write_json(folder / "results.json", results)  # what `gallery` reads
    except OSError as error:
        raise ConfigError(
            f"The report cannot be written: {error.strerror or error}: {error.filename or folder}."
        ) from error
    return written


def tables_of(results):
    """Return the grids of a reproduction: its claims, the arms of each experiment, and what studies measured."""
    found = [claims_grid(results)]
    found += [arms_grid(results, name) for name in results.get("experiments", {})]
    found += [study_grid(results, name) for name in results.get("studies", {})]
    return [grid for grid in found if grid is not None and grid.rows]


def paper_page(results, figures, tables, settings):
    """Return the HTML of a reproduction.

    Args:
        results: Content of its `results.json`.
        figures: {name: matplotlib figure}, the claims first.
        tables: Grids, the claims first.
        settings: YAML text.
    """
    claims = [grid for grid in tables if grid.name == "claims"]
    parts = [
        f"<h1>{html.escape(results['name'])}</h1>",
        f"<p>{html.escape(results.get('paper') or '')}</p>",
        f'<p class="note">{html.escape(subject(results))}</p>',
        "" if results.get("complete", True) else f"<p><strong>{_INCOMPLETE}</strong></p>",
        *(f'<section class="claims">{_coloured(grid_html(grid))}</section>' for grid in claims),
        *(_figure(results, name, figure) for name, figure in figures.items()),
        *(grid_html(grid) for grid in tables if grid.name != "claims"),
        _not_run(results),
        _repeat(results),
        f"<h2>Settings</h2><details><summary>all of them</summary><pre>{html.escape(settings)}</pre></details>",
    ]
    title = f"{results['name']}: {results.get('paper') or 'a reproduction'}"
    body = "\n".join(["<main>", *filter(None, parts), "</main>"])
    return document(title, _POLICY, _STYLE, body)


def _coloured(table):
    """Let verdicts be found by colour, too; a cell that is a verdict is so word for word."""
    kinds = {"PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "other", "NOT RUN": "other"}
    return re.sub(
        f"<td>({'|'.join(kinds)})</td>", lambda m: f'<td class="{kinds[m[1]]}">{m[1]}</td>', table
    )  # fmt: skip


def _figure(results, name, figure):
    caption = caption_of(results, name)
    svg = svg_of(figure, label=caption)
    share = figure.get_size_inches()[0] / drawing.WIDTH
    sizes = f"min-width:{share * _LEAST:.0f}px;max-width:{share * _MOST:.0f}px;"  # type is as large in all figures
    svg = svg.replace('style="', f'style="{sizes}', 1)
    return f'<figure><div class="wide">{svg}</div><figcaption>{html.escape(caption)}</figcaption></figure>'


def _not_run(results):
    rows = [claim for claim in claims_of(results) if claim["verdict"] == "NOT RUN"]
    if not rows:
        return text_html("What was not run", "All claims were run.")
    told = [f"{_with_rule(claim)}: {claim.get('seen') or 'no reason is told'}" for claim in rows]
    return "<h2>What was not run</h2><ul>" + "".join(f"<li>{html.escape(t)}</li>" for t in told) + "</ul>"


def _with_rule(claim):
    return f"{claim['says']} (equal {claim['rule']})" if claim.get("rule") else claim["says"]


def _repeat(results):
    environment = results.get("environment") or {}
    seconds, wall = seconds_of(results)
    facts = {
        "device": environment_text(results),
        "time of all runs": numbers.duration(seconds) if seconds is not None else "",
        "time by the clock": numbers.duration(wall) if wall is not None else "",
        **{
            key: environment[key]
            for key in ("tf_lbgap", "tensorflow", "keras", "python")
            if key in environment
        },
        **{f"hash of the {key}": value for key, value in (results.get("hash") or {}).items()},
    }
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(str(value))}</td></tr>"
        for key, value in facts.items()
        if value
    )
    return (
        f'<h2>The command that repeats it</h2><pre class="command">{html.escape(command_of(results))}</pre>'
        f'<div class="wide facts"><table><tbody>{rows}</tbody></table></div>'
    )


def _settings(results, folder):
    """Return the paper's file at its scale, or what the results tell of it."""
    path = folder / "paper.yaml"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    told = {
        name: {arm: found.get("settings") for arm, found in content["arms"].items()}
        for name, content in results.get("experiments", {}).items()
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    svg, pdf = path.parent / f"{path.name}.svg", path.parent / f"{path.name}.pdf"
    write_text(svg, svg_of(figure))
    with drawing.style():
        figure.savefig(pdf, metadata={"CreationDate": None})
    return [svg, pdf]


def _file_name(name):
    return re.sub(r"[^\w.-]+", "_", str(name))

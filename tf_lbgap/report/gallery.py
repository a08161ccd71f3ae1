"""All reproductions on one page of Markdown: `docs/gallery.md`, made from their `results.json` and nothing else.

First a line per paper, then for each its claims, its main figures and the command, then which paper scales what. The
same results give the same text, so a test can tell whether the page is that of the results.
"""

import pathlib
import re

from tf_lbgap.experiment.files import write_text
from tf_lbgap.report import paper_figures
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.agreement import agreement
from tf_lbgap.report.markdown import escaped, link, table
from tf_lbgap.report.paper_captions import caption_of
from tf_lbgap.report.paper_grids import claims_grid
from tf_lbgap.report.paper_results import (
    RULES,
    claims_of,
    command_of,
    seconds_of,
    seeds_of,
)
from tf_lbgap.report.paper_svg import svg_of

_RULED = (
    "The primary claim of each paper, tested with what is equal between arms: the training loss, epochs, updates, seconds, or epochs with "
    "the rate tuned for each arm. The paper's own way of comparing is in bold. Core time is that of all runs and studies, of which as many go "
    "side by side as there are cores."
)
_SINGLE = "Of these papers it is tested by their own way of comparing only. [All papers in one table](papers.md), and which of them scales what."

IMAGES = "images/reproductions"
"""Where images lie, seen from the page."""

_SCALES = ("small", "gpu", "full")  # a page is about one of them


def gallery(all_results, second=None):
    """Return the page, a text.

    Args:
        all_results: Contents of `results.json`, one for each paper, in the order in which they are shown.
        second: The same of other seeds, for some papers or all; their verdicts stand beside.
    """
    other = {results["name"]: results for results in second or ()}
    parts = ["# Reproductions", _summary(all_results)]
    if second:
        parts += ["## With other seeds", *_agreement(all_results, second)]
    for results in all_results:
        parts += _section(results, other.get(results["name"]))
    return "\n\n".join(filter(None, parts)) + "\n"


def write_images(all_results, folder):
    """Write the figures that the page shows, `NAME_FIGURE.svg`; return their paths.

    Args:
        all_results: As of `gallery`.
        folder: `docs/images/reproductions`.
    """
    written = []
    for results in all_results:
        for name in headline_figures(results):
            figure = paper_figures.draw(results, name)
            written.append(pathlib.Path(folder) / _image(results, name))
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            write_text(written[-1], svg_of(figure))
    return written


def headline_figures(results):
    """Return the figures that stand in the gallery: those with `headline: true`, else the first one that has data."""
    known = paper_figures.figures_of(results)
    own = [name for name in known if name != paper_figures.CLAIMS]
    marked = [name for name in own if known[name].get("headline")]
    drawn = [name for name in marked or own if paper_figures.draw(results, name) is not None]
    if marked:
        return drawn
    if drawn:
        return drawn[:1]
    return [paper_figures.CLAIMS] if paper_figures.draw(results, paper_figures.CLAIMS) is not None else []


def _summary(all_results):
    """Return a table of the papers whose primary claim is tested under each rule, and one of the others."""
    ruled, single = [], []
    for results in all_results:
        primary = [claim for claim in claims_of(results) if claim.get("primary")]
        name, time = link(results["name"]), numbers.duration(seconds_of(results)[0])
        says = escaped(primary[0]["says"]) if primary else numbers.UNKNOWN
        if len(primary) == 1:
            (claim,) = primary
            single.append([name, says, claim["rule"] or numbers.UNKNOWN, claim["verdict"], time])
            continue
        verdicts = {claim["rule"]: _verdict(claim) for claim in primary}
        ruled.append([name, says, *(verdicts.get(rule, numbers.UNKNOWN) for rule in RULES), time])
    parts = [_RULED, table(["paper", "primary claim", *RULES, "core time"], ruled)] if ruled else []
    if single:
        parts += [_SINGLE, table(["paper", "primary claim", "equal", "verdict", "core time"], single)]
    return "\n\n".join(parts)


def _agreement(all_results, second):
    told, differ = agreement(all_results, second)
    yield escaped(told)
    if differ:
        headings = ["paper", "claim", "equal", "verdict", "with other seeds"]
        yield table(headings, [[escaped(str(cell or numbers.UNKNOWN)) for cell in row] for row in differ])


def _verdict(claim):
    return f"**{claim['verdict']}**" if claim.get("own") else claim["verdict"]


def _section(results, second):
    grid = claims_grid(results, second)
    rows = [[escaped(cell) for cell in row] for row in grid.rows]
    parts = [
        f"## {escaped(results['name'])}",
        escaped(results.get("paper") or ""),
        escaped(_what_was_run(results)),
        table([escaped(title) for title in grid.columns], rows, numeric=(3, 4)),
        escaped(grid.caption),
    ]
    for name in headline_figures(results):
        parts.append(f"![{escaped(name)}]({IMAGES}/{_image(results, name)})")
        parts.append(f"{escaped(caption_of(results, name))}")
    return [*parts, f"```\n{command_of(results).replace('`', '')}\n```"]


def _what_was_run(results):
    scale = results.get("scale") or "small"
    others = " and ".join(other for other in _SCALES if other != scale)
    return f"Seeds {numbers.seeds(seeds_of(results))}, scale {scale}. Scales {others}: NOT RUN."


def _image(results, name):
    return re.sub(r"[^\w.-]+", "_", f"{results['name']}_{name}.svg")

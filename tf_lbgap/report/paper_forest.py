"""Claims as a forest plot: what was claimed, what was seen with its 95 % interval, and the verdict, row by row.

Claims have different units, so each has a panel of its own, with a row per rule; ratios are on a log axis. A verdict
is a word and the shape of a marker, its colour only repeats it.
"""

import textwrap

import numpy as np

from tf_lbgap.report import drawing
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.paper_axes import FAINT, GREY, limits, plain
from tf_lbgap.report.paper_results import VERDICTS, by_claim

_MARKERS = {"PASS": "o", "FAIL": "X", "INCONCLUSIVE": "D", "NOT RUN": "none"}
_COLOURS = {
    "PASS": drawing.COLOURS[0],
    "FAIL": drawing.COLOURS[1],
    "INCONCLUSIVE": GREY,
    "NOT RUN": GREY,
}
_NOT_RUN = VERDICTS[-1]
_CLAIMED = "#dcebe3"
_ROW, _LINE, _AXIS, _GAP = (
    0.17,
    0.135,
    0.31,
    0.1,
)  # inches: a row, a line of a title, ticks and label, between panels
_MARGIN, _LEGEND = 0.08, 0.34
_CHARACTER = 0.062  # inches of a name of a rule
_WIDE = 114  # characters of a title
_RIGHT = 2.7  # inches beside a panel, for verdicts and estimates
_VERDICT_AT, _ESTIMATE_AT = 8, 78  # points right of a panel


def forest(results):
    """Return the forest plot of all claims, or None if none was run.

    Faint ticks are seeds. The interval is not corrected for the number of claims, the verdict is. Claims that were not run under
    any rule have no panel: they are listed at the end.
    """
    from matplotlib.figure import Figure

    groups = list(by_claim(results).values())
    run = [rows for rows in groups if any(claim["verdict"] != _NOT_RUN for claim in rows)]
    if not run:
        return None
    titles = [_title(rows) for rows in run]
    others = [_title(rows, f"{_NOT_RUN}: ") for rows in groups if rows not in run]
    heights = [_height(rows, title) for rows, title in zip(run, titles, strict=True)]
    below = sum(_LINE * (1 + text.count("\n")) + 0.02 for text in others) + (_GAP if others else 0)
    figure = Figure(figsize=(drawing.WIDTH, sum(heights) + below + _LEGEND + _MARGIN))
    left = _MARGIN + _CHARACTER * max(len(_rule(claim, rows)) for rows in run for claim in rows)
    top = sum(heights) + below + _LEGEND
    for rows, title, height in zip(run, titles, heights, strict=True):
        below_title = top - _LINE * (1 + title.count("\n")) - 0.05
        _write(figure, title, top)
        _draw(_add_axis(figure, left, below_title, _ROW * len(rows)), rows)
        top -= height
    top -= _GAP
    for text in others:
        _write(figure, text, top, color=GREY)
        top -= _LINE * (1 + text.count("\n")) + 0.02
    _legend(figure, run)
    return figure


def _title(rows, before=""):
    first = rows[0]
    told = f"{first['says']}{' (' + first['source'] + ')' if first.get('source') else ''}"
    return textwrap.fill(f"{before}{'Primary claim: ' if first.get('primary') else ''}{told}", _WIDE)


def _height(rows, title):
    return _LINE * (1 + title.count("\n")) + 0.05 + _ROW * len(rows) + _AXIS + _GAP


def _write(figure, text, y, **look):
    """Write at the left, hanging from a height in inches."""
    width, height = figure.get_size_inches()
    figure.text(_MARGIN / width, y / height, plain(text), va="top", fontsize=7.5, **look)


def _add_axis(figure, left, top, height):
    """Add axes at a place in inches. Rows are as high in every panel, which no layout engine would keep."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, (top - height) / high, (wide - left - _RIGHT) / wide, height / high))


def _draw(axis, rows):
    first = rows[0]
    log = first.get("kind") == "ratio"
    if log:
        axis.set_xscale("log")
    axis.set_xlim(*_reach(rows, log))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(visible=False)
    axis.patch.set_visible(False)
    _draw_claimed(axis, first.get("bounds") or (None, None), log)
    if first.get("kind") in ("ratio", "difference"):
        axis.axvline(1 if log else 0, color=GREY, linewidth=0.6, dashes=(1, 2), clip_on=False)
    for place, claim in enumerate(rows):
        _draw_row(axis, place, claim)
    axis.set_yticks(range(len(rows)), [_rule(claim, rows) for claim in rows])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(plain(_words(first)), labelpad=1, loc="left")
    drawing.plain_numbers(axis.xaxis)


def _reach(rows, log):
    """Return ends of the axis that hold all estimates, intervals and seeds, and what is claimed."""
    held = [1.0 if log else 0.0] if rows[0].get("kind") in ("ratio", "difference") else []
    held += [bound for bound in rows[0].get("bounds") or () if bound is not None]
    for claim in rows:
        held += [claim.get("estimate"), *(claim.get("interval") or ()), *(claim.get("values") or ())]
    return limits(held, log=log)


def _draw_claimed(axis, bounds, log):
    left, right = axis.get_xlim()
    low, high = bounds
    ends = (
        left if low is None or (log and low <= 0) else max(low, left),
        right if high is None else min(high, right),
    )
    if ends[1] > ends[0]:
        axis.axvspan(*ends, color=_CLAIMED, linewidth=0, zorder=0, clip_on=False)
    for bound in bounds:
        if bound is not None and (bound > 0 or not log):
            axis.axvline(bound, color=drawing.COLOURS[2], linewidth=0.8, zorder=1, clip_on=False)


def _draw_row(axis, place, claim):
    verdict, colour = claim["verdict"], _COLOURS.get(claim["verdict"], GREY)
    values = [v for v in claim.get("values") or () if numbers.is_number(v)]
    if values:  # one line with gaps, which is a tenth of as many markers in a file
        ticks = np.array([[v, v, np.nan] for v in values]).ravel()
        axis.plot(
            ticks, [place - 0.22, place + 0.22, np.nan] * len(values), color=colour, alpha=FAINT, linewidth=0.8, zorder=2,
            clip_on=False,
        )  # fmt: skip
    left, right = axis.get_xlim()
    interval = claim.get("interval") or (None, None)
    if any(map(numbers.is_number, interval)):  # an end that is not known is open
        low = interval[0] if numbers.is_number(interval[0]) else left
        high = interval[1] if numbers.is_number(interval[1]) else right
        axis.plot([low, high], [place, place], color=colour, linewidth=1.4, zorder=3, clip_on=False)
    if numbers.is_number(claim.get("estimate")):
        axis.plot(
            claim["estimate"], place, marker=_MARKERS.get(verdict, "s"), color=colour, markersize=5, zorder=4,
            markerfacecolor="white" if verdict == "INCONCLUSIVE" else colour, markeredgewidth=0.9, clip_on=False,
        )  # fmt: skip
    for text, offset, weight in (
        (verdict, _VERDICT_AT, "bold"),
        (numbers.estimate(claim) if claim["verdict"] != _NOT_RUN else "", _ESTIMATE_AT, "normal"),
    ):
        axis.annotate(
            text, (1, place), xycoords=("axes fraction", "data"), xytext=(offset, 0), textcoords="offset points",
            va="center", color=colour if weight == "bold" else "black", fontweight=weight, fontsize=7,
        )  # fmt: skip


def _rule(claim, rows):
    rule = claim.get("rule") or ""
    return f"{rule} (the paper's)" if claim.get("own") and len(rows) > 1 else rule


def _words(claim):
    return f"{claim.get('statistic') or claim['name']} (claimed: {claim['claimed']})"


def _legend(figure, groups):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    there = {claim["verdict"] for rows in groups for claim in rows}
    handles = [Patch(color=_CLAIMED, label="claimed")]
    for verdict in VERDICTS[:3]:
        if verdict in there:
            face = "white" if verdict == "INCONCLUSIVE" else _COLOURS[verdict]
            handles.append(
                Line2D(
                    [], [], color=_COLOURS[verdict], marker=_MARKERS[verdict], markerfacecolor=face, markersize=5, label=verdict
                )
            )  # fmt: skip
    handles.append(
        Line2D([], [], color=GREY, marker="|", linestyle="none", alpha=0.6, label="a seed", markersize=6)
    )
    figure.legend(
        handles=handles, loc="lower center", borderaxespad=0.2, ncols=len(handles), columnspacing=1.4
    )

"""How figures look: one size and font, colours that differ for every kind of eye, text that stays text.

References:
    Okabe and Ito, "Color universal design", 2008: the palette.
"""

import contextlib

import numpy as np

WIDTH = 6.75  # inches: the text of a two-column paper
HEIGHT = 2.1  # of a row of panels
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vP*X"
DASHES = ((), (4, 1.5), (1, 1), (5, 1, 1, 1), (7, 2), (3, 1, 1, 1, 1, 1), (2, 2), (8, 1))
_STYLE = {
    "svg.fonttype": "none",  # text as text
    "pdf.fonttype": 42,  # fonts embedded, not drawn
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6e8",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.hashsalt": "lbgap",  # equal figures are equal files
}


@contextlib.contextmanager
def style():
    """Draw in this style within the block, whatever the user's own is."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def panels(count, columns=3, height=HEIGHT):
    """Return a figure and a list of its `count` axes, in rows."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    width = WIDTH if columns > 1 else WIDTH * 0.55
    figure = Figure(figsize=(width, rows * height + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def look(index):
    """Return colour, marker and dashes of the arm with an index; they repeat after eight."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]


def draw_curve(axis, curve, index, *, label=None, dashes=None, alpha=1.0, band=True, steps=False):
    """Draw a mean line and its band; single points as a marker."""
    colour, marker, _ = look(index)
    alone = len(curve.x) == 1
    style = "default" if not steps else "steps-pre"
    (line,) = axis.plot(
        curve.x, curve.mean, color=colour, alpha=alpha, label=label, drawstyle=style,
        marker=marker if alone or len(curve.x) <= 12 else None, markersize=3,
    )  # fmt: skip
    if dashes and not alone:
        line.set_dashes(dashes)
    if band and curve.num_seeds > 1:
        axis.fill_between(
            curve.x, curve.low, curve.high, color=colour, alpha=0.16 * alpha, linewidth=0,
            step="pre" if steps else None,
        )  # fmt: skip


def scale(axis, curves):
    """Use a log axis if everything is positive and spans more than a factor of five, and plain numbers."""
    values = np.concatenate([curve.mean for curve in curves]) if curves else np.zeros(1)
    lows = np.concatenate([curve.low for curve in curves]) if curves else np.zeros(1)
    values, lows = values[np.isfinite(values)], lows[np.isfinite(lows)]
    if is_wide(values):
        axis.set_yscale("log")
        least = values.min()
        axis.set_ylim(bottom=0.85 * max(min(lows[lows > 0].min(), least), least / 4))
    plain_numbers(axis.yaxis)


def is_wide(values):
    """Return whether values are positive and span more than a factor of five."""
    return len(values) > 0 and values.min() > 0 and values.max() > 5 * values.min()


def plain_numbers(axis):
    """Label an x or y axis (`axes.xaxis`) by plain numbers, few enough for its width: 0.05 and 200, not 5 x 10^-2.

    Call it once the limits are set.
    """
    from matplotlib import ticker

    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() == "log":
        span = high / low
        if span > 4:
            subs = (1, 2, 5) if span < 120 else (1, 3) if span < 1500 else (1,)
            axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=7))
        else:  # less than a factor of four has too few such numbers
            axis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    else:
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: spoken(value)))


def spoken(value):
    """Return a tick's number: 0.05, −3, 12k, 1e-6."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{letter}".replace("-", "−")
    return f"{value:.5g}".replace("-", "−")


def counts(axis):
    """Label the x axis by few, short numbers: 50k and 2M."""
    from matplotlib import ticker

    axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))


def legend(figure, axes, more=(), columns=None):
    """Put one legend for all panels below them; `more` are pairs of a label and dashes, in grey."""
    from matplotlib.lines import Line2D

    handles = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for label, dashes in more:
        handles[label] = Line2D([], [], color="#555555", dashes=dashes or (None, None))
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns or (len(handles) if sum(map(len, handles)) < 60 else 4),
            handlelength=2.2, columnspacing=1.4,
        )  # fmt: skip


def save(figure, path):
    """Write a figure as SVG and PDF; return both paths."""
    with style():
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    return [path.with_suffix(".svg"), path.with_suffix(".pdf")]

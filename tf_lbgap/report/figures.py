"""A figure for each panel of the tab that has data, as one would put it into a paper.

Each is a function from a `Subject` to a matplotlib figure, or None where there is nothing to show.
"""

import dataclasses

import numpy as np

from tf_lbgap.claims import summarize
from tf_lbgap.report import drawing
from tf_lbgap.report.curves import Curves, mean_curve
from tf_lbgap.report.noise import TOLERANCE

X_LABELS = {"epochs": "training (epochs)", "updates": "weight updates", "examples": "examples seen"}
_NOT_MEASURES = ("_residual", "_spread", "_standard_error", "edge_of_stability")
_NAMES = {
    "top_eigenvalue": "top Hessian eigenvalue",
    "epsilon_sharpness": "ε-sharpness",
    "hessian_trace": "Hessian trace",
}
_TRAINING = (3, 1.5)  # dashes of what is of training data
_EIGENVALUE_UNIT = "loss / weight²"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What figures are of."""

    answers: dict  # of `answers.answers`
    curves: Curves
    rows: tuple  # of results.json, with the arm's name as in `curves.groups`
    noise: dict = dataclasses.field(default_factory=dict)  # arm -> `noise.Parting` of its noise scale

    def unit(self, tag):
        """Return the unit of a tag, in brackets on a line of its own, or nothing."""
        for run in self.answers["runs"]["runs"]:
            for each in run["tags"]:
                if each["tag"] == tag and each["unit"]:
                    return f"\n({each['unit']})"
        return ""


def sharpness(subject):
    """Return the measures of sharpness against training; of one moment only, that moment by arm."""
    curves = subject.curves
    tags = sorted(filter(_is_measure, curves.tags("sharpness/")), key=_rank)[:6]
    if not tags:
        return None
    figure, axes = drawing.panels(len(tags))
    for axis, tag in zip(axes, tags, strict=True):
        if curves.is_history(tag):
            _draw_tag(axis, curves, tag, subject.unit(tag))
        else:
            last = {group: [y[-1] for _, y in curves.lines(group, tag)] for group in curves.groups}
            _draw_dots(axis, last, words(tag) + subject.unit(tag))
    drawing.legend(figure, axes)
    return figure


def eigenvalues(subject):
    """Return the largest eigenvalues by arm, with the edge of stability."""
    curves, tag = subject.curves, "curvature/eigenvalues"
    groups = [group for group in curves.groups if curves.lines(group, tag)]
    if not groups or not curves.is_history(tag):
        return None
    figure, axes = drawing.panels(len(groups))
    for axis, group in zip(axes, groups, strict=True):
        index, drawn = curves.groups.index(group), []
        for column in range(min(curves.width(tag), 5)):
            curve = curves.curve(group, tag, column)
            if curve is not None:
                drawing.draw_curve(
                    axis, curve, index, alpha=(1, 0.75, 0.6, 0.48, 0.4)[column], band=column == 0
                )
                drawn.append(curve)
        edge = curves.curve(group, "sharpness/edge_of_stability")
        if edge is not None:
            axis.plot(
                edge.x, edge.mean, color="#555555", linestyle=":", linewidth=1, label="edge of stability"
            )
        drawing.scale(axis, drawn + ([edge] if edge is not None else []))
        axis.set(title=group, xlabel=X_LABELS[curves.axis])
    axes[0].set_ylabel(f"Hessian eigenvalue\n({_EIGENVALUE_UNIT})")
    drawing.legend(figure, axes)
    return figure


def density(subject):
    """Return the last spectral density of the first seed of each arm."""
    found = _last_frames(subject, "density")
    if not found:
        return None
    figure, axes = drawing.panels(len(found), height=1.9)
    highest = max(np.array(frame["density"], float).max() for frame in found.values())
    low = min(frame["grid"][0] for frame in found.values())
    high = max(frame["grid"][-1] for frame in found.values())
    for axis, (group, frame) in zip(axes, found.items(), strict=True):
        colour, _, _ = drawing.look(subject.curves.groups.index(group))
        grid, values = np.array(frame["grid"], float), np.array(frame["density"], float)
        axis.fill_between(grid, 1e-30, np.maximum(values, 1e-30), color=colour, alpha=0.25, linewidth=0)
        axis.plot(grid, np.maximum(values, 1e-30), color=colour, linewidth=0.8)
        axis.set_yscale("log")
        axis.set(
            title=group, xlabel=f"eigenvalue ({_EIGENVALUE_UNIT})",
            xlim=(low, high), ylim=(highest * 1e-5, highest * 2),
        )  # fmt: skip
        drawing.plain_numbers(axis.yaxis)
    axes[0].set_ylabel("density (weight² / loss)")
    return figure


def schedules(subject):
    """Return batch size, learning rate and noise scales against training."""
    curves = subject.curves
    wanted = ("batch_size", "learning_rate", "noise_scale", "gradient_noise_scale")
    tags = [f"schedule/{name}" for name in wanted if f"schedule/{name}" in curves.tags("schedule/")]
    if not tags:
        return None
    figure, axes = drawing.panels(len(tags), columns=len(tags))
    for axis, tag in zip(axes, tags, strict=True):
        _draw_tag(axis, curves, tag, subject.unit(tag), steps=tag == "schedule/batch_size")
        if axis.get_yscale() == "linear":
            axis.set_ylim(bottom=0)
    drawing.legend(figure, axes)
    return figure


def equivalence(subject):
    """Return the noise scale over examples seen, and its ratio to that of the reference."""
    if not subject.noise:
        return None
    curves = Curves(subject.answers, subject.curves.groups, axis="examples")
    figure, (axis, ratios) = drawing.panels(2, columns=2)
    _draw_tag(axis, curves, "schedule/noise_scale", "", steps=True)
    ratios.axhspan(1 / (1 + TOLERANCE), 1 + TOLERANCE, color="#888888", alpha=0.25, linewidth=0)
    drawn = []
    for group, parting in subject.noise.items():
        index = curves.groups.index(group)
        counted = parting.is_counted & np.isfinite(parting.ratio)
        colour, _, dashes = drawing.look(index)
        x = np.stack([parting.starts, parting.starts + parting.widths], 1)[counted].ravel()
        (line,) = ratios.plot(x, np.repeat(parting.ratio[counted], 2), color=colour)
        line.set_dashes(dashes or (None, None))
        drawn.append(parting.ratio[counted])
    values = np.concatenate([*drawn, np.ones(1)])
    if drawing.is_wide(values):
        ratios.set_yscale("log")
    drawing.plain_numbers(ratios.yaxis)
    ratios.set(ylabel="ratio to the reference")
    for each in (axis, ratios):
        each.set_xlabel(X_LABELS["examples"])
        drawing.counts(each)
    drawing.legend(figure, [axis])
    return figure


def gap(subject):
    """Return loss and accuracy on training and test data, and the gap between them."""
    curves = subject.curves
    known = curves.tags("generalization/")
    kinds = [kind for kind in ("loss", "accuracy") if f"generalization/test_{kind}" in known]
    if not kinds:
        return None
    figure, axes = drawing.panels(2 * len(kinds), columns=2)
    for kind, (axis, gap_axis) in zip(kinds, zip(axes[::2], axes[1::2], strict=True), strict=True):
        tests, gaps = [], []
        for index, group in enumerate(curves.groups):
            train, test = (curves.lines(group, f"generalization/{side}_{kind}") for side in ("train", "test"))
            for lines, label, dashes in ((test, group, None), (train, None, _TRAINING)):
                curve = mean_curve(lines)
                if curve is not None:
                    drawing.draw_curve(axis, curve, index, label=label, dashes=dashes, band=label is not None)
                    tests.append(curve)
            sign = 1 if kind == "loss" else -1
            pairs = zip(train, test, strict=False) if len(train) == len(test) else ()
            curve = mean_curve([(x, sign * (y - np.interp(x, *other))) for other, (x, y) in pairs])
            if curve is not None:
                drawing.draw_curve(gap_axis, curve, index)
                gaps.append(curve)
        unit = "" if kind == "loss" else " (share)"
        if kind == "loss":
            drawing.scale(axis, tests)
        drawing.plain_numbers(axis.yaxis)
        drawing.plain_numbers(gap_axis.yaxis)
        axis.set(xlabel=X_LABELS[curves.axis], ylabel=f"{kind}{unit}")
        told = "test − train loss" if kind == "loss" else "train − test accuracy (share)"
        gap_axis.axhline(0, color="#888888", linewidth=0.6)
        gap_axis.set(xlabel=X_LABELS[curves.axis], ylabel=told)
    drawing.legend(figure, axes, [("test", None), ("training", _TRAINING)])
    return figure


def landscape(subject):
    """Return lines and planes of the first seed of each arm, at the last moment."""
    lines, planes = _last_frames(subject, "line"), _last_frames(subject, "plane")
    ways = _last_frames(subject, "trajectory")
    if not lines and not planes:
        return None
    count = bool(lines) + len(planes)
    figure, axes = drawing.panels(count, columns=2 if count in (2, 4) else 3, height=2.3)
    if lines:
        _draw_lines(axes[0], lines, subject.curves.groups)
    own = axes[bool(lines) :]
    levels = _levels([np.array(plane["loss"], float) for plane in planes.values()]) if planes else None
    for axis, (group, plane) in zip(own, planes.items(), strict=True):
        drawn = _draw_plane(axis, plane, ways.get(group), levels)
        axis.set(title=group, xlabel="first direction", ylabel="second direction")
    if planes:
        figure.colorbar(drawn, ax=own, label="loss", ticks=levels[::3], format="%.2g", aspect=30)
    drawing.legend(figure, axes, [("test", None), ("training", _TRAINING)] if lines else ())
    return figure


def compare(subject):
    """Return what the arms ended with: a dot per seed, mean and standard error."""
    wanted = {
        "test_accuracy": ("test accuracy (%)", 100.0),
        "test_loss": ("test loss", 1.0),
        "top_eigenvalue": (f"top Hessian eigenvalue\n({_EIGENVALUE_UNIT})", 1.0),
        "sharpness": ("ε-sharpness (%)", 1.0),
        "updates": ("weight updates", 1.0),
        "seconds": ("time (s)", 1.0),
    }
    columns = {}
    for key, (label, scale) in wanted.items():
        values = {
            group: [
                scale * row[key] for row in subject.rows if row["arm"] == group and _is_finite(row.get(key))
            ]
            for group in subject.curves.groups
        }
        if any(values.values()):
            columns[label] = values
    if not columns:
        return None
    figure, axes = drawing.panels(len(columns))
    for axis, (label, values) in zip(axes, columns.items(), strict=True):
        _draw_dots(axis, values, label)
    return figure


FIGURES = {
    "sharpness": sharpness,
    "eigenvalues": eigenvalues,
    "density": density,
    "schedules": schedules,
    "equivalence": equivalence,
    "gap": gap,
    "landscape": landscape,
    "compare": compare,
}


def words(tag):
    """Return the last part of a tag as an axis names it."""
    last = tag.rpartition("/")[2]
    return _NAMES.get(last, last.replace("_", " "))


def _is_measure(tag):
    last = tag.rpartition("/")[2]
    return not last.endswith(_NOT_MEASURES) and not last.rpartition("eigenvalue_")[2].isdigit()


def _rank(tag):
    """The measures that everybody knows first."""
    known = [f"sharpness/{name}" for name in _NAMES]
    return known.index(tag) if tag in known else len(known), tag


def _is_finite(value):
    return value is not None and np.isfinite(value)


def _draw_tag(axis, curves, tag, unit, steps=False):
    drawn = []
    for index, group in enumerate(curves.groups):
        curve = curves.curve(group, tag)
        if curve is not None:
            drawing.draw_curve(axis, curve, index, label=group, dashes=drawing.look(index)[2], steps=steps)
            drawn.append(curve)
    drawing.scale(axis, drawn)
    axis.set(xlabel=X_LABELS[curves.axis], ylabel=words(tag) + unit)


def _draw_dots(axis, values, label):
    groups = [group for group, own in values.items() if own]
    for position, group in enumerate(groups):
        index = list(values).index(group)
        colour, marker, _ = drawing.look(index)
        own, summary = values[group], summarize(values[group])
        spread = np.linspace(-0.12, 0.12, len(own)) if len(own) > 1 else [0.0]
        axis.plot(
            position + np.array(spread),
            own,
            marker,
            color=colour,
            alpha=0.45,
            markersize=3,
            markeredgewidth=0,
        )
        error = 0.0 if np.isnan(summary.standard_error) else summary.standard_error
        axis.errorbar(
            position, summary.mean, error, fmt="_", color=colour, markersize=13, capsize=2.5, linewidth=1
        )
    finite = np.array([v for own in values.values() for v in own if np.isfinite(v)])
    if drawing.is_wide(finite):
        axis.set_yscale("log")
    drawing.plain_numbers(axis.yaxis)
    rotation = 0 if sum(map(len, groups)) < 22 else 35
    axis.set_xticks(range(len(groups)), groups, rotation=rotation, ha="right" if rotation else "center")
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel(label)


def _last_frames(subject, kind):
    """Return {arm: last frame of its first seed}, in the order of the arms."""
    found = {}
    for group in subject.curves.groups:
        run = subject.curves.first_seed(group)
        own = [frame for frame in subject.answers["frame"] if frame["run"] == run and frame["kind"] == kind]
        if own:
            found[group] = max(own, key=lambda frame: frame["step"])
    return found


def _draw_lines(axis, lines, groups):
    for group, frame in lines.items():
        colour, _, _ = drawing.look(groups.index(group))
        for side, dashes in (("test", None), ("train", _TRAINING)):
            values = frame.get(f"{side}_loss")
            if values:
                label = group if side == "test" or not frame.get("test_loss") else None
                (drawn,) = axis.plot(frame["alpha"], np.array(values, float), color=colour, label=label)
                drawn.set_dashes(dashes or (None, None))
    axis.set(title="on a line", xlabel="position α", ylabel="loss")


def _levels(losses):
    """Return heights of contours for planes that are to be compared, shape (16,)."""
    low, high = min(np.nanmin(loss) for loss in losses), max(np.nanmax(loss) for loss in losses)
    if low > 0 and high > 20 * low:
        return np.geomspace(low, high, 16)
    return np.linspace(low, high if high > low else low + 1, 16)


def _draw_plane(axis, plane, way, levels):
    from matplotlib.colors import BoundaryNorm

    loss = np.array(plane["loss"], float)
    norm = BoundaryNorm(levels, 256)
    drawn = axis.contourf(
        plane["a"], plane["b"], loss, levels=levels, cmap="cividis", norm=norm, extend="max"
    )
    axis.grid(visible=False)
    if way is not None:
        points = np.array(way["points"], float)
        axis.plot(points[:, 0], points[:, 1], color="white", linewidth=1.2)
        axis.plot(*points[-1], "o", color="white", markersize=3)
    axis.set_xlim(min(plane["a"]), max(plane["a"]))
    axis.set_ylim(min(plane["b"]), max(plane["b"]))
    return drawn

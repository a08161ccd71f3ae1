"""What the schedules of a run were, over examples seen, and where those of two runs part.

`callbacks.RunSummary` writes a point at an update whose batch size or rate is another, and one at the update before, so
that a jump lies between neighbouring updates; other points are at most 100 updates apart. A value is that of the
update that its step counts, which has taken the examples since the update before.

Ratios are symmetric: 0.5 is as far from 1 as 2, and two arms are apart where the larger is more than 5 % above the
smaller, for longer than an update of each: arms change their values at their own updates, which do not fall together.
"""

import dataclasses

import numpy as np

TOLERANCE = 0.05  # fixed before anybody looks
_POINTS = 20_000  # as many as the plugin's route gives
_QUANTITIES = ("noise_scale", "batch_size", "learning_rate")


@dataclasses.dataclass(frozen=True)
class Line:
    """One quantity over examples seen."""

    examples: np.ndarray  # (n,) increasing, seen after the update of a point
    updates: np.ndarray  # (n,)
    values: np.ndarray  # (n,)
    stride: int  # updates between neighbouring points: those of an execution

    def at(self, examples):
        """Return the value of the updates that take the given examples, shape as given.

        Between neighbouring updates that of the later one. Between points far apart, a line, as the rate drifts there;
        what jumps there was written by somebody who notes changes only, and held until the later point.
        """
        after = np.clip(np.searchsorted(self.examples, examples), 0, len(self.values) - 1)
        before = np.maximum(after - 1, 0)
        old, new = self.values[before], self.values[after]
        gap = np.maximum(self.examples[after] - self.examples[before], 1e-9)
        part = np.clip((examples - self.examples[before]) / gap, 0, 1)
        is_neighbour = self.updates[after] - self.updates[before] <= self.stride
        is_drift = np.abs(new - old) <= 2 * TOLERANCE * np.abs(old)
        return np.where(is_neighbour, new, np.where(is_drift, old + part * (new - old), old))


@dataclasses.dataclass(frozen=True)
class History:
    """The schedules of one arm and seed."""

    noise_scale: Line
    batch_size: Line
    learning_rate: Line
    num_examples: float  # N

    @property
    def start(self):
        """Examples seen when training began."""
        line = self.batch_size
        return max(float(line.examples[0] - line.values[0] * line.stride), 0.0)

    @property
    def stop(self):
        return float(self.batch_size.examples[-1])

    @property
    def inverse_friction(self):
        """1 / (1 - m), from g = rate / (1 - m) (N / B - 1); None if there never was noise."""
        points = self.noise_scale.examples
        plain = self.learning_rate.at(points) * (self.num_examples / self.batch_size.at(points) - 1)
        known = (plain > 0) & (self.noise_scale.values > 0)
        return float(np.median(self.noise_scale.values[known] / plain[known])) if known.any() else None

    def updates(self, examples):
        """Return the number of updates that took the given examples, as a float."""
        line = self.batch_size
        before = line.updates[0] - line.stride
        return np.interp(examples, np.append(self.start, line.examples), np.append(before, line.updates))

    def epoch(self, examples):
        return examples / self.num_examples


@dataclasses.dataclass(frozen=True)
class Parting:
    """The ratio of a quantity, arm over reference, over the examples that both have seen, in pieces."""

    starts: np.ndarray  # (n,) examples seen where a piece begins
    widths: np.ndarray  # (n,) of pieces, in examples
    ratio: np.ndarray  # (n,) in the middle of a piece; NaN where it is not known
    is_apart: np.ndarray  # (n,) beyond the tolerance, for longer than an update of each
    is_counted: np.ndarray  # (n,) False where arms are between two updates, or nothing is known

    @property
    def middles(self):
        return self.starts + self.widths / 2

    @property
    def share(self):
        """Share of the examples during which they are apart."""
        return float(self.widths[self.is_apart].sum() / self.widths.sum())

    @property
    def largest(self):
        """The ratio farthest from 1."""
        counted = self.ratio[self.is_counted]
        return float(counted[np.argmax(_distance(counted))]) if len(counted) else 1.0

    @property
    def first(self):
        """Examples seen when they first part, and the ratio there; None if they do not."""
        apart = zip(self.starts[self.is_apart].tolist(), self.ratio[self.is_apart].tolist(), strict=True)
        return min(apart, default=None)


def together(partings):
    """Return one `Parting` with the pieces of several, as of seeds."""
    fields = [field.name for field in dataclasses.fields(Parting)]
    return Parting(*(np.concatenate([getattr(each, name) for each in partings]) for name in fields))


def part(arm, reference, quantity):
    """Return the `Parting` of two histories, or None if they have no examples in common.

    Args:
        arm: `History`.
        reference: `History`.
        quantity: Function (history, examples) -> values.
    """
    start, stop = max(arm.start, reference.start), min(arm.stop, reference.stop)
    if not stop > start:
        return None
    points = np.concatenate(
        [getattr(h, name).examples for h in (arm, reference) for name in _QUANTITIES] + [[start, stop]]
    )
    edges = np.unique(points[(points >= start) & (points <= stop)])
    starts, widths = edges[:-1], np.diff(edges)
    middles = starts + widths / 2
    ratio = _ratio(quantity(arm, middles), quantity(reference, middles))
    update = sum(h.batch_size.at(middles) * h.batch_size.stride for h in (arm, reference))
    is_apart = _distance(ratio) > np.log1p(TOLERANCE) + 1e-6  # float32 in the files
    is_short = np.zeros_like(is_apart)
    for first, last in _stretches(is_apart):
        longest = update[max(first - 1, 0) : last + 1].max()
        is_short[first:last] = edges[last] - edges[first] <= longest * (1 + 1e-6)
    return Parting(starts, widths, ratio, is_apart & ~is_short, ~np.isnan(ratio) & ~is_short)


def rate_over_batch(history, examples):
    """rate / (1 - m) · N / B: the noise scale for B ≪ N, under which rate and batch trade exactly."""
    friction = history.inverse_friction or 1.0
    rate, size = history.learning_rate.at(examples), history.batch_size.at(examples)
    return rate * friction * history.num_examples / size


def rate_over_root(history, examples):
    """rate / √B: what the noise of Adam follows."""
    return history.learning_rate.at(examples) / np.sqrt(history.batch_size.at(examples))


def read_histories(plugin, strides):
    """Read the schedules that event files hold.

    Args:
        plugin: `answers.Plugin`.
        strides: Dict from an arm, as the plugin groups runs, to its `steps_per_execution`.

    Returns:
        Dict from arm to a dict from seed to `History`. What wrote no noise scale is not in it.
    """
    listed = plugin("runs")["runs"]
    tags = [f"schedule/{name}" for name in _QUANTITIES]
    found = plugin("series", runs=[run["run"] for run in listed], tags=tags, points=_POINTS)
    series = {(each["run"], each["tag"]): each for each in found["series"]}
    histories = {}
    for run in listed:
        own = [series.get((run["run"], tag)) for tag in tags]
        if all(each is not None and {"examples", "epochs"} <= each["x"].keys() for each in own):
            history = _history(own, strides.get(run["group"], 1))
            if history is not None:
                histories.setdefault(run["group"], {})[run["seed"]] = history
    return histories


def _history(series, stride):
    lines = [_line(each, stride) for each in series]
    if any(len(line.values) == 0 for line in lines):
        return None
    epochs, examples = (np.array(series[1]["x"][axis], float)[-1] for axis in ("epochs", "examples"))
    if not 0 < epochs < np.inf or not 0 < examples < np.inf:
        return None
    return History(*lines, num_examples=float(round(examples / epochs)))


def _line(series, stride):
    x, y = series["x"], np.array(series["values"][0], float)
    examples, updates = np.array(x["examples"], float), np.array(x["updates"], float)
    known = np.isfinite(y) & np.isfinite(examples)
    examples, updates, y = examples[known], updates[known], y[known]
    _, last = np.unique(examples[::-1], return_index=True)  # of updates without new examples the last
    kept = len(examples) - 1 - last
    return Line(examples[kept], updates[kept], y[kept], stride)


def _ratio(ours, theirs):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((ours == 0) & (theirs == 0), 1.0, ours / theirs)


def _distance(ratio):
    """How far ratios are from 1: |log|, so that 2 and 1/2 are equally far."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.abs(np.log(ratio)), nan=0.0, posinf=np.inf)


def _stretches(flags):
    """Return (first, last + 1) of the runs of true entries."""
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))

"""The critical batch size: where a larger batch stops to save updates.

To a fixed target a batch of B examples takes

    S(B) = S_min (1 + B_crit / B)   updates,    E(B) = B S(B) = E_min (1 + B / B_crit)   examples,

with E_min = B_crit S_min. Far below B_crit twice the batch takes half the updates, far above it the same updates; at B_crit
a training takes twice the least of both. `fit` finds the curve from trainings of several batch sizes, each with the rates that
are best for it: with a rate that suits one size only, the curve says how fast the rate stops to suit.

The curve is derived for one step of a quadratic loss and the best rate, with constant noise (section 2 of the paper), and
holds over a training only as far as B_crit does not move. `fit` says whether it does hold, as far as seeds can tell.
Nothing here imports TensorFlow.

References:
    McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, equations 2.11 and 2.12.
    Shallue et al., "Measuring the effects of data parallelism on neural network training", 2019 (the three regimes).
    Bates and Watts, "Nonlinear regression analysis and its applications", 1988 (profiles, lack of fit).
"""

import dataclasses
import math

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

LEVEL = 0.05  # of the test for lack of fit, below which the curve is said not to fit
EXCESS = 0.2  # of updates or examples, that a regime takes for none; Zhang et al. 2024 call a batch critical at 20 % more updates
REGIMES = ("perfect scaling", "diminishing returns", "maximal parallelism")
_WIDENED = 0.2  # level of the same test, below which the interval does not trust the curve: where it holds, this costs nothing
_EXPONENTS = np.geomspace(0.5, 2.0, 9)  # of (B_crit / B)^a, where a = 1 does not fit
_REACH = 14.0  # of the search beyond the sizes, in log B_crit: there the curve is within 1e-6 of its limit


@dataclasses.dataclass(frozen=True)
class CriticalBatchSize:
    """S(B) = `min_updates` + `min_examples` / B, with what is known of its bend.

    Attributes:
        value: B_crit in examples; 0 or inf where the best curve has no bend.
        interval: A pair of examples, (low, high). Low is 0 where updates that do not depend on the batch fit the data as well
            (all sizes in maximal parallelism), and high is inf where updates in proportion to 1 / B do (all in perfect scaling).
        confidence: Share of experiments whose interval holds the truth, if the curve is right and noise is as `fit` assumes.
        min_updates: S_min, 0 if `value` is inf.
        min_examples: E_min = B_crit S_min, 0 if `value` is 0.
        batch_sizes: The sizes that were fitted, ascending, shape (sizes,).
        num_runs: How many trainings were fitted.
        deviation: Standard deviation of log S that the interval rests on, as if of single runs: 0.05 is 5 %. Where the means of
            sizes seem to be off the curve, it is theirs, times the root of the runs per size.
        lack_of_fit: p value of the hypothesis that the means of the sizes lie on the curve, up to the noise of seeds; None
            if no size was run twice.
    """

    value: float
    interval: tuple
    confidence: float
    min_updates: float
    min_examples: float
    batch_sizes: tuple
    num_runs: int
    deviation: float
    lack_of_fit: float | None

    @property
    def fits(self):
        """Whether the curve holds within the noise of seeds, by a test at 5 %: a bool, or None if no size was run twice."""
        return None if self.lack_of_fit is None else self.lack_of_fit >= LEVEL

    @property
    def is_open_below(self):
        """Whether B_crit may be as small as one likes: no smaller batch has been seen to take more updates."""
        return self.interval[0] == 0

    @property
    def is_open_above(self):
        """Whether B_crit may be as large as one likes: no larger batch has been seen to take more examples."""
        return math.isinf(self.interval[1])

    def updates(self, batch_size):
        """Return S(B), the updates to the target, a float; of an array of batch sizes an array."""
        return self.min_updates + self.min_examples / _checked_size(batch_size)

    def examples(self, batch_size):
        """Return E(B) = B S(B), the examples to the target, a float; of an array of batch sizes an array."""
        return self.min_updates * _checked_size(batch_size) + self.min_examples

    def regime(self, batch_size):
        """Return in which of Shallue et al.'s three regimes a batch is, one of `REGIMES`.

        They give no numbers. Here scaling is perfect while at most 20 % more examples than E_min are taken, up to B_crit / 5,
        and parallelism maximal from where at most 20 % more updates than S_min are, 5 B_crit on.

        Example:
            >>> found = fit([10, 100, 1000], [1100, 200, 110])
            >>> round(found.value), [found.regime(size) for size in (16, 100, 512)]
            (100, ['perfect scaling', 'diminishing returns', 'maximal parallelism'])
        """
        size = float(_checked_size(batch_size))
        low, high = self.boundaries
        return REGIMES[0] if size <= low else REGIMES[1] if size < high else REGIMES[2]

    @property
    def boundaries(self):
        """The sizes between the regimes, B_crit / 5 and 5 B_crit, a pair of floats."""
        return EXCESS * self.value, self.value / EXCESS


def fit(batch_sizes, updates, *, confidence=0.95):
    """Fit S(B) = S_min (1 + B_crit / B) to the updates that trainings took to a target.

    Least squares of log S: seeds differ by a factor rather than by a number of updates. The interval holds the B_crit whose
    best curve is not refuted by an F test (profile likelihood), on the variance about the curve: of seeds and lack of fit
    together, and no less than that of rounding to whole updates.

    Where the means of the sizes seem to be off the curve by more than seeds explain (p below 0.2), more seeds would not tell
    more about B_crit. Then the variance is that of the means alone, with sizes - 2 degrees of freedom; and, of five sizes or
    more, the interval also holds what S_min (1 + (B_crit / B)^a) says, with another degree of freedom for a. That has no source
    but keeps the meaning of B_crit: twice S_min.

    How often the interval of 95 % holds the truth, in simulations: 95 to 96 % with a noise of 5 or 30 % and 1 to 5 seeds of 8
    sizes; 91 % where small batches vary three times as much as large ones (noise is taken to be equal). For SGD on noisy quadratic
    models with the best constant rate the curve does not hold: with S_min of 4 updates or more, S is up to 24 % above the
    hyperbola through S_min and B_crit, and the fit of the exact S finds a B_crit 10 to 35 % too large. With three seeds of 9 sizes
    the interval held the size with S = 2 S_min in 80 to 100 % of studies, fewest where seeds could not refute the curve. S is then
    what was counted: where the loss itself is noisy, small batches meet the target early by chance, and B_crit by first meetings
    was 26 % below that of the expected loss, which few intervals held.

    Trainings that missed the target cannot be given: they took more updates than they were allowed, and the curve through the
    others is too low where many are missing. Leave out sizes whose best rate lies at the edge of the range tried. A target that
    is checked every c updates adds c / 2 to S; keep c small beside S_min.

    Args:
        batch_sizes: Examples per update, one entry for each training, shape (runs,). Seeds repeat a size.
        updates: S, updates to the target of the same trainings, shape (runs,).
        confidence: Of the interval.

    Returns:
        `CriticalBatchSize`.

    Raises:
        ValueError: If the two differ in length, an entry is not positive, or there are fewer than three sizes.

    References:
        McCandlish et al., 2018, equation 2.11.

    Example:
        >>> sizes = [16, 64, 256, 1024]
        >>> found = fit(sizes, [300 * (1 + 128 / size) for size in sizes])
        >>> round(found.value, 6), round(found.min_updates, 6), round(found.updates(32), 6)
        (128.0, 300.0, 1500.0)
    """
    runs = _Runs(*_checked(batch_sizes, updates, confidence))
    profile = _Profile(runs)
    log_value, rest = profile.minimum()
    spread = _spread(runs, rest)
    cut = rest + spread.variance * scipy.stats.f.ppf(confidence, 1, spread.degrees)
    low, high = profile.interval(cut, log_value)
    if spread.is_of_means and len(runs.sizes) > 4:
        others = _interval_of_any_exponent(runs, confidence)
        low, high = min(low, others[0]), max(high, others[1])
    min_updates, min_examples = profile.ends(log_value)
    return CriticalBatchSize(
        value=math.exp(log_value),
        interval=(math.exp(low), math.exp(high)),
        confidence=float(confidence),
        min_updates=min_updates,
        min_examples=min_examples,
        batch_sizes=tuple(runs.sizes.tolist()),
        num_runs=int(runs.repeats.sum()),
        deviation=math.sqrt(spread.variance),
        lack_of_fit=spread.lack_of_fit,
    )


class _Profile:
    """Squared residuals of log S about S_min (1 + (B_crit / B)^a) for the best S_min and a, as a function of t = log B_crit.

    Args:
        runs: `_Runs`.
        exponents: Those among which a is chosen, ascending.
    """

    def __init__(self, runs, exponents=(1.0,)):
        self.runs, self.exponents = runs, np.array(exponents)
        low, high = runs.log_sizes.min() - _REACH, runs.log_sizes.max() + _REACH
        self.grid = np.linspace(low, high, 1 + math.ceil((high - low) / 0.05))
        self.on_grid = self(self.grid)

    def __call__(self, t):
        """Of t, a number from -inf to inf or shape (points,)."""
        t, exponents = np.asarray(t, float)[..., None, None], self.exponents[:, None]
        rest, slope = self._residuals(t, exponents)
        if len(self.exponents) > 1:
            best = np.sum(rest**2, axis=-1).argmin(-1)
            exponents = self.exponents[best][..., None, None]
            for _ in range(5):  # Gauss-Newton, from within a tenth of the best
                rest, slope = self._residuals(t, exponents)
                squares = np.sum(slope**2, axis=-1, keepdims=True)
                step = np.sum(rest * slope, axis=-1, keepdims=True) / np.where(squares > 0, squares, np.inf)
                exponents = np.clip(exponents + step, self.exponents[0], self.exponents[-1])
            rest, _ = self._residuals(t, exponents)
        return self.runs.of_seeds + np.sum(rest**2, axis=-1)[..., 0]

    def ends(self, t):
        """Return S_min and E_min of the best curve with a = 1, two floats."""
        shape, _ = self._shape(np.asarray(t, float), 1.0)
        level = math.exp(np.average(self.runs.means - shape, weights=self.runs.repeats))
        return (0.0, level) if t == math.inf else (level, level * math.exp(t))

    def minimum(self):
        """Return the best t and its squared residuals."""
        index = int(self.on_grid.argmin())
        found = scipy.optimize.minimize_scalar(
            self,
            bounds=(self.grid[max(index - 1, 0)], self.grid[min(index + 1, len(self.grid) - 1)]),
            method="bounded",
            options={"xatol": 1e-10},
        )
        candidates = [-math.inf, math.inf, float(self.grid[index]), float(found.x)]
        return min(((t, float(self(t))) for t in candidates), key=lambda pair: pair[1])

    def interval(self, cut, best):
        """Return the least and the greatest t whose squared residuals are at most `cut`; those of `best` are."""
        points = np.unique(np.append(self.grid, best if math.isfinite(best) else []))
        inside = np.flatnonzero(self(points) <= cut)
        low, high = -math.inf, math.inf
        if self(-math.inf) > cut:
            low = self._crossing(points, inside[0] - 1, cut) if len(inside) else high
        if self(math.inf) > cut:
            high = self._crossing(points, inside[-1], cut) if len(inside) else low
        return low, high

    def _crossing(self, points, index, cut):
        """Return where the residuals cross `cut` between a point and the next; a limit of the grid counts as crossed."""
        if not 0 <= index < len(points) - 1:
            return float(points[np.clip(index, 0, len(points) - 1)])
        return scipy.optimize.brentq(lambda t: self(t) - cut, points[index], points[index + 1])

    def _residuals(self, t, exponents):
        """Return those of the means of sizes, times the root of their runs, and the slope of the curve in a, likewise."""
        weights = self.runs.repeats
        shape, slope = self._shape(t, exponents)
        return tuple(
            np.sqrt(weights) * (each - (each @ weights / weights.sum())[..., None])
            for each in (self.runs.means - shape, slope)
        )

    def _shape(self, t, exponents):
        """Return log(1 + (B_crit / B)^a), up to a constant at infinity, and its derivative by a; shape (..., sizes)."""
        if np.isposinf(t).any():
            return -exponents * self.runs.log_sizes, -self.runs.log_sizes * np.ones_like(exponents)
        if np.isneginf(t).any():
            return (np.zeros(np.broadcast_shapes(np.shape(exponents), self.runs.log_sizes.shape)),) * 2
        away = t - self.runs.log_sizes
        return np.logaddexp(0.0, exponents * away), away * scipy.special.expit(exponents * away)


class _Runs:
    """log S by size: what a fit by least squares needs to know of the runs."""

    def __init__(self, sizes, counts):
        distinct, which, self.repeats = np.unique(sizes, return_inverse=True, return_counts=True)
        self.sizes, self.log_sizes = distinct, np.log(distinct)
        log_counts = np.log(counts)
        self.means = np.bincount(which, log_counts) / self.repeats  # (sizes,)
        self.of_seeds = float(np.sum((log_counts - self.means[which]) ** 2))
        self.of_rounding = float(np.mean(counts**-2.0)) / 12  # variance
        self.degrees = len(which) - len(distinct)


@dataclasses.dataclass(frozen=True)
class _Spread:
    variance: float  # of log S
    degrees: int
    lack_of_fit: float | None
    is_of_means: bool = False  # rather than of single runs


def _spread(runs, rest):
    """Return the variance that an interval rests on, given the squared residuals of the best curve."""
    of_curve, degrees = max(rest - runs.of_seeds, 0.0), len(runs.sizes) - 2
    p_value = None
    if runs.degrees:
        within = max(runs.of_seeds / runs.degrees, runs.of_rounding)
        p_value = float(scipy.stats.f.sf(of_curve / degrees / within, degrees, runs.degrees))
        if p_value < _WIDENED:
            return _Spread(max(of_curve / degrees, runs.of_rounding), degrees, p_value, True)
    degrees += runs.degrees
    return _Spread(max(rest / degrees, runs.of_rounding), degrees, p_value)


def _interval_of_any_exponent(runs, confidence):
    """Return the interval of log B_crit about a curve with one parameter more, on what the means of the sizes are off it."""
    profile, degrees = _Profile(runs, _EXPONENTS), len(runs.sizes) - 3
    best, rest = profile.minimum()
    variance = max((rest - runs.of_seeds) / degrees, runs.of_rounding)
    return profile.interval(rest + variance * scipy.stats.f.ppf(confidence, 1, degrees), best)


def _checked_size(batch_size):
    size = np.asarray(batch_size, float)
    if not np.all(size > 0):
        raise ValueError(f"batch_size={batch_size!r} should be a positive number of examples, such as 256.")
    return size if size.ndim else float(size)


def _checked(batch_sizes, updates, confidence):
    sizes, counts = np.asarray(batch_sizes, float), np.asarray(updates, float)
    if sizes.ndim != 1 or sizes.shape != counts.shape:
        raise ValueError(
            f"batch_sizes has shape {sizes.shape} and updates {counts.shape}, but each training gives one entry of both. Pass two "
            "lists of equal length, such as fit([16, 16, 64, 256], [930, 910, 260, 110])."
        )
    for name, values, what in (("batch_sizes", sizes, "size"), ("updates", counts, "number of updates")):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            raise ValueError(
                f"{name}[{wrong[0]}] is {values[wrong[0]]:g}, which is no {what}. Leave out trainings that missed the target or "
                "diverged: all entries are positive."
            )
    if len(np.unique(sizes)) < 3:
        found = ", ".join(f"{size:g}" for size in np.unique(sizes)) or "none"
        raise ValueError(
            f"At least three batch sizes are needed, but got {found}: any two lie on some curve. Train one that is four times as "
            "large, or a quarter as large, with rates that suit it."
        )
    if isinstance(confidence, bool) or not 0 < confidence < 1:
        raise ValueError(
            f"confidence={confidence!r} should be between 0 and 1. Pass 0.95 for an interval of 95 %."
        )
    return sizes, counts

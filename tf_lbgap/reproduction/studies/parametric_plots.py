"""Keskar's parametric plots of finished runs: the loss from the minimum of one arm to that of another.

At every point batch normalization runs on the statistics that belong to the weights there, taken anew over
the training examples: the moving averages of the ends belong to no network in between. How wide a minimum
looks along one line is not what its sharpness is (`landscape.line`).
"""

import math

import numpy as np
from scipy.special import cosdg, sindg

from tf_lbgap.experiment.calls import ConfigError, mistakes
from tf_lbgap.experiment.checks import count, positive, whole

KEYS = ("barrier", "test_barrier", "loss_at_0", "loss_at_1", "width_0", "width_1", "width_ratio")


def interpolation(
    run,
    *,
    arms,
    shape="line",
    low=-1.0,
    high=2.0,
    points=25,
    examples=1000,
    test_examples=2000,
    seeds=None,
    eigenvalues=0,
    rise=0.5,
):
    """Measure the loss on a path through the final weights of two arms, at α = 0 and α = 1, seed by seed.

    A point costs a pass over both samples, and L more over the training sample for L layers of batch
    normalization, whose statistics are recalibrated on the training sample at each point. Data are those of
    the first arm of a pair.

    Args:
        run: A `FinishedRun`.
        arms: Two arms with the same network, [a, b]; or a list of such pairs.
        shape: "line", (1 - α) a + α b; or "curve", cos(α π/2) a + sin(α π/2) b.
        low: The first α, at most 0.
        high: The last α, at least 1.
        points: How many, evenly spread; 0 and 1 are added where they are not among them.
        examples: Of the training set, the first ones; 0: all.
        test_examples: Of the test set; 0: all.
        seeds: How many of the run's seeds; None: all.
        eigenvalues: At how many points from 0 to 1 the top eigenvalue of the Hessian is measured too, some 10
            to 30 products over the training examples each; 0: nowhere.
        rise: Of the training loss, by which widths are told.

    Returns:
        `rows` with arm "a to b": `barrier`, the largest training loss on [0, 1] minus the larger one at its
        ends, at least 0; `test_barrier`; `loss_at_0` and `loss_at_1`, training losses; `width_0` and
        `width_1`, how far in α one can go from an end, away from the other, until the training loss has risen
        by `rise` (linear between points; where it never does, the distance to `low` or `high`, which is less
        than that; NaN without points there); `width_ratio`, the second divided by the first, below 1 where
        the minimum at 1 is the narrower. `curves` with `alpha`, `train_loss`, `test_loss`, `train_accuracy`,
        `test_accuracy`, and `alpha_eigenvalues`, `top_eigenvalue` (NaN: not converged).

    References:
        Keskar et al., "On large-batch training for deep learning", 2017, figures 3 and 7; 25 points as in
        their code. Yao et al., "Hessian-based analysis of large batch training", 2018 (the eigenvalue on the
        line).
    """
    alphas = _alphas(low, high, points)
    if shape not in _FACTORS:
        raise ConfigError(f'shape: {shape!r} is neither "line" nor "curve".')
    for value, name in (
        (examples, "examples"),
        (test_examples, "test_examples"),
        (eigenvalues, "eigenvalues"),
    ):
        count(value, name)
    rise = positive(rise, "rise")
    if eigenvalues == 1:
        raise ConfigError("eigenvalues: 1 is no path: 2 are its ends, or 0 for none.")
    rows, curves = [], []
    for (start, end), seed in _finished(run, _pairs(run, arms), seeds):
        about = {"arm": f"{start} to {end}", "seed": seed}
        if not (run.is_finite(start, seed) and run.is_finite(end, seed)):
            rows.append({**about, **dict.fromkeys(KEYS, math.nan)})
            continue
        with mistakes(f"arms: {start} and {end}"):
            path = _Path(run, start, end, seed, shape)
            found = path.losses(alphas, examples, test_examples)
            rows.append({**about, **_row(found, rise)})
            curve = {"alpha": found.alphas, "train_loss": found.loss, "test_loss": found.test_loss}
            curve |= {"train_accuracy": found.accuracy, "test_accuracy": found.test_accuracy}
            if eigenvalues:
                curve["alpha_eigenvalues"] = np.linspace(0, 1, eigenvalues)
                curve["top_eigenvalue"] = path.top_eigenvalues(curve["alpha_eigenvalues"], examples)
        curves.append({**about, **{key: np.asarray(values).tolist() for key, values in curve.items()}})
    return {"rows": rows, "curves": curves}


def _alphas(low, high, points):
    whole(points, "points")
    if not (-math.inf < low <= 0 and 1 <= high < math.inf):
        raise ConfigError(
            f"low: {low!r} and high: {high!r} must be finite, low at most 0 and high at least 1."
        )
    alphas = np.linspace(low, high, points)
    inner = alphas[(alphas > 1e-9) & (alphas < 1 - 1e-9)]
    if not inner.size:
        raise ConfigError(
            f"points: {points} from {low:g} to {high:g} have none between 0 and 1, and so no barrier. "
            f"Take {2 * math.ceil(high - low) + 1} or more."
        )
    outer = alphas[(alphas < -1e-9) | (alphas > 1 + 1e-9)]
    return np.sort(np.concatenate([outer, [0.0, 1.0], inner]))


def _pairs(run, arms):
    pairs = [arms] if all(isinstance(arm, str) for arm in arms) else list(arms)
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ConfigError(f"arms: {pair!r} must be two arms, [a, b], or a list of such pairs.")
        run.arms(pair)
    return [tuple(pair) for pair in pairs]


def _finished(run, pairs, seeds):
    """Pairs and seeds of which both arms finished, seed by seed."""
    done = run.finished(seeds=seeds)
    numbers = list(dict.fromkeys(seed for _, seed in done))
    return [(pair, seed) for seed in numbers for pair in pairs if all((arm, seed) in done for arm in pair)]


def _row(found, rise):
    at_0, at_1 = np.flatnonzero(found.alphas == 0)[0], np.flatnonzero(found.alphas == 1)[0]
    loss, test_loss = found.loss[at_0 : at_1 + 1], found.test_loss[at_0 : at_1 + 1]
    width_0 = _width(-found.alphas[at_0::-1], found.loss[at_0::-1], rise)
    width_1 = _width(found.alphas[at_1:] - 1, found.loss[at_1:], rise)
    values = (
        _barrier(loss),
        _barrier(test_loss),
        loss[0],
        loss[-1],
        width_0,
        width_1,
        width_1 / width_0,
    )
    return {key: float(value) for key, value in zip(KEYS, values, strict=True)}


def _barrier(losses):
    return losses.max() - max(losses[0], losses[-1])


def _width(distances, losses, rise):
    """The first distance from an end, at index 0, at which the loss is `rise` above that there."""
    if len(distances) < 2:
        return math.nan
    rises = losses - losses[0]
    beyond = np.flatnonzero(~(rises < rise))  # a loss that overflowed is beyond, too
    if not beyond.size:
        return distances[-1]
    last, first = beyond[0] - 1, beyond[0]
    part = (rise - rises[last]) / (rises[first] - rises[last]) if np.isfinite(rises[first]) else 0.0
    return distances[last] + part * (distances[first] - distances[last])


def _on_line(start, end, alpha):
    return alpha * end + (1 - alpha) * start


def _on_curve(start, end, alpha):
    return sindg(90 * alpha) * end + cosdg(90 * alpha) * start


_FACTORS = {"line": _on_line, "curve": _on_curve}


class _Path:
    """The path through the weights of two arms."""

    def __init__(self, run, start, end, seed, shape):
        self._run, self._arm, self._seed, self._shape = run, start, seed, shape
        self._ends = run.weights(start, seed), run.weights(end, seed)
        self._model = run.model(start, seed)  # after the weights: it may be the network of both arms

    def losses(self, alphas, examples, test_examples):
        from tf_lbgap import landscape

        return getattr(landscape, self._shape)(
            self._model,
            self._run.loss(self._arm),
            self._run.sample(self._arm, self._seed, examples),
            *self._ends,
            alphas=alphas,
            test_batches=self._run.test_sample(self._arm, self._seed, test_examples),
        )

    def top_eigenvalues(self, alphas, examples):
        from tf_lbgap.landscape.weights import flat_weights, kept

        subject = self._run.subject(self._arm, self._seed, examples)
        start, end = (flat_weights(self._model, weights).astype("float64") for weights in self._ends)
        with kept(self._model.variables):
            return [self._eigenvalue(subject, _FACTORS[self._shape](start, end, alpha)) for alpha in alphas]

    def _eigenvalue(self, subject, weights):
        from tf_lbgap import batch_normalization, curvature

        subject.surface.parameters.assign(weights)
        try:
            with batch_normalization.recalibrated(self._model, subject.batches):
                pairs = curvature.top_eigenpairs(
                    subject.hessian, 1, tolerance=self._run.experiment.measure.tolerance, seed=0
                )
        except ValueError:
            if math.isfinite(subject.surface.value(weights)):
                raise
            return math.nan  # so far from both ends that the loss is not finite
        return float(pairs.values[0]) if pairs.converged[0] else math.nan

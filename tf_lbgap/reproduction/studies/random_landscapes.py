"""How wide a minimum looks along random directions: as long as chance has it, or scaled to the filters of the network.

A step along a direction of fixed length changes a network of small weights more than one of large weights, and where
the scale of weights is without effect, as before batch normalization, that says nothing about the function. Scaled to
the norms of filters, directions do not notice it (Li et al. 2018).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count, positive, whole
from tf_lbgap.reproduction.studies.rows import rows_of

_SAME = 0.1  # the most that outputs may change, relatively: batch normalization adds 0.001 to variances, so they do
_STREAM = 0xD12EC7  # beside a seed: directions are not drawn by the stream that drew the training set
WIDTHS = ("filter_width", "plain_width")


def random_lines(
    run,
    *,
    arms=None,
    directions=3,
    points=12,
    reach=1.5,
    plain_reach=0.5,
    rise=0.5,
    examples=500,
    plane_points=0,
    factor=None,
    seeds=None,
):
    """Measure at which distance from the final weights the training loss has risen, along random directions.

    Both ways of each direction, of both kinds: 4 x directions x points passes over the examples, and with L layers of batch
    normalization, whose statistics are taken anew at each point, L times as many on top.

    Args:
        run: A `FinishedRun`.
        arms: Names of arms; None: all.
        directions: How many. Those of a seed are drawn with its number, the same noise for all arms.
        points: On each way, at distances that grow as squares.
        reach: The farthest point along filter-normalised directions, in units of their length: that of the weights.
        plain_reach: The farthest along plain ones, of independent N(0, 1) entries, so it is the change of a weight. Both
            kinds leave biases, scales and shifts as they are.
        rise: Of the training loss, by which widths are told.
        examples: Of the training set, the first ones; 0: all.
        plane_points: Points per axis of a filter-normalised plane from -reach to reach; 0: none is measured.
        factor: By which the kernels of all layers but the last are multiplied for a second measurement; None: none is made. For
            networks with batch normalization after each of these, which undoes it.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `filter_width` and `plain_width`, the distance at which the loss is `rise` above that at the minimum
        (geometric mean over directions and ways; NaN where it never is within reach, on one of them or more), in the units
        above; `kernel_norm`, that of all kernels;
        `filter_area`, the share of the plane within the rise, if there is one; and, with a factor of 4, `filter_width_x4`,
        `plain_width_x4` and `function_change_x4`, the largest change of an output divided by the largest output. `curves`
        with `alpha` and `train_loss` along the first direction of each kind, arms "small, filter-normalised" and
        "small, plain".

    References:
        Li, Xu, Taylor, Studer & Goldstein, "Visualizing the loss landscape of neural nets", 2018 (arXiv 1712.09913), sections 4
        and 5. What a width is, is ours: they compare pictures.
    """
    for value, name in ((directions, "directions"), (points, "points")):
        whole(value, name)
    reaches = {"filter": positive(reach, "reach"), "plain": positive(plain_reach, "plain_reach")}
    rise = positive(rise, "rise")
    for value, name in ((examples, "examples"), (plane_points, "plane_points")):
        count(value, name)
    factor = None if factor is None else positive(factor, "factor")
    times = [] if factor is None else [f"{key}_x{factor:g}" for key in (*WIDTHS, "function_change")]
    keys = (*WIDTHS, "kernel_norm", *(["filter_area"] if plane_points else []), *times)
    curves = []

    def measure(arm, seed):
        place = _Place(run, arm, seed, examples)
        lines = place.lines(directions, points, reaches)
        curves.extend(_curve(arm, seed, kind, *found[:2]) for kind, found in lines.items())
        values = [*_widths(lines, rise), place.norm()]
        if plane_points:
            values.append(place.area(plane_points, furthest=reach, rise=rise))
        if factor is not None:
            change = place.multiply(factor)
            further = {**reaches, "plain": factor * plain_reach}
            lines = place.lines(directions, points, further)
            values += [*_widths(lines, rise), change]
        return {key: float(value) for key, value in zip(keys, values, strict=True)}

    return {"rows": rows_of(run, arms, seeds, keys, measure), "curves": curves}


def _widths(lines, rise):
    """The geometric mean over lines of each kind."""
    return [float(np.exp(np.mean([np.log(width(*line, rise)) for line in own]))) for own in lines.values()]


def width(distances, losses, rise):
    """The first distance at which the loss is `rise` above that at distance 0, linear in between; NaN if none is.

    Args:
        distances: (k,) increasing from 0, k at least 2.
        losses: (k,); one that is not finite is above the rise.
        rise: Above 0.
    """
    rises = np.asarray(losses) - losses[0]
    beyond = np.flatnonzero(~(rises < rise))
    if not beyond.size:
        return math.nan
    first = beyond[0]
    last = first - 1
    part = (rise - rises[last]) / (rises[first] - rises[last]) if np.isfinite(rises[first]) else 0.5
    return float(distances[last] + part * (distances[first] - distances[last]))


def _curve(arm, seed, kind, there, back):
    words = {"filter": "filter-normalised", "plain": "plain"}[kind]
    return {
        "arm": f"{arm}, {words}",
        "seed": seed,
        "alpha": [*(-back[0][:0:-1]).tolist(), *there[0].tolist()],
        "train_loss": [*back[1][:0:-1].tolist(), *there[1].tolist()],
    }


class _Place:
    """A network at its final weights."""

    def __init__(self, run, arm, seed, examples):
        self._model, self._loss = run.model(arm, seed), run.loss(arm)
        self._data, self._seed = run.sample(arm, seed, examples), seed

    def norm(self):
        kernels = [v.numpy() for v in self._model.trainable_variables if len(v.shape) > 1]
        return float(np.sqrt(sum(np.square(kernel).sum() for kernel in kernels)))

    def lines(self, directions, points, reaches):
        """Distances and losses of each way of each direction, {kind: [(distances, losses), ...]}.

        All points are asked for at once: each call of `losses_at` traces the network anew.
        """
        from tf_lbgap.landscape.weights import flat_weights

        center = flat_weights(self._model, self._model).astype("float64")
        distances = {
            kind: np.linspace(0, 1, points + 1) ** 2 * furthest for kind, furthest in reaches.items()
        }
        ways = [
            (kind, sign * self._direction(kind, i))
            for kind in reaches
            for i in range(directions)
            for sign in (1, -1)
        ]
        losses = self._losses(center + distance * way for kind, way in ways for distance in distances[kind])
        found = {kind: [] for kind in reaches}
        for (kind, _), own in zip(ways, losses.reshape(len(ways), -1), strict=True):
            found[kind].append((distances[kind], own))
        return found

    def area(self, points, furthest, rise):
        """The share of a filter-normalised plane in which the loss is less than `rise` above its middle."""
        from tf_lbgap import landscape

        directions = [self._direction("filter", i) for i in (0, 1)]
        plane = landscape.plane(
            self._model,
            self._loss,
            self._data,
            directions=directions,
            span=(-furthest, furthest),
            points=points | 1,
        )
        middle = plane.loss[len(plane.alphas) // 2, len(plane.betas) // 2]
        return float(np.mean(plane.loss < middle + rise))

    def _direction(self, kind, number):
        from tf_lbgap import landscape

        seed = [self._seed, _STREAM, number]
        if kind == "filter":
            return landscape.filter_normalized_direction(self._model, seed=seed)
        rng = np.random.default_rng(seed)
        shapes = [tuple(v.shape) for v in self._model.trainable_variables]
        parts = [rng.normal(size=shape) * (len(shape) > 1) for shape in shapes]
        return np.concatenate([part.ravel() for part in parts])

    def _losses(self, points):
        from tf_lbgap.landscape.points import losses_at

        return losses_at(
            self._model, self._loss, self._data, points, test_batches=None, batch_normalization="recalibrated"
        )["loss"]

    def multiply(self, factor):
        """Multiply the kernels of all layers but the last; return how much the outputs change, relatively."""
        from tf_lbgap import batch_normalization

        batch_normalization.recalibrate(self._model, self._data)  # to compare with the same statistics
        before = self._outputs()
        for layer in [layer for layer in self._model.layers if hasattr(layer, "kernel")][:-1]:
            layer.kernel.assign(layer.kernel.numpy() * factor)
        batch_normalization.recalibrate(self._model, self._data)
        change = float(abs(self._outputs() - before).max() / abs(before).max())
        if change > _SAME:
            raise ConfigError(
                f"factor: {factor:g} times its kernels the network computes something else (outputs change by {change:.0%}): "
                "batch normalization has to follow each layer but the last."
            )
        return change

    def _outputs(self):
        return self._model(self._data[0], training=False).numpy()

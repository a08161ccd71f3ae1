"""Frames: one moment of a density, line, plane or trajectory, and the history of a density as a heat map."""

import numpy as np

from tb_plugin import metadata
from tb_plugin.encode import number, numbers


def described(kind, array, content_columns=()):
    """Return the fields of one moment, ready for JSON.

    Args:
        kind: "density", "line", "plane" or "trajectory".
        array: In the layout of `metadata`.
        content_columns: Names of a line's columns; those that are missing are numbered.
    """
    if kind == "density":
        return {"grid": numbers(array[0]), "density": numbers(array[1])}
    if kind == "plane":
        return {
            "a": numbers(array[0, 1:]),
            "b": numbers(array[1:, 0]),
            "loss": numbers(array[1:, 1:]),
            "center": number(float(array[0, 0])),
        }
    if kind == "trajectory":
        return {
            "steps": numbers(_whole(array[:, 0])),
            "points": numbers(array[:, 1:3]),
            "explained": numbers(array[-1, 3:]),
        }
    names = line_columns(array.shape[1], content_columns)
    return {"columns": names} | {name: numbers(array[:, i]) for i, name in enumerate(names)}


def line_columns(width, content_columns):
    """Return the names of a line's columns: those that its content gives, if they are known ones and fit."""
    names = list(content_columns)
    known = {"alpha", *metadata.LINE_COLUMNS}
    if len(names) == width and len(set(names)) == width and set(names) <= known:
        return names
    return ["alpha", *(f"value_{i}" for i in range(1, width))]


def heatmap(grids, densities, bins):
    """Return the share of the spectrum in each bin, for each of several moments.

    The bins have equal width on a symmetric logarithmic scale, sign(λ) log(1 + |λ| / t): spectra of networks hold
    most of their mass near 0 and their message far from it. t is the magnitude that half of the mass lies below.

    Args:
        grids: Increasing eigenvalues of each moment, arrays of any lengths.
        densities: At these; what is below 0 counts as 0.
        bins: Number of bins.

    Returns:
        Edges of shape (bins + 1,), in the unit of the eigenvalues; t; mass of shape (moments, bins), rows sum to 1,
        or are NaN where the density is nowhere positive.
    """
    cumulated = [_cumulated(grid, density) for grid, density in zip(grids, densities, strict=True)]
    lowest, highest = min(grid[0] for grid in grids), max(grid[-1] for grid in grids)
    largest = max(abs(lowest), abs(highest)) or 1.0
    threshold = float(np.clip(_half_magnitude(grids, cumulated), 1e-6 * largest, largest))
    ends = [np.sign(end) * np.log1p(abs(end) / threshold) for end in (lowest, highest)]
    scaled = np.linspace(*ends, bins + 1)
    edges = np.sign(scaled) * threshold * np.expm1(np.abs(scaled))
    edges[0], edges[-1] = lowest, highest
    mass = np.stack([np.diff(np.interp(edges, grid, c)) for grid, c in zip(grids, cumulated, strict=True)])
    return edges, threshold, mass


def _cumulated(grid, density):
    """Return the share of the spectrum up to each grid point."""
    density = np.where(np.isfinite(density), np.maximum(density, 0), 0)
    areas = np.diff(grid) * (density[1:] + density[:-1]) / 2
    total = areas.sum()
    return np.concatenate([[0.0], np.cumsum(areas)]) / (total if total > 0 else np.nan)


def _half_magnitude(grids, cumulated):
    """Return the median over moments of the magnitude below which half of the mass lies."""
    halves = []
    for grid, share in zip(grids, cumulated, strict=True):
        magnitudes = np.unique(np.abs(grid))
        inside = np.interp(magnitudes, grid, share) - np.interp(-magnitudes, grid, share, left=0.0)
        if np.isfinite(inside).all():
            halves.append(magnitudes[min(np.searchsorted(inside, 0.5), magnitudes.size - 1)])
    return np.median(halves) if halves else 0.0


def _whole(values):
    """Return whole numbers as integers, if all of them are."""
    if np.all(np.isfinite(values)) and np.all(values == np.round(values)) and np.all(np.abs(values) < 2**53):
        return values.astype(np.int64)
    return values

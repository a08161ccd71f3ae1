"""Restarts, thinning, axes and heat maps, against slow and obvious computations."""

import math
import threading

import numpy as np
import pytest

from tb_plugin import frames, series
from tb_plugin.cache import Cache
from tb_plugin.columns import from_blocks, last_written


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_hold_are_those_of_a_log_that_is_cut_at_each_restart(seed):
    rng = np.random.default_rng(seed)
    steps = np.concatenate([start + np.cumsum(rng.integers(0, 3, 30)) for start in rng.integers(0, 40, 4)])
    log = {}
    for row, step in enumerate(steps):
        for later in [s for s in log if s >= step]:
            del log[later]
        log[step] = row
    assert np.flatnonzero(last_written(steps)).tolist() == list(log.values())


@pytest.mark.parametrize("points", [10, 100, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_thinning_keeps_the_envelope_of_every_column(seed, points):
    """In each bucket of steps: the same least and greatest value, and every bucket with a NaN keeps one."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.integers(1, 20, 5000))
    values = rng.standard_cauchy((5000, 2))
    values[rng.uniform(size=values.shape) < 0.01] = np.nan
    values[100:400] = np.nan  # buckets without any number
    kept = series.thinned(steps, values, points)

    assert len(kept) <= points and kept[0] == 0 and kept[-1] == 4999
    assert np.all(np.diff(kept) > 0)
    num_buckets = max((points - 2) // 6, 1)
    width = (steps[-1] - steps[0]) / num_buckets
    bucket = np.minimum((steps - steps[0]) // width, num_buckets - 1).astype(int)
    for b in range(num_buckets):
        for column in values.T:
            all_of, some_of = column[bucket == b], column[kept[bucket[kept] == b]]
            assert np.isnan(all_of).any() == np.isnan(some_of).any() or np.isnan(column[kept]).any()
            if np.isfinite(all_of).any():
                assert np.nanmin(all_of) == np.nanmin(some_of) and np.nanmax(all_of) == np.nanmax(some_of)


def test_few_rows_are_not_thinned():
    np.testing.assert_array_equal(series.thinned(np.arange(5), np.zeros((5, 3)), 5), np.arange(5))


def test_a_single_spike_among_a_million_survives():
    values = np.zeros((10**6, 1))
    values[654_321] = 1.0
    assert 654_321 in series.thinned(np.arange(10**6), values, 50)


def test_interpolation_between_beyond_and_of_hostile_points():
    x, y = np.array([2.0, 4.0, 4.0, 8.0, 3.0, np.nan]), np.array([2.0, 9.0, 4.0, 16.0, np.inf, 1.0])
    at = np.array([0.0, 2.0, 3.0, 4.0, 6.0, 10.0])
    # The points that count are (2, 2), (4, 4), (8, 16): slopes 1 and 3.
    np.testing.assert_allclose(series.interpolated(at, x, y, beyond=True), [0, 2, 3, 4, 10, 22])
    np.testing.assert_allclose(series.interpolated(at, x, y, beyond=False), [np.nan, 2, 3, 4, 10, np.nan])
    np.testing.assert_allclose(series.interpolated([3.0, 6.0], [6.0], [3.0], beyond=True), [1.5, 3.0])
    assert np.isnan(series.interpolated([1.0], [], [], beyond=True)).all()


def test_blocks_that_are_none_are_left_out_and_counted():
    class Datum:
        def __init__(self, array):
            self.numpy = np.asarray(array)

    good = np.array([[1.0, 0.0, 5.0, 0.1, 1.0], [2.0, 0.0, 6.0, 0.1, 1.0]])
    bad = [
        np.zeros(5),
        np.zeros((1, 4)),
        np.array([["a"] * 5]),
        np.zeros((0, 5)),
        np.full((1, 5), np.nan),
        good[None],
    ]
    columns = from_blocks([Datum(good), *map(Datum, bad)])
    assert columns.steps.tolist() == [1, 2] and columns.values[:, 0].tolist() == [5.0, 6.0]
    assert columns.problem.startswith("6 of 7 records are left out")
    nothing = from_blocks([Datum(b) for b in bad])
    assert nothing.steps.size == 0 and nothing.problem


def test_mass_of_a_normal_spectrum_is_that_of_its_distribution_function():
    """Two spectra, N(0, 1) and N(2, 0.5²), on different grids: mass in a bin from the error function."""
    grids = [np.linspace(-8, 8, 4001), np.linspace(-2, 6, 3001)]
    moments = [(0.0, 1.0), (2.0, 0.5)]
    densities = [
        np.exp(-0.5 * ((g - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
        for g, (m, s) in zip(grids, moments, strict=True)
    ]
    edges, threshold, mass = frames.heatmap(grids, densities, 40)
    assert (edges[0], edges[-1]) == (-8.0, 8.0)
    assert 0.6 < threshold < 2.1  # half of N(0, 1) is within 0.674, half of the other within 2
    for row, (m, s) in zip(mass, moments, strict=True):
        below = np.array([0.5 * (1 + math.erf((e - m) / (s * math.sqrt(2)))) for e in edges])
        np.testing.assert_allclose(
            row, np.diff(below), atol=2e-6
        )  # trapezoids: width² curvature / 12 of a grid cell
    scaled = np.sign(edges) * np.log1p(np.abs(edges) / threshold)
    np.testing.assert_allclose(np.diff(scaled), np.diff(scaled)[0], rtol=1e-9)


def test_heat_maps_of_strange_densities_are_finite_or_say_that_they_are_not():
    grid = np.array([-1.0, 0.0, 1.0])
    edges, _, mass = frames.heatmap([grid] * 3, [np.array([-1.0, 2, -1]), np.zeros(3), np.full(3, np.nan)], 4)
    assert np.isfinite(edges).all() and np.all(np.diff(edges) > 0)
    np.testing.assert_allclose(mass[0].sum(), 1)
    assert np.isnan(mass[1:]).all()


class Thing:
    def __init__(self, nbytes):
        self.nbytes = nbytes


def test_the_cache_reads_again_when_the_signature_changes():
    cache, reads = Cache(), []
    for signature in (1, 1, 2, 2, 1):
        cache.get("key", signature, lambda s=signature: reads.append(s) or Thing(1))
    assert reads == [1, 2, 1]


def test_the_cache_drops_what_was_not_used_for_longest():
    cache, reads = Cache(max_bytes=100), []

    def get(key, size=40):
        cache.get(key, 0, lambda: reads.append(key) or Thing(size))

    for key in ("a", "b", "a", "c", "a", "b"):  # c pushes b out
        get(key)
    assert reads == ["a", "b", "c", "b"]
    get("large", 1000)  # does not fit, and must not push itself in
    get("large", 1000)
    assert reads[-2:] == ["large", "large"]


def test_threads_that_ask_for_one_key_wait_for_one_read_and_others_do_not():
    cache, reads, started, go_on = Cache(), [], threading.Event(), threading.Event()

    def slow():
        reads.append("slow")
        started.set()
        assert go_on.wait(10)
        return Thing(1)

    threads = [threading.Thread(target=cache.get, args=("slow", 0, slow)) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    cache.get("other", 0, lambda: reads.append("other") or Thing(1))  # would hang if it waited
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert reads == ["slow", "other"]


def test_a_failed_read_is_tried_again_by_the_next():
    cache = Cache()

    def fail():
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        cache.get("key", 0, fail)
    assert cache.get("key", 0, lambda: Thing(7)).nbytes == 7

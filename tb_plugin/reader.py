"""Reading: what the tags hold, through TensorBoard's data provider, one (run, tag) at a time and kept in a cache.

One at a time, because one bad record fails the whole call it is in, and because the data server refuses an answer
of more than 256 MB. A call mostly waits (20 to 40 ms for an answer of more than a packet, whatever its size), so what
a request needs is read by several threads at once.
"""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tensorboard.data import provider

from tb_plugin import catalog, columns, metadata
from tb_plugin.cache import Cache

ALL = 10**9  # "downsample" is required, and 0 would mean none
THREADS = 8
CATALOG_SECONDS = (
    1.0  # a page asks several routes at once; TensorBoard itself looks for new data every 5 seconds
)
MAX_FRAMES_BYTES = 64 * 2**20  # of one tag in an answer; more moments are thinned out
MAX_EXPORT_BYTES = (
    224 * 2**20
)  # of one tag in an export; TensorBoard takes no answer of the data server above 256 MB


class Unreadable(Exception):
    """A (run, tag) that cannot be read; its message is a sentence for the user.

    Args:
        message: The sentence.
        is_too_large: Whether less of it could be read.
    """

    def __init__(self, message, *, is_too_large=False):
        super().__init__(message)
        self.is_too_large = is_too_large


@dataclass(frozen=True)
class Frames:
    """Moments of a density, line, plane or trajectory: `steps` and `walls` of shape (N,), and N arrays.

    `problem` is None, or a sentence on what is left out; `is_thinned` tells whether there is more than fits.
    """

    steps: np.ndarray
    walls: np.ndarray
    arrays: list
    problem: str | None = None
    is_thinned: bool = False

    @property
    def nbytes(self):
        return self.steps.nbytes + self.walls.nbytes + sum(array.nbytes for array in self.arrays)


class Reader:
    """Reads the catalog and the data of its series.

    Args:
        data_provider: TensorBoard's.
        cache: Holds what was read while TensorBoard reports no later step or time for it.
    """

    def __init__(self, data_provider, cache=None):
        self._provider = data_provider
        self._cache = Cache() if cache is None else cache
        self._threads = ThreadPoolExecutor(THREADS, "lbgap-reader")
        self._catalog_lock = threading.Lock()
        self._catalog = None  # (experiment, when it was read, runs)

    def catalog(self, ctx, experiment):
        """Return the runs by name, at most a second old; see `catalog.read`."""
        with self._catalog_lock:
            last = self._catalog
            if last is None or last[0] != experiment or time.monotonic() - last[1] > CATALOG_SECONDS:
                runs = catalog.read(self._provider, ctx, experiment)
                self._catalog = last = (experiment, time.monotonic(), runs)
            return last[2]

    def warm(self, read, ctx, experiment, wanted):
        """Read several series into the cache at once.

        Args:
            read: `columns`, `last` or `frames` of this reader.
            ctx: Context of the request.
            experiment: Its experiment id.
            wanted: Series; what cannot be read raises when it is asked for again.
        """

        def try_to(series):
            with contextlib.suppress(Unreadable):
                read(ctx, experiment, series)

        list(self._threads.map(try_to, wanted))

    def columns(self, ctx, experiment, series):
        """Return the `Columns` of a series of kind scalar or eigenvalues.

        Raises:
            Unreadable: If it cannot be read.
        """
        if series.kind not in ("scalar", "eigenvalues"):
            raise Unreadable(series.content.note or f"holds {series.kind}, which are no rows; ask ./frames")
        make = columns.from_scalars if series.data_class == "scalar" else columns.from_blocks
        return self._cached(
            "columns", experiment, series, lambda: make(self._read(ctx, experiment, series, ALL))
        )

    def last(self, ctx, experiment, series):
        """Return the `Columns` of the last record alone: one value, or one block of rows."""
        make = columns.from_scalars if series.data_class == "scalar" else columns.from_blocks
        return self._cached("last", experiment, series, lambda: make(self._read(ctx, experiment, series, 1)))

    def frames(self, ctx, experiment, series):
        """Return the `Frames` of a series of kind density, line, plane or trajectory.

        Raises:
            Unreadable: If it cannot be read.
        """
        if series.kind not in ("density", "line", "plane", "trajectory"):
            raise Unreadable(series.content.note or f"holds {series.kind}, which are rows; ask ./series")
        return self._cached(
            "frames",
            experiment,
            series,
            lambda: self._moments(ctx, experiment, series, MAX_FRAMES_BYTES),
        )

    def all_frames(self, ctx, experiment, series):
        """Return the `Frames` of a series, for once and not kept: as many as TensorBoard gives away."""
        frames = self.frames(ctx, experiment, series)
        return self._moments(ctx, experiment, series, MAX_EXPORT_BYTES) if frames.is_thinned else frames

    def _moments(self, ctx, experiment, series, max_bytes):
        """Return the `Frames` of a series, as many as fit."""
        last = self._read(ctx, experiment, series, 1)
        size = max((datum.numpy.nbytes for datum in last), default=1)
        many = max(max_bytes // max(size, 1), 1)
        while True:
            try:
                data = self._read(ctx, experiment, series, many)
                return _frames(series.kind, data, len(data) == many)
            except Unreadable as problem:
                if not problem.is_too_large or many == 1:
                    raise
                many = max(many // 4, 1)  # other moments are larger than the last

    def _cached(self, what, experiment, series, read):
        key = (what, experiment, series.member, series.plugin, series.source_tag, series.data_class)
        return self._cache.get(key, (series.max_step, series.max_wall_time), read)

    def _read(self, ctx, experiment, series, downsample):
        read = self._provider.read_scalars if series.data_class == "scalar" else self._provider.read_tensors
        chosen = provider.RunTagFilter(runs=[series.member], tags=[series.source_tag])
        try:
            answer = read(
                ctx,
                experiment_id=experiment,
                plugin_name=series.plugin,
                downsample=downsample,
                run_tag_filter=chosen,
            )
        # A bad record raises whatever its decoder met (ValueError, TypeError, an RPC's error, ...).
        except Exception as error:
            raise Unreadable(_sentence(error), is_too_large=_is_too_large(error)) from error
        return answer.get(series.member, {}).get(series.source_tag, [])


def _frames(kind, data, thinned):
    good = [datum for datum in data if _fits(kind, datum.numpy)]
    steps = np.array([datum.step for datum in good], np.int64)
    kept = np.flatnonzero(columns.last_written(steps))
    problems = []
    if len(good) < len(data):
        shapes = sorted({f"{d.numpy.dtype} {d.numpy.shape}" for d in data if not _fits(kind, d.numpy)})[:3]
        problems.append(
            f"{len(data) - len(good)} of {len(data)} records are left out: they hold {', '.join(shapes)}, no {kind}"
        )
    if thinned:
        problems.append(
            f"only {len(data)} moments are served, chosen at random and the last: there is more than fits"
        )
    return Frames(
        steps[kept],
        np.array([good[i].wall_time for i in kept], np.float64),
        [good[i].numpy for i in kept],
        "; ".join(problems) or None,
        thinned,
    )


def _fits(kind, array):
    """Return whether an array has the layout of its kind."""
    if array.ndim != 2 or array.dtype.kind != "f" or array.nbytes > 4 * metadata.MAX_TENSOR_BYTES:
        return False
    rows, width = array.shape
    return {
        "density": rows == 2 and width >= 2 and _is_axis(array[0]),
        "line": rows >= 1 and width >= 2,
        "plane": rows >= 2 and width >= 2,
        "trajectory": rows >= 1 and width == 5,
    }[kind]


def _is_axis(grid):
    """Return whether numbers are finite and increase."""
    return bool(np.isfinite(grid).all() and np.all(np.diff(grid) > 0))


def _is_too_large(error):
    """Return whether the data server's answer was longer than TensorBoard accepts."""
    code = getattr(error, "code", None)
    return callable(code) and getattr(code(), "name", "") == "RESOURCE_EXHAUSTED"


def _sentence(error):
    """Return what went wrong in one line, without the pages that an RPC's error prints."""
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return f"cannot be read: {type(error).__name__}: {' '.join(str(text).split())[:300]}"

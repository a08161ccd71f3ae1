"""A writer of the tab's summaries that needs no TensorFlow: for Keras on JAX or torch, or any training loop.

Rows of eigenvalues are gathered into blocks: TensorBoard spends its time per record, so 64 rows a block make
10,000 steps load and draw as fast as 160. What is gathered is on disk after `flush()`, at the latest after `close()`.
"""

import itertools
import os
import socket
import time

import numpy as np

from tb_plugin import mirrors, records

_files = itertools.count()


class _Block:
    """Rows of eigenvalues that wait for their record.

    Args:
        record: The first of them, which gives the content.
    """

    def __init__(self, record):
        self.first, self.rows = record, [record.tensor]

    def size(self):
        return sum(len(rows) for rows in self.rows)

    def takes(self, rows):
        """Return whether the rows fit: as many eigenvalues, and later steps than those gathered."""
        last = self.rows[-1]
        return rows.shape[1] == last.shape[1] and rows[0, 0] > last[-1, 0]

    def tensor(self):
        return np.concatenate(self.rows)


class Writer:
    """Writes summaries of one run into an event file of its own; use it in a `with` statement.

    TensorBoard's slow loader (`--load_fast=false`) polls only the newest file of a directory, so a run should have
    one open writer.

    Args:
        log_dir: Directory of the run, made if it is not there.
        rows_per_block: Rows of eigenvalues that are gathered before they are written.
        clock: Returns seconds since 1970, when a method is called.

    Example:
        >>> with Writer("runs/a/0") as w:
        ...     w.scalar("sharpness/trace", 12.5, step=1)
        ...     w.eigenvalues("curvature/eigenvalues", [9.0, 4.0], step=1)
    """

    def __init__(self, log_dir, *, rows_per_block=64, clock=time.time):
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        if rows_per_block < 1:
            raise ValueError(
                f"rows_per_block={rows_per_block} gathers nothing. Pass 1 to write each row at once."
            )
        self._rows_per_block, self._clock = rows_per_block, clock
        self._gathered = {}  # name -> _Block
        self._described = set()  # tags whose metadata is in the file
        self._closed = False
        wall = clock()
        # TensorBoard reads the files of a run in the order of their names.
        name = (
            f"events.out.tfevents.{int(wall):010d}.{socket.gethostname()}.{os.getpid()}.{next(_files)}.lbgap"
        )
        self._file = RecordWriter(_opened(os.fspath(log_dir), name))
        self._event = event_pb2.Event
        self._file.write(self._event(wall_time=wall, file_version="brain.Event:2").SerializeToString())
        self._file.flush()

    def scalar(self, name, value, step, *, mirror=None, **options):
        """Write one number; options are those of `summary.scalar`."""
        wall, record = self._clock(), records.scalar(value, **options)
        self._write(name, step, wall, record.tensor, record.summary_metadata)
        tag = mirrors.of_scalar(name, mirror)
        if tag:
            self._write_stock_scalar(tag, step, wall, value)

    def eigenvalues(self, name, values, step, *, mirror=True, which="largest", **options):
        """Gather one row, values of shape (k,), or write a block, values (R, k) with steps (R,).

        Options are those of `summary.eigenvalues`.
        """
        wall = self._clock()
        record = records.eigenvalues(values, step, wall, which=which, **options)
        block = self._gathered.get(name)
        if block and not block.takes(record.tensor):
            self._write_block(name)
            block = None
        if block:
            block.rows.append(record.tensor)
        else:
            self._gathered[name] = block = _Block(record)
        if mirror:
            tops = mirrors.top_values(values, options.get("converged"), which)
            for row, top in zip(record.tensor, tops, strict=True):
                self._write_stock_scalar(mirrors.of_eigenvalues(name, which), int(row[0]), wall, top)
        if block.size() >= self._rows_per_block:
            self._write_block(name)

    def density(self, name, grid, density, step, **options):
        """Write a spectral density; options are those of `summary.density`."""
        self._write_record(name, step, records.density(grid, density, **options))

    def line(self, name, alpha, step, **options):
        """Write losses and accuracies on a line; options are those of `summary.line`."""
        self._write_record(name, step, records.line(alpha, **options))

    def plane(self, name, a, b, loss, center=None, *, step, **options):
        """Write the loss on a plane; options are those of `summary.plane`."""
        self._write_record(name, step, records.plane(a, b, loss, center, **options))

    def trajectory(self, name, steps, points, explained=None, *, step, **options):
        """Write a path through a plane; options are those of `summary.trajectory`."""
        self._write_record(name, step, records.trajectory(steps, points, explained, **options))

    def foreign(self, summary, step=0):
        """Write a `Summary` protobuf of another plugin, such as one of `tensorboard.plugins.hparams.summary_v2`."""
        event = self._event(wall_time=self._clock(), step=int(step))
        event.summary.CopyFrom(summary)
        self._file.write(event.SerializeToString())

    def flush(self):
        """Put everything on disk, gathered rows too."""
        for name in list(self._gathered):
            self._write_block(name)
        self._file.flush()

    def close(self):
        """Flush and close the file; a second time does nothing."""
        if not self._closed:
            self.flush()
            self._file.close()
            self._closed = True

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _write_block(self, name):
        block = self._gathered.pop(name)
        tensor = block.tensor()
        # The data server takes a record whose step is not above an earlier one's for a restart and drops the earlier
        # ones from there on. The step of a block's first row makes that right for rows in between, too.
        self._write(name, int(tensor[0, 0]), tensor[-1, 1], tensor, block.first.summary_metadata)

    def _write_record(self, name, step, record):
        self._write(name, step, self._clock(), record.tensor, record.summary_metadata)

    def _write_stock_scalar(self, tag, step, wall, value):
        self._write(tag, step, wall, np.asarray(value, np.float32), _stock_scalar_metadata)

    def _write(self, tag, step, wall, tensor, make_metadata):
        from tensorboard.util.tensor_util import make_tensor_proto

        event = self._event(wall_time=wall, step=int(step))
        value = event.summary.value.add(tag=tag, tensor=make_tensor_proto(tensor))
        if tag not in self._described:  # TensorBoard reads the first metadata of a tag and no other
            value.metadata.CopyFrom(make_metadata())
            self._described.add(tag)
        self._file.write(event.SerializeToString())


def _opened(log_dir, name):
    """Return a new file open for writing bytes; its directory is made if it is not there."""
    if "://" in log_dir:
        from tensorboard.compat import tf  # imports TensorFlow if it is installed, for its file systems

        tf.io.gfile.makedirs(log_dir)
        return tf.io.gfile.GFile(f"{log_dir.rstrip('/')}/{name}", "wb")
    try:
        os.makedirs(log_dir, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"log_dir={log_dir!r} is a file, or lies in one. Pass a directory; it is made if it is not there."
        ) from None
    return open(os.path.join(log_dir, name), "wb")


def _stock_scalar_metadata():
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.scalar import metadata as stock

    described = stock.create_summary_metadata(display_name=None, description="")
    described.data_class = summary_pb2.DATA_CLASS_SCALAR
    return described

"""Where callbacks write for TensorBoard: one writer per directory, and nothing lost however `fit` ends.

Callbacks with one `log_dir` share a writer: TensorBoard polls only the newest file of a directory, so of two
writers one would fall silent. The writer is closed when the last of them has ended its `fit`.

The plugin's writer gathers rows of eigenvalues to blocks, which TensorBoard reads forty times as fast as single
rows. What is gathered goes to disk when the updates of an epoch have ended, by whatever end: the last batch,
somebody's `stop_training`, an exception, or Ctrl-C; and when 10 seconds have passed, for who watches a long epoch.
"""

import contextlib
import importlib
import os
import tempfile
import time

from tb_plugin.writer import Writer
from tf_lbgap import strategy
from tf_lbgap.callbacks.stream import fit_arguments

EIGENVALUE_UNIT = "loss / weight²"
PATIENCE = 10.0  # seconds that something written may be invisible
# The writer imports these with what it first writes; a third of a second that would be one of training.
_NEEDED = ("tensorboard.util.tensor_util", "tensorboard.plugins.scalar.metadata")
_open = {}  # directory -> [writer, how many use it]


class Summaries:
    """The writer of one directory, as one of those who share it sees it.

    Args:
        log_dir: Directory of the run.
        model: The model that is trained: of several workers the chief alone writes there, and what the others write is dropped.

    Attributes:
        writer: A `tb_plugin.writer.Writer`.
    """

    def __init__(self, log_dir, model=None):
        self._dropped = None
        if model is not None and not strategy.is_chief(model):
            self._dropped = tempfile.TemporaryDirectory()
            log_dir = self._dropped.name
        path = os.fspath(log_dir)
        self._path = path if "://" in path else os.path.abspath(path)
        if self._path not in _open or not os.path.isdir(self._path):  # somebody may have removed it
            for module in _NEEDED:
                importlib.import_module(module)
            _open[self._path] = [Writer(self._path), 0]
        shared = _open[self._path]
        shared[1] += 1
        self.writer = shared[0]
        self._flushed = time.monotonic()

    def flush(self):
        """Put on disk what was written."""
        self.writer.flush()
        self._flushed = time.monotonic()

    def flush_if_due(self):
        """Put it on disk if some of it may have waited for long."""
        if time.monotonic() - self._flushed > PATIENCE:
            self.flush()

    def close(self):
        """Leave the writer to the others, or close it."""
        shared = _open.get(self._path)
        if shared is None or shared[0] is not self.writer:
            return  # closed for all
        shared[1] -= 1
        if shared[1]:
            self.flush()
        else:
            self.close_for_all()

    def close_for_all(self):
        """Close the writer, whoever uses it, as after a `fit` that raised and does not go on."""
        shared = _open.get(self._path)
        if shared is not None and shared[0] is self.writer:
            del _open[self._path]
        self.writer.close()
        if self._dropped is not None:
            self._dropped.cleanup()


def flush_all():
    """Put on disk what was written, by whomever."""
    for writer, _ in _open.values():
        writer.flush()


def call_when_steps_end(function, begin=None):
    """Let the running `fit` call a function whenever the updates of an epoch have ended, or were broken off.

    Keras tells callbacks of no exception. But `fit` makes the updates of an epoch inside a `with` block of its
    iterator, which an exception leaves, too. In somebody's own training loop nothing is called.

    Args:
        function: What is called then.
        begin: What is called when the updates of an epoch begin, after `on_epoch_begin` of all callbacks.

    Returns:
        Whether there is such a `fit`.
    """
    iterator = (fit_arguments() or {}).get("epoch_iterator")
    theirs = getattr(iterator, "catch_stop_iteration", None)
    if theirs is None:
        return False

    @contextlib.contextmanager
    def catch_stop_iteration():
        if begin is not None:
            begin()
        try:
            with theirs():
                yield
        finally:
            function()

    iterator.catch_stop_iteration = catch_stop_iteration
    return True

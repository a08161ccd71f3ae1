"""Importing TensorFlow without its page of greetings, for a command whose output is a table."""

import contextlib
import glob
import os
import sys
import tempfile


def import_tensorflow():
    """Import TensorFlow and find its devices; what it prints is shown only if it may matter.

    The lines come from C++, before any log level is read, so they are caught at the file descriptor. They
    are shown if the import fails, or if there is an NVIDIA device that TensorFlow does not use.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as caught:
        try:
            with _stderr_to(caught):
                import tensorflow as tf

                found = tf.config.list_physical_devices("GPU")
        except Exception:
            _show(caught)
            raise
        if glob.glob("/dev/nvidia[0-9]*") and not found:
            _show(caught)
    tf.get_logger().addFilter(_is_no_word_on_traces)


def _is_no_word_on_traces(record):
    """Drop TensorFlow's advice not to trace a function often: each arm traces its own, once, and TensorFlow takes them for one."""
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def _stderr_to(file):
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _show(caught):
    caught.seek(0)
    sys.stderr.write(caught.read().decode(errors="replace"))

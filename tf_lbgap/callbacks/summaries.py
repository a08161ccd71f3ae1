"""Writing what a monitor measured for TensorBoard.

Monitors with one `log_dir` share a writer: TensorBoard polls only the newest file of a directory, so of two
writers one would fall silent. The writer is closed when the last of them has ended its `fit`.
"""

import os

import tensorflow as tf

PLUGIN_NAME = "lbgap"
_open = {}  # absolute path -> [writer, how many use it]


class Summaries:
    """Scalars, tensors and text of one directory.

    Args:
        log_dir: Directory of the run.
    """

    def __init__(self, log_dir):
        self._path = os.path.abspath(os.fspath(log_dir))
        shared = _open.setdefault(self._path, [None, 0])
        if shared[0] is None:
            shared[0] = tf.summary.create_file_writer(self._path, filename_suffix=".lbgap")
        shared[1] += 1
        self._writer = shared[0]

    def write(self, step, scalars=None, tensors=None, texts=None):
        """Write dicts from tag to value, and put them on disk.

        Args:
            step: Number of updates.
            scalars: Floats; NaN is written, too.
            tensors: Arrays.
            texts: Strings.
        """
        # Keras' TensorBoard, with update_freq, keeps a context in which most steps are not recorded.
        with self._writer.as_default(), tf.summary.record_if(True):
            for tag, value in (scalars or {}).items():
                tf.summary.scalar(tag, tf.constant(value, tf.float32), step)
            for tag, value in (tensors or {}).items():
                write_tensor(tag, value, step)
            for tag, value in (texts or {}).items():
                tf.summary.text(tag, value, step)
        self._writer.flush()

    def close(self):
        shared = _open[self._path]
        shared[1] -= 1
        if shared[1]:
            self._writer.flush()
        else:
            self._writer.close()
            del _open[self._path]


def write_tensor(tag, value, step):
    """Write an array of any shape to the default writer, as a plain tensor summary."""
    # Without a data class the series is listed, but never readable.
    metadata = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_TENSOR")
    metadata.plugin_data.plugin_name = PLUGIN_NAME
    tf.summary.write(tag, value, step, metadata=metadata)

"""What event files hold, read by TensorFlow's own reader."""

import glob

import tensorflow as tf


def _values(log_dir):
    for path in sorted(glob.glob(f"{log_dir}/*tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                yield event.step, value.tag, tf.make_ndarray(value.tensor)


def events(log_dir):
    """Return {tag: {step: array}} of all files in a directory; a block of eigenvalues by the steps of its rows."""
    found = {}
    for step, tag, array in _values(log_dir):
        rows = {int(row[0]): row for row in array} if tag.endswith("eigenvalues") else {step: array}
        found.setdefault(tag, {}).update(rows)
    return found


def blocks(log_dir, tag):
    """Return the steps of the rows in each record of a tag of eigenvalues."""
    return [array[:, 0].tolist() for _, found, array in _values(log_dir) if found == tag]

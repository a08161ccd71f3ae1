"""What a result rests on: how many examples, drawn from how many, judged on which test set, and how each of those fared.

Claims need it: seeds that share training examples, or one test set, say less than as many independent ones (`claims.dependence`).
"""

import hashlib
import io

import numpy as np

from tf_lbgap.aside import written_aside

FILE = "test_examples.npz"
ORIGIN = ("num_train", "num_test", "pool", "test_set")
COUNT = 100  # inputs that a test set is told by, besides all its labels


def data_row(split):
    """Return `num_train` (copies are no further examples), `num_test`, `pool` (None if nobody knows), and a text that tells test sets apart."""
    import keras  # here, so that verdicts can be read without it

    labels = keras.tree.flatten(split.y_test)
    told = hashlib.blake2b(digest_size=8)
    for array in [*labels, *(x[:COUNT] for x in keras.tree.flatten(split.x_test))]:
        told.update(np.ascontiguousarray(array).tobytes())
    return {
        "num_train": getattr(split, "num_drawn", None) or len(keras.tree.flatten(split.y_train)[0]),
        "num_test": len(labels[0]),
        "pool": getattr(split, "pool", None),
        "test_set": told.hexdigest(),
    }


def write_examples(path, loss, right):
    """Write loss and accuracy of test examples, in the order of the set, shapes (n,)."""
    content = io.BytesIO()
    np.savez_compressed(content, test_loss=loss, test_accuracy=right.astype(np.float16))
    with written_aside(path) as file:
        file.write(content.getvalue())


def read_examples(path):
    """Return `{"test_accuracy": (n,), "test_loss": (n,)}`, single values of which the results are means; None if there are none."""
    try:
        with np.load(path) as content:
            return {key: content[key].astype(float) for key in ("test_accuracy", "test_loss")}
    except OSError:
        return None

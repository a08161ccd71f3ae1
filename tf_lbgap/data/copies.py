"""Where copies of data are kept that take seconds to make: beside those of TensorFlow Datasets, by the same rule."""

import os
import pathlib


def kept_in(data_dir=None):
    """Return the folder as a `pathlib.Path`: `data_dir`, or `TFDS_DATA_DIR` of the environment, or `~/tensorflow_datasets`."""
    return pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()

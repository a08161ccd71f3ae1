"""Fashion-MNIST as a TFDS data set, read from its idx files instead of downloaded.

70,000 grey images of 28 x 28 pixels in ten classes of clothing, 6,000 + 1,000 per class. TFDS'
own `fashion_mnist` downloads four files and checks their hashes, so it neither works offline nor
accepts the same images compressed anew. Debian ships the files as `dataset-fashion-mnist`; this
builder reads that folder, or any other that holds the four files, gzipped or not:

    tfds.load("fashion_mnist_idx", as_supervised=True)      # after this module was imported

The prepared copy lies in TFDS' usual `data_dir`, in a folder named after the SHA-256 of the four
files, so other files never meet a stale copy. A copy takes 40 MB; delete old ones freely.

The images are encoded as PNG in two TensorFlow calls, not one by one, and kept in the order of
the files, unshuffled: 70,000 are prepared in about 4 s; encoded one by one they take four times as long.

References:
    Xiao et al., "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms", 2017. The idx format: http://yann.lecun.com/exdb/mnist.
"""

import contextlib
import gzip
import hashlib
import io
import math
import os
import pathlib
import zlib

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class FashionMnistIdx(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of Fashion-MNIST from a folder of idx files, splits `train` and `test`.

    `tfds.load` passes `folder` on: `builder_kwargs={"folder": ...}`. Each construction hashes the
    files (0.05 s). Concurrent processes may prepare the same copy: the first to finish provides it.

    Args:
        folder: Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two `t10k-...`
            files, each with or without `.gz`. Default: `DEBIAN_FOLDER`.
        **kwargs: `data_dir` and what else `tfds.core.GeneratorBasedBuilder` takes, except `config`.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: While preparing, if a file is damaged or is not what its name says.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, folder=None, **kwargs):
        if kwargs.pop("config", None) is not None:
            raise ValueError(
                "FashionMnistIdx takes no config: it follows from the files. Pass folder= instead."
            )
        self._files = find_files(folder)
        digest = hashlib.sha256()
        for path in (path for pair in self._files.values() for path in pair):
            digest.update(path.read_bytes())
        # TFDS gives each config a directory of its own, and warns of one it does not know.
        with _quiet():
            super().__init__(config=tfds.core.BuilderConfig(name=digest.hexdigest()[:16]), **kwargs)
        # What a pickled builder passes to __init__ (TFDS would pass the config, and no folder).
        self._original_state = {"folder": folder, **kwargs}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(*paths) for split, paths in self._files.items()}

    def _generate_examples(self, images_path, labels_path):
        import tensorflow as tf

        images, labels = read_idx(images_path, dims=3), read_idx(labels_path, dims=1)
        if len(images) != len(labels) or len(images) == 0 or images.shape[1:] != (28, 28) or labels.max() > 9:
            raise ValueError(
                f"{images_path} holds images of shape {images.shape} and {labels_path} {len(labels)} labels "
                f"up to {labels.max(initial=0)}; wanted shape (n, 28, 28), n at least 1, and n labels up to 9."
            )
        # Level 1: the default takes half as long again to save 4 % of the bytes.
        encoded = tf.io.encode_png(images[..., None], compression=1).numpy()
        for i, (png, label) in enumerate(zip(encoded, labels, strict=True)):
            yield i, {"image": png, "label": int(label)}

    def download_and_prepare(self, **kwargs):
        """Prepares the copy unless it is there; see the base class. Silent: it takes seconds."""
        try:
            with _quiet():
                super().download_and_prepare(**kwargs)
        except OSError:
            # TFDS writes beside the target and renames: a target that exists now is another process'.
            if not self.data_path.exists():
                raise
        self.info.read_from_directory(self.data_dir)


def find_files(folder=None):
    """Finds the four idx files.

    Args:
        folder: Where to look. Default: `DEBIAN_FOLDER`.

    Returns:
        `{"train": (images, labels), "test": (images, labels)}`, paths. `name.gz` precedes `name`.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    folder = pathlib.Path(DEBIAN_FOLDER if folder is None else folder)
    return {split: tuple(_find(folder, name) for name in names) for split, names in _FILES.items()}


def _find(folder, name):
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"Fashion-MNIST was looked for in {os.fspath(folder)!r}, which has no {name}.gz (nor {name}). "
        f"On Debian, type 'apt-get install dataset-fashion-mnist', or pass folder= where the four files are."
    )


def read_idx(path, *, dims):
    """Reads an idx file of unsigned bytes.

    Args:
        path: The file, gzipped if its name ends in `.gz`.
        dims: How many dimensions it must have: 3 for images, 1 for labels.

    Returns:
        A uint8 array of the shape that the file declares.

    Raises:
        ValueError: If the file is damaged, or is no idx file of that kind.
    """
    path = pathlib.Path(path)
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}. Copy or install the file again.") from error
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions, then each as four bytes.
    magic = bytes([0, 0, 8, dims])
    if data[:4] != magic:
        raise ValueError(
            f"{path} begins with the bytes {data[:4].hex()!r}; an idx file of unsigned bytes in {dims} "
            f"dimension(s) begins with {magic.hex()!r}. Check that the file is what its name says."
        )
    header = 4 + 4 * dims
    shape = tuple(np.frombuffer(data[4:header], ">u4").tolist()) if len(data) >= header else None
    if shape is None or len(data) - header != math.prod(shape):
        raise ValueError(
            f"{path} has {len(data)} bytes, which do not match a header of {header} and the shape {shape} that "
            f"it declares: it is truncated or damaged. Copy or install the file again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


@contextlib.contextmanager
def _quiet():
    """Silences TFDS' progress bars, its two printed lines and absl's warnings, then restores all three."""
    from tensorflow_datasets.core.utils import tqdm_utils

    bars, verbosity = getattr(tqdm_utils, "_active", True), logging.get_verbosity()
    tqdm_utils.display_progress_bar(enable=False)
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        tqdm_utils.display_progress_bar(enable=bars)

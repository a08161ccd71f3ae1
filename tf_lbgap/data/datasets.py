"""Data sets as NumPy arrays: the images and labels of a training and a test set, ready for `Batches`.

`digits` is embedded in scikit-learn, `fashion_mnist` is read from files that Debian ships, and
`from_tfds` takes any image or tabular classification data set that TensorFlow Datasets knows.
A seed redraws the training examples: where the split is fixed, seeds repeat the same lucky or
unlucky one, and the error bars of an experiment come out too small.

TensorFlow Datasets is imported inside the functions that need it, so that `digits` does not cost its 0.5 s.
"""

import dataclasses
import functools
import os

import numpy as np

from tf_lbgap.data import builders
from tf_lbgap.data.counts import check_counts, is_count


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A training and a test set in memory.

    Pixels are scaled to [0, 1]; features of a data set that are not pixels stay as they come.
    """

    x_train: np.ndarray  # (num_train, ...) float32
    y_train: np.ndarray  # (num_train,) int64
    x_test: np.ndarray  # (num_test, ...) float32
    y_test: np.ndarray  # (num_test,) int64
    name: str
    pool: int | None = None  # examples that the training set was drawn from; None: not known
    num_drawn: int | None = (
        None  # of them, where the training set has copies; None: as many as it has examples
    )

    @property
    def padding(self):
        """The label that fills up sequences of unequal length; None: there is none."""
        return None

    @property
    def num_classes(self):
        """1 + the largest label of either set."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    def training_examples(self, numbers):
        """Return all that training examples of some numbers have, in that order: dict from `"x"`, `"y"` to what is `x_train`, `y_train`."""
        import keras

        parts = {"x": self.x_train, "y": self.y_train}
        return keras.tree.map_structure(lambda array: np.asarray(array)[numbers], parts)


def digits(*, num_train=1000, seed=0):
    """Loads scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, split at random.

    Args:
        num_train: Size of the training set, 1 to 1,796. The rest is the test set.
        seed: Seed of the permutation whose first `num_train` examples train. Not stratified.

    Returns:
        `Split` with x of shape (n, 64), rows of the image one after the other.

    Raises:
        ValueError: If `num_train` is out of range.

    References:
        Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.

    Example:
        >>> digits().x_test.shape
        (797, 64)
    """
    import sklearn.datasets

    data = sklearn.datasets.load_digits()
    x, y = (data.data / 16).astype(np.float32), data.target.astype(np.int64)
    _check_num_train(num_train, len(x) - 1, "one less than the data set, so that a test set remains")
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:num_train], order[num_train:]
    return Split(x[train], y[train], x[test], y[test], name="digits", pool=len(x))


def fashion_mnist(*, num_train=None, seed=0, folder=None, data_dir=None):
    """Loads Fashion-MNIST from idx files, through TFDS and without a download.

    The first call prepares a copy in `data_dir` (about 4 s on two cores); each call reads the copy
    (3 to 4 s, whatever `num_train`).

    Args:
        num_train: Size of a random subset of the 60,000 training images. Default: all, in order.
        seed: Seed of the subset; no effect without `num_train`.
        folder: Where the four idx files are. Default: that of Debian's `dataset-fashion-mnist`.
        data_dir: Where TFDS keeps its copy. Default: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.

    Returns:
        `Split` with x of shape (n, 28, 28, 1); the test set is always the full 10,000.

    Raises:
        FileNotFoundError: If an idx file is missing. `from_tfds("fashion_mnist")` downloads instead.
        ValueError: If an idx file is damaged, or `num_train` is out of range.

    References:
        Xiao et al., "Fashion-MNIST: a novel image dataset for benchmarking machine learning
        algorithms", 2017.
    """
    from tf_lbgap.data.fashion_mnist import FashionMnistIdx

    builder = FashionMnistIdx(folder=folder, data_dir=data_dir)
    builder.download_and_prepare()
    return _load(builder, "fashion_mnist", num_train, seed, "train", "test")


def from_tfds(name, *, num_train=None, seed=0, data_dir=None, train="train", test="test"):
    """Loads a classification data set of TensorFlow Datasets, downloading it if need be.

    `fashion_mnist` is read from Debian's files where they are installed.

    Args:
        name: As TFDS spells it: `"mnist"`, `"cifar10"`, `"name/config:version"`.
        num_train: Size of a random subset of the training split. Default: all of it, in order.
        seed: Seed of the subset; no effect without `num_train`.
        data_dir: Where TFDS keeps downloads and prepared copies. Default: `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.
        train: Split that trains, slices included: `"train[:90%]"`.
        test: Split that tests, such as `"validation"` where the test labels are secret.

    Returns:
        `Split` with x of the shape that TFDS declares, images (n, height, width, channels). uint8 is
        divided by 255; anything else is only cast to float32.

    Raises:
        ValueError: If TFDS has no such data set or split, or it is not arrays of one shape with
            integer labels, or does not fit in memory, or `num_train` is out of range.
        RuntimeError: If it could not be downloaded or prepared.
    """
    builder = builders.named(name, data_dir)
    builders.check_features(builder, name)
    if not builder.is_prepared():
        builders.check_splits(builder, name, train, test)
        builders.prepare(builder, name)
    return _load(builder, name, num_train, seed, train, test)


def synthetic(name, *, num_train=1000, num_test=100, seed=0):
    """Makes random examples of the shape and type that a data set of TensorFlow Datasets has; nothing is downloaded.

    For a rehearsal: whether a network, its updates and its memory are as expected, before the data is there. Nothing can
    be learned from it.

    Args:
        name: As in `from_tfds`.
        num_train, num_test: How many examples.
        seed: Seed of all that is random.

    Returns:
        `Split` whose x is uniform in [0, 1) and whose labels are uniform over the classes of the data set; the last
        class is always there, so that `num_classes` is that of the data set.

    Raises:
        ValueError: If TFDS has no such data set, it is none that `from_tfds` loads, or a number is below 1.

    Example:
        >>> synthetic("cifar10", num_train=6).x_train.shape
        (6, 32, 32, 3)
    """
    check_counts(num_train=num_train, num_test=num_test)
    builder = builders.named(name, None)
    builders.check_features(builder, name)
    x, y = (builder.info.features[key] for key in builder.info.supervised_keys)
    num_classes = getattr(y, "num_classes", None)
    if num_classes is None:
        raise ValueError(f"TFDS does not say how many classes {name!r} has. Use from_tfds({name!r}).")
    random = np.random.default_rng(seed)
    arrays = []
    for count in (num_train, num_test):
        labels = random.integers(num_classes, size=count)
        labels[0] = num_classes - 1
        arrays += [random.random((count, *x.shape), dtype=np.float32), labels]
    return Split(*arrays, name=f"synthetic {name}")


def supervised_split(name, *, split="train", data_dir=None, scale=True):
    """Loads one split of a TFDS name as a stream of single examples, for `Batches.from_tfds`.

    Args:
        name: Of the data set, as in `tfds.load`.
        split: Name of the split, or a slice such as `"train[:90%]"`.
        data_dir: Where TFDS keeps its copies. Defaults to TFDS' own choice.
        scale: Whether uint8 becomes float32, divided by 255.

    Returns:
        An unbatched `tf.data.Dataset` of (x, label) in storage order, and the number of its examples.

    Raises:
        ValueError, RuntimeError: As `from_tfds`.
    """
    import tensorflow as tf

    builder = builders.named(name, data_dir)
    builders.check_features(builder, name)
    if not builder.is_prepared():
        builders.check_splits(builder, name, split)
        builders.prepare(builder, name)
    builders.check_splits(builder, name, split)
    dataset = builder.as_dataset(split=split, as_supervised=True, shuffle_files=False)
    if scale and dataset.element_spec[0].dtype == tf.uint8:
        dataset = dataset.map(
            lambda x, y: (tf.cast(x, tf.float32) / 255.0, y), num_parallel_calls=tf.data.AUTOTUNE
        )
    return dataset, builder.info.splits[split].num_examples


def _load(builder, name, num_train, seed, train, test):
    builders.check_splits(builder, name, train, test)
    total = builder.info.splits[train].num_examples
    chosen = None
    if num_train is not None:
        _check_num_train(num_train, total, f"the size of {train!r} in {name!r}")
        chosen = np.random.default_rng(seed).permutation(total)[:num_train]
    _check_memory(builder, name, num_train, train, test)
    arrays = (*_read(builder, train, chosen), *_read(builder, test))
    if min(arrays[1].min(), arrays[3].min()) < 0:
        raise ValueError(
            f"{name!r} has labels below 0, which is how TFDS marks labels that are not public. "
            f"Pass a labelled split, such as test='validation'."
        )
    return Split(*arrays, name=name, pool=total)


def _read(builder, split, chosen=None):
    """All examples of a split in storage order, or those at the positions `chosen`, as float32 and int64."""
    x, y = _stored(str(builder.data_path), split, _Unhashed(builder))
    if chosen is not None:
        x, y = x[chosen], y[chosen]
    scale = np.float32(255 if x.dtype == np.uint8 else 1)
    return np.divide(x, scale, dtype=np.float32), y.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class _Unhashed:
    builder: object = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=2)  # an experiment asks for the same two splits once per seed and arm
def _stored(path, split, unhashed):
    dataset = unhashed.builder.as_dataset(
        split=split, as_supervised=True, batch_size=1000, shuffle_files=False
    )
    return tuple(np.concatenate(parts) for parts in zip(*dataset.as_numpy_iterator(), strict=True))


def _check_memory(builder, name, num_train, train, test):
    """Reading holds a split twice as stored (in parts, then joined), and what is returned as float32."""
    feature = builder.info.features[builder.info.supervised_keys[0]]
    num_train_stored, num_test = (builder.info.splits[split].num_examples for split in (train, test))
    kept = num_test + (num_train_stored if num_train is None else num_train)
    stored = 2 * max(num_train_stored, num_test) * np.dtype(feature.np_dtype).itemsize
    needed = int(np.prod(feature.shape, dtype=np.int64)) * (stored + 4 * kept)
    if not hasattr(os, "sysconf"):  # Windows
        return
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise ValueError(
            f"Reading {name!r} takes {needed / 1e9:.1f} GB and this machine has {available / 1e9:.1f} GB. "
            f"Pass a slice such as train='train[:10%]', or stream it with Batches.from_tfds({name!r}, ...)."
        )


def _check_num_train(num_train, maximum, reason):
    if not is_count(num_train) or num_train > maximum:
        raise ValueError(
            f"num_train={num_train!r} is not possible: it is a whole number from 1 to {maximum} ({reason})."
        )

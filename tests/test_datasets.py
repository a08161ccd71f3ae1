"""Data sets: what is loaded is what the files hold, each example once, redrawn by the seed.

The idx files are read here with gzip and numpy alone, or written by the test, so that the builder,
TFDS and PNG stand between what is compared.
"""

import gzip
import os
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.utils import tqdm_utils

from tf_lbgap.data import datasets
from tf_lbgap.data.fashion_mnist import DEBIAN_FOLDER, FashionMnistIdx

needs_debian_files = pytest.mark.skipif(
    not os.path.isdir(DEBIAN_FOLDER), reason="apt-get install dataset-fashion-mnist"
)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_folder(folder, *, num_train=13, num_test=7, seed=0, suffix=".gz"):
    """Four idx files of random images; returns what they hold, as uint8."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, n in (("train", num_train), ("t10k", num_test)):
        arrays[f"{split}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    for name, array in arrays.items():
        write_idx(folder / (name + suffix), array)
    return arrays


def rows(*arrays):
    """The examples as a sorted list, so that equal lists are equal multisets."""
    return sorted(row.tobytes() for array in arrays for row in array)


class TinyColours(tfds.core.GeneratorBasedBuilder):
    """11 + 5 images of 2 x 3 pixels in colour: any data set that TFDS knows by name."""

    VERSION = tfds.core.Version("1.0.0")
    features = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(2, 3, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
        "caption": tfds.features.Text(),
        "weight": tfds.features.Scalar(np.float32),
        "any_size": tfds.features.Image(shape=(None, None, 3)),
        "profile": tfds.features.Tensor(shape=(4,), dtype=np.float64),
    }
    pair = ("image", "label")
    hidden_labels = False

    def _info(self):
        features = {key: self.features[key] for key in self.pair or ("image",)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=self.pair
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(11, 0), "test": self._generate_examples(5, 100)}

    def _generate_examples(self, n, offset):
        for i in range(n):
            value = {
                "image": np.full((2, 3, 3), offset + i, np.uint8),
                "label": -1 if self.hidden_labels and offset else i % 3,
                "profile": np.full(4, -i / 8),
            }
            yield i, {key: value[key] for key in self.pair}


class TinyProfiles(TinyColours):
    pair = ("profile", "label")


class TinyHidden(TinyColours):
    hidden_labels = True


class TinyUnpaired(TinyColours):
    pair = None


class TinyCaptions(TinyColours):
    pair = ("caption", "label")


class TinyRagged(TinyColours):
    pair = ("any_size", "label")


class TinyRegression(TinyColours):
    pair = ("image", "weight")


class TinyRefused(TinyColours):
    def _split_generators(self, dl_manager):
        raise ConnectionError("the server is down\nand a long trace")


class TinyFarAway(TinyColours):
    url_infos = {"https://data.invalid/a.tar": None}  # noqa: RUF012

    def _split_generators(self, dl_manager):
        raise AssertionError("tried to download")


# ---- digits


@pytest.mark.parametrize("num_train", [1, 1000, 1796])
def test_digits_train_and_test_are_disjoint_and_together_the_whole_set(num_train):
    import sklearn.datasets

    split = datasets.digits(num_train=num_train, seed=3)

    x, y = sklearn.datasets.load_digits(return_X_y=True)
    whole = np.column_stack([x, y])
    parts = (
        np.column_stack([split.x_train * 16.0, split.y_train]),
        np.column_stack([split.x_test * 16.0, split.y_test]),
    )
    assert split.x_train.shape == (num_train, 64)
    assert split.x_test.shape == (1797 - num_train, 64)
    assert rows(*(part.astype(np.float64) for part in parts)) == rows(whole)


def test_digits_are_float32_in_0_to_1_with_ten_integer_classes():
    split = datasets.digits()

    assert split.x_train.dtype == split.x_test.dtype == np.float32
    assert split.y_train.dtype == split.y_test.dtype == np.int64
    assert (split.x_train.min(), split.x_train.max()) == (0, 1)
    assert (split.num_classes, split.name) == (10, "digits")


def test_digits_are_the_same_for_equal_seeds_and_redrawn_for_others():
    first, again, other = datasets.digits(seed=1), datasets.digits(seed=1), datasets.digits(seed=2)

    np.testing.assert_array_equal(first.x_train, again.x_train)
    np.testing.assert_array_equal(first.y_test, again.y_test)
    # A fixed training set would share all its 1,000 images; independent draws share 56 % (556 +- 11).
    shared = set(rows(first.x_train)) & set(rows(other.x_train))
    assert 480 < len(shared) < 640


def test_digits_do_not_import_tfds():
    code = "import sys; from tf_lbgap.data import datasets; datasets.digits(); print('tensorflow_datasets' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("num_train", [0, -5, 1797, 10.0, True, "all"])
def test_digits_outside_1_to_1796_are_an_error(num_train):
    with pytest.raises(ValueError, match=r"whole number from 1 to 1796"):
        datasets.digits(num_train=num_train)


# ---- Fashion-MNIST as Debian ships it


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir that holds the full data set, prepared once for this module."""
    data_dir = tmp_path_factory.mktemp("prepared")
    FashionMnistIdx(data_dir=data_dir).download_and_prepare()
    return data_dir


@pytest.fixture(scope="module")
def full(prepared):
    return datasets.fashion_mnist(data_dir=prepared)


def debian_idx(name, header):
    with gzip.open(f"{DEBIAN_FOLDER}/{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8)[header:]


@pytest.mark.slow
@needs_debian_files
def test_fashion_mnist_holds_what_the_idx_files_hold_in_their_order(full):
    for x, y, name in (full.x_train, full.y_train, "train"), (full.x_test, full.y_test, "t10k"):
        images = debian_idx(f"{name}-images-idx3", 16).reshape(-1, 28, 28, 1)
        np.testing.assert_array_equal(x[:10], images[:10] / np.float32(255))
        np.testing.assert_array_equal(np.rint(x * 255).astype(np.uint8), images)
        np.testing.assert_array_equal(y, debian_idx(f"{name}-labels-idx1", 8))


@pytest.mark.slow
@needs_debian_files
def test_fashion_mnist_has_6000_training_and_1000_test_images_of_each_class(full):
    assert full.x_train.shape == (60000, 28, 28, 1)
    assert full.x_test.shape == (10000, 28, 28, 1)
    assert full.x_train.dtype == np.float32
    np.testing.assert_array_equal(np.bincount(full.y_train), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(full.y_test), [1000] * 10)


@pytest.mark.slow
@needs_debian_files
def test_fashion_mnist_subset_is_redrawn_per_seed_and_the_test_set_stays_whole(full, prepared):
    first = datasets.fashion_mnist(num_train=5000, seed=1, data_dir=prepared)
    other = datasets.from_tfds(
        "fashion_mnist", num_train=5000, seed=2, data_dir=prepared
    )  # Debian's files too

    whole = set(rows(full.x_train))
    drawn, redrawn = set(rows(first.x_train)), set(rows(other.x_train))
    assert len(drawn) == len(redrawn) == len(first.y_train) == 5000  # no image twice
    assert drawn <= whole
    assert redrawn <= whole
    assert len(drawn & redrawn) < 600  # 417 expected of two independent draws, standard deviation 19
    label_of = dict(zip((x.tobytes() for x in full.x_train), full.y_train, strict=True))
    assert all(label_of[x.tobytes()] == y for x, y in zip(first.x_train, first.y_train, strict=True))
    np.testing.assert_array_equal(first.x_test, full.x_test)
    np.testing.assert_array_equal(other.y_test, full.y_test)


# ---- The same builder on twenty images


@pytest.mark.parametrize("suffix", [".gz", ""], ids=["gzipped", "plain"])
def test_fashion_mnist_reads_any_folder_of_idx_files(tmp_path, suffix):
    """13 + 7 images: nothing here divides anything."""
    arrays = write_folder(tmp_path / "idx", suffix=suffix)

    split = datasets.fashion_mnist(folder=tmp_path / "idx", data_dir=tmp_path / "tfds")

    np.testing.assert_array_equal(
        split.x_train[..., 0], arrays["train-images-idx3-ubyte"] / np.float32(255), strict=True
    )
    np.testing.assert_array_equal(split.y_train, arrays["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(split.x_test[..., 0], arrays["t10k-images-idx3-ubyte"] / np.float32(255))
    np.testing.assert_array_equal(split.y_test, arrays["t10k-labels-idx1-ubyte"])


def test_fashion_mnist_subset_of_all_is_a_permutation_and_equal_seeds_agree(tmp_path):
    write_folder(tmp_path / "idx")
    options = {"folder": tmp_path / "idx", "data_dir": tmp_path / "tfds"}
    whole = datasets.fashion_mnist(**options)
    first = datasets.fashion_mnist(num_train=13, seed=4, **options)
    again = datasets.fashion_mnist(num_train=13, seed=4, **options)

    assert rows(first.x_train) == rows(whole.x_train)
    assert not np.array_equal(first.x_train, whole.x_train)
    np.testing.assert_array_equal(first.x_train, again.x_train)


def test_fashion_mnist_prepares_once_and_anew_when_a_file_changes(tmp_path):
    folder, data_dir = tmp_path / "idx", tmp_path / "tfds"
    write_folder(folder, suffix="")
    datasets.fashion_mnist(folder=folder, data_dir=data_dir)
    (first,) = data_dir.rglob("*train.tfrecord*")
    stamp = first.stat().st_mtime_ns
    datasets.fashion_mnist(folder=folder, data_dir=data_dir)
    assert [p.stat().st_mtime_ns for p in data_dir.rglob("*train.tfrecord*")] == [stamp]

    # Same sizes, same times, one label changed.
    path = folder / "train-labels-idx1-ubyte"
    before, labels = path.stat(), np.arange(13) % 10
    write_idx(path, labels)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = datasets.fashion_mnist(folder=folder, data_dir=data_dir)

    np.testing.assert_array_equal(changed.y_train, labels)
    assert len(list(data_dir.rglob("*train.tfrecord*"))) == 2


def test_builder_that_lost_the_race_uses_the_copy_of_the_other(tmp_path, monkeypatch):
    """The other process finishes while this one is still generating."""
    write_folder(tmp_path / "idx")
    options = {"folder": tmp_path / "idx", "data_dir": tmp_path / "tfds"}
    slow, fast = FashionMnistIdx(**options), FashionMnistIdx(**options)
    generate = slow._split_generators

    def overtaken(dl_manager):
        fast.download_and_prepare()
        return generate(dl_manager)

    monkeypatch.setattr(slow, "_split_generators", overtaken)
    slow.download_and_prepare()

    assert slow.info.splits["train"].num_examples == 13
    assert len(list(slow.as_dataset(split="test"))) == 7
    assert not list((tmp_path / "tfds").rglob("incomplete*"))


def test_builder_declares_what_tfds_users_expect_and_survives_pickling(tmp_path):
    write_folder(tmp_path / "idx")
    options = {"builder_kwargs": {"folder": str(tmp_path / "idx")}, "data_dir": str(tmp_path / "tfds")}
    train, info = tfds.load(
        "fashion_mnist_idx", split="train[:5]", with_info=True, as_supervised=True, **options
    )

    assert (info.features["image"].shape, info.features["image"].np_dtype) == ((28, 28, 1), np.uint8)
    assert info.features["label"].names[9] == "Ankle boot"
    assert info.supervised_keys == ("image", "label")
    assert len(list(train)) == 5
    builder = FashionMnistIdx(folder=tmp_path / "idx", data_dir=tmp_path / "tfds")
    assert pickle.loads(pickle.dumps(builder)).info.splits["test"].num_examples == 7


@pytest.mark.parametrize("bars", [True, False])
def test_preparing_is_silent_and_leaves_bars_and_log_level_as_they_were(tmp_path, capfd, bars):
    write_folder(tmp_path / "idx")
    before, verbosity = tqdm_utils._active, logging.get_verbosity()
    tqdm_utils.display_progress_bar(enable=bars)
    try:
        FashionMnistIdx(folder=tmp_path / "idx", data_dir=tmp_path / "tfds").download_and_prepare()
        assert tqdm_utils._active is bars
    finally:
        tqdm_utils.display_progress_bar(enable=before)
    assert logging.get_verbosity() == verbosity
    out, err = capfd.readouterr()
    assert out == ""
    assert "Generating" not in err
    assert "custom data configuration" not in err


def test_missing_files_are_an_error_that_names_folder_file_and_package(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        datasets.fashion_mnist(folder=tmp_path / "nowhere", data_dir=tmp_path)
    message = str(caught.value)
    for part in (
        str(tmp_path / "nowhere"),
        "train-images-idx3-ubyte.gz",
        "apt-get install dataset-fashion-mnist",
        "folder=",
    ):
        assert part in message
    assert "\n" not in message

    write_folder(tmp_path / "idx")
    (tmp_path / "idx" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        datasets.fashion_mnist(folder=tmp_path / "idx", data_dir=tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def cut_plain(path):
    data = gzip.decompress(path.read_bytes())
    path.unlink()
    path.with_suffix("").write_bytes(data[:-1])


def cut_header(path):
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0])))


def no_gzip(path):
    path.write_bytes(b"<html>404</html>")


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


def labels_instead(path):
    write_idx(path, np.zeros(7))


def one_image_less(path):
    write_idx(path, np.zeros((6, 28, 28)))


def other_size(path):
    write_idx(path, np.zeros((7, 8, 8)))


def no_image(path):
    write_idx(path, np.zeros((0, 28, 28)))


@pytest.mark.parametrize(
    "damage",
    [cut, cut_plain, cut_header, no_gzip, flip_a_byte, labels_instead, one_image_less, other_size, no_image],
    ids=lambda f: f.__name__,
)
def test_damaged_file_is_an_error_that_names_it_and_leaves_no_copy(tmp_path, damage):
    write_folder(tmp_path / "idx")
    damage(tmp_path / "idx" / "t10k-images-idx3-ubyte.gz")

    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte"):
        datasets.fashion_mnist(folder=tmp_path / "idx", data_dir=tmp_path / "tfds")

    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


@pytest.mark.parametrize("num_train", [0, 14, 2.5])
def test_fashion_mnist_subset_larger_than_the_training_set_is_an_error(tmp_path, num_train):
    write_folder(tmp_path / "idx")
    with pytest.raises(ValueError, match=r"whole number from 1 to 13 .*'train'"):
        datasets.fashion_mnist(num_train=num_train, folder=tmp_path / "idx", data_dir=tmp_path / "tfds")


# ---- Any TFDS name


def test_from_tfds_loads_images_by_name_scaled_by_255(tmp_path):
    split = datasets.from_tfds("tiny_colours", data_dir=tmp_path)

    assert (split.x_train.shape, split.x_test.shape) == ((11, 2, 3, 3), (5, 2, 3, 3))
    assert (split.name, split.num_classes, split.x_train.dtype) == ("tiny_colours", 3, np.float32)
    # TFDS shuffles while it prepares: compare each image with the label it was made with.
    pixel = np.rint(split.x_train[:, 0, 0, 0] * 255).astype(int)
    assert sorted(pixel) == list(range(11))
    np.testing.assert_array_equal(split.y_train, pixel % 3)
    np.testing.assert_allclose(np.sort(split.x_test[:, 1, 2, 2]), np.arange(100, 105) / 255, rtol=1e-6)


def test_from_tfds_takes_slices_and_draws_the_subset_from_the_slice(tmp_path):
    options = {"data_dir": tmp_path, "train": "train[:8]", "test": "train[8:]"}
    whole = datasets.from_tfds("tiny_colours", **options)
    subsets = [datasets.from_tfds("tiny_colours", num_train=3, seed=seed, **options) for seed in (0, 0, 1, 2)]

    assert len(set(rows(whole.x_train, whole.x_test))) == 11
    assert len(whole.x_test) == 3
    assert all(set(rows(s.x_train)) < set(rows(whole.x_train)) and len(s.y_train) == 3 for s in subsets)
    np.testing.assert_array_equal(subsets[0].x_train, subsets[1].x_train)
    assert len({s.x_train.tobytes() for s in subsets}) == 3
    with pytest.raises(ValueError, match="from 1 to 8"):
        datasets.from_tfds("tiny_colours", num_train=9, **options)


def test_from_tfds_leaves_features_that_are_not_pixels_unscaled(tmp_path):
    split = datasets.from_tfds("tiny_profiles", data_dir=tmp_path)

    assert split.x_train.dtype == np.float32
    assert sorted(split.x_train[:, 3] * -8) == list(range(11))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("fashion_mnits", "fashion_mnist"), ("tiny_colour", "tiny_colours"), ("cifar_10", "cifar10")],
)
def test_unknown_tfds_name_is_an_error_that_names_the_nearest(tmp_path, name, hint):
    with pytest.raises(ValueError, match=rf"no data set '{name}'. Did you mean .*'{hint}'") as caught:
        datasets.from_tfds(name, data_dir=tmp_path)
    assert len(str(caught.value)) < 300  # and not TFDS' list of them all


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_unpaired", "no .input, label. pair"),
        ("tiny_captions", "'caption' of 'tiny_captions' .* one fixed shape"),
        ("tiny_ragged", "'any_size' of 'tiny_ragged' .* one fixed shape"),
        ("tiny_regression", "'weight' of 'tiny_regression' .* one integer"),
    ],
)
def test_data_set_that_is_not_arrays_with_integer_labels_is_refused_before_a_download(
    tmp_path, name, message
):
    with pytest.raises(ValueError, match=message):
        datasets.from_tfds(name, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_split_is_an_error_that_names_the_splits_there_are(tmp_path):
    for _ in ("not prepared", "prepared"):
        with pytest.raises(
            ValueError, match=r"no split 'validation'; it has .*'test'.*'train'|'train'.*'test'"
        ):
            datasets.from_tfds("tiny_colours", data_dir=tmp_path, test="validation")
    with pytest.raises(ValueError, match="empty"):
        datasets.from_tfds("tiny_colours", data_dir=tmp_path, test="train[11:]")


def test_hidden_labels_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="labels below 0"):
        datasets.from_tfds("tiny_hidden", data_dir=tmp_path)


def test_data_set_larger_than_memory_is_an_error_with_the_figures(tmp_path, monkeypatch):
    datasets.from_tfds("tiny_colours", data_dir=tmp_path)
    # 18 bytes an image: 11 twice as stored and 16 as float32 are 1,548.
    monkeypatch.setattr(os, "sysconf", lambda name: 1547 if name == "SC_PHYS_PAGES" else 1)
    with pytest.raises(ValueError, match="this machine has"):
        datasets.from_tfds("tiny_colours", data_dir=tmp_path)
    monkeypatch.setattr(os, "sysconf", lambda name: 1548 if name == "SC_PHYS_PAGES" else 1)
    datasets.from_tfds("tiny_colours", data_dir=tmp_path)


def test_failed_download_is_one_error_that_says_why_and_what_works_without_network(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        datasets.from_tfds("tiny_refused", data_dir=tmp_path)
    message = str(caught.value)
    for part in ("tiny_refused", "ConnectionError: the server is down", "data_dir=", "digits()"):
        assert part in message
    assert "\n" not in message


def test_host_that_is_not_found_is_an_error_before_tfds_retries(tmp_path, monkeypatch):
    def no_address(host, port):
        raise socket.gaierror(f"no address for {host}")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(RuntimeError, match=r"host data\.invalid is not found"):
        datasets.from_tfds("tiny_far_away", data_dir=tmp_path)
    # A proxy resolves names for us, and a finished download needs none: then TFDS tries.
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:3128"})
    with pytest.raises(RuntimeError, match="tried to download"):
        datasets.from_tfds("tiny_far_away", data_dir=tmp_path)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    (tmp_path / "downloads" / "a").mkdir(parents=True, exist_ok=True)
    (tmp_path / "downloads" / "a" / "a.tar.tmp.1").touch()
    with pytest.raises(RuntimeError, match="is not found"):
        datasets.from_tfds("tiny_far_away", data_dir=tmp_path)
    (tmp_path / "downloads" / "a" / "a.tar").touch()
    with pytest.raises(RuntimeError, match="tried to download"):
        datasets.from_tfds("tiny_far_away", data_dir=tmp_path)

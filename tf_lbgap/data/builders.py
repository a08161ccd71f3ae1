"""Builders of TensorFlow Datasets: found by name, checked before a download, prepared, or an error of a few lines."""

import difflib
import pathlib
import socket
import urllib.parse
import urllib.request

import numpy as np


def named(name, data_dir):
    """The builder of a name; of `fashion_mnist`, that of Debian's files where they are installed."""
    import tensorflow_datasets as tfds

    if name == "fashion_mnist":
        from tf_lbgap.data.fashion_mnist import FashionMnistIdx

        try:
            return FashionMnistIdx(data_dir=data_dir)
        except FileNotFoundError:
            pass  # not a Debian system: TFDS' own data set, by download
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(str(name).split("/")[0].split(":")[0], known, n=3)
        raise ValueError(
            f"TFDS knows no data set {name!r}. "
            + (f"Did you mean {' or '.join(map(repr, near))}? " if near else "")
            + f"tfds.list_builders() lists all {len(known)}."
        ) from error


def check_features(builder, name):
    """Before a download: a pair of (array of known shape, integer label), or an error."""
    keys, features = builder.info.supervised_keys, builder.info.features
    if not (isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys)):
        raise ValueError(
            f"TFDS declares no (input, label) pair for {name!r}: its supervised_keys are {keys!r}. "
            f"Load it with tfds.load and pass arrays to Batches(x, y, ...)."
        )
    x, y = (features[key] for key in keys)
    for key, feature, wanted, fits in (
        (keys[0], x, "numbers of one fixed shape", lambda kind, shape: kind in "uifb" and None not in shape),
        (keys[1], y, "one integer", lambda kind, shape: kind in "ui" and shape == ()),
    ):
        if isinstance(feature.shape, dict) or not fits(np.dtype(feature.np_dtype).kind, feature.shape):
            raise ValueError(
                f"{key!r} of {name!r} is {feature!r}, but from_tfds needs {wanted} per example. "
                f"Load it with tfds.load, bring it to that form, and pass arrays to Batches(x, y, ...)."
            )


def check_splits(builder, name, *splits):
    """Raise unless the data set has each of these splits, or slices of splits, and none is empty."""
    for split in splits if builder.info.splits else ():  # some are known only once prepared
        try:
            empty = builder.info.splits[split].num_examples == 0
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{name!r} has no split {split!r}; it has {', '.join(map(repr, builder.info.splits))}. "
                f"Pass one of them as train= and another as test=, or slices such as "
                f"train='train[:80%]', test='train[80%:]'."
            ) from error
        if empty:
            raise ValueError(f"The split {split!r} of {name!r} is empty. Widen the slice.")


def prepare(builder, name):
    """Download and prepare, or raise an error that says why that is not possible and what is."""
    host = _unreachable_host(builder)
    advice = (
        "With a network, call again. Without one, copy a data_dir in which TFDS prepared it elsewhere and "
        "pass data_dir=, or use digits() or fashion_mnist(), which need no download."
    )
    if host:
        raise RuntimeError(
            f"{name!r} is not in {builder.data_dir}, and its host {host} is not found. {advice}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise RuntimeError(
            f"TFDS could not prepare {name!r} in {builder.data_dir}: {type(error).__name__}: {reason}. {advice}"
        ) from error


def _unreachable_host(builder):
    """The host of the first download if its name has no address, else None.

    Offline, TFDS retries each file ten times, minutes of warnings, before it raises. Asking for the
    address fails at once. Behind a proxy, or with files downloaded already, TFDS may do without.
    """
    downloads = pathlib.Path(builder.data_dir_root) / "downloads"
    done = any(path.is_file() and ".tmp." not in path.name for path in downloads.rglob("*"))
    if urllib.request.getproxies() or done:
        return None
    hosts = [urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()]
    for host in filter(None, hosts[:1]):
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            return host
    return None

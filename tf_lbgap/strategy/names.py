"""Strategies by name, so that a script or a configuration says in a word what it runs on."""

import difflib
import functools
import os

import tensorflow as tf

from tf_lbgap.strategy import device_iterators, keras_cures
from tf_lbgap.tf_config import cluster, num_machines

NAMES = ("auto", "default", "mirrored", "multiworker", "parameter_server", "tpu")
"""What `from_name` takes."""


def from_name(name="auto"):
    """Return a `tf.distribute` strategy.

    - `"default"`: one device, TensorFlow's default.
    - `"mirrored"`: all GPUs of this machine; where there is none, all logical CPU devices.
    - `"multiworker"`: `MultiWorkerMirroredStrategy`, from the environment variable TF_CONFIG. `fit` of Keras 3 does not run
      under it by itself: this installs the cures (see `strategy.keras_cures`) in this process.
    - `"parameter_server"`: `ParameterServerStrategy` for the chief that TF_CONFIG names. `fit` does not run under it.
    - `"tpu"`: `TPUStrategy`, from `TPUClusterResolver` (TPU_NAME, or what is attached).
    - `"auto"`: the first of these that fits: what TF_CONFIG asks for, a TPU, two or more GPUs, else the default.

    The strategies of several replicas rid their iterators of a tuning thread, in this process (see `strategy.device_iterators`).

    Asked again, it returns the same object: TensorFlow takes the collectives of a second MirroredStrategy in a process for those
    of the first. Make it before anything else of TensorFlow, for it decides on devices; and make the model in its `scope()`.

    Args:
        name: One of `NAMES`.

    Raises:
        ValueError: If there is no such name, or not what it needs.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(str(name), NAMES, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(NAMES)}."
        raise ValueError(f"strategy {name!r} is not known. {hint}")
    name = _automatic() if name == "auto" else name
    return _made(name)


@functools.cache
def _made(name):
    made = _MAKERS[name]()
    if name in ("mirrored", "multiworker", "tpu"):
        device_iterators.install()
    return made


def has_server():
    """Return whether TF_CONFIG names a cluster with a parameter server."""
    return bool(cluster().get("ps"))


def _automatic():
    if has_server():
        return "parameter_server"
    if num_machines() > 1:
        return "multiworker"
    if os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"):
        return "tpu"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "default"


def _mirrored():
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker():
    if not any(cluster().get(job) for job in ("chief", "worker")):
        raise ValueError(
            "strategy 'multiworker' needs the environment variable TF_CONFIG on each worker, such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
        )
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras_cures.install(strategy)
    return strategy


def _parameter_server():
    if not cluster().get("ps"):
        raise ValueError(
            "strategy 'parameter_server' needs the environment variable TF_CONFIG with jobs chief, worker and ps."
        )
    return tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"strategy 'tpu' finds no TPU: {' '.join(str(error).split())[:200]} Set TPU_NAME, or run where one is attached."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_MAKERS = {
    "default": tf.distribute.get_strategy,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "parameter_server": _parameter_server,
    "tpu": _tpu,
}

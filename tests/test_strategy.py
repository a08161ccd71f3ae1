"""Strategies by name: what each needs, and what `auto` finds. Those that take a process of their own are in `test_distributed.py`."""

import json
import types

import pytest
import tensorflow as tf
from replicas import mirrored
from tensorflow.python.data.ops import iterator_ops, multi_device_iterator_ops

import tf_lbgap as lb
from tf_lbgap.experiment import config
from tf_lbgap.strategy import keras_cures, names


@pytest.fixture(autouse=True)
def _without_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)


def test_the_default_is_tensorflows():
    strategy = lb.strategy.from_name("default")
    assert lb.strategy.is_default(strategy) and strategy.num_replicas_in_sync == 1
    assert lb.strategy.is_default(lb.strategy.from_name())  # no cluster, no TPU, no GPUs


def test_a_strategy_is_made_once_per_process():
    assert lb.strategy.from_name("mirrored") is lb.strategy.from_name("mirrored") is mirrored()


def test_no_thread_tunes_the_buffers_of_replicas(monkeypatch):
    """An iterator is asked for the options of the data set that it is made from."""
    seen = []

    def replica_iterators():
        data = tf.data.Dataset.range(4).batch(2)
        seen.clear()
        iter(mirrored().experimental_distribute_dataset(data))
        return [options.autotune.enabled for options in seen]

    make = iterator_ops.OwnedIterator._create_iterator
    monkeypatch.setattr(
        iterator_ops.OwnedIterator,
        "_create_iterator",
        lambda self, dataset: seen.append(dataset.options()) or make(self, dataset),
    )
    assert replica_iterators() == [False, False]
    cured = multi_device_iterator_ops._create_device_dataset
    monkeypatch.setattr(multi_device_iterator_ops, "_create_device_dataset", cured.cured)
    assert replica_iterators() == [None, None], "TensorFlow does it by itself now: remove device_iterators.py"


def test_configurations_take_the_same_names():
    assert config._CHOICES["strategy"] == lb.strategy.NAMES


@pytest.mark.parametrize(
    "name, text",
    [
        ("mirorred", "strategy 'mirorred' is not known. Did you mean 'mirrored'?"),
        (7, "strategy 7 is not known. Known: auto, default"),
        ("multiworker", "needs the environment variable TF_CONFIG on each worker"),
        ("parameter_server", "TF_CONFIG with jobs chief, worker and ps"),
        ("tpu", "strategy 'tpu' finds no TPU"),
    ],
)
def test_what_is_not_there_is_told(name, text):
    with pytest.raises(ValueError) as error:
        lb.strategy.from_name(name)
    assert text in str(error.value)


def test_a_cluster_that_is_no_json_is_told(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "worker:2222")
    with pytest.raises(ValueError, match="TF_CONFIG='worker:2222' is not JSON such as"):
        lb.strategy.from_name("auto")


@pytest.mark.parametrize(
    "cluster, environment, gpus, found",
    [
        ({}, {}, 0, "default"),
        ({}, {}, 1, "default"),
        ({}, {}, 2, "mirrored"),
        ({"worker": ["a:1"]}, {}, 2, "mirrored"),
        ({"worker": ["a:1", "b:1"]}, {}, 2, "multiworker"),
        ({"chief": ["a:1"], "worker": ["b:1"]}, {}, 0, "multiworker"),
        ({"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}, {}, 0, "parameter_server"),
        ({}, {"TPU_NAME": "local"}, 2, "tpu"),
    ],
)
def test_auto_takes_what_is_there(cluster, environment, gpus, found, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster}))
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [0] * gpus if kind == "GPU" else [])
    assert names._automatic() == found


@pytest.mark.parametrize(
    "task, cluster, is_chief",
    [
        (("worker", 0), {"worker": ["a:1", "b:1"]}, True),
        (("worker", 1), {"worker": ["a:1", "b:1"]}, False),
        (("worker", 0), {"chief": ["c:1"], "worker": ["a:1"]}, False),
        (("chief", 0), {"chief": ["c:1"], "worker": ["a:1"]}, True),
    ],
)
def test_the_chief_is_the_chief_or_else_the_first_worker(task, cluster, is_chief, monkeypatch):
    resolver = types.SimpleNamespace(
        task_type=task[0], task_id=task[1], cluster_spec=lambda: tf.train.ClusterSpec(cluster)
    )

    class Strategy:
        cluster_resolver = resolver

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Strategy)
    assert lb.strategy.is_chief_of(Strategy()) == is_chief


def test_another_version_of_keras_is_warned_of(monkeypatch):
    assert keras_cures._is_known("3.15.1") and not keras_cures._is_known("3.16.0")
    monkeypatch.setattr(keras_cures.keras, "__version__", "3.99.0")
    for cure in ("_cure_symbolic_build", "_cure_reduction", "_share_streams", "_tell_lost_workers"):
        monkeypatch.setattr(keras_cures, cure, lambda *arguments: None)
    with pytest.warns(UserWarning, match=r"tried with Keras 3\.15, and this is 3\.99\.0"):
        keras_cures.install(None)

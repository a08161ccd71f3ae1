"""What Keras 3 breaks under MultiWorkerMirroredStrategy, and the cures. Opt-in: `from_name("multiworker")` installs them.

Three things go wrong in `fit` of the version in `BROKEN`:

1. `_maybe_symbolic_build` reduces the first batch, whose parts differ in size between workers.
2. `reduce_per_replica` reduces scalars over an axis that they do not have.
3. A data set that is not sharded, as `data.Batches`, is read whole by each worker.

Each has a test that fails when it is no longer needed.
"""

import functools
import warnings

import keras
import tensorflow as tf
from keras.src import tree
from keras.src.backend.tensorflow import trainer

BROKEN = "3.15"
"""The version of Keras that these cures were written for and tried with."""


def install(strategy):
    """Let `fit`, `evaluate` and `predict` run under a MultiWorkerMirroredStrategy, in this process."""
    if not _is_known(keras.__version__):
        warnings.warn(
            f"The cures for Keras under MultiWorkerMirroredStrategy were tried with Keras {BROKEN}, and this is "
            f"{keras.__version__}. If fit fails, install keras=={BROKEN}.*.",
            stacklevel=3,
        )
    _cure_symbolic_build()
    _cure_reduction()
    _share_streams(strategy)
    _tell_lost_workers()


def _is_known(version):
    return version.split(".")[:2] == BROKEN.split(".")


def _is_multi_worker(strategy):
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _cure_symbolic_build():
    original = trainer.TensorFlowTrainer._maybe_symbolic_build
    if hasattr(original, "cured"):
        return

    @functools.wraps(original)
    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is None or not _is_multi_worker(self.distribute_strategy):
            original(self, iterator=iterator, data_batch=data_batch)
            return
        spec = iterator.data_adapter.get_tf_dataset().element_spec
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=spec)

    _maybe_symbolic_build.cured = original
    trainer.TensorFlowTrainer._maybe_symbolic_build = _maybe_symbolic_build


def _cure_reduction():
    original = trainer.reduce_per_replica
    if hasattr(original, "cured"):
        return

    @functools.wraps(original)
    def reduce_per_replica(values, strategy, reduction):
        if not _is_multi_worker(strategy) or reduction not in ("auto", "mean"):
            return original(values, strategy, reduction)
        # Over all workers, so that whoever decides by a number decides the same on each of them.
        return tree.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), values)

    reduce_per_replica.cured = original
    trainer.reduce_per_replica = reduce_per_replica


class WorkerLost(RuntimeError):
    """Another worker of the cluster is gone, and an update needs them all."""


def _tell_lost_workers():
    """Say what to do where TensorFlow says that collective operations were aborted."""
    original = trainer.TensorFlowTrainer.fit
    if hasattr(original, "cured"):
        return

    @functools.wraps(original)
    def fit(self, *args, **kwargs):
        try:
            return original(self, *args, **kwargs)
        except tf.errors.OpError as error:
            if not _is_multi_worker(self.distribute_strategy) or not _is_of_another_worker(error):
                raise
            raise WorkerLost(
                f"fit ended because another worker is gone: {' '.join(str(error.message).split())[:300]} ... Start all workers "
                "again; with lb.callbacks.Checkpoint training goes on from the last checkpoint."
            ) from error

    fit.cured = original
    trainer.TensorFlowTrainer.fit = fit


def _is_of_another_worker(error):
    kinds = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    return isinstance(error, kinds) or "ollective" in str(error.message)


def _share_streams(strategy):
    whole = strategy.experimental_distribute_dataset

    def experimental_distribute_dataset(dataset, options=None):
        share_of = getattr(dataset, "share_of", None)
        if share_of is None:
            return whole(dataset, options)
        return strategy.distribute_datasets_from_function(share_of, options)

    strategy.experimental_distribute_dataset = experimental_distribute_dataset

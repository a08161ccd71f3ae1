"""The graph side of a stream: data sets that ask variables, epoch for epoch, which batches they hold.

Keras makes the data set of a fit once. So what an epoch holds (where it begins, the sizes of its batches, who reads
it) is in variables, which are read when the iterator of that epoch is asked for its first batch.
"""

import functools

import numpy as np
import tensorflow as tf

from tf_lbgap.data.sources import WHOLE, Share, StreamSource

ALONE, PLANNED, LIVE = 0, 1, 2  # the last two for the one iterator per epoch that `fit` trains on
_NO_BOUNDARIES = np.zeros(1, np.int64)


class Epochs:
    """The data sets of a stream and the variables that say what their next epoch holds.

    Args:
        source: An `ArraySource` or a `StreamSource`.
        batch_size: Examples per batch.
        last_batch: One of `plan.LAST_BATCH`.

    Attributes:
        mode: `ALONE`, `PLANNED` or `LIVE`.
        armed: Whether the next to read is `fit`.
        epoch: Which epoch is next.
        start: Position in it at which live batches begin.
        stop: Position at which an epoch ends.
        size: Examples of the next batch, alone and live.
        boundaries: Where the batches of a planned epoch begin and end.
        ends: Where the live batches that were handed out end, by index; 0 for those that were not.
        piece: Examples of each element, where a batch comes in pieces of one static shape, or None.

    Each data set is asked for with `live`, whether it has to be ready for live sizes: one that need not be is a smaller graph,
    which begins in two thirds of the time.
    """

    def __init__(self, source, batch_size, last_batch):
        self._source, self._last_batch = source, last_batch
        self.piece = None
        self._made = {}  # data sets by what they are for, and how
        with tf.device("CPU:0"):
            variable = functools.partial(tf.Variable, dtype=tf.int64, trainable=False)
            self.mode = variable(ALONE)
            self.armed = tf.Variable(False, trainable=False)
            self.epoch = variable(0)
            self.start = variable(0)
            self.stop = variable(source.num_examples)
            self.size = variable(batch_size)
            self.boundaries = variable(_NO_BOUNDARIES, shape=[None])
            self.ends = variable(_NO_BOUNDARIES, shape=[None])

    def endless(self, live=True):
        """Return epoch after epoch, for `fit`."""
        return self._made_once("endless", live, fits=True)

    def one(self, live):
        """Return one epoch, for whoever asks."""
        return self._made_once("one", live, fits=False)

    def one_of_fit(self, live):
        """Return one epoch, for `fit`."""
        return self._made_once("one of fit", live, fits=True)

    @functools.cached_property
    def plain(self):
        """An epoch in the order of the present one, whatever steers the stream."""

        @tf.autograph.experimental.do_not_convert
        def plain(_):
            return self._source.planned(self.epoch.read_value(), self._constant_boundaries())

        return _without_hidden_buffers(tf.data.Dataset.from_tensors(0).flat_map(plain))

    def share_of(self, context, live):
        """Return what one of several workers reads of an epoch: of each batch the pieces of its own replicas."""
        replicas, workers = context.num_replicas_in_sync, context.num_input_pipelines
        count = replicas // workers
        share = Share(context.input_pipeline_id * count, count, replicas)
        return self._dataset(tf.data.Dataset.from_tensors(0), live, fits=True, share=share)

    @property
    def needs_planning(self):
        """Whether sizes have to be known for a whole epoch."""
        return self._last_batch == "merge" and isinstance(self._source, StreamSource)

    def _made_once(self, what, live, fits):
        kind = what, self.piece, live
        if kind not in self._made:
            epochs = tf.data.Dataset.counter() if what == "endless" else tf.data.Dataset.from_tensors(0)
            self._made[kind] = self._dataset(epochs, live, fits)
        return self._made[kind]

    def _dataset(self, epochs, live, fits, share=WHOLE):
        """Return the data set of as many epochs as `epochs` has elements.

        Args:
            fits: Whether nobody but `fit` reads it. A strategy reads the same graph as anybody who makes
                another data set from the stream, so there it is `armed` that says who comes next; who comes
                unarmed while the stream is steered gets a plain epoch.
        """

        @tf.autograph.experimental.do_not_convert
        def epoch(_):
            return self._of_an_epoch(live, fits, share)

        return _without_hidden_buffers(epochs.flat_map(epoch))

    def _of_an_epoch(self, live, fits, share):
        mode, epoch, start = self._taken(fits)
        with tf.control_dependencies([mode, epoch, start]):
            boundaries = tf.switch_case(
                tf.cast(mode, tf.int32),
                [
                    self._constant_boundaries,
                    self.boundaries.read_value,
                    lambda: tf.constant(_NO_BOUNDARIES),
                ],
            )
            stop = self.stop.read_value()
        planned = self._source.planned(epoch, boundaries, share)
        if self.piece is not None:
            return planned.map(functools.partial(_of_length, self.piece // share.total))
        if not live or self.needs_planning:
            return planned
        live_start = tf.where(tf.equal(mode, LIVE), start, stop)
        return planned.concatenate(
            self._source.live(epoch, live_start, stop, self.size, self._note_end, self._last_batch, share)
        )

    def _taken(self, fits):
        """Return mode, epoch and start of what is read now, and prepare for the next reader."""
        mode, armed = self.mode.read_value(), self.armed.read_value()
        epoch, start = self.epoch.read_value(), self.start.read_value()

        def advance():
            return tf.group(self.epoch.assign(epoch + 1))

        def disarm():
            return tf.no_op() if fits else tf.group(self.armed.assign(False))

        with tf.control_dependencies([mode, armed, epoch, start]):
            taken = tf.cond(tf.equal(mode, ALONE), advance, disarm)
        if not fits:
            mode = tf.where(armed, mode, ALONE)
        with tf.control_dependencies([taken]):
            return tf.identity(mode), tf.identity(epoch), tf.identity(start)

    def _note_end(self, index, end):
        return self.ends.scatter_nd_update(tf.reshape(index, [1, 1]), tf.reshape(end, [1]))

    def _constant_boundaries(self):
        size, stop = self.size.read_value(), self.stop.read_value()
        if self._last_batch == "drop":
            return tf.range(0, stop + 1, size)
        if self._last_batch == "merge":
            return tf.concat([tf.range(0, tf.maximum(stop - size + 1, 1), size), [stop]], 0)
        return tf.concat([tf.range(0, stop, size), [stop]], 0)


def _of_length(size, *parts):
    """Say, for a compiler, how many examples there are."""
    parts = tf.nest.map_structure(lambda t: tf.ensure_shape(t, [size, *t.shape[1:]]), parts)
    return parts if len(parts) > 1 else parts[0]


def _without_hidden_buffers(dataset):
    # Both rewrites put buffers into the live path, and a new size would hold two batches late.
    options = tf.data.Options()
    # Autotuning runs a thread per iterator, and its end has been waited for for a minute (`strategy/device_iterators.py`). The
    # sources say themselves how many batches to make at a time.
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)

"""Where examples come from, seen by the stream that cuts them into batches.

A source hands out one epoch as a `tf.data.Dataset` of batches, either *planned* (all boundaries are
known, so batches are made in parallel and ahead of time) or *live* (each batch asks how large it
should be at the moment it is wanted, so nothing may run ahead). `ArraySource` gathers from arrays
in memory; `StreamSource` regroups an unbatched `tf.data.Dataset`.

Everything here runs inside the dataset function of `Batches`, where `epoch`, `boundaries` and
`start` are tensors read when Keras makes the iterator of an epoch.
"""

import inspect
import os
from typing import NamedTuple

import tensorflow as tf

PARALLEL = min(16, os.cpu_count() or 1)  # batches made at the same time
AHEAD = 2  # batches made before they are wanted, beyond those
CHUNK = 128  # examples that a planned stream regroups at a time; 32 to 512 make no measured difference
_ORDER, _MAP = 0, 1  # separate the random numbers of the permutation from those given to `map`


def epoch_seed(seed, epoch, purpose=_ORDER, position=0):
    """Return a stateless seed, int64 of shape (2,), that depends on its arguments alone."""
    pair = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    if purpose == _ORDER:
        return pair
    pair = tf.random.experimental.stateless_fold_in(pair, tf.constant(purpose, tf.int64))
    return tf.random.experimental.stateless_fold_in(pair, tf.cast(position, tf.int64))


def permutation(num_examples, seed, epoch):
    """Return the order of an epoch, int64 of shape (num_examples,)."""
    return tf.random.experimental.stateless_shuffle(
        tf.range(num_examples, dtype=tf.int64), seed=epoch_seed(seed, epoch)
    )


class _Mapped:
    """The user's `map`, which may take a stateless `seed` beside the parts of a batch."""

    def __init__(self, function, seed):
        if function is not None and not callable(function):
            raise ValueError(
                f"map={function!r} must be a function of the parts of a batch, map(x, y), or None."
            )
        self.seed = seed
        self.wants_seed = function is not None and "seed" in inspect.signature(function).parameters
        # A tf.function may hold Python's `if` and `for`, as in Dataset.map; our own functions are not converted.
        self.function = function and tf.function(function)

    def __call__(self, batch, epoch, position):
        if self.function is None:
            return batch
        parts = batch if isinstance(batch, tuple) else (batch,)
        if self.wants_seed:
            return self.function(*parts, seed=epoch_seed(self.seed, epoch, _MAP, position))
        return self.function(*parts)


class Share(NamedTuple):
    """The part of each batch that one worker feeds to its replicas: an equal piece to each, one after the other."""

    first: int  # of its replicas, among all
    count: int  # of its replicas
    total: int  # replicas of all workers

    def spans(self, low, high):
        """Return where its pieces of the batch from `low` to `high` lie, int64 of shape (count, 2)."""
        size = (high - low) // self.total
        starts = low + size * tf.range(self.first, self.first + self.count, dtype=tf.int64)
        return tf.stack([starts, starts + size], axis=-1)


WHOLE = Share(0, 1, 1)


class ArraySource:
    """Examples in memory: batches are gathered from the arrays.

    Args:
        elements: Nested structure of arrays whose first axes have equal length.
        num_examples: That length.
        seed, shuffle, map: As in `Batches`.
    """

    def __init__(self, elements, num_examples, *, seed, shuffle, map):
        self.num_examples, self.seed, self.shuffle = num_examples, seed, shuffle
        self.mapped = _Mapped(map, seed)
        with tf.device("CPU:0"):  # the input pipeline runs there, whatever the model runs on
            self.elements = tf.nest.map_structure(tf.constant, elements)

    def order(self, epoch):
        if self.shuffle:
            return permutation(self.num_examples, self.seed, epoch)
        return tf.range(self.num_examples, dtype=tf.int64)

    def _gather(self, index):
        return tf.nest.map_structure(lambda array: tf.gather(array, index), self.elements)

    def planned(self, epoch, boundaries, share=WHOLE):
        order = self.order(epoch)
        spans = tf.reshape(share.spans(boundaries[:-1, None], boundaries[1:, None]), [-1, 2])

        def batch(span):
            return self.mapped(self._gather(order[span[0] : span[1]]), epoch, span[0])

        # To gather is cheap, and to hand that to other threads is not.
        how = {"num_parallel_calls": PARALLEL, "deterministic": True} if self.mapped.function else {}
        return tf.data.Dataset.from_tensor_slices(spans).map(batch, **how).prefetch(AHEAD)

    def live(self, epoch, start, total, batch_size, note_end, last_batch, share=WHOLE):
        order = self.order(epoch)

        def step(state, _):  # plan.next_boundary, as a graph
            index, position = state
            end = position + batch_size.read_value()
            if last_batch == "merge":
                end = tf.where(total - end < end - position, total, end)
            end = tf.where(end > total, position if last_batch == "drop" else total, end)
            noted = tf.cond(end > position, lambda: tf.group(note_end(index, end)), tf.no_op)
            with tf.control_dependencies([noted]):
                return (index + 1, end), (end > position, share.spans(position, end))

        spans = (
            tf.data.Dataset.from_tensors(0)
            .repeat()
            .scan((tf.constant(0, tf.int64), start), step)
            .take_while(lambda more, spans: more)
        )
        if share == WHOLE:  # a data set per batch takes time
            spans = spans.map(lambda more, spans: spans[0])
        else:
            spans = spans.flat_map(lambda more, spans: tf.data.Dataset.from_tensor_slices(spans))
        return spans.map(lambda span: self.mapped(self._gather(order[span[0] : span[1]]), epoch, span[0]))

    def examples_at(self, index):
        with tf.device("CPU:0"):
            return self._gather(tf.constant(index, tf.int64))

    def in_order(self, batch_size):
        options = tf.data.Options()
        options.autotune.enabled = (
            False  # there is nothing to tune, and its thread has been waited for for a minute
        )
        return tf.data.Dataset.from_tensor_slices(self.elements).batch(batch_size).with_options(options)


class StreamSource:
    """Examples from an unbatched `tf.data.Dataset`, regrouped into batches.

    Args:
        dataset: Yields one example at a time, the same ones in each iteration.
        num_examples: How many of them make an epoch. More are ignored, with one line on stderr;
            fewer are an error at the end of the epoch.
        seed, shuffle, map: As in `Batches`.
        buffer_size: Window of the shuffle, in examples, as in `tf.data.Dataset.shuffle`.
    """

    def __init__(self, dataset, num_examples, *, seed, shuffle, map, buffer_size):
        self.dataset, self.num_examples = dataset, num_examples
        self.seed, self.shuffle, self.buffer_size = seed, shuffle, buffer_size
        self.mapped = _Mapped(map, seed)
        with tf.device("CPU:0"):
            self._warned = tf.Variable(False, trainable=False)

    def _examples(self, epoch, start, limit):
        # Of the planned and the live part of a graph one yields nothing, and shall not read the source for that.
        examples = self.dataset.take(tf.where(limit > 0, tf.constant(-1, tf.int64), 0))
        if self.shuffle:
            # The raw op, since Dataset.shuffle mixes tf.random.set_seed into its seed, and the order of
            # examples shall depend on (seed, epoch) alone.
            seed = epoch_seed(self.seed, epoch)
            spec = examples.element_spec
            examples = tf.data.experimental.from_variant(
                tf.raw_ops.ShuffleDatasetV3(
                    input_dataset=tf.data.experimental.to_variant(examples),
                    buffer_size=tf.constant(self.buffer_size, tf.int64),
                    seed=seed[0],
                    seed2=seed[1] + 1,  # (0, 0) would mean "any seed"
                    seed_generator=tf.raw_ops.DummySeedGenerator(),
                    reshuffle_each_iteration=False,
                    output_types=[s.dtype for s in tf.nest.flatten(spec)],
                    output_shapes=[s.shape for s in tf.nest.flatten(spec)],
                ),
                spec,
            )
        return examples.skip(start)

    def _counted(self, chunks, start, limit):
        """Pass on the first `limit` examples; fewer are an error, and more than an epoch a remark."""
        promised = self.num_examples - start
        began = tf.timestamp()

        def count(seen, chunk):
            size = tf.shape(tf.nest.flatten(chunk)[0], out_type=tf.int64)[0]
            keep = tf.clip_by_value(limit - seen, 0, size)
            fewer = tf.strings.format(
                "The source of Batches.from_dataset ended after {} examples, but num_examples={} was promised. "
                "Pass the number of examples that it really yields.",
                (start + seen, self.num_examples),
            )
            complete = tf.Assert(tf.logical_or(size > 0, seen >= limit), [fewer])
            is_first = tf.equal(seen, 0) & (start > 0) & (limit > 0)
            skipped = tf.cond(is_first, lambda: self._tell_skipped(start, began), tf.no_op)
            surplus = tf.logical_and(seen + size > promised, tf.logical_not(self._warned))
            with tf.control_dependencies([complete, skipped, tf.cond(surplus, self._tell_surplus, tf.no_op)]):
                kept = tf.nest.map_structure(lambda part: part[:keep], chunk)
            return seen + size, (keep > 0, kept)

        # An empty chunk marks the end, so that a short source is noticed before its last batch is handed out.
        return (
            chunks.concatenate(self._empty_chunk())
            .scan(tf.constant(0, tf.int64), count)
            .take_while(lambda more, chunk: more)
            .map(lambda more, chunk: chunk)
        )

    def _empty_chunk(self):
        def empty(_):
            return tf.nest.map_structure(
                lambda spec: tf.zeros([0, *(size or 0 for size in spec.shape)], spec.dtype),
                self.dataset.element_spec,
            )

        return tf.data.Dataset.from_tensors(0).map(empty)

    def _tell_surplus(self):
        line = tf.print(
            "Batches.from_dataset: the source holds more than num_examples =",
            self.num_examples,
            "examples; the rest is left out.",
        )
        with tf.control_dependencies([line]):
            return tf.group(self._warned.assign(True))

    def _tell_skipped(self, start, began):
        return tf.print(
            "Batches.from_dataset: skipping the",
            start,
            "examples of this epoch that were seen before took",
            tf.round((tf.timestamp() - began) * 100) / 100,
            "s.",
        )

    def planned(self, epoch, boundaries, share=WHOLE):
        limit = boundaries[-1] - boundaries[0]
        chunks = self._examples(epoch, boundaries[0], limit).batch(CHUNK)
        # `rebatch` cycles through the sizes, and the epoch holds exactly their sum.
        sizes = tf.cond(limit > 0, lambda: boundaries[1:] - boundaries[:-1], lambda: tf.ones(1, tf.int64))
        batches = self._counted(chunks, boundaries[0], limit).rebatch(sizes)
        positions = tf.data.Dataset.from_tensor_slices(boundaries[:-1])
        return (
            self._pieces(tf.data.Dataset.zip(positions, batches), share)
            .map(
                lambda position, batch: self.mapped(batch, epoch, position),
                num_parallel_calls=PARALLEL,
                deterministic=True,
            )
            .prefetch(AHEAD)
        )

    def _pieces(self, batches, share):
        """Cut batches, each with its position, into the pieces of a share."""
        if share == WHOLE:
            return batches

        def cut(position, batch):
            size = tf.shape(tf.nest.flatten(batch)[0], out_type=tf.int64)[0]
            return tf.data.Dataset.from_tensor_slices(share.spans(tf.zeros([], tf.int64), size)).map(
                lambda span: (
                    position + span[0],
                    tf.nest.map_structure(lambda t: t[span[0] : span[1]], batch),
                )
            )

        return batches.flat_map(cut)

    def live(self, epoch, start, total, batch_size, note_end, last_batch, share=WHOLE):
        limit = total - start
        examples = self._counted(self._examples(epoch, start, limit).prefetch(CHUNK).batch(1), start, limit)

        def number(state, batch):
            index, position = state
            end = position + tf.shape(tf.nest.flatten(batch)[0], out_type=tf.int64)[0]
            with tf.control_dependencies([note_end(index, end)]):
                return (index + 1, end), (tf.identity(position), batch)

        # The key of an example is the size in force when it is wanted, so a window always fills: the size
        # cannot change before the batch is handed out.
        batches = examples.group_by_window(
            key_func=lambda *example: batch_size.read_value(),
            reduce_func=lambda size, window: window.rebatch(size, drop_remainder=last_batch == "drop"),
            window_size_func=lambda size: size,
        ).scan((tf.constant(0, tf.int64), start), number)
        return self._pieces(batches, share).map(lambda position, batch: self.mapped(batch, epoch, position))

    def in_order(self, batch_size):
        return self.dataset.take(self.num_examples).batch(batch_size)

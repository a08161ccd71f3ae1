"""The stream that feeds `fit`: every example once per epoch, in batches whose size may change.

`Batches` is a `tf.data.Dataset`, so plain `model.fit(batches)` reads it under any strategy. Three
modes, of which a user sees only what a callback asks for:

- *alone*: no callback of ours; the batch size is constant and Keras counts the steps itself.
- *planned*: the sizes of an epoch are known when it begins (a schedule), so batches are made in
  parallel and ahead of time.
- *live*: the size may change between any two updates (a criterion, or a user who sets
  `batches.batch_size`), so each batch is cut when it is wanted and nothing runs ahead.

Only training sees shuffling, `map` and a position inside an epoch: `evaluate` and `predict` read all
examples as stored. The order of examples depends on (seed, epoch) alone. What an epoch holds is said
by the variables of `Epochs`, so a new size needs no new dataset and no new trace.
"""

import functools
import sys
import weakref

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap import strategy
from tf_lbgap.data.epochs import ALONE, LIVE, PLANNED, Epochs
from tf_lbgap.data.inputs import check_cardinality, check_seed, common_length, pack, to_arrays
from tf_lbgap.data.keras_calls import callbacks_of, is_being_fitted, keras_calls
from tf_lbgap.data.plan import LAST_BATCH, check_batch_size, end_of_epoch, num_batches, rounded
from tf_lbgap.data.refusals import refuse_transformations
from tf_lbgap.data.sources import ArraySource, StreamSource, permutation
from tf_lbgap.data.weights import check_class_weight, fold_class_weight, fold_class_weight_numpy


@refuse_transformations
class Batches(tf.data.Dataset):
    """Training data whose batch size may change while `fit` runs.

    Use it in place of `x` and `y` in `model.fit`. Alone it behaves like
    `shuffle().batch(batch_size).prefetch()`; with `callbacks.BatchSizeScheduler` the batch size
    follows a schedule, epochs end where the data end, and the progress bar knows it.

    Example:

    ```python
    batches = lb.data.Batches(x, y, batch_size=128, seed=0)
    model.fit(batches, epochs=3, shuffle=False, callbacks=[
        lb.callbacks.BatchSizeScheduler(batches, lb.schedules.staircase(128, factor=2, milestones=[1, 2])),
    ])
    ```

    Args:
        x: Inputs: an array of shape (N, ...), or a tuple or dict of such arrays.
        y: Targets, likewise, or None.
        sample_weight: Weights, shape (N,), or likewise nested, or None.
        batch_size: Examples per update, over all replicas, until a callback changes it.
        seed: Whole number. Equal seeds give equal orders, epoch for epoch.
        shuffle: Whether each epoch has an order of its own. Defaults to `True`.
        map: Function applied to each batch in parallel, as in `tf.data.Dataset.map`: it gets the
            parts of a batch, `map(x, y)`, and returns them. If it has an argument `seed`, it gets a
            stateless seed of shape (2,) there that depends on (seed, epoch, position) alone; use it
            with `tf.image.stateless_random_*` to augment reproducibly. Measuring never applies it.
        class_weight: Dict from class to weight, folded into the sample weights; a class that is
            not named has weight 1. `fit`'s own `class_weight` cannot be used with a stream.
        last_batch: What becomes of a remainder smaller than a batch: `"partial"` (a batch of its
            own), `"merge"` (it joins the batch before it) or `"drop"`.

    Raises:
        ValueError: If the arrays differ in length, or a value is out of range.
    """

    def __init__(
        self,
        x,
        y=None,
        sample_weight=None,
        *,
        batch_size,
        seed=0,
        shuffle=True,
        map=None,
        class_weight=None,
        last_batch="partial",
    ):
        x, y, sample_weight = (
            to_arrays(part, name) for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
        )
        num_examples = common_length(x=x, y=y, sample_weight=sample_weight)
        if class_weight is not None:
            sample_weight = fold_class_weight_numpy(check_class_weight(class_weight), y, sample_weight)
        source = ArraySource(
            pack(x, y, sample_weight), num_examples, seed=check_seed(seed), shuffle=shuffle, map=map
        )
        self._begin(source, batch_size, last_batch)

    @classmethod
    def from_dataset(
        cls,
        dataset,
        *,
        num_examples=None,
        batch_size,
        seed=0,
        shuffle=True,
        buffer_size=10_000,
        map=None,
        class_weight=None,
        last_batch="partial",
    ):
        """Make a stream from an unbatched `tf.data.Dataset`.

        Args:
            dataset: Yields one example at a time, `x`, `(x, y)` or `(x, y, sample_weight)`, of one shape.
            num_examples: How many examples make an epoch; may be left out if the data set knows its
                cardinality. Fewer are an error at the end of the epoch, more are left out with a line.
            buffer_size: Window of the shuffle, in examples. Below `num_examples` the order is only
                shuffled locally, as with `tf.data.Dataset.shuffle`.
            batch_size, seed, shuffle, map, class_weight, last_batch: As in `Batches`.

        Raises:
            ValueError: If the number of examples is unknown, or known and below `num_examples`.
        """
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(
                f"from_dataset takes an unbatched tf.data.Dataset, not {type(dataset).__name__}."
            )
        num_examples = check_cardinality(dataset, num_examples)
        if class_weight is not None:
            dataset = dataset.map(functools.partial(fold_class_weight, check_class_weight(class_weight)))
        source = StreamSource(
            dataset, num_examples, seed=check_seed(seed), shuffle=shuffle, map=map, buffer_size=buffer_size
        )
        self = cls.__new__(cls)
        self._begin(source, batch_size, last_batch)
        return self

    @classmethod
    def from_tfds(cls, name, *, split="train", data_dir=None, scale=True, **options):
        """Make a stream from a split of a TensorFlow Datasets name.

        Args:
            name: Such as `"cifar10"`; downloaded and prepared if it is not yet.
            split: Which split. Defaults to `"train"`.
            data_dir: Where TFDS keeps its files; None is TFDS' default.
            scale: Whether 8-bit images become float32 in [0, 1]. Defaults to `True`.
            **options: `batch_size` and the other arguments of `from_dataset`.
        """
        from tf_lbgap.data.datasets import supervised_split

        dataset, num_examples = supervised_split(name, split=split, data_dir=data_dir, scale=scale)
        return cls.from_dataset(dataset, num_examples=num_examples, **options)

    def _begin(self, source, batch_size, last_batch):
        if last_batch not in LAST_BATCH:
            raise ValueError(f"last_batch={last_batch!r} must be one of {', '.join(map(repr, LAST_BATCH))}.")
        self._source, self.last_batch = source, last_batch
        self._size = check_batch_size(batch_size, self.num_examples)
        self._resume = None  # (epoch, examples) where the next fit shall start
        self._position = (0, 0)
        self._active = self._rate_scheduler = _nobody
        self._rate_rule = None
        self.in_update = False  # whether an update has begun, whose size is fixed
        # One size for evaluate and predict, since Keras keeps the steps that it counted first.
        self._measure_size = self._size_in_force = self._size
        self._epochs = Epochs(source, self._size, last_batch)
        self._mode = ALONE
        self.multiple_of, self.end_of_epoch = 1, self.num_examples
        self._running = None  # fit's iterator, which goes from epoch to epoch
        self._counted_epoch = None  # of a fit that Keras counts: the epoch whose iterator it was given
        self._epoch_is_over = False  # whether that iterator stands exactly between two epochs
        super().__init__(self._epochs.endless()._variant_tensor)

    # What tf.data asks of a dataset.

    def _inputs(self):
        return [self._epochs.endless()]

    @property
    def element_spec(self):
        return self._epochs.endless().element_spec

    @property
    def _variant_tensor(self):  # what a strategy, or another data set made from this one, reads
        if self._mode == ALONE and next(keras_calls(), None) is None:
            self._share_among(1)
        return self._epochs.one(self._may_be_live())._variant_tensor

    def __deepcopy__(self, memo):
        return self  # a copied callback goes on to steer the stream that fit reads

    def __iter__(self):
        method, arguments = next(keras_calls(), (None, {}))
        if method in ("evaluate", "predict"):
            return iter(self._to_measure())
        if method is None and self._mode == ALONE:
            self._share_among(1)
        if not sys._getframe(1).f_globals.get("__name__", "").startswith("keras."):
            # Somebody looks at the stream, perhaps while it feeds a fit.
            return super().__iter__() if self._mode == ALONE else iter(self._epochs.plain)
        if method == "fit" and arguments.get("x") is self:
            return self._iterator_of_fit(arguments)
        return super().__iter__()

    def _iterator_of_fit(self, arguments):
        """Return an iterator that stands at the beginning of an epoch.

        Making one costs 20 to 50 ms whatever the data, so an epoch that was read to its end hands its
        iterator on to the next.
        """
        if self._mode == ALONE:
            epoch = arguments.get("epoch", 0)
            if self._counted_epoch == epoch and self._running is not None:
                self._epoch_is_over = True  # Keras has counted to its end, and asks once more for nothing
                return self._running
            self._counted_epoch = epoch
            self._epochs.epoch.assign(epoch)
        if arguments["self"].steps_per_execution > 1:  # the last execution of an epoch has to find its end
            self._running = None
            return iter(self._epochs.one_of_fit(self._mode == LIVE))
        if self._running is None or not self._epoch_is_over:
            self._running = iter(self._epochs.endless(self._mode == LIVE))
        self._epoch_is_over = False
        return self._running

    def cardinality(self):
        """Return the number of batches per epoch, or UNKNOWN to a `fit` that a batch-size callback steers."""
        calls = list(keras_calls())
        method, arguments = calls[0] if calls else (None, {})
        if method is None:
            return tf.constant(self._steps(), tf.int64)
        if method != "fit" or "epoch" in arguments:  # in the epochs of a fit: its validation data
            if not strategy.is_default(strategy.of(arguments["self"])):
                raise ValueError(
                    "Under a strategy, evaluate, predict and validation_data read a copy of the stream, shuffled and "
                    "mapped as for training. Give them batches.in_order() instead of batches."
                )
            return self._to_measure().cardinality()
        self._counted_epoch = None
        if self._steering(arguments):
            return tf.constant(tf.data.UNKNOWN_CARDINALITY, tf.int64)
        self._share_among(strategy.of(arguments["self"]).num_replicas_in_sync)
        if self._mode != ALONE:
            if any(m == "fit" and outer.get("x") is self for m, outer in calls[1:]):
                raise ValueError(
                    "fit was called on a stream that another fit is reading. Give it Batches of its own."
                )
            self._end_interrupted()
        if self._resume is not None and self._resume[1]:
            raise ValueError(
                f"The stream was set to resume at position {self._resume}, in the middle of an epoch. Add "
                "lb.callbacks.BatchSizeScheduler(batches) to fit's callbacks: Keras alone cannot count such an epoch."
            )
        return tf.constant(self._steps(), tf.int64)

    def _steering(self, arguments):
        """Return the batch-size callbacks for this stream that a call of Keras has."""
        return [
            callback
            for callback in callbacks_of(arguments)
            if getattr(callback, "steers_batches", False) and callback.batches is self
        ]

    def _may_be_live(self):
        """Whether somebody who makes a data set of this stream now may ask for sizes update by update."""
        method, arguments = next(keras_calls(), (None, {}))
        return method != "fit" or any(callback.live for callback in self._steering(arguments))

    def _to_measure(self):
        """What evaluate and predict read."""
        dataset = self.in_order(self._measure_size)
        ours, plain = keras.tree.flatten(self.element_spec), keras.tree.flatten(dataset.element_spec)
        if len(ours) != len(plain) or not all(map(tf.TypeSpec.is_compatible_with, ours, plain)):
            raise ValueError(
                "evaluate and predict read the stream without map, but here map changes the type or the shape of a "
                f"batch from {dataset.element_spec} to {self.element_spec}. Give them data of their own, such as "
                "batches.in_order().map(function)."
            )
        return dataset

    def _steps(self):
        return num_batches(self.end_of_epoch, rounded(self._size, self.multiple_of), self.last_batch)

    def share_of(self, context):
        """Return what one of several workers reads: of each batch the pieces of its own replicas.

        Args:
            context: The worker's `tf.distribute.InputContext`.
        """
        return self._epochs.share_of(context, self._may_be_live())

    # What a user asks.

    @property
    def num_examples(self):
        """N, the examples of an epoch."""
        return self._source.num_examples

    @property
    def seed(self):
        """The seed of the order."""
        return self._source.seed

    @property
    def batch_size(self):
        """Examples per update. Set it between fits, or during a fit that `BatchSizeScheduler(batches)` watches."""
        return self._size

    @batch_size.setter
    def batch_size(self, size):
        size = check_batch_size(size, self.num_examples)
        if is_being_fitted(self):
            if self._mode == ALONE:
                raise ValueError(
                    f"batch_size={size} was set while fit was running, and Keras counted the batches of an epoch "
                    "before. Add lb.callbacks.BatchSizeScheduler(batches) to fit's callbacks: it keeps count."
                )
            if self._mode == PLANNED:
                raise ValueError(
                    f"batch_size={size} was set while a schedule steers the stream. Give the schedule a step there, "
                    "or leave it out, BatchSizeScheduler(batches), to set the size by hand."
                )
            self._size = rounded(size, self.multiple_of)
            self._active().on_batch_size_set()
            return
        if self._mode != ALONE:
            self._end_interrupted()
        self._size = size
        self._epochs.size.assign(rounded(size, self.multiple_of))

    @property
    def position(self):
        """(epoch, examples of it that were used for updates), kept by the batch-size callback.

        Save it with the weights. Setting it makes the next `fit`, called with `initial_epoch=epoch`,
        start there. The order of examples is that of an uninterrupted run.
        """
        return self._position

    @position.setter
    def position(self, position):
        if is_being_fitted(self):
            raise ValueError("position is set before fit, not while it is running.")
        try:
            epoch, examples = (int(part) for part in position)
        except (TypeError, ValueError):
            epoch = examples = -1
        if epoch < 0 or not 0 <= examples < self.num_examples:
            raise ValueError(
                f"position={position!r} must be (epoch, examples) with 0 <= examples < {self.num_examples}."
            )
        self.go_on_from(epoch, examples)

    def order(self, epoch):
        """Return the examples' indices in the order of an epoch, int64 of shape (N,); arrays only."""
        if not isinstance(self._source, ArraySource):
            raise ValueError("order() needs a stream made from arrays; a tf.data.Dataset has no indices.")
        if not self._source.shuffle:
            return np.arange(self.num_examples)
        return permutation(self.num_examples, self.seed, epoch).numpy()

    def examples_at(self, index):
        """Return chosen examples as one batch of tensors, without `map`; arrays only.

        Args:
            index: Positions in the arrays as they were given, shape (n,).
        """
        if not isinstance(self._source, ArraySource):
            raise ValueError(
                "examples_at() needs a stream made from arrays; a tf.data.Dataset has no indices."
            )
        return self._source.examples_at(index)

    def in_order(self, batch_size=None):
        """Return a plain `tf.data.Dataset`: all examples once, as stored, without `map`. Measures read this.

        Args:
            batch_size: Examples per batch. Defaults to the stream's.
        """
        return self._source.in_order(self._size if batch_size is None else batch_size)

    # What callbacks ask.

    def go_on_from(self, epoch, examples, batch_size=None):
        """Let the next epoch of a fit, or the first of one that has just begun, start at a position."""
        self._position = self._resume = (epoch, examples)
        self._epochs.epoch.assign(epoch)
        if batch_size is not None:
            self._size = batch_size
            self._epochs.size.assign(batch_size)

    def steer(self, callback, live, rate_rule=None, replicas=1, micro_batch_size=None):
        """Begin a fit under a batch-size callback.

        Args:
            callback: A `BatchSizeCallback`.
            live: Whether sizes are asked for at each update, rather than planned for a whole epoch.
            rate_rule: Function from a size to the rate's factor.
            replicas: How many share each batch.
            micro_batch_size: Examples of each replica in one element, if a batch is to come in pieces of one
                static shape; batches then are multiples of a piece.
        """
        rival = self._active()
        if rival is not None and rival is not callback and rival.params is callback.params:
            raise ValueError(
                f"Two batch-size callbacks steer one stream: {type(rival).__name__} and {type(callback).__name__}. "
                "Keep one; join() of lb.schedules puts schedules one after the other."
            )
        if live and self._epochs.needs_planning:
            raise ValueError(
                'last_batch="merge" needs a schedule, for a stream from a tf.data.Dataset is merged ahead.'
            )
        if live and replicas > 1 and self.last_batch != "partial":
            raise ValueError(
                f"last_batch={self.last_batch!r} needs a schedule under a strategy, where a live stream runs ahead of the "
                'updates. Leave it at "partial": each replica gets its share of the last batch, too.'
            )
        self._active, self._rate_rule = weakref.ref(callback), rate_rule
        self._set_piece(micro_batch_size and micro_batch_size * replicas)
        self._share_among(self._epochs.piece or replicas)
        self._epochs.armed.assign(False)
        self._set_mode(LIVE if live else PLANNED)

    def resume_at(self, epoch):
        """Return the position in `epoch`, the first of a fit, from which it shall be read: 0, unless `position` was set.

        Raises:
            ValueError: If `position` was set for another epoch.
        """
        resume, self._resume = self._resume, None
        if resume and any(resume) and resume[0] != epoch:
            raise ValueError(
                f"The stream was set to resume at position {resume}, but fit begins with epoch {epoch}. "
                f"Call fit(initial_epoch={resume[0]})."
            )
        return resume[1] if resume else 0

    def begin_epoch(self, epoch, start, batch_size, boundaries=None):
        """Say what the next iterator holds: `boundaries` if planned, else batches from `start` on."""
        self._epochs.epoch.assign(epoch)
        self._epochs.start.assign(start)
        self._set_end(end_of_epoch(self.num_examples, start, self.multiple_of))
        if boundaries is None:
            self._epochs.ends.assign(np.zeros(self.num_examples + 1, np.int64))
            batch_size = rounded(batch_size, self.multiple_of)
            self._epochs.size.assign(batch_size)
            self._size_in_force = batch_size
        else:
            if self._epochs.piece is not None:
                boundaries = np.arange(start, self.end_of_epoch + 1, self._epochs.piece)
            self._epochs.boundaries.assign(boundaries)
        self._position, self._size, self.in_update = (epoch, start), batch_size, False

    def arm(self):
        """Say, under a strategy, that the next to read the graph of the stream is `fit`."""
        self._epochs.armed.assign(True)

    def begin_update(self):
        """Fix the size of the next update and return it. A size that is set later holds for the one after."""
        if not self.in_update:
            self.in_update = True
            if self._mode == LIVE and self._size != self._size_in_force:
                self._epochs.size.assign(self._size)
            self._size_in_force = self._size
        return self._size_in_force

    @property
    def batch_size_in_force(self):
        """The size of the update that runs, or between updates of the last one."""
        return self._size_in_force if self._mode != ALONE else self._size

    def live_end(self, index):
        """Return the position at which live batch `index` of the epoch ends, or 0 if it was not handed out."""
        return int(self._epochs.ends.sparse_read([index]).numpy()[0])

    def record(self, epoch, examples, batch_size):
        """Note how far training is and which size the next update has."""
        over = examples >= self.num_examples
        self._position = (epoch + 1, 0) if over else (epoch, examples)
        self._size, self.in_update = batch_size, False
        # A live epoch whose rest was dropped could still yield a smaller batch.
        self._epoch_is_over = over and (self._mode == PLANNED or self.last_batch != "drop")

    def end_fit(self):
        """Give the stream back to Keras."""
        self._active, self._rate_rule = _nobody, None
        self._set_piece(None)
        self._set_mode(ALONE)
        self._set_end(end_of_epoch(self.num_examples, 0, self.multiple_of))
        self._epochs.size.assign(rounded(self._size, self.multiple_of))
        self._epochs.epoch.assign(self._position[0])

    def _end_interrupted(self):
        """The last fit was steered and did not come to its end."""
        self._active().put_rate_back()
        self.end_fit()

    def set_rate_scheduler(self, callback):
        """Let a callback write schedule(progress) x `learning_rate_factor` into the optimizer."""
        self._rate_scheduler = weakref.ref(callback)

    def rate_scheduler(self, params):
        """Return such a callback if one takes part in the fit that has these params, or None."""
        callback = self._rate_scheduler()
        return callback if callback is not None and callback.params is params else None

    @property
    def learning_rate_factor(self):
        """What the rate is multiplied by for the size of the update that began; 1 if no callback says otherwise."""
        return self._rate_rule(self._size_in_force) if self._rate_rule else 1.0

    @property
    def progress(self):
        """Epochs until the next update, a float: the argument of schedules."""
        epoch, examples = self._position
        return epoch + examples / self.num_examples

    def shared_equally(self, size):
        """Return the size nearest below that the replicas of the fit can share equally, at least one example each."""
        return rounded(int(size), self.multiple_of)

    def _set_piece(self, piece):
        if piece != self._epochs.piece:
            self._epochs.piece, self._running = piece, None

    def _share_among(self, number):
        """Let each batch be a multiple of a number: of replicas, which share it equally, or of what they take at a time."""
        if number > self.num_examples:
            raise ValueError(
                f"A batch of at least {number} was asked for, and there are {self.num_examples} examples."
            )
        if number != self.multiple_of:
            self.multiple_of = number
            self._set_end(end_of_epoch(self.num_examples, 0, number))
            self._epochs.size.assign(rounded(self._size, number))

    def _set_end(self, end):
        if end != self.end_of_epoch:
            self.end_of_epoch = end
            self._epochs.stop.assign(end)

    def _set_mode(self, mode):
        if LIVE in (mode, self._mode) and mode != self._mode:
            self._running = None
        self._mode = mode
        self._epochs.mode.assign(mode)

    @property
    def is_steered(self):
        """Whether a batch-size callback steers the fit that is running."""
        return self._mode != ALONE


def _nobody():
    return None

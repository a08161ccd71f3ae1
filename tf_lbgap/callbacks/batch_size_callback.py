"""What every callback that steers the batch size has to do for `fit` to stay right.

Keras 3 counts the steps of an epoch once, caps later epochs at that number, and turns the end of
the data into one more update without a gradient (momentum and weight decay still act). So a
callback that steers the stream ends each epoch itself, after the last batch, and is the progress
bar of the fit, since nobody else knows how many updates an epoch has.
"""

import keras

from tf_lbgap import scaling, strategy
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.callbacks.micro_batches import MicroBatches, StaticMicroBatches
from tf_lbgap.callbacks.stream import check_batches, check_read, fit_arguments
from tf_lbgap.data.keras_calls import callbacks_of
from tf_lbgap.data.plan import next_boundary


class _EndOfEpoch:
    """Stands in `model.stop_training` between the last batch and the end of an epoch. Truthy."""

    def __repr__(self):
        return "END_OF_EPOCH"


END_OF_EPOCH = _EndOfEpoch()


class BatchSizeCallback(keras.callbacks.ProgbarLogger):
    """Base of the callbacks that steer a stream; subclasses say which sizes an epoch has.

    It puts into the logs: `batch_size` (after each batch too), and at the end of an epoch
    `learning_rate` and `noise_scale` of its last update, and `updates` and `examples` so far.
    Stand it before callbacks that read logs, such as `TensorBoard` and `CSVLogger`. (Keras'
    `TensorBoard` and `ReduceLROnPlateau` ask the optimizer for the rate and so log it without the
    batch's factor, unless a `LearningRateScheduler` of ours is beside it.)

    Args:
        batches: The `data.Batches` that is given to `fit`.
        learning_rate: What happens to the rate when the size moves, one of `scaling.RATE_RULES`. The optimizer's
            own rate is that of the first batch; it is multiplied for each update and put back after
            it, so between updates callbacks and checkpoints meet the optimizer's own.
        check_rule: Whether to refuse a rule that is known not to hold for the model's optimizer.
        momentum_correction: Whether momentum buffers follow a jump of the rate (Goyal et al. 2017).
        micro_batch_size: Most examples of a forward pass (on each replica); larger batches are accumulated
            from several. None: no limit. `"auto"`: the most that was found to fit, by trying, before the first
            update; see `training.find_micro_batch_size`.
        ghost_batch_size: Examples that batch normalization sees at a time (on each replica), whatever the batch:
            larger batches are accumulated from parts of that size.
        static_shapes: Whether a batch is made of micro-batches of exactly `micro_batch_size`, for compilers.

    Raises:
        ValueError: If an argument is none of these; at the start of `fit` if the rule does not hold for the
            optimizer, or updates of the model cannot be accumulated.
    """

    def __init__(
        self,
        batches,
        *,
        learning_rate="none",
        check_rule=True,
        momentum_correction=False,
        micro_batch_size=None,
        ghost_batch_size=None,
        static_shapes=False,
    ):
        super().__init__()
        check_batches(batches, self)
        if learning_rate not in scaling.RATE_RULES:
            raise ValueError(
                f"learning_rate={learning_rate!r} must be one of {', '.join(map(repr, scaling.RATE_RULES))}."
            )
        self.batches, self.learning_rate, self.check_rule = batches, learning_rate, check_rule
        self.momentum_correction = momentum_correction
        kind = StaticMicroBatches if static_shapes else MicroBatches
        self.micro_batches = kind(batches, micro_batch_size, ghost_batch_size)
        self.static_shapes = bool(static_shapes)
        self._restored = None  # a state for the next fit
        self._writes_rate = True

    steers_batches = True
    """Tells the stream that Keras is not to count its steps."""

    @property
    def looks_at_updates(self):
        """Whether the start of `fit` depends on how updates are made: they are tried, or compiled."""
        return self.static_shapes or self.micro_batches.micro_batch_size == "auto"

    # Subclasses.

    live = False
    """Whether sizes are asked for at each update, rather than planned for a whole epoch."""

    def reference_batch_size(self):
        """Return the batch for which the optimizer's own rate was chosen."""
        raise NotImplementedError

    def wanted_batch_size(self, size):
        """Return what would have been the batch of the update that begins, were there no `maximum`, a number."""
        return size

    def largest_batch_size(self):
        """Return the largest batch that there may be in this fit."""
        return self.batches.num_examples

    def noise(self):
        """Return what was measured of the gradient noise, `trace` and `squared_norm`, or an empty dict."""
        return {}

    def note_update(self, size):
        """An update was made with so many examples."""

    def plan(self, epoch, start):
        """Return boundaries and sizes of an epoch, as `data.plan.cut` does. Planned callbacks only."""
        raise NotImplementedError

    # State.

    def get_state(self):
        """Return what, beside weights and optimizer, a later `fit` needs to go on: a dict of plain numbers."""
        epoch, examples = self.batches.position
        return {
            "epoch": epoch,
            "examples": examples,
            "batch_size": int(self.batches.batch_size),
            "seed": self.batches.seed,
            "num_examples": self.batches.num_examples,
            "learning_rate_factor": rates.rate_factor(self.model.optimizer) if self.model else 1.0,
            "momentum_factor": rates.momentum_factor(self.model.optimizer) if self.model else 1.0,
            "micro_batch_size": self.micro_batches.limit,
        }

    def set_state(self, state):
        """Go on from `get_state()`: restore weights and optimizer, then `fit(initial_epoch=state["epoch"])`.

        `Checkpoint` does all of that by itself.

        Raises:
            ValueError: If the state belongs to a stream with another seed or of another length.
        """
        if state["seed"] != self.batches.seed:
            raise ValueError(
                f"The state was saved with seed {state['seed']}, but the stream has seed {self.batches.seed}: the "
                f"examples would come in another order. Make it with Batches(..., seed={state['seed']})."
            )
        if state["num_examples"] != self.batches.num_examples:
            raise ValueError(
                f"The state was saved with {state['num_examples']} examples, but the stream has {self.batches.num_examples}: "
                "a position in the one is none in the other. Go on with the same data."
            )
        self.batches.go_on_from(state["epoch"], state["examples"], state["batch_size"])
        self.micro_batches.set_limit(state["micro_batch_size"])
        self._restored = state

    # Hooks.

    def set_params(self, params):
        super().set_params(params)
        self.params = params

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        check_read(self)
        if self.params.get("steps") is not None:
            raise ValueError(
                f"fit counts {self.params['steps']} steps per epoch, but {type(self).__name__} ends epochs where the "
                "data end. Leave steps_per_epoch out, and put the callback into fit's own list of callbacks."
            )
        if self.check_rule:
            scaling.check_rate_rule(self.learning_rate, *rates.kind_of(self.model.optimizer))
        self.batches.steer(
            self,
            self.live,
            self._rate_factor,
            strategy.num_replicas(self.model),
            self.micro_batches.limit if self.static_shapes else None,
        )
        self.micro_batches.begin_fit(self.model, self.largest_batch_size)
        self._tell_shares()
        if self.momentum_correction:
            self._check_momentum_correction()
        rates.unscale_rate(self.model.optimizer)  # after a fit that was interrupted within an update
        self._examples, self._updates = None, 0

    def _tell_shares(self):
        replicas, multiple = strategy.num_replicas(self.model), self.batches.multiple_of
        left_out = self.batches.num_examples - self.batches.end_of_epoch
        if multiple > 1 and self.verbose and strategy.is_chief(self.model):
            why = f"{replicas} replicas share each batch equally, so " if replicas > 1 else ""
            rest = f"; {left_out} of {self.batches.num_examples} examples are left out of each epoch, the last of its order"
            print(f"{type(self).__name__}: {why}sizes are multiples of {multiple}{rest if left_out else ''}.")

    def _check_momentum_correction(self):
        rates.check_momentum_correction(self.model.optimizer)
        callbacks = callbacks_of(fit_arguments() or {})
        if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
            raise ValueError(
                "momentum_correction=True cannot be used with BackupAndRestore, which does not save the rate that is "
                "in the momentum buffers. Save get_state() with the weights and use set_state()."
            )

    def _check_rate_scheduler(self):
        scheduler = self.batches.rate_scheduler(self.params)
        self._writes_rate = scheduler is None
        if self.momentum_correction and scheduler is not None and not scheduler.momentum_correction:
            raise ValueError(
                "momentum_correction=True was given to BatchSizeScheduler, but here LearningRateScheduler writes the "
                "rate. Give it momentum_correction=True, too."
            )

    def _restore_optimizer(self):
        optimizer, state, self._restored = self.model.optimizer, self._restored, None
        if state is not None:
            rates.set_momentum_factor(optimizer, state["momentum_factor"])
            if state["learning_rate_factor"] != 1.0 and rates.schedule_of(optimizer) is None:
                rates.write_rate(optimizer, rates.read_rate(optimizer) / state["learning_rate_factor"])

    def on_epoch_begin(self, epoch, logs=None):
        start = 0
        if self._examples is None:
            self._check_rate_scheduler()
            self._restore_optimizer()
            start = self.batches.resume_at(epoch)
            self._examples = epoch * self.batches.end_of_epoch + start
        self._epoch, self._updates, self._end = epoch, 0, start
        if self.live:
            self.batches.begin_epoch(epoch, start, self.batches.batch_size)
        else:
            self._boundaries, self._sizes = self.plan(epoch, start)
            first = int(self._sizes[0]) if len(self._sizes) else self.batches.batch_size
            self.batches.begin_epoch(epoch, start, first, self._boundaries)
        if not strategy.is_default(strategy.of(self.model)):
            self.batches.arm()
        self._set_target()
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        if self._exhausted():
            self._tell_exhausted()
        self._size = self.batches.begin_update()
        self.micro_batches.begin_execution(self._largest_of_execution())
        self._factor = self.batches.learning_rate_factor
        if self._writes_rate and self.learning_rate != "none":
            rates.scale_rate(self.model, self._factor)
            if self.momentum_correction:
                rates.correct_momentum_to(self.model.optimizer, self._factor)

    def _tell_exhausted(self):
        if self._updates:
            raise ValueError(
                "The epoch is over, but a callback set model.stop_training back to False. Set it to True to stop, and "
                "do not touch it otherwise."
            )
        raise ValueError(
            f"Nothing is left of epoch {self._epoch}: of {self.batches.num_examples} examples, training is at "
            f"{self._end}, and last_batch='drop' leaves out what is smaller than a batch. Set batches.position = "
            f"({self._epoch + 1}, 0) and call fit(initial_epoch={self._epoch + 1})."
        )

    def on_train_batch_end(self, batch, logs=None):
        logs = {} if logs is None else logs
        if self._writes_rate and self.learning_rate != "none":
            rates.unscale_rate(self.model.optimizer)
        self._advance(self.model.steps_per_execution)
        logs["batch_size"] = self._size
        self._set_target()
        if self.verbose:
            # Keras' own index overshoots in a last execution that is not full.
            super().on_train_batch_end(self._updates - 1, logs)
        self._end_epoch_if_exhausted()

    def on_batch_size_set(self):
        """A user gave a live stream another size. Between two updates that may end the epoch, or prolong it."""
        if not self.batches.in_update and self._updates:
            self._note_position()
            self._end_epoch_if_exhausted()

    def _end_epoch_if_exhausted(self):
        if self._exhausted() and not self.model.stop_training:
            self.model.stop_training = END_OF_EPOCH
        elif self.model.stop_training is END_OF_EPOCH and not self._exhausted():
            self.model.stop_training = False

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        if self.model.stop_training is END_OF_EPOCH:
            self.model.stop_training = False
        if not self.model.stop_training:
            self.batches.record(epoch, self.batches.num_examples, self.batches.batch_size)
        optimizer, size = self.model.optimizer, self._size
        rate, momentum = rates.read_last_rate(optimizer), rates.momentum_of(optimizer)
        if self._writes_rate:
            rate *= self._factor
        logs["batch_size"] = size
        logs["learning_rate"] = rate
        logs["noise_scale"] = (
            scaling.noise_scale(rate, size, self.batches.num_examples, momentum) if rate else 0.0
        )
        logs["updates"] = int(optimizer.iterations.numpy())
        logs["examples"] = int(self._examples)
        self._set_target(self._updates)  # fewer than planned if somebody stopped the epoch
        super().on_epoch_end(epoch, logs)
        self._updates = 0

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self.momentum_correction and self._writes_rate:
            rates.correct_momentum_to(self.model.optimizer, 1.0)
        self.micro_batches.end_fit()
        self.batches.end_fit()

    def put_rate_back(self):
        """Give the optimizer its own rate, after a fit that was interrupted."""
        rates.unscale_rate(self.model.optimizer)
        if self.momentum_correction:
            rates.correct_momentum_to(self.model.optimizer, 1.0)

    # One update after the other.

    def _rate_factor(self, size):
        noise = self.noise()
        if self.learning_rate == "adascale" and not noise:
            return 1.0  # until it was measured, before which the size does not move
        return scaling.rate_factor(
            self.learning_rate,
            size,
            self.reference_batch_size(),
            wanted=self.wanted_batch_size(size),
            optimizer=rates.kind_of(self.model.optimizer)[0],
            **noise,
        )

    def _largest_of_execution(self):
        if self.live:
            return self._size
        ends = self._boundaries[self._updates : self._updates + self.model.steps_per_execution + 1]
        return int((ends[1:] - ends[:-1]).max())  # not what was asked for: the last batch may be smaller

    def _advance(self, steps):
        """Count the updates of one execution, which ends early where the epoch does."""
        before = self._updates
        for _ in range(steps):
            if self.live:
                end = self.batches.live_end(self._updates)
                if not end:
                    break
            elif self._exhausted():
                break
            else:
                self._size = int(self._sizes[self._updates])
                end = int(self._boundaries[self._updates + 1])
            self._updates += 1
            size, self._end = end - self._end, end
            self._examples += size
            self.note_update(size)
        if self._updates == before:
            raise ValueError(
                "fit made an update, but not from an epoch of this stream: somebody else read it when the epoch began. "
                "Let callbacks read batches.in_order() instead of batches."
            )
        self._note_position()

    def _note_position(self):
        stream, is_over = self.batches, self._exhausted()
        if is_over:
            # A size set at the end of an epoch is that of the next. But one by which the rest would be dropped may come
            # too late to end the epoch, when the next update has begun: it is let go.
            is_late = self._end < stream.end_of_epoch
            size = stream.batch_size if self.live and not is_late else self._size
            stream.record(self._epoch, stream.num_examples, size)
        else:
            size = stream.batch_size if self.live else int(self._sizes[self._updates])
            stream.record(self._epoch, self._end, size)

    def _exhausted(self):
        if not self.live:
            return self._updates == len(self._sizes)
        stream = self.batches
        return next_boundary(self._end, stream.batch_size, stream.end_of_epoch, stream.last_batch) is None

    def _set_target(self, target=None):
        if target is None and self.live:
            target = self._updates - (-(self.batches.end_of_epoch - self._end) // self.batches.batch_size)
        self.target = len(self._sizes) if target is None else target
        if self.progbar is not None:
            self.progbar.target = self.target

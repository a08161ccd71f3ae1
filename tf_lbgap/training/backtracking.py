"""Backtracking: the length of each update is found by a line search on its own batch.

    w <- w - a g,   g = ∇l_B(w),   a the first of a, a/2, a/4, ... for which   l_B(w - a g) <= l_B(w) - c a ‖g‖²

The step carries over from update to update, and is doubled first where the batch has grown, for its gradient is then less
noisy. All trials see the batch, the dropout masks and the statistics of batch normalization that the gradient saw.

References:
    De, Yadav, Jacobs & Goldstein, "Big batch SGD: automated inference using adaptive batch sizes", 2017 (arXiv 1610.05792):
    c = 0.1, halving, doubling where the batch grew. Armijo, "Minimization of functions having Lipschitz
    continuous first partial derivatives", 1966.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.modes import lowered_precision
from tf_lbgap.data.keras_calls import callbacks_of, keras_calls
from tf_lbgap.training import gradients, parts, replicas
from tf_lbgap.training.checked import at_least, check_whole
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.held import held_in_thread
from tf_lbgap.training.sharpness_aware import SharpnessAware
from tf_lbgap.training.update_change import UpdateChange, register

_NEEDS = "a line search", "train without Backtracking"
_ROUNDING = 4.0  # units in the last place that a loss is off: where no step can be seen to help, any is taken for good
_LARGEST, _TRIALS, _FAILURES = range(3)


@register
class Backtracking(UpdateChange):
    """Search the step of each update of plain SGD by halving (Armijo's rule on the batch itself, De et al.).

    The search of the first update begins at the optimizer's learning rate, each later one where the last ended. The
    accepted step is the optimizer's rate from then on, so it is in all logs and in a saved model. By itself it never
    grows: it doubles at each update whose batch is larger than any before, or, with `every_update=True`, at each.

    A trial costs a forward pass (with micro-batches a gradient, which their loop makes anyhow). Replicas cannot talk to each
    other within a loop of TensorFlow, so several of them try 1, 2, 4, ... steps at a time, at most twice as many as needed.

    Args:
        c: Share of the decrease along the gradient that the loss has to fall by, between 0 and 1.
        factor: What the step is multiplied by where it does not, between 0 and 1.
        growth: What the step is multiplied by first where the batch has grown, 1 or more.
        every_update: Whether it is multiplied by `growth` before each update. Not De et al.'s: with batches of one size
            their step only shrinks.
        halvings: Most halvings. If the last trial fails too, its step is taken, and `num_failures` counts it.

    Attributes:
        num_trials: How many losses were tried so far.
        num_failures: How many updates took the last step although it failed.

    Raises:
        ValueError: If an argument is out of range, or beside another change whose gradient is not that of the loss; at the
            start of `fit` if the optimizer is not plain SGD with a number for its rate, if somebody else sets the rate, if
            weights have constraints, or in mixed precision, where losses have too few digits to be compared.

    Example:

    ```python
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.fit(batches, callbacks=[
        lb.callbacks.ChangeUpdates(lb.training.Backtracking()),
        lb.callbacks.AdaptiveBatchSize(batches, lb.growth.BigBatch(), window=1, sizes="any"),
    ])
    ```
    """

    arguments = ("c", "factor", "growth", "every_update", "halvings")
    applies_itself = True  # twice the rate would be written twice

    def __init__(self, c=0.1, *, factor=0.5, growth=2.0, every_update=False, halvings=30):
        self.c = at_least(0.0, "Backtracking", most=1.0, c=c)
        self.factor = at_least(0.0, "Backtracking", most=1.0, factor=factor)
        self.growth = at_least(1.0, "Backtracking", growth=growth)
        for name, value in {"c": self.c, "factor": self.factor}.items():
            if value in (0.0, 1.0):
                raise ValueError(
                    f"Backtracking({name}={value:g}): {name} must be between 0 and 1, such as 0.5."
                )
        self.every_update = bool(every_update)
        self.halvings = check_whole("Backtracking", halvings=halvings)
        self._state = self._model = None

    @property
    def num_trials(self):
        return self._count(_TRIALS)

    @property
    def num_failures(self):
        return self._count(_FAILURES)

    def check_within(self, inner):
        for other in inner:
            if not other.per_micro_batch or isinstance(other, SharpnessAware):
                raise ValueError(
                    f"Backtracking compares losses along their gradient, and {type(other).__name__} hands on another gradient "
                    "than that of the loss. Leave one of the two out."
                )

    def check(self, model):
        _check_optimizer(model.optimizer)
        lowered = lowered_precision(model)
        if lowered:
            raise ValueError(
                f"Backtracking compares losses, and in {lowered} they have too few digits. Train in float32, or without it."
            )
        bound = [v.path for v in model.trainable_variables if v.constraint is not None]
        if bound:
            raise ValueError(
                f"Backtracking searches along the gradient, and {bound[0]!r} has a constraint that moves it off that line. "
                "Leave the constraint out, or Backtracking."
            )
        _check_nobody_writes_the_rate()

    def begin_fit(self, model):
        if self._model is not model:  # what was traced for a model writes to its own
            self._model = model
            self._state = tf.Variable(
                np.zeros(3), trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
            )
        self._state.assign(np.zeros(3))

    def get_state(self):
        """Return the largest batch so far, the trials and the failures; the step is the optimizer's rate."""
        return None if self._state is None else self._state.numpy()

    def set_state(self, state):
        """Go on from `get_state`."""
        if state is not None:
            self._state.assign(state)

    def around(self, model, step):
        def searching(data):
            optimizer, seeds = model.optimizer, Seeds(model)
            with gradients.taken(optimizer) as calls, _noted(model) as losses:
                logs = step(data)
            loss = _sum_of_replicas(_one(losses, model) / replicas.count())
            grads, variables = gradients.once(calls, _NEEDS)
            there = [i for i, gradient in enumerate(grads) if gradient is not None]
            whole = replicas.summed([gradients.dense(grads[i], variables[i].value) for i in there])
            variables = [variables[i] for i in there]

            def loss_after(rate):
                seeds.rewind()
                offsets = [-tf.cast(rate, g.dtype) * g for g in whole]
                with (
                    Elsewhere(model, offsets, variables),
                    gradients.taken(optimizer),
                    _noted(model) as losses,
                ):
                    step(data)
                return _one(losses, model)

            first = self._first_rate(optimizer, data)
            squared = tf.add_n([tf.reduce_sum(tf.square(tf.cast(g, tf.float64))) for g in whole])
            slack = _ROUNDING * np.finfo(keras.config.floatx()).eps * tf.abs(loss)
            rate = self._search(loss_after, first, lambda a: loss - self.c * a * squared + slack)
            optimizer.learning_rate.assign(tf.cast(rate, optimizer.learning_rate.dtype))
            _apply(optimizer, whole, variables)
            return logs

        return searching

    def _first_rate(self, optimizer, data):
        """Where the search begins, a float64 scalar."""
        rate = tf.cast(tf.convert_to_tensor(optimizer.learning_rate), tf.float64)
        size = _sum_of_replicas(tf.cast(parts.num_examples(data), tf.float64))
        largest = self._state[_LARGEST]
        grown = tf.constant(True) if self.every_update else (largest > 0) & (size > largest)
        self._add(_LARGEST, tf.maximum(size, largest) - largest)
        return tf.where(grown, self.growth * rate, rate)

    def _search(self, loss_after, first, bound):
        """Return the accepted step. Over blocks of trials, in each of which all replicas try alike."""
        together = replicas.count()
        sizes = [self.halvings + 1] if together == 1 else _doubling(self.halvings + 1)
        rate, found, tried = first, tf.constant(False), 0
        for size in sizes:
            rates = first * self.factor ** tf.range(tried, tried + size, dtype=tf.float64)
            losses, made = _tried(loss_after, rates, found, bound if together == 1 else None)
            losses = _sum_of_replicas(losses / together)
            good = (losses <= bound(rates)) & (tf.range(size) < made)
            best = tf.where(tf.reduce_any(good), tf.argmax(good), size - 1)
            rate = tf.where(found, rate, rates[best])
            found |= tf.reduce_any(good)
            tried += size
            self._add(_TRIALS, tf.cast(made, tf.float64))
        self._add(_FAILURES, tf.cast(~found, tf.float64))
        return rate

    def _add(self, place, number):
        self._state.assign_add(number * tf.one_hot(place, 3, dtype=tf.float64))

    def _count(self, place):
        return 0 if self._state is None else int(self._state.numpy()[place])


def _tried(loss_after, rates, found, bound):
    """Losses at some steps (n,), float64, and how many were tried: none if `found`, up to the first within its bound."""
    n = rates.shape[0]

    def go_on(i, losses, good):
        return (i < n) & ~good

    def body(i, losses, good):
        loss = loss_after(rates[i])
        good = (loss <= bound(rates[i])) if bound is not None else tf.constant(False)
        return i + 1, losses + loss * tf.one_hot(i, n, dtype=tf.float64), good

    start = tf.constant(0), tf.zeros([n], tf.float64), found
    made, losses, _ = tf.while_loop(go_on, body, start, parallel_iterations=1)
    return losses, made


def _doubling(total):
    sizes = []
    while sum(sizes) < total:
        sizes.append(min(2 ** len(sizes), total - sum(sizes)))
    return sizes


def _apply(optimizer, whole, variables):
    if replicas.may_be_summed_before(optimizer):
        with replicas.summed_before(optimizer):
            optimizer.apply(whole, variables)
    else:
        optimizer.apply(whole, variables)


def _sum_of_replicas(number):
    return replicas.summed([number])[0]


@contextlib.contextmanager
def _noted(model):
    """Yield a list that gets the losses which the block gives to the model's mean of losses: one per batch."""
    losses = []

    def noting(update):
        def update_state(values, sample_weight=None):
            losses.append(values)
            return update(values, sample_weight=sample_weight)

        return update_state

    with held_in_thread(model._loss_tracker, "update_state", noting):
        yield losses


def _one(losses, model):
    if len(losses) != 1:
        raise ValueError(
            f"Backtracking needs the loss of the batch, but train_step of model {model.name!r} updated the metric 'loss' of "
            f"model.metrics {len(losses)} times. Let it do so once, as Keras' own does, or train without Backtracking."
        )
    return tf.cast(losses[0], tf.float64)


def _check_optimizer(optimizer):
    if type(optimizer) is not keras.optimizers.SGD:
        raise ValueError(
            f"Backtracking searches along the gradient, which {type(optimizer).__name__} does not follow. Compile the model "
            "with keras.optimizers.SGD(1.0)."
        )
    if not isinstance(optimizer._learning_rate, keras.Variable):
        raise ValueError(
            "Backtracking sets the learning rate, and the optimizer computes its own from a schedule. Compile the model with "
            "a number, keras.optimizers.SGD(1.0)."
        )
    names = (
        "momentum",
        "weight_decay",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "use_ema",
        "loss_scale_factor",
    )
    for name in names:
        value = getattr(optimizer, name)
        if value:
            raise ValueError(
                f"Backtracking searches along the gradient, and {name}={value!r} of SGD would make another step of it. Leave "
                f"{name} out."
            )


def _check_nobody_writes_the_rate():
    """Look at the callbacks of the running `fit`. Ours are known by name: callbacks may import this, not the reverse."""
    arguments = next((arguments for method, arguments in keras_calls() if method == "fit"), {})
    for callback in callbacks_of(arguments):
        names = {kind.__name__ for kind in type(callback).__mro__}
        rule = getattr(callback, "learning_rate", None)
        steers = getattr(callback, "steers_batches", False) and rule not in (None, "none")
        if steers or names & {"LearningRateScheduler", "ReduceLROnPlateau"}:
            told = f"{type(callback).__name__}(learning_rate={rule!r})" if steers else type(callback).__name__
            raise ValueError(
                f"Backtracking finds the learning rate, and {told} sets it too. Leave one of the two out."
            )

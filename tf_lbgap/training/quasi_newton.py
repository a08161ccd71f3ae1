"""Stochastic quasi-Newton updates: L-BFGS from the gradients of batches.

    w <- w - lr H g,   g = ∇f_B(w),   H from the last m pairs   s = w' - w,   y = ∇f_B(w') - ∇f_B(w) + λ s

Both gradients of a pair are of the same batch B: the difference of those of two batches is mostly noise, divided by a short
step. Pairs are made after each update from its own step (online L-BFGS), or after every L-th from the averages of
the weights over the last L updates and the L before (SQN), which costs two more gradients in L updates instead of one in each, and averages noise
out of s.

References:
    Schraudolph, Yu & Günter, "A stochastic quasi-Newton method for online convex optimization", AISTATS 2007: online
    L-BFGS, with λ and a tiny first step. Byrd, Hansen, Nocedal & Singer, "A stochastic quasi-Newton method for large-scale
    optimization", SIAM J. Optim. 2016 (arXiv 1401.7020): SQN, m = 10, L = 10 to 20. Keskar & Berahas, "adaQN", 2016
    (arXiv 1511.01169). Moritz, Nishihara & Jordan, "A linearly-convergent stochastic L-BFGS algorithm", AISTATS 2016: with SVRG.
"""

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap import strategy
from tf_lbgap.training import gradients, replicas
from tf_lbgap.training.checked import at_least, check_whole
from tf_lbgap.training.curvature_pairs import product
from tf_lbgap.training.draws import drawn_as_update, number_of_update
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.update_change import UpdateChange, register
from tf_lbgap.training.wrapped import innermost

_NEEDS = "a quasi-Newton step", "train without QuasiNewton"
_UPDATES, _PAIRS, _LEFT_OUT, _AVERAGES = range(4)


@register
class QuasiNewton(UpdateChange):
    """Give the optimizer H g in place of the gradient g, with H from L-BFGS on gradients of batches.

    Made for SGD, with a rate from 0.1 to 1; momentum, clipping (`global_clipnorm` bounds the step where noise makes H long)
    and schedules act on H g. Until there is a pair, H is `first` times the identity.

    Of Keskar & Berahas' adaQN, the quasi-Newton method of the large-batch paper's authors, this is the frame (`every=20`):
    there y is an accumulated Fisher matrix times s in place of a difference of gradients, the recursion begins at
    ADAGRAD's diagonal in place of γI, and a step that raised the loss of a fixed sample by a percent is taken back and all pairs dropped.

    Costs two gradients of the batch per update, 1 + 2/L with `every=L`; memory of 2 m + 3 copies of the weights, and 4 m n
    multiplications. Both gradients see the same dropout masks; metrics, the logged loss, and statistics of batch
    normalization are those of the first. `VarianceReduced` within it makes the method of Moritz et al.; with sharpness-aware
    minimisation within it, H is of the sharpness-aware loss. A `Checkpoint` holds the pairs; each `fit` begins with none.

    Args:
        memory: m, the pairs that are kept.
        every: L, updates from pair to pair. 1: of each update, Schraudolph et al.; above: of averages, Byrd et al.
        damping: λ, in loss per squared weight. Added to all curvatures that H is made of.
        least_curvature: A pair with sᵀy / sᵀs not above this, loss per squared weight, is left out, and counted: L-BFGS
            can only hold positive curvature. Byrd et al. leave out none, as their losses are convex.
        first: γ until there is a pair. In the paper 1e-10, for which float32 has too few digits.

    Attributes:
        num_pairs: How many pairs were taken so far.
        num_left_out: How many were left out.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit` if the optimizer is no SGD, or clips under several
            replicas, where each would clip its own share.

    Example:

    ```python
    model.compile(keras.optimizers.SGD(0.3, global_clipnorm=1.0), loss)
    model.fit(batches, epochs=5, callbacks=[lb.callbacks.ChangeUpdates(lb.training.QuasiNewton(every=10))])
    ```
    """

    arguments = ("memory", "every", "damping", "least_curvature", "first")
    applies_itself = (
        True  # the pair is measured after the step, which is nowhere to be had before it was made
    )

    def __init__(self, *, memory=10, every=1, damping=0.0, least_curvature=1e-4, first=0.01):
        self.memory = check_whole("QuasiNewton", memory=memory)
        self.every = check_whole("QuasiNewton", every=every)
        self.damping = at_least(0.0, "QuasiNewton", damping=damping)
        self.least_curvature = at_least(0.0, "QuasiNewton", least_curvature=least_curvature)
        self.first = at_least(0.0, "QuasiNewton", first=first)
        if self.first == 0:
            raise ValueError("QuasiNewton(first=0): the first step would be none. Take one such as 0.01.")
        self._for = self._state = None

    @property
    def num_pairs(self):
        return self._count(_PAIRS)

    @property
    def num_left_out(self):
        return self._count(_LEFT_OUT)

    def check(self, model):
        optimizer = innermost(model.optimizer)
        if not isinstance(optimizer, keras.optimizers.SGD):
            raise ValueError(
                f"QuasiNewton scales the step by curvature, and {type(optimizer).__name__} would scale it again. Compile the "
                "model with keras.optimizers.SGD(0.3)."
            )
        names = ("clipnorm", "global_clipnorm", "clipvalue")
        clips = [name for name in names if getattr(optimizer, name) is not None]
        if clips and strategy.num_replicas(model) > 1:
            raise ValueError(
                f"QuasiNewton has one step for all replicas, and {clips[0]} of {type(optimizer).__name__} would clip each one's "
                "share of it. Leave it out, or train on one device."
            )

    def begin_fit(self, model):
        numbers, dtype = sum(v.shape.num_elements() for v in model.trainable_variables), _dtype(model)
        # What was traced for a model writes to its own. Compiled anew it may have other weights, of layers that were unfrozen.
        wanted = (model, numbers, dtype)
        if self._for != wanted:
            self._for = wanted
            shapes = {"moves": (self.memory, numbers), "changes": (self.memory, numbers)}
            shapes |= {"products": (self.memory,), "squares": (self.memory,)}
            if self.every > 1:
                shapes |= {"sum": (numbers,), "average": (numbers,)}
            self._kept = {name: _variable(shape, dtype) for name, shape in shapes.items()}
            self._state = _variable((4,), "float64")
        for variable in (self._state, *self._kept.values()):
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def get_state(self):
        """Return the counts and the pairs."""
        if self._state is None:
            return None
        return [self._state.numpy(), *(variable.numpy() for variable in self._kept.values())]

    def set_state(self, state):
        """Go on from `get_state`."""
        if state is not None:
            for variable, value in zip((self._state, *self._kept.values()), state, strict=True):
                variable.assign(value)

    def around(self, model, step):
        def quasi_newton(data):
            optimizer, seeds = model.optimizer, Seeds(model)
            number, weights = number_of_update(optimizer), _Weights(model)
            with gradients.taken(optimizer) as calls:
                logs = step(data)
            grads, variables = gradients.once(calls, _NEEDS)
            gradient, scale = weights.flat(grads, variables), _loss_scale(optimizer, weights.dtype)
            gradient = replicas.summed([gradient])[0] / scale
            # Read once: a variable that is written by rows is copied at each reading.
            names = ("moves", "changes", "products", "squares")
            pairs = (tf.convert_to_tensor(self._kept[name]) for name in names)
            direction = product(*pairs, self._state[_PAIRS], gradient, without_pairs=self.first)
            before = weights.now()
            replicas.apply_summed(optimizer, weights.cut(direction * scale, grads, variables), variables)

            def gradient_at(there):
                """This replica's share of the gradient of the same batch, at other weights; None: where it went."""
                seeds.rewind()
                offsets = None if there is None else weights.cut(there - weights.now(), grads, variables)
                places = () if offsets is None else (offsets, variables)
                with drawn_as_update(number), Elsewhere(model, *places), gradients.taken(optimizer) as calls:
                    step(data)
                return weights.flat(*gradients.once(calls, _NEEDS)) / _loss_scale(optimizer, weights.dtype)

            self._add(_UPDATES, 1.0)
            if self.every == 1:
                change = replicas.summed([gradient_at(None)])[0] - gradient
                self._remember(weights.now() - before, change, True)
            else:
                self._remember(*self._of_averages(weights.now(), gradient_at))
            return logs

        return quasi_newton

    def _of_averages(self, now, gradient_at):
        """Return s, y, and whether there is a pair: in every L-th update, but for the first of these."""
        total, average = self._kept["sum"], self._kept["average"]
        total.assign(total + now)
        new, old = total / self.every, tf.identity(average)
        due = tf.equal(self._state[_UPDATES] % self.every, 0)
        is_pair = due & (self._state[_AVERAGES] > 0)
        change = tf.cond(is_pair, lambda: gradient_at(new) - gradient_at(old), lambda: tf.zeros_like(now))
        change = replicas.summed([change])[0]  # here, as replicas cannot talk to each other inside of tf.cond
        move = new - old
        average.assign(tf.where(due, new, old))
        total.assign(tf.where(due, tf.zeros_like(now), total))
        self._add(_AVERAGES, tf.cast(due, tf.float64))
        return move, change, is_pair

    def _remember(self, move, change, is_pair):
        """Take a pair into the memory, if there is one and its curvature is positive."""
        change += tf.constant(self.damping, move.dtype) * move
        product, square = tf.tensordot(move, change, 1), tf.tensordot(change, change, 1)
        good = product > self.least_curvature * tf.tensordot(move, move, 1)
        good &= tf.math.is_finite(product) & tf.math.is_finite(square)
        taken, row = good & is_pair, tf.cast(self._state[_PAIRS], tf.int32) % self.memory
        new = {"moves": move, "changes": change, "products": product, "squares": square}
        for name, value in new.items():
            kept = self._kept[name]
            value = tf.where(taken, value, tf.gather(kept, row))
            kept.scatter_update(tf.IndexedSlices(value[None], row[None]))
        self._add(_PAIRS, tf.cast(taken, tf.float64))
        self._add(_LEFT_OUT, tf.cast(is_pair & ~good, tf.float64))

    def _add(self, place, number):
        self._state.assign_add(number * tf.one_hot(place, 4, dtype=tf.float64))

    def _count(self, place):
        return 0 if self._state is None else int(self._state.numpy()[place])


class _Weights:
    """The trainable weights of a model as one vector, in their order, and gradients likewise."""

    def __init__(self, model):
        self._variables = model.trainable_variables
        self._places = {id(variable): place for place, variable in enumerate(self._variables)}
        self.dtype = _dtype(model)

    def now(self):
        """Return the weights, shape (n,)."""
        return self._joined([variable.value for variable in self._variables])

    def flat(self, grads, variables):
        """Return gradients as one vector, 0 where a weight has none."""
        parts = [tf.zeros(variable.shape, self.dtype) for variable in self._variables]
        for gradient, variable in zip(grads, variables, strict=True):
            if gradient is not None:
                parts[self._places[id(variable)]] = gradients.dense(gradient, variable.value)
        return self._joined(parts)

    def cut(self, vector, grads, variables):
        """Return a vector as tensors in the order of `variables`, None where there is no gradient."""
        pieces = tf.split(vector, [variable.shape.num_elements() for variable in self._variables])
        return [
            None if gradient is None
            else tf.cast(tf.reshape(pieces[self._places[id(variable)]], variable.shape), variable.dtype)
            for gradient, variable in zip(grads, variables, strict=True)
        ]  # fmt: skip

    def _joined(self, parts):
        return tf.concat([tf.reshape(tf.cast(part, self.dtype), [-1]) for part in parts], 0)


def _dtype(model):
    return np.result_type(*(variable.dtype for variable in model.trainable_variables)).name


def _variable(shape, dtype):
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA  # all replicas compute the same
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, aggregation=first)


def _loss_scale(optimizer, dtype):
    return tf.cast(optimizer.scale_loss(tf.constant(1.0)), dtype)

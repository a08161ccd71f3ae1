"""One update from a batch beyond memory: the gradients of its parts, one after the other, and then one `apply`.

The parts go through the user's own `train_step` inside a loop of TensorFlow, so one part's activations are in
memory at a time, and beside them one sum of gradients. `optimizer.apply` is replaced while the loop is traced, and
called once after it: clipping, weight decay, moving averages, the loss scale and `iterations` are those of one
update with the gradient of the whole batch.

What still differs from the plain step: batch normalization sees the parts (ghost batches, Hoffer et al. 2017), and
its moving averages move once per part; dropout draws a mask for each part; gradients of embeddings are dense.

References:
    Hoffer, Hubara & Soudry, "Train longer, generalize better", 2017 (ghost batches).
"""

import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope

from tf_lbgap import strategy
from tf_lbgap.training import gradients, losses, parts, replicas
from tf_lbgap.training.logs import Logs
from tf_lbgap.training.update_change import step_of_part


class Accumulation:
    """Makes the `train_step` of an accumulated update.

    Args:
        model: A compiled and built Keras model, whose optimizer is built.
        micro_batch_size: A function that returns it: an int (needed by XLA), or a scalar int64 tensor.
        static: Whether the loop is compiled by XLA, so that each part needs its size beforehand.
        notebook: `micro_gradients.Notebook` for the norms of the gradients, or None.
        inner_products: Whether to note these too: all k gradients are kept until the batch's is known.
        applies: Whether the optimizer is applied.
        train_step: What is run on each part; None: the model's own.
    """

    def __init__(
        self,
        model,
        micro_batch_size,
        *,
        static=False,
        notebook=None,
        inner_products=False,
        applies=True,
        train_step=None,
    ):
        _check_batch_normalization(model)
        self._model, self._optimizer = model, model.optimizer
        self._micro_batch_size, self._static = micro_batch_size, static
        self._notebook, self._inner_products, self._applies = notebook, inner_products, applies
        self._train_step = step_of_part(model) if train_step is None else train_step
        self._variables = list(self._optimizer._trainable_variables)

    def step(self, data):
        """Update the model from a batch, and return the logs, as `train_step` does."""
        data = parts.as_tensors(data)
        self._build_losses(data)
        n = parts.num_examples(data)
        loop = _Loop(self, data, n, parts.num_parts(n, self._micro_batch_size()))
        state = loop.run()
        # Parts without a single counted entry have no gradient, and no weight.
        mean = [tf.math.divide_no_nan(t, tf.cast(state["weight"], t.dtype)) for t in state["gradients"]]
        is_first_pass = get_stateless_scope() is None  # of a change of the update that makes several
        if self._notebook is not None and is_first_pass:
            total = replicas.summed(mean)
            self._note(loop, state, total)
        travels_once = self._notebook is not None and is_first_pass and not gradients.are_taken()
        if self._applies and travels_once and replicas.may_be_summed_before(self._optimizer):
            with replicas.summed_before(self._optimizer):
                self._apply(total, loop)
        elif self._applies:
            self._apply(mean, loop)
        return loop.logs.finish(tf.math.divide_no_nan(state["means"], state["weight"]), state["sums"])

    def _apply(self, grads, loop):
        chosen = [None if place is None else grads[place] for place in loop.places]
        self._optimizer.apply(chosen, loop.applied_to)

    def _build_losses(self, data):
        """Let Keras make the metrics of several losses, which it makes at the first batch, outside the loop."""
        compiled = self._model._compile_loss
        if (
            compiled is not None
            and not compiled.built
            and len(tf.nest.flatten(getattr(self._model, "outputs", None) or [])) > 1
        ):
            self._model._symbolic_build(data_batch=data)

    def _note(self, loop, state, whole):
        """Note the norms, given the gradient of the whole batch; each replica notes its part of a mean over them.

        Keras divides the losses of a replica by R, the number of replicas, and adds their gradients up.
        """
        r, k, scale = float(replicas.count()), tf.cast(loop.k, tf.float64), self._loss_scale()
        squares = _squared_norms(whole) / scale**2
        variance = tf.constant(0.0, tf.float64)
        if self._inner_products:
            each = r * tf.cast(state["each"].stack(), tf.float64)  # (k, all weights)
            products = tf.linalg.matvec(each, tf.cast(_flat(whole), tf.float64)) / scale**2
            squared = tf.reduce_sum(squares)
            sizes = state["sizes"].stack()
            variance = r * tf.reduce_sum(sizes * (products - squared) ** 2) / (r * k - 1.0)
            variance = tf.where(r * k > 1, variance, float("nan"))
        order = [gradients.place_of(self._optimizer, v) for v in self._model.trainable_variables]
        self._notebook.write(
            (r * tf.cast(loop.n, tf.float64), r * k, state["inverse"] / k, variance),
            tf.gather(state["squares"], order) * (r / scale) ** 2 / k,
            tf.gather(squares, order),
        )

    def _loss_scale(self):
        return tf.cast(self._optimizer.scale_loss(tf.constant(1.0)), tf.float64)


def _check_batch_normalization(model):
    """Raise where replicas would have to talk to each other inside the loop, which TensorFlow cannot do."""
    if strategy.num_replicas(model) == 1:
        return
    for layer in model._flatten_layers():
        if getattr(layer, "synchronized", False):
            raise ValueError(
                f"Layer {layer.name!r} has synchronized=True, and replicas cannot share statistics within an accumulated update. "
                "Take synchronized=True off, or train without micro_batch_size and ghost_batch_size."
            )


class _Loop:
    """The loop over the parts of one batch."""

    def __init__(self, owner, data, n, k):
        self._owner, self._data, self.n, self.k = owner, data, n, k
        self._whole = tf.cast(n, tf.float64)
        self.logs = Logs(owner._model, n if isinstance(n, int) else None)
        self.places = self.applied_to = None

    def run(self):
        """Return the state after the last part."""
        n, k, state = self.n, self.k, self._start()
        if not self._owner._static:
            n, k = (tf.cast(number, tf.int64) for number in (n, k))

            def bounds(i):
                return i * n // k, (i + 1) * n // k - i * n // k

            return self._over(0, k, bounds, state)
        small, large, more = n // k, -(-n // k), n % k  # compiled even for no part of that size: at most n
        # XLA: the size of a part is a constant of the loop, so there are two loops.
        if not (isinstance(more, int) and more == 0):
            state = self._over(0, more, lambda i: (i * large, large), state)
        return self._over(more, k, lambda i: (more + i * small, small), state)

    def _over(self, first, last, bounds, state):
        _, state = tf.while_loop(
            lambda i, _: i < tf.cast(last, tf.int64),
            lambda i, state: (i + 1, self._add(i, *bounds(i), state)),
            (tf.cast(first, tf.int64), state),
            parallel_iterations=1,
        )
        return state

    def _start(self):
        owner, zero = self._owner, tf.constant(0.0, tf.float64)
        state = {
            "gradients": [tf.zeros(v.shape, v.dtype) for v in owner._variables],
            "weight": zero,
            "means": self.logs.zeros(),
            "sums": self.logs.zeros(),
        }
        if owner._notebook is not None:
            state |= {"squares": tf.zeros([len(owner._variables)], tf.float64), "inverse": zero}
        if owner._inner_products:
            total = sum(v.shape.num_elements() for v in owner._variables)
            k = tf.cast(self.k, tf.int32)
            state["each"] = tf.TensorArray(owner._variables[0].dtype, k, element_shape=[total])
            state["sizes"] = tf.TensorArray(tf.float64, k, element_shape=[])
        return state

    def _add(self, i, low, size, state):
        owner, numbers = self._owner, tf.cast(size, tf.float64)
        with (
            gradients.taken(owner._optimizer) as calls,
            losses.counted(owner._model, numbers, self._whole) as counts,
            self.logs.noted() as note,
            parts.placed(i, low, self._whole),
        ):
            note(owner._train_step(parts.cut(self._data, low, size)))
        grads = self._align(*gradients.once(calls))
        share = tf.where(self._whole > 0, numbers / self._whole, 1.0)
        weight = self._weight(counts, share)
        new = dict(
            state,
            gradients=[
                a if g is None else a + tf.cast(weight, a.dtype) * g
                for a, g in zip(state["gradients"], grads, strict=True)
            ],
            weight=state["weight"] + weight,
            means=state["means"] + weight * self.logs.means,
            sums=state["sums"] + self.logs.sums,
        )
        if owner._notebook is not None:
            new["squares"] += _squared_norms(grads)
            new["inverse"] += 1.0 / numbers
        if owner._inner_products:
            place = tf.cast(i, tf.int32)
            full = [
                tf.zeros_like(a) if g is None else g for a, g in zip(new["gradients"], grads, strict=True)
            ]
            new["each"] = state["each"].write(place, _flat(full))
            new["sizes"] = state["sizes"].write(place, numbers)
        return new

    def _weight(self, counts, share):
        if not counts:
            return share
        if len(counts) > 1:
            raise ValueError(
                "train_step computes a loss with a mask, or with reduction='mean_with_sample_weight', more than once: what a "
                "part of a batch counts is then unknown. Compute it once, or train without micro_batch_size."
            )
        layers = self._owner._model._flatten_layers()
        named = [layer.name for layer in layers if getattr(layer, "_losses", None)]
        if named:
            raise ValueError(
                f"The loss divides by what its mask or its sample weights leave, and layers {named} add losses of their own "
                "(activity_regularizer, add_loss), which count by examples. Leave one of the two out, or train without "
                "micro_batch_size."
            )
        return tf.math.divide_no_nan(counts[0], self._whole)

    def _align(self, grads, variables):
        """Gradients in the order of the optimizer's variables, None where there is none."""
        owner, aligned = self._owner, [None] * len(self._owner._variables)
        places = []
        for gradient, variable in zip(grads, variables, strict=True):
            place = gradients.place_of(owner._optimizer, variable)
            places.append(None if gradient is None else place)
            if gradient is not None:
                aligned[place] = gradients.dense(gradient, owner._variables[place])
        self.places, self.applied_to = places, variables
        return aligned


def _squared_norms(grads):
    zero = tf.constant(0.0, tf.float64)
    return tf.stack([zero if g is None else tf.reduce_sum(tf.square(tf.cast(g, tf.float64))) for g in grads])


def _flat(grads):
    return tf.concat([tf.reshape(tf.cast(g, grads[0].dtype), [-1]) for g in grads], 0)

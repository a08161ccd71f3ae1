"""Running an attack: at once inside a traced training step, through a trace of its own otherwise.

Eagerly, each operation of an attack would be started from Python; traced, the second chunk of a data set costs only
what it computes. A trace is kept for a model, a loss object, options and types of data, for any number of examples,
and for as long as the model lives. It has no weights of its own: these come as arguments.
"""

import collections
import weakref

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.attacks.limits import checked_epsilon, checked_range
from tf_lbgap.attacks.loss_by_input import LossByInput, model_dtype, state_of
from tf_lbgap.curvature.batches import signature_of
from tf_lbgap.curvature.traced import checked_graph

_KEPT = 32  # traces of a model, the latest used
_traces = weakref.WeakKeyDictionary()  # model -> {key: (loss, trace)}


def attacked(step, model, loss, x, y, epsilon, data_range, *, seed=None, **options):
    """Run one attack.

    Args:
        step: Function `step(losses, x, y, epsilon, limits, seed, **options)` of TensorFlow operations that returns
            x', where `losses` is a `LossByInput`; all in one float type, that of x or of the model, the wider one.
        model: A built Keras model.
        loss: As `LossByInput` takes it.
        x: Inputs, an array or a tensor; symbolic inside a `tf.function`.
        y: Labels.
        epsilon: As `checked_epsilon` takes it.
        data_range: As `checked_range` takes it.
        seed: None, or what `seed_tensor` returned.
        **options: Of `step`, hashable.

    Returns:
        A tensor of the shape and type of x, through which no gradient flows.
    """
    x, y = example_tensors(model, x, y)
    wide = tf.float64 if tf.float64 in (x.dtype, model_dtype(model)) else tf.float32
    epsilon = tf.cast(checked_epsilon(epsilon), wide)
    limits = checked_range(data_range, x, wide)
    seed = () if seed is None else seed
    found = run(step, model, loss, tf.cast(x, wide), y, epsilon, limits, seed, **options)
    if tf.executing_eagerly() and not bool(tf.reduce_all(tf.math.is_finite(found))):
        raise ValueError(
            "The attack gave NaN or infinity for some examples: the loss or its gradient is not finite there. Check the "
            "weights and the data."
        )
    found = tf.stop_gradient(tf.cast(found, x.dtype))
    found.set_shape(x.shape)
    return found


def run(step, model, loss, x, y, *tensors, **options):
    """Return `step(LossByInput, x, y, *tensors, **options)`, by way of a trace if called eagerly.

    Args:
        step: A function of TensorFlow operations.
        model: A built Keras model.
        loss: As `LossByInput` takes it.
        x: A tensor, the first dimension the examples.
        y: A tensor.
        *tensors: Nested tensors.
        **options: Hashable.
    """
    state = state_of(model)
    if not tf.executing_eagerly():
        return step(LossByInput(model, loss, state), x, y, *tensors, **options)
    return _trace(step, model, loss, state, (x, y), tensors, options)(state, x, y, *tensors)


def example_tensors(model, x, y):
    """Inputs and labels as tensors; labels in the model's float type, as `fit` does it.

    Raises:
        ValueError: If the inputs are not one array of floating-point numbers, or the labels are no partner of them.
    """
    if isinstance(x, (dict, tuple)) or isinstance(y, (dict, tuple)) or y is None:
        raise ValueError(
            f"x is a {type(x).__name__} and y a {type(y).__name__}, but an attack needs an array of inputs and an array of "
            "labels. Of a model with several inputs, attack one: wrap the others in a keras.Model."
        )
    x = x if tf.is_tensor(x) else tf.convert_to_tensor(np.asarray(x))
    y = y if tf.is_tensor(y) else tf.convert_to_tensor(np.asarray(y))
    if not x.dtype.is_floating:
        raise ValueError(
            f"x is {x.dtype.name}, but an attack moves inputs by small steps: pass floating-point numbers, such as "
            "x.astype('float32') / 255. For tokens, cut the model after its Embedding."
        )
    if x.shape.rank is None or x.shape.rank < 2:
        raise ValueError(
            f"x has shape {x.shape}, but should have (examples, ...). Pass x[None] for one example."
        )
    lengths = x.shape[0], y.shape[0] if y.shape.rank else -1
    if lengths[0] == 0 or (None not in lengths and lengths[0] != lengths[1]):
        raise ValueError(
            f"x has shape {x.shape} and y {y.shape}, but both should have the same number of examples, at least 1."
        )
    return x, tf.cast(y, model_dtype(model)) if y.dtype.is_floating else y


def seed_tensor(seed):
    """A seed as a tensor of shape (2,), which it may be already; a generator moves on."""
    if isinstance(seed, keras.random.SeedGenerator):
        return tf.cast(seed.next(), tf.int32)
    if tf.is_tensor(seed) and seed.shape == (2,):
        return seed
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise ValueError(
            f"seed is {seed!r}, but should be a whole number, or a keras.random.SeedGenerator for new noise at each call."
        )
    low, high = int(seed) % 2**31, (int(seed) >> 31) % 2**31
    return tf.constant([low, high], tf.int32)


def _trace(step, model, loss, state, data, tensors, options):
    kept = _traces.setdefault(model, collections.OrderedDict())
    signature = signature_of(data)
    rest = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), (state, tensors))
    key = (
        step,
        loss if isinstance(loss, str) else id(loss),
        tuple(sorted(options.items())),
        tuple(tf.nest.flatten((signature, rest))),
        # what a layer computes is baked into a trace
        tuple((id(layer), layer.dtype_policy.name) for layer in model._flatten_layers()),
    )
    if key not in kept:
        function = _function(step, weakref.ref(model), loss, options)
        trace = function.get_concrete_function(rest[0], *signature, *rest[1])
        checked_graph(trace.graph, jit_compile=False)
        kept[key] = loss, trace  # the loss is kept, or its id might become another's
        if len(kept) > _KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key][1]


def _function(step, model, loss, options):
    """The function to trace; it holds the model weakly, or the model could not be freed."""

    def traced(state, x, y, *tensors):
        return step(LossByInput(model(), loss, state), x, y, *tensors, **options)

    return tf.function(traced, autograph=False, jit_compile=False)

"""The gradients that the user's own `train_step` hands to its optimizer, taken before the optimizer sees them.

Clipping, moving averages, weight decay and the loss scale belong to the update, so what is intercepted is `apply`,
the one method that `apply_gradients` and every step goes through.
"""

import contextlib
import threading

import keras
import tensorflow as tf


@contextlib.contextmanager
def taken(optimizer):
    """Yield a list that gets (gradients, variables) for each call of `optimizer.apply` in the block, by this thread.

    Raises:
        ValueError: Inside the block, when another optimizer is applied: which of the two would come once per
            update, and which once per part, cannot be known.
    """
    calls = []
    with _intercepted():
        _stack().append((optimizer, calls))
        try:
            yield calls
        finally:
            _stack().pop()


def are_taken():
    """Whether this thread is in such a block, so that `apply` is not that of the optimizer."""
    return bool(_stack())


ACCUMULATED = "an accumulated update", "train without micro_batch_size"


def once(calls, what=ACCUMULATED):
    """Return the gradients and variables of the one call there should have been.

    Args:
        calls: What `taken` yielded.
        what: What needs it, and how to do without, for messages.

    Raises:
        ValueError: If there was none, or more than one, or it was made inside a `tf.function` or a `tf.cond`.
    """
    needs, without = what
    if len(calls) != 1:
        times = "did not call" if not calls else f"called {len(calls)} times"
        raise ValueError(
            f"train_step {times} the apply or apply_gradients of model.optimizer, but {needs} needs exactly one "
            "call. Make one update per train_step, without a tf.function of your own around it (fit compiles it), or "
            f"{without}."
        )
    grads, variables = calls[0]
    if not tf.executing_eagerly():
        here = tf.compat.v1.get_default_graph()
        for gradient in tf.nest.flatten(grads, expand_composites=True):
            if gradient is not None and getattr(gradient, "graph", here) is not here:
                raise ValueError(
                    "train_step calls apply inside a tf.function or tf.cond of its own, where its gradients "
                    f"cannot be taken. Take @tf.function off train_step (fit compiles it), or {without}."
                )
    return grads, variables


def place_of(optimizer, variable):
    """Return the index of a variable among those of the optimizer, which asks for its value: see `elsewhere`."""
    return optimizer._get_variable_index(
        variable._value if isinstance(variable, keras.Variable) else variable
    )


def dense(gradient, like):
    """A gradient as a tensor of the shape and type of its variable; rows of an embedding become a whole matrix."""
    gradient = tf.convert_to_tensor(gradient)
    return tf.ensure_shape(tf.cast(gradient, like.dtype), like.shape)


_threads = (
    threading.local()
)  # replicas, and models that are trained at the same time, are in threads of their own
_lock = threading.Lock()
_originals = []  # (class, its own `apply`), while some thread takes gradients
_blocks = 0


def _stack():
    """What this thread takes gradients of, the innermost last."""
    if not hasattr(_threads, "stack"):
        _threads.stack = []
    return _threads.stack


@contextlib.contextmanager
def _intercepted():
    global _blocks
    with _lock:
        if not _blocks:
            classes = _classes_with_apply(keras.optimizers.Optimizer)
            _originals[:] = [(cls, cls.__dict__["apply"]) for cls in classes]
            for cls, original in _originals:
                cls.apply = _intercepting(original)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                for cls, original in _originals:
                    cls.apply = original


def _intercepting(original):
    def apply(self, grads, trainable_variables=None, **options):
        if not _stack():
            original(self, grads, trainable_variables, **options)
            return
        optimizer, calls = _stack()[-1]
        if self is not optimizer:
            raise ValueError(
                f"train_step applies a second optimizer, {self.name!r}, beside model.optimizer, {optimizer.name!r}: such a "
                "step cannot be accumulated. Train without micro_batch_size, or with one optimizer."
            )
        if trainable_variables is None:
            trainable_variables = optimizer._trainable_variables
        calls.append((list(grads), list(trainable_variables)))

    return apply


def _classes_with_apply(cls):
    """The classes in which `apply` of a Keras optimizer is defined."""
    found = {c for c in cls.__mro__ if "apply" in c.__dict__}
    waiting = [cls]
    while waiting:
        c = waiting.pop()
        waiting += c.__subclasses__()
        if "apply" in c.__dict__:
            found.add(c)
    return found

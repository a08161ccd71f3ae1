"""Where a `fit` is: the batch size of its last update, and how many epochs and examples it has seen.

A steered `data.Batches` knows. Otherwise it follows from `fit`'s arguments, as far as they tell: arrays have a
length and a `batch_size`; a data set may know how many steps it has, and no more.
"""

import keras

KERAS_BATCH_SIZE = 32  # of arrays, where `fit` is given none


class Whereabouts:
    """Answers for one `fit`.

    Args:
        stream: The `data.Batches` that is read, or None.
        arguments: Those of `fit`, a dict.
        params: The `params` of a callback.

    Attributes:
        num_examples: N, the examples of an epoch, or None.
    """

    def __init__(self, stream, arguments, params):
        self.stream, self._steps_per_epoch = stream, params.get("steps")
        self._size = self.num_examples = None
        x = arguments.get("x")
        if stream is not None:
            self.num_examples = stream.num_examples
        elif x is not None and not hasattr(x, "element_spec") and hasattr(_first(x), "shape"):
            self._size = arguments.get("batch_size") or KERAS_BATCH_SIZE
            if arguments.get("steps_per_epoch") is None:
                self.num_examples = int(_first(x).shape[0])

    def batch_size(self):
        """Return the size of the last update (with `steps_per_execution`: of the first in its execution), or None.

        Whether callbacks that steer have heard of the end of that update makes no difference.
        """
        return self._size if self.stream is None else self.stream.batch_size_in_force

    def progress(self, epoch, steps, ended=False):
        """Return epochs and examples so far, each None if unknown.

        Args:
            epoch: The running epoch, from 0.
            steps: Updates of it.
            ended: Whether it is over.
        """
        if self.stream is not None and self.stream.is_steered:
            whole, part = self.stream.position
            return self.stream.progress, whole * self.num_examples + part
        total, size = self._steps_per_epoch, self.batch_size()
        if self.num_examples and size:
            seen = min(steps * size, self.num_examples)
            if steps == total and getattr(self.stream, "last_batch", "partial") == "merge":
                seen = self.num_examples
            return epoch + seen / self.num_examples, epoch * self.num_examples + seen
        if total:
            return epoch + min(steps / total, 1.0), None
        return (epoch + 1.0 if ended else float(epoch) if not steps else None), None


def _first(x):
    return next(iter(keras.tree.flatten(x)), None)

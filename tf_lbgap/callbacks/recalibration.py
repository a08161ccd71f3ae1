"""Exact statistics of batch normalization whenever a model is evaluated."""

import keras
import numpy as np

from tf_lbgap.batch_normalization import recalibrate, recalibrated_layers
from tf_lbgap.callbacks.sample import readable_again
from tf_lbgap.data.keras_calls import callbacks_of, keras_calls


class Recalibration(keras.callbacks.Callback):
    """Let `evaluate`, `predict` and the validation of `fit` run on exact statistics, over given examples.

    In inference a BatchNormalization layer uses a moving average of what it met while training. After few updates, as
    large batches make them, that average is stale, and validation looks worse than the network is. Inside each
    evaluation the layers here have the exact mean and variance over `batches`, and afterwards their own statistics
    again, bit for bit, so training goes on as without it.

    Each evaluation costs a pass over `batches` for each such layer more; a few thousand training examples do. It does
    nothing to a model without batch normalization.

    Example:

    ```python
    sample = x[:2000], y[:2000]    # training data, not what is evaluated
    model.evaluate(x_test, y_test, callbacks=[lb.callbacks.Recalibration(sample)])
    model.fit(x, y, validation_data=(x_test, y_test), callbacks=[lb.callbacks.Recalibration(sample)])
    ```

    Args:
        batches: As for `batch_normalization.recalibrate`: a tuple is one batch, a list yields batches, `data.Batches`
            is read in storage order. Without augmentation: what inference will see.

    Raises:
        ValueError: If `batches` is none of these; in an evaluation, if another callback changes the model for it.

    References:
        Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
        Hoffer et al., "Train longer, generalize better", 2017, section 4, on statistics of large batches.
    """

    changes_evaluation = True

    def __init__(self, batches):
        super().__init__()
        self.batches = readable_again(batches)
        self._own = self._exact = (
            None  # values of the statistics; an evaluation that broke off leaves both here
        )

    def __deepcopy__(self, memo):
        return type(self)(self.batches)

    def on_test_begin(self, logs=None):
        check_alone(self)
        variables = statistics_of(self.model)
        broke_off = self._own is not None and len(self._own) == len(variables)
        if (
            broke_off
            and self._exact is not None
            and all(np.array_equal(v.numpy(), e) for v, e in zip(variables, self._exact, strict=True))
        ):
            self._put_back(variables)  # else the model was trained since, on statistics of its own
        self._own = [variable.numpy() for variable in variables]
        try:
            recalibrate(self.model, self.batches)
        except BaseException:  # whatever it is, the statistics are half exact by now
            self._put_back(variables)
            raise
        self._exact = [variable.numpy() for variable in variables]

    def on_test_end(self, logs=None):
        self._put_back(statistics_of(self.model))

    on_predict_begin, on_predict_end = on_test_begin, on_test_end

    def _put_back(self, variables):
        for variable, value in zip(variables, self._own, strict=True):
            variable.assign(value)
        self._own = self._exact = None


def statistics_of(model):
    """Return the variables that `recalibrate` changes, layer by layer."""
    return [v for layer in recalibrated_layers(model) for v in (layer.moving_mean, layer.moving_variance)]


def check_alone(callback):
    """Raise if two callbacks of one evaluation change the model for it: Keras ends them in the order in which it
    began them, so the first would take away what the second puts back.

    Raises:
        ValueError: If there is another.
    """
    _, arguments = next(keras_calls(), (None, {}))
    for other in callbacks_of(arguments):
        if getattr(other, "changes_evaluation", False) and other is not callback:
            raise ValueError(
                f"{type(callback).__name__} and {type(other).__name__} both change the model for an evaluation. Keep one: "
                "WeightAveraging(validate=True, recalibrate=batches) recalibrates, too."
            )

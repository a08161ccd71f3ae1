"""The loss of each example as a function of its own input, the model held fixed.

The model runs in inference mode, by a call that changes nothing in it, at weights that are given as tensors: so one
trace serves all epochs, no gradient of a training step runs back through an attack, and inside a
`keras.StatelessScope` the weights of the scope count. Layers of a mixed-precision policy run in float32: gradients of
confident examples are often below 6e-8, where float16 ends.
"""

import keras
import tensorflow as tf

from tf_lbgap.batch_normalization import inference
from tf_lbgap.curvature.modes import measured
from tf_lbgap.curvature.objective import Objective, checked_loss
from tf_lbgap.curvature.second_order import exact_second_derivatives


class LossByInput(Objective):
    """Losses, gradients and Hessian products of examples by their inputs.

    Losses of examples are never averaged over the batch: their sum is differentiated, so each example has the
    gradient and the Hessian that it has alone.

    Args:
        model: A built Keras model with one floating-point input and one output.
        loss: A `keras.losses.Loss`, the name of one, or a function with a value per example.
        state: What `state_of(model)` returned.
    """

    def __init__(self, model, loss, state):
        # not that of Objective, which wants trainable weights: a frozen network can be attacked, too
        self.model, self.loss = model, checked_loss(loss)
        self.trainable, self.others = state
        self.dtype = model_dtype(model)

    def prediction(self, x):
        """The model's output for inputs of any float type, float32 at least."""
        x = tf.cast(x, self.dtype)
        with measured(self.model):
            y_pred, after, _ = self.model.stateless_call(
                self.trainable, self.others, x, return_losses=True, **inference(self.model)
            )
        if not tf.is_tensor(y_pred):
            raise ValueError(
                f"Model {self.model.name!r} has {len(tf.nest.flatten(y_pred))} outputs, but an attack needs one, with one "
                "loss. Make a model of the output in question: keras.Model(model.inputs, model.outputs[0])."
            )
        self._refuse_drawn_seeds(self.others, after)
        return tf.cast(y_pred, self.dtype) if y_pred.dtype in (tf.float16, tf.bfloat16) else y_pred

    def of_examples(self, y, y_pred):
        """The loss of each example, the mean over its entries, shape [examples]."""
        if y.shape.rank == 1 and y_pred.shape.rank == 2 and y_pred.shape[-1] == 1:
            y = y[:, None]  # else functions of Keras such as binary_crossentropy average over the examples
        return super().of_examples(y, y_pred)

    def losses(self, x, y):
        """The loss of each example, shape [examples]."""
        return self.of_examples(y, self.prediction(x))

    def gradient(self, x, y):
        """The gradient of each example's loss by its input, in shape and type of x.

        Raises:
            ValueError: While it is traced, if no gradient reaches the input at all.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            losses = self.losses(x, y)
        return _connected(tape.gradient(losses, x), self.model)

    def gradient_and_product(self, x, y):
        """The gradient, and a function that multiplies each example's Hessian with its own vector, shaped as x."""
        with (
            exact_second_derivatives(),
            tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer,
        ):
            outer.watch(x)
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(x)
                losses = self.losses(x, y)
            gradient = _connected(inner.gradient(losses, x), self.model)

        def product(v):
            return outer.gradient(gradient, x, output_gradients=v, unconnected_gradients="zero")

        return gradient, product


def state_of(model):
    """The present weights as tensors: trainable ones, and all others. No gradient runs back through them."""
    if not getattr(model, "built", False):
        raise ValueError(
            f"Model {getattr(model, 'name', model)!r} has no weights yet. Build it first: start it with "
            "keras.Input(shape), or call it on a batch once."
        )

    def tensors(variables):
        return [tf.stop_gradient(tf.convert_to_tensor(v.value)) for v in variables]

    return tensors(model.trainable_variables), tensors(model.non_trainable_variables)


def model_dtype(model):
    """The float type of the weights, float32 at least."""
    types = {keras.backend.standardize_dtype(v.dtype) for v in model.weights} | {model.compute_dtype}
    return tf.float64 if "float64" in types else tf.float32


def _connected(gradient, model):
    if gradient is None:
        raise ValueError(
            f"The loss of model {model.name!r} has no gradient by the input (rounding, argmax or whole numbers in between?), "
            "so it cannot be attacked by one. Attack the part behind it, or use random_sign or gaussian."
        )
    return gradient

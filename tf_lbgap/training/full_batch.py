"""Full-batch optimisation: no noise at all, with a line search or L-BFGS, behind something like `fit`.

Keskar et al. report that gradient descent with a line search and L-BFGS train well and test badly: the far end of the
large batch. That the minima they find are sharp can be seen with the callbacks that measure.

References:
    Keskar et al., "On large-batch training for deep learning", ICLR 2017 (arXiv 1609.04836), and the authors' talk.
    Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
"""

import difflib
import math

import keras
import numpy as np

from tf_lbgap.batch_normalization import recalibrate, recalibrated_layers, repeatable
from tf_lbgap.curvature import LossSurface
from tf_lbgap.curvature.sums import CHUNK_SIZE
from tf_lbgap.training.checked import at_least, check_whole
from tf_lbgap.training.descents import DESCENTS, GradientDescent
from tf_lbgap.training.train_functions import build_optimizer, check_model
from tf_lbgap.training.wrapped import innermost

_OF_BATCHES = ("LearningRateScheduler", "ReduceLROnPlateau", "ChangeUpdates", "TargetLoss")


class FullBatch:
    """Minimise the mean loss over all data, one iteration of L-BFGS or gradient descent after the other.

    What is minimised is the compiled loss with its penalties, summed in float64 over all examples however they are cut;
    layers of mixed precision compute in float32. Dropout is off, or there would be no function to search along. Batch
    normalization uses the statistics of each batch of `batches` as in training (pass one tuple for those of all data; such
    batches are worked off whole), and its moving statistics are set to the exact ones after each iteration.

    To callbacks an iteration is an epoch of one update: `optimizer.iterations` counts it, so monitors, `EarlyStopping`,
    `CSVLogger`, `ModelCheckpoint` and `TensorBoard` work. Of the optimizer that the model was compiled with nothing else is
    used but, by gradient descent, its learning rate: the first search begins there, and accepted steps are written there. So
    compile with `keras.optimizers.SGD(1.0)`. L-BFGS begins each `fit` with an empty memory.

    A pass is one evaluation of loss and gradient on all data. An iteration takes one and a bit.

    Args:
        model: A compiled and built Keras model.
        method: "l-bfgs" or "gradient_descent".
        loss: What to minimise; None: the loss that the model was compiled with, which a model with a `train_step` or
            `compute_loss` of its own need not train on.
        chunk_size: Batches are worked off in pieces of this many examples (not with batch normalization).
        **options: `memory` and `trials` of `descents.Lbfgs`; `c`, `factor`, `growth` and `halvings` of
            `descents.GradientDescent`.

    Attributes:
        passes: Over the data, by the last `fit`.
        reason: Why it ended: "iterations", "passes", "target_loss", "tolerance", "callback" (`stop_training`), or "stalled": no
            step lowers the loss, as where rounding hides what is left to gain.

    Raises:
        ValueError: If an argument is out of range, the model has no loss, or weights have constraints.

    Example:

    ```python
    model.compile(keras.optimizers.SGD(1.0), loss)
    full = lb.training.FullBatch(model, "l-bfgs", memory=10)
    history = full.fit((x, y), iterations=200, validation_data=(xv, yv), callbacks=[monitor])
    ```
    """

    def __init__(self, model, method="l-bfgs", *, loss=None, chunk_size=CHUNK_SIZE, **options):
        check_model(model)
        self.model, self.chunk_size = model, chunk_size
        self.loss = _loss_of(model) if loss is None else loss
        self.descent = _made(method, options)
        bound = [v.path for v in model.trainable_variables if v.constraint is not None]
        if bound:
            raise ValueError(
                f"FullBatch searches along lines, and {bound[0]!r} has a constraint that moves it off them. Leave it out."
            )
        self.passes, self.reason = 0, None

    def fit(
        self,
        batches,
        *,
        iterations=100,
        passes=None,
        target_loss=None,
        tolerance=0.0,
        validation_data=None,
        validation_batch_size=None,
        callbacks=None,
        verbose="auto",
    ):
        """Minimise; the model has the last iterate then.

        Args:
            batches: All data, as for `curvature.HessianOperator`: a tuple is one batch `(x, y)` or `(x, y, weight)`, a list or
                another iterable yields batches, `data.Batches` is read in storage order, without `map`.
            iterations: Most iterations.
            passes: Most passes over the data, or None. One that an iteration has no pass left for is not made.
            target_loss: Stop where the loss (with its penalties) is at most this.
            tolerance: Stop where no entry of the gradient is larger.
            validation_data: As for Keras' `fit`; evaluated after each iteration.
            validation_batch_size: Likewise.
            callbacks: Keras callbacks. In the logs are `loss` at the new weights, `gradient_norm`, `passes` so far, of
                gradient descent `learning_rate`, and with validation data `val_...`.
            verbose: As for Keras' `fit`.

        Returns:
            Keras' `History`, with an entry per iteration.

        Raises:
            ValueError: If an argument is out of range, the loss is not finite at the start, or a callback is one of those that
                steer batches or rates, of which there are none here.
        """
        check_whole("FullBatch.fit", iterations=iterations)
        if passes is not None:
            check_whole("FullBatch.fit", passes=passes)
        if target_loss is not None:
            at_least(-math.inf, "FullBatch.fit", target_loss=target_loss)
        at_least(0.0, "FullBatch.fit", tolerance=tolerance)
        _check_callbacks(callbacks)
        run = _Run(self, batches, iterations, passes, target_loss, tolerance)
        run.validation = _unpacked(validation_data), validation_batch_size
        return run.made(callbacks, verbose)


class _Stop(Exception):
    """The descent is to end, for the reason that is its argument."""


class _Run:
    """One `fit`."""

    def __init__(self, owner, batches, iterations, passes, target_loss, tolerance):
        self._owner, self._model, self._descent = owner, owner.model, owner.descent
        self._batches = repeatable(batches)
        self._normalizes = bool(recalibrated_layers(self._model))
        self._surface = LossSurface(
            self._model,
            owner.loss,
            self._batches,
            regularization=True,
            batch_normalization="batch" if self._normalizes else "inference",
            chunk_size=owner.chunk_size,
            **_loss_weights(self._model, owner.loss),
        )
        self._iterations, self._passes = iterations, math.inf if passes is None else passes
        self._target = -math.inf if target_loss is None else target_loss
        self._tolerance = tolerance
        self._optimizer = innermost(self._model.optimizer)
        self._searches_rate = isinstance(self._descent, GradientDescent)

    def made(self, callbacks, verbose):
        """Run the descent between the hooks of callbacks, and return the history."""
        owner, model = self._owner, self._model
        if self._searches_rate:
            self._descent.step = _rate(self._optimizer)
        build_optimizer(model)
        owner.passes, owner.reason, model.stop_training = 0, None, False
        self._callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=self._iterations,
            steps=1,
            model=model,
        )
        self._callbacks.on_train_begin()
        self._epoch, self._is_running, self._logs = model._initial_epoch or 0, False, None
        model._initial_epoch = None
        weights = self._surface.weights()  # a callback may have restored others
        try:
            self._begin(weights)
            self._descent(self._value_and_gradient, weights, self._accepted)
            owner.reason = "stalled"
        except _Stop as stop:
            [owner.reason] = stop.args
        self._callbacks.on_train_end(self._logs)
        return model.history

    def _begin(self, weights):
        self._last = None
        self._evaluated(weights)
        if not math.isfinite(self._last[1]):
            raise ValueError(
                f"The loss is {self._last[1]} at the weights that FullBatch begins with. Give the model others, or look for "
                "what is not finite in the data."
            )
        self._check_end()
        if self._epoch >= self._iterations:
            raise _Stop("iterations")

    def _value_and_gradient(self, weights):
        """What the descent asks for. It asks for some points twice: where it begins, and where SciPy does."""
        if not np.array_equal(weights, self._last[0]):
            if self._owner.passes >= self._passes:
                raise _Stop("passes")
            if not self._is_running:
                self._is_running = True
                self._callbacks.on_epoch_begin(self._epoch)
                self._callbacks.on_train_batch_begin(0)
            self._evaluated(weights)
        _, value, gradient = self._last
        return value, gradient.copy()

    def _evaluated(self, weights):
        self._last = (weights.copy(), *self._surface.value_and_gradient(weights))
        self._owner.passes += 1

    def _accepted(self, weights):
        """An iteration is over, at weights that were evaluated last."""
        model = self._model
        self._value_and_gradient(weights)
        self._surface.parameters.assign(weights)
        if self._normalizes:
            recalibrate(model, self._batches)
        self._optimizer._iterations.assign_add(1)
        _, value, gradient = self._last
        logs = {"loss": value, "gradient_norm": float(np.linalg.norm(gradient)), "passes": self._owner.passes}
        if self._searches_rate:
            self._optimizer.learning_rate.assign(self._descent.step)
            logs["learning_rate"] = self._descent.step
        self._callbacks.on_train_batch_end(0, dict(logs))
        logs |= self._validated()
        self._callbacks.on_epoch_end(self._epoch, logs)
        self._epoch, self._is_running, self._logs = self._epoch + 1, False, logs
        self._check_end()

    def _validated(self):
        data, batch_size = self.validation
        if data is None:
            return {}
        found = self._model.evaluate(
            *data[:2],
            batch_size=batch_size,
            sample_weight=data[2],
            callbacks=self._callbacks,
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": value for name, value in found.items()}

    def _check_end(self):
        _, value, gradient = self._last
        ends = {
            "callback": self._model.stop_training,
            "target_loss": value <= self._target,
            "tolerance": np.max(np.abs(gradient)) <= self._tolerance,
            "iterations": self._epoch >= self._iterations,
        }
        for reason, is_so in ends.items():
            if is_so:
                raise _Stop(reason)


def _made(method, options):
    if method not in DESCENTS:
        close = difflib.get_close_matches(str(method), DESCENTS, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"method={method!r} should be one of {', '.join(map(repr, DESCENTS))}.{hint}")
    try:
        return DESCENTS[method](**options)
    except TypeError:
        known = [name for name, field in DESCENTS[method].__dataclass_fields__.items() if field.init]
        unknown = [name for name in options if name not in known]
        raise ValueError(
            f"FullBatch of {method!r} has no {unknown[0]!r}; it takes {', '.join(known)}."
        ) from None


def _loss_of(model):
    for name in ("train_step", "compute_loss"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise ValueError(
                f"FullBatch minimises the compiled loss, and model {model.name!r} has a {name} of its own, which may train on "
                "another. Pass what to minimise, such as loss=model.loss."
            )
    if model.loss is None:
        raise ValueError(f"Model {model.name!r} was compiled without a loss. Pass loss=.")
    return model.loss


def _loss_weights(model, loss):
    if not isinstance(loss, (list, tuple, dict)):
        return {}
    return {"loss_weights": (model.get_compile_config() or {}).get("loss_weights")}


def _rate(optimizer):
    if not isinstance(optimizer._learning_rate, keras.Variable):
        raise ValueError(
            "Gradient descent by FullBatch writes its steps to the learning rate, and the optimizer computes its own from a "
            "schedule. Compile the model with a number, keras.optimizers.SGD(1.0)."
        )
    return float(optimizer._learning_rate.numpy())


def _unpacked(data):
    if data is None:
        return None
    return (
        keras.utils.unpack_x_y_sample_weight(data) if isinstance(data, (tuple, list)) else (data, None, None)
    )


def _check_callbacks(callbacks):
    for callback in keras.tree.flatten(callbacks or []):
        names = {kind.__name__ for kind in type(callback).__mro__}
        if names & set(_OF_BATCHES) or getattr(callback, "steers_batches", False):
            raise ValueError(
                f"{type(callback).__name__} acts on batches, updates or rates of fit, and FullBatch has one batch and finds its "
                "steps itself. Leave it out" + ("; pass target_loss=." if "TargetLoss" in names else ".")
            )

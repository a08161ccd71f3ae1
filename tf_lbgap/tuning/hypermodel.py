"""A model with its batch, rate and schedules, for a tuner of Keras Tuner's or of ours."""

import math
import time

import keras
import keras_tuner

from tf_lbgap import callbacks, data, scaling, schedules, sharpness
from tf_lbgap.experiment.arm_callbacks import StopAtNaN


class HyperModel(keras_tuner.HyperModel):
    """Searches over how a model is trained: batch size, learning rate, momentum, noise scale, schedules.

    Each trial makes a stream and callbacks of its own, so nothing of them is copied between trials. A range is a list of values,
    or a pair `(low, high)` between which any number may be drawn, on a log scale (momentum: linear).

    Args:
        build: Function (hp) -> compiled Keras model, or a `keras_tuner.HyperModel`; it may search over the architecture.
        batch_size: List of sizes, or one size. Examples.
        learning_rate: Range, or a number; `None` keeps the model's own.
        noise_scale: Range, or a number, in the place of `learning_rate`: the rate follows from g = lr / (1 - m) (N / B - 1).
        momentum: Range, or a number, of an optimizer that has one; `None` keeps it.
        batch_schedule: Dict from a name to a function (batch size, epochs) -> schedule. With several the search chooses.
        rate_schedule: Dict from a name to a function (learning rate, epochs) -> schedule.
        target: Dict of one metric and a number, such as `{"val_accuracy": 0.95}`: training ends with the first epoch that reaches
            it, and `updates_to_target`, `examples_to_target` and `seconds_to_target` may be objectives. A trial that does not
            reach it has failed.
        sharpness: Examples `(x, y)`: after training their `top_eigenvalue` is measured, and may be the objective.
        name: Of the hypermodel.

    Raises:
        ValueError: If ranges contradict each other, or hold no value.

    References:
        Smith and Le, 2018, section 4 (noise scale).

    Example:
        hypermodel = HyperModel(build, batch_size=[32, 128, 512], learning_rate=(1e-3, 1.0))
        tuner = RandomSearch(hypermodel, "val_accuracy", max_trials=20, seeds=3, directory="runs", project_name="search")
        tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    """

    def __init__(
        self,
        build,
        *,
        batch_size,
        learning_rate=None,
        noise_scale=None,
        momentum=None,
        batch_schedule=None,
        rate_schedule=None,
        target=None,
        sharpness=None,
        name=None,
    ):
        self._model = build.build if isinstance(build, keras_tuner.HyperModel) else build
        if learning_rate is not None and noise_scale is not None:
            raise ValueError(
                "noise_scale gives the learning rate: pass one of learning_rate and noise_scale."
            )
        if rate_schedule and learning_rate is None and noise_scale is None:
            raise ValueError("rate_schedule needs a rate to begin with: pass learning_rate or noise_scale.")
        ranges = {
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "noise_scale": noise_scale,
            "momentum": momentum,
            "batch_schedule": batch_schedule and list(batch_schedule),
            "rate_schedule": rate_schedule and list(rate_schedule),
        }
        self._ranges = {key: _checked(key, value) for key, value in ranges.items() if value is not None}
        self._batch_schedules, self._rate_schedules = batch_schedule or {}, rate_schedule or {}
        if target is not None and len(target) != 1:
            raise ValueError(f'target={target!r} should name one metric, such as {{"val_accuracy": 0.95}}.')
        self._target, self._sample = target, sharpness
        self.seed = 0  # of the stream; our tuners set it
        super().__init__(name)

    def declare_hyperparameters(self, hp):
        """Register the ranges, so that the tuner knows the space before the first trial."""
        for key in self._ranges:
            self._value(hp, key)

    def build(self, hp):
        """Return the compiled model of a trial."""
        self.declare_hyperparameters(hp)
        return self._model(hp)

    def fit(self, hp, model, x, y=None, sample_weight=None, *, epochs=1, callbacks=(), verbose=0, **options):
        """Train as the trial says.

        Args:
            hp: The trial's `HyperParameters`.
            model: What `build` returned.
            x, y, sample_weight: Arrays, as `data.Batches` takes them.
            epochs: How many, as many examples whatever the batch.
            callbacks: Further ones.
            verbose, **options: Of `model.fit`, such as `validation_data`.

        Returns:
            The `History`, with `updates`, `examples` and `seconds` so far among its metrics; with a target or sharpness, a dict of
            the last epoch's.

        Raises:
            keras_tuner.errors.FailedTrialError: If training diverged or missed the target.
        """
        if "batch_size" in options or isinstance(x, data.Batches):
            raise keras_tuner.errors.FatalValueError(
                "The batch size is the hypermodel's: pass arrays x and y to search(), without batch_size."
            )
        if "validation_split" in options:
            raise keras_tuner.errors.FatalValueError(
                "validation_split: a stream cannot be split. Pass validation_data=(x, y) to search()."
            )
        batches = data.Batches(
            x, y, sample_weight, batch_size=int(self._value(hp, "batch_size")), seed=self.seed
        )
        counts = _Counts(batches)
        target = [_Target(*item) for item in (self._target or {}).items()]
        history = model.fit(
            batches,
            epochs=epochs,
            verbose=verbose,
            callbacks=[*self._steer(hp, model, batches, epochs), counts, *target, StopAtNaN(), *callbacks],
            **{"shuffle": False, **options},
        )
        self._check(history, target)
        if self._target is None and self._sample is None:
            return history
        return {**_last(history), **self._to_target(history), **self._sharpness(model)}

    def _steer(self, hp, model, batches, epochs):
        """Set rate and momentum, and return the callbacks that move rate and batch."""
        size = batches.batch_size
        chosen = self._value(hp, "batch_schedule")
        schedule = self._batch_schedules[chosen](size, epochs) if chosen else schedules.constant(size)
        result = [callbacks.BatchSizeScheduler(batches, schedule)]
        momentum = self._value(hp, "momentum")
        if momentum is not None:
            _set_momentum(model.optimizer, momentum)
        rate = self._value(hp, "learning_rate")
        scale = self._value(hp, "noise_scale")
        if scale is not None:
            if not isinstance(model.optimizer, keras.optimizers.SGD):
                raise keras_tuner.errors.FatalValueError(
                    f"noise_scale: is one of SGD, not of {type(model.optimizer).__name__}. Pass learning_rate= instead."
                )
            own = float(model.optimizer.momentum or 0.0)
            rate = scaling.learning_rate_for_noise_scale(scale, size, batches.num_examples, own)
        if rate is not None:
            name = self._value(hp, "rate_schedule")
            moved = self._rate_schedules[name](rate, epochs) if name else schedules.constant(rate)
            result.append(callbacks.LearningRateScheduler(batches, moved))
        return result

    def _value(self, hp, key):
        """Return a trial's value of a range, `None` if it is not there."""
        given = self._ranges.get(key)
        if isinstance(given, tuple):
            low, high = given
            return hp.Float(key, low, high, sampling="linear" if key == "momentum" else "log")
        if isinstance(given, list) and len(given) > 1:
            return hp.Choice(key, given)
        return given[0] if isinstance(given, list) else given

    def _check(self, history, target):
        if not math.isfinite(history.history["loss"][-1]):
            raise keras_tuner.errors.FailedTrialError("The loss is not finite: training diverged.")
        if target and not target[0].reached:
            ((metric, value),) = self._target.items()
            last = history.history[metric][-1]
            raise keras_tuner.errors.FailedTrialError(
                f"Missed the target: {metric} is {last:.4g}, not {value:g}."
            )

    def _to_target(self, history):
        if self._target is None:
            return {}
        last = _last(history)
        return {f"{key}_to_target": last[key] for key in _Counts.KEYS}

    def _sharpness(self, model):
        if self._sample is None:
            return {}
        return {
            "top_eigenvalue": float(
                sharpness.top_eigenvalue(sharpness.Subject(model, model.loss, self._sample))
            )
        }


class _Counts(keras.callbacks.Callback):
    """Puts updates, examples and seconds so far into the logs of each epoch."""

    KEYS = ("updates", "examples", "seconds")

    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def on_train_begin(self, logs=None):
        self._since = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        epochs, examples = self._batches.position
        logs["updates"] = int(self.model.optimizer.iterations.numpy())
        logs["examples"] = epochs * self._batches.num_examples + examples
        logs["seconds"] = time.perf_counter() - self._since


class _Target(keras.callbacks.Callback):
    """Ends training with the first epoch that reaches a value of a metric."""

    def __init__(self, metric, value):
        super().__init__()
        self._metric, self._value, self.reached = metric, value, False

    def on_epoch_end(self, epoch, logs=None):
        if self._metric not in logs:
            raise keras_tuner.errors.FatalValueError(
                f"target: training has no metric {self._metric!r}, but {', '.join(sorted(logs))}. Pass validation_data for val_ metrics."
            )
        is_better = keras_tuner.Objective(self._metric, _direction(self._metric)).better_than
        if logs[self._metric] == self._value or is_better(logs[self._metric], self._value):
            self.reached = self.model.stop_training = True


def _direction(metric):
    return keras_tuner.engine.metrics_tracking.infer_metric_direction(metric) or "max"


def _last(history):
    return {key: float(values[-1]) for key, values in history.history.items()}


def _set_momentum(optimizer, momentum):
    if not hasattr(optimizer, "momentum"):
        raise keras_tuner.errors.FatalValueError(
            f"momentum: {type(optimizer).__name__} has none. Use keras.optimizers.SGD, or leave momentum out."
        )
    if optimizer.built:
        raise keras_tuner.errors.FatalValueError(
            "momentum: the optimizer is built already. Do not build it in build()."
        )
    optimizer.momentum = momentum


def _checked(key, given):
    """Return a list of values, a pair of numbers, or a value; raise if it is none of these."""
    if isinstance(given, list) and not given:
        raise ValueError(f"{key}=[] holds no value.")
    if isinstance(given, tuple):
        if key == "batch_size":
            raise ValueError(f"batch_size={given!r}: which sizes? Pass a list, such as [32, 64, 128].")
        if len(given) != 2 or not 0 <= given[0] < given[1] or (given[0] == 0 and key != "momentum"):
            raise ValueError(
                f"{key}={given!r} should be a pair (low, high) of positive numbers, or a list of values."
            )
    return given

"""An arm that has all data in one batch: gradient descent with a line search, or L-BFGS.

What other arms call an epoch is here a pass over the data, of which an iteration takes one or more; an update is an
iteration. An interrupted arm begins anew: the memory of L-BFGS is not saved.
"""

import shutil

import keras

from tf_lbgap import training
from tf_lbgap.experiment import arm_callbacks
from tf_lbgap.experiment.arm import UNLIMITED, Arm
from tf_lbgap.experiment.calls import ConfigError, mistakes
from tf_lbgap.experiment.making import first_examples


class FullBatchArm(Arm):
    """Trains an arm with `full_batch`. Adds to each row `passes` and `ended`, why training did."""

    def __init__(self, config, equal, measure):
        super().__init__(config, equal, measure)
        if measure.monitor:
            raise ConfigError(
                "measure: monitor: is not taken for an arm with full_batch. Leave one of the two out."
            )

    def _run(self, seed, split, folder, writer, progress):
        with mistakes():
            with self._clock.part("compile"):
                self._prepare(split, seed)
            settings = dict(self.config["full_batch"])
            trainer = training.FullBatch(self._model, settings.pop("method"), **settings)
            stop = self._target(split)
            hooks = self._hooks(stop, split, seed, folder, progress)
            with self._clock.part("train"):
                trainer.fit(
                    (split.x_train, split.y_train),
                    iterations=self.config["updates"] if self.equal == "updates" else UNLIMITED,
                    passes=None if self.equal == "updates" else self.config["epochs"],
                    callbacks=hooks,
                    verbose=0,
                )
        size = len(keras.tree.flatten(split.y_train)[0])
        place = _Place(size, trainer.passes)
        row = self._finish(seed, split, place, stop, None, None, folder, writer)
        return {**row, "passes": trainer.passes, "ended": trainer.reason}

    def _target(self, split):
        if self.equal != "loss":
            return None
        sample = first_examples(split.x_train, split.y_train, self.measure.check_examples)
        return StopAtLoss(self.config["target_loss"], lambda: self._clean_loss(sample))

    def _hooks(self, stop, split, seed, folder, progress):
        result = [stop] if stop else []
        self._own_callbacks = self._further_callbacks((split.x_train, split.y_train), seed, folder)
        if folder is not None:
            if self.measure.validation_examples:
                result.append(arm_callbacks.Validation(lambda: self._validate(split)))
            for part in ("train", "validation"):  # events of an attempt that was interrupted
                shutil.rmtree(folder / part, ignore_errors=True)
            result.append(arm_callbacks.TensorBoard(folder))
        result += self._own_callbacks
        if progress is not None:
            result.append(Told(self.config, self.equal, progress))
        return result


class StopAtLoss(keras.callbacks.Callback):
    """Stops when the clean loss is at most the target, after two iterations in a row, as `callbacks.TargetLoss` does."""

    def __init__(self, target, clean_loss):
        super().__init__()
        self._target, self._clean_loss = target, clean_loss

    def on_train_begin(self, logs=None):
        self.reached, self._hits = False, 0

    def on_epoch_end(self, epoch, logs=None):
        self._hits = self._hits + 1 if self._clean_loss() <= self._target else 0
        if self._hits == 2:
            self.reached = self.model.stop_training = True


class Told(keras.callbacks.Callback):
    """Tells the run after each iteration how far training is."""

    def __init__(self, config, equal, tell):
        super().__init__()
        self._budget = config["updates"] if equal == "updates" else config["epochs"]
        self._key, self._tell = None if equal == "updates" else "passes", tell

    def on_epoch_end(self, epoch, logs=None):
        done = epoch + 1 if self._key is None else logs[self._key]
        self._tell(min(done / self._budget, 1.0), f"iteration {epoch + 1} loss {logs['loss']:.3g}")


class _Place:
    """What a row asks of a stream."""

    def __init__(self, num_examples, passes):
        self.num_examples, self.position, self.batch_size = num_examples, (passes, 0), num_examples

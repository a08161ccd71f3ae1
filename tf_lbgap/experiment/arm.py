"""One arm of an experiment: a model that is compiled once, and trained and judged anew for each seed.

What a seed decides: the split of the data, the initial weights, the order of examples, and dropout
masks. A seed gives the same numbers whichever seeds ran before it in the process.
"""

import contextlib
import functools
import math
import numbers

from tf_lbgap import batch_normalization, callbacks, data, schedules, training
from tf_lbgap.aside import check_room
from tf_lbgap.callbacks.described import described
from tf_lbgap.callbacks.summaries import Summaries
from tf_lbgap.experiment import arm_callbacks
from tf_lbgap.experiment.calls import (
    ConfigError,
    as_schedule,
    is_call,
    make,
    make_function,
    mistakes,
    takes,
)
from tf_lbgap.experiment.clock import Clock, TimedSteps
from tf_lbgap.experiment.evaluation import Evaluation
from tf_lbgap.experiment.events import write_results
from tf_lbgap.experiment.files import CHECKPOINTS, write_json
from tf_lbgap.experiment.judge import Judge
from tf_lbgap.experiment.making import (
    first_examples,
    load_split,
    make_compiled_model,
    make_model,
    strategy_of,
)

UNLIMITED = 10**6  # epochs, where something else ends training
CRITERION_EXAMPLES = 128  # on which a criterion of curvature measures: those of Yao et al.'s code


class Arm:
    """Trains and judges one arm.

    Args:
        config: The arm's dict, with the keys of `config.DEFAULTS`.
        equal: What is held equal between arms: a key of `config.EQUAL`.
        measure: `config.Measure`.
    """

    def __init__(self, config, equal, measure):
        self.config, self.equal, self.measure = config, equal, measure
        self._strategy = strategy_of(config)
        self._model = self._changes = None
        self._own_callbacks = ()

    def run(self, seed, *, split=None, folder=None, progress=None, checkpoints=None):
        """Train with a seed and return its results.

        Args:
            seed: Whole number.
            split: The data, if not those that the configuration gives for the seed.
            folder: Where weights and TensorBoard events go; None writes nothing.
            progress: Function (fraction, text) that is told how far training is.
            checkpoints: Folder of what an interrupted training goes on from; by default one in the folder.

        Returns:
            Dict of plain numbers: a row of `results.json`.
        """
        self._clock = Clock()
        split = load_split(self.config["data"], seed) if split is None else split
        self._measured = {"data": getattr(split, "name", self.config["data"]["call"]), "seed": seed}
        self._checkpoints = checkpoints or (folder and folder / CHECKPOINTS)
        if folder is None:
            return self._run(seed, split, None, None, progress)
        summaries = Summaries(folder)
        try:
            return self._run(seed, split, folder, summaries.writer, progress)
        finally:
            summaries.close_for_all()  # the folder will have another name

    def _run(self, seed, split, folder, writer, progress):
        with mistakes():
            with self._clock.part("compile"):
                self._prepare(split, seed)
            batches = self._batches(split, seed)
            stop = self._stop(batches, split)
            steering = self._callbacks(batches, stop, split, seed, folder, progress)
            monitor = self._monitor(split, folder)
        with self._clock.part("train"):
            self._model.fit(
                batches,
                epochs=self._epochs,
                shuffle=False,
                verbose=0,
                callbacks=steering if monitor is None else [monitor, *steering],
            )
        steers = next(c for c in steering if getattr(c, "steers_batches", False))
        return self._finish(seed, split, batches, stop, steers, monitor, folder, writer)

    def _finish(self, seed, split, batches, stop, steering, monitor, folder, writer):
        """Judge the trained model, write its files, and return the row."""
        result = self._judge.row(split, seed, self._start, folder, self._clock)
        epoch, examples = batches.position
        result |= {
            "updates": int(self._model.optimizer.iterations.numpy()),
            "examples": epoch * batches.num_examples + examples,
            "epochs": epoch + examples / batches.num_examples,
            "reached": bool(getattr(stop, "reached", True)) and math.isfinite(result["train_loss"]),
        }
        if monitor is not None and monitor.is_within_budget:
            result["monitor_every"] = monitor.cadence
        result["batch_size"] = batches.batch_size
        if folder is not None:
            self._write_results(writer, result, monitor)
            if hasattr(steering, "history"):
                write_json(folder / "decisions.json", steering.history)
            if monitor is not None:
                write_json(folder / "curvature.json", monitor.history)
            # HDF5 takes the process down where the disk is full. Its files have been seen to hold 2.5 times the weights.
            size = sum(v.numpy().nbytes for v in self._model.variables)
            check_room(folder, 3 * size + 200_000)
            self._model.save_weights(folder / "model.weights.h5")
        seconds = {f"seconds_{part}": value for part, value in self._clock.seconds.items()}
        cpu = self._clock.cpu_seconds["train"] + self._clock.cpu_seconds["input"]
        return {"seed": seed, **result, "seconds": sum(seconds.values()), **seconds, "seconds_cpu": cpu}

    def _write_results(self, writer, result, monitor):
        update = result["updates"]
        taken = monitor is not None and monitor.which == "largest" and monitor.history
        is_there = bool(taken) and monitor.history[-1]["update"] == update
        measured = {
            **described(self._model),
            **self._measured,
            "examples": self.measure.top_eigenvalue_examples,
            "batch_normalization": "recalibrated",
        }
        write_results(writer, update, result, measured, eigenvalue=not is_there)

    # Preparing a seed.

    def _prepare(self, split, seed):
        config = self.config
        if self._model is None:
            with self._strategy.scope():
                self._compile(split, seed)
        else:
            _copy_variables(make_model(config["model"], split, seed), self._model)
            for variable, value in zip(self._model.optimizer.variables, self._untouched, strict=True):
                variable.assign(value)
        self._start = [variable.numpy() for variable in self._model.trainable_variables]
        rate = config["learning_rate"]
        if rate is not None and not is_call(rate):
            self._model.optimizer.learning_rate = rate

    def _compile(self, split, seed):
        fresh = make_compiled_model(self.config, split, seed)
        self.loss = fresh.loss
        self._evaluation = Evaluation(fresh, self.loss)
        self._judge = Judge(fresh, self.loss, self._evaluation, self.measure)
        fresh.optimizer.build(fresh.trainable_variables)
        self._untouched = [variable.numpy() for variable in fresh.optimizer.variables]
        TimedSteps.install(fresh, lambda: self._clock)
        self._model = fresh

    def _batches(self, split, seed):
        config = self.config
        size = config["batch_size"]
        self._schedule = as_schedule(size, "batch_size") if is_call(size) else None
        if self._schedule is not None:
            asked = self._schedule(0.0)
            if not isinstance(asked, numbers.Real) or not math.isfinite(asked):
                raise ConfigError(
                    f"batch_size: {size['call']} gave {asked!r} at the start, which is no batch size."
                )
            size = min(round(asked), config["maximum"] or math.inf)
        augment = config["map"] and make_function(config["map"])
        return data.Batches(
            split.x_train,
            split.y_train,
            batch_size=size,
            seed=seed,
            map=augment,
            last_batch=config["last_batch"],
        )

    def _callbacks(self, batches, stop, split, seed, folder, progress):
        config = self.config
        result = self._changing(batches, seed)
        result.append(self._steering(batches, split, folder))
        rate = None
        if is_call(config["learning_rate"]):
            rate = as_schedule(config["learning_rate"], "learning_rate")
        elif config["scale_learning_rate"] != "none" and not is_call(
            config["optimizer"].get("learning_rate")
        ):
            # Else TensorBoard, which asks the optimizer, would draw the rate without the batch's factor.
            rate = schedules.constant(float(self._model.optimizer.learning_rate.numpy()))
        if rate is not None:
            result.append(
                callbacks.LearningRateScheduler(
                    batches, rate, momentum_correction=config["momentum_correction"]
                )
            )
        result += [stop, arm_callbacks.StopAtNaN()] if stop else [arm_callbacks.StopAtNaN()]
        self._own_callbacks = self._further_callbacks(batches, seed, folder)
        if self.measure.validation_examples and (folder is not None or self._own_callbacks):
            result.append(arm_callbacks.Validation(functools.partial(self._validate, split)))
        result += self._own_callbacks
        if folder is not None:
            result.append(callbacks.RunSummary(folder, batches, measured=self._measured))
            result.append(arm_callbacks.TensorBoard(folder))
        if progress is not None:
            result.append(arm_callbacks.Progress(batches, self._fraction, stop, progress))
        if self._checkpoints is not None:
            result.append(
                arm_callbacks.Resumed(self._clock, self._model, progress or arm_callbacks.tell_nobody)
            )
            result.append(self._checkpoint())
        return result

    def _changing(self, batches, seed):
        """The callback that changes updates, in a list. It keeps what was traced from seed to seed, unless it holds data."""
        if not self.config["update"]:
            return []
        needs_batches = any("batches" in takes(call) for call in self.config["update"])
        if self._changes is None or needs_batches:
            self._changes = training.Changes([make(call, batches=batches) for call in self.config["update"]])
        for call, change in zip(self.config["update"], self._changes.changes, strict=True):
            if hasattr(change, "seed"):
                change.seed = call.get("seed", seed)
        return [callbacks.ChangeUpdates(self._changes)]

    def _further_callbacks(self, batches, seed, folder):
        # The statistics of an average are taken when the arm is judged, over all training data.
        offered = {"batches": batches, "recalibrate": False, "log_dir": folder, "seed": seed}
        offered["maximum"] = self.config["maximum"]
        if self.equal in ("epochs", "tuned"):  # else nobody knows beforehand where the half of training is
            offered["epochs"] = self.config["epochs"]
        changes = self._changes.changes if self._changes else []
        adversarial = [change for change in changes if isinstance(change, training.Adversarial)]
        if adversarial:
            offered["change"] = adversarial[0]
        return [make(callback, **offered) for callback in self.config["callbacks"] or ()]

    def _averaged(self):
        """A block in which the model has the weights that it will be judged with."""
        averaging = [c for c in self._own_callbacks if isinstance(c, callbacks.WeightAveraging)]
        return averaging[0].averaged() if averaging else contextlib.nullcontext()

    def _checkpoint(self):
        # Several workers have to agree, and each of them has a clock of its own.
        every = "epoch" if self.config["strategy"] in ("multiworker", "auto") else arm_callbacks.NowAndThen()
        checkpoint = callbacks.Checkpoint(self._checkpoints, every=every, delete_checkpoint=False, verbose=0)
        checkpoint._save = self._clock.part("measure")(checkpoint._save)  # not training
        return checkpoint

    def _steering(self, batches, split, folder):
        """The callback that says how large a batch is."""
        config = self.config
        shared = {
            "maximum": config["maximum"],
            "learning_rate": config["scale_learning_rate"],
            "check_rule": config["check_rule"],
            "momentum_correction": config["momentum_correction"],
            "micro_batch_size": config["micro_batch_size"],
            "ghost_batch_size": config["ghost_batch_size"],
        }
        if config["adaptive"] is not None:
            adaptive = make(config["adaptive"])
            if "top_eigenvalues" in getattr(adaptive["criterion"], "needs", ()):
                adaptive["sample"] = first_examples(split.x_train, split.y_train, CRITERION_EXAMPLES)
            return callbacks.AdaptiveBatchSize(batches, **adaptive, **shared, log_dir=folder)
        schedule = self._schedule or schedules.constant(batches.batch_size)
        more = {"multiple_of": config["multiple_of"], "sizes": config["sizes"]}
        return callbacks.BatchSizeScheduler(batches, schedule, **more, **shared)

    # When to stop.

    @property
    def _epochs(self):
        if self.equal in ("loss", "epochs"):
            return self.config["epochs"]
        return UNLIMITED

    def _stop(self, batches, split):
        if self.equal == "loss":
            sample = first_examples(split.x_train, split.y_train, self.measure.check_examples)
            target, every = self.config["target_loss"], self.measure.check_every
            return callbacks.TargetLoss(batches, target, lambda: self._clean_loss(sample), every=every)
        if self.equal == "updates":
            return arm_callbacks.StopAfterUpdates(self.config["updates"])
        if self.equal == "seconds":
            return arm_callbacks.StopAfterSeconds(
                self.config["seconds"], lambda: self._clock.get_state()["train"]
            )
        return None

    def _clean_loss(self, sample):
        exact = batch_normalization.recalibrated(self._model, sample)
        with self._clock.part("evaluate"), self._evaluation.unless_diverged(sample), self._averaged(), exact:
            return self._evaluation(*sample)[0]
        return math.nan

    def _validate(self, split):
        sample = first_examples(split.x_test, split.y_test, self.measure.validation_examples)
        with self._clock.part("evaluate"), contextlib.ExitStack() as stack:
            for callback in self._own_callbacks:
                if isinstance(callback, callbacks.WeightAveraging) and callback.validate:
                    stack.enter_context(callback.averaged())
                if isinstance(callback, callbacks.Recalibration):
                    stack.enter_context(batch_normalization.recalibrated(self._model, callback.batches))
            return self._evaluation(*sample)

    def _fraction(self, batches, stop):
        if self.equal == "updates":
            return int(self._model.optimizer.iterations.numpy()) / self.config["updates"]
        if self.equal == "seconds":
            return self._clock.get_state()["train"] / self.config["seconds"]
        return batches.progress / self.config["epochs"]

    def _monitor(self, split, folder):
        """The callback that measures while training, and the row keys that tell of it."""
        settings = dict(self.measure.monitor or {})
        if not settings:
            return None
        if settings.get("every") is not None:
            settings.pop("max_overhead", None)  # it was found within that budget
        sample = first_examples(split.x_train, split.y_train, self.measure.top_eigenvalue_examples)
        monitor = callbacks.CurvatureMonitor(
            sample,
            self.loss,
            tolerance=self.measure.tolerance,
            log_dir=folder,
            measured=self._measured,
            **settings,
        )
        monitor._take = self._clock.part("measure")(monitor._take)  # not training
        return monitor


def _copy_variables(source, target):
    for old, new in zip(target.variables, source.variables, strict=True):
        old.assign(new)

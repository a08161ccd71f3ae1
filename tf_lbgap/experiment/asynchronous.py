"""An arm whose updates are asynchronous: workers and a parameter server on this machine.

Weights live on the server while training runs. To be judged they come into a model on one device, the same for all arms.
"""

import contextlib
import itertools
import math
import time

import numpy as np

from tf_lbgap import callbacks, scaling, schedules
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.checkpoints import Folder
from tf_lbgap.experiment import arm
from tf_lbgap.experiment.calls import is_call, make, mistakes
from tf_lbgap.experiment.files import CHECKPOINTS
from tf_lbgap.strategy.local_cluster import cluster
from tf_lbgap.training.asynchronous import Asynchronous


class AsynchronousArm(arm.Arm):
    """Trains an arm with `strategy: parameter_server`.

    Adds to each row `workers`, and `staleness` and `staleness_max`: how many updates of others came between the reading of the
    weights and the applying of a gradient, in the mean and at most.
    """

    def __init__(self, config, equal, measure):
        super().__init__({**config, "strategy": "default"}, equal, measure)
        self._workers = config["workers"]
        self._processes = contextlib.ExitStack()
        # First of all: TensorFlow forgets what was on its devices when it connects to a cluster.
        self._cluster = self._processes.enter_context(cluster(self._workers))
        self._remote = None

    def _run(self, seed, split, folder, writer, progress):
        tell = progress or arm._tell_nobody
        with mistakes():
            with self._clock.part("compile"):
                self._prepare(split, seed)
                self._prepare_remote(split, seed)
            batches = self._batches(split, seed)
            stop = self._stop(batches, split)
        checkpoints = Folder(folder / CHECKPOINTS) if folder is not None else None
        with self._clock.part("train"):
            done = self._train(split, batches, stop, checkpoints, writer, tell)
        self._pull(done)
        batches.go_on_from(done.epoch, done.examples)
        row = self._finish(seed, split, batches, stop, None, None, folder, writer)
        staleness = done.staleness / max(done.updates, 1)
        return {**row, "workers": self._workers, "staleness": staleness, "staleness_max": done.staleness_max}

    def _prepare_remote(self, split, seed):
        if self._remote is None:

            def compiled():
                model = arm.make_model(self.config["model"], split, seed)
                model.compile(make(self.config["optimizer"]), self.loss)
                return model

            self._remote = Asynchronous(self._cluster, compiled)
            self._workers = self._remote.num_workers
        weights = [v.numpy() for v in self._model.variables]
        optimizer = [v.numpy() for v in self._model.optimizer.variables]
        self._remote.set_variables(weights, optimizer)

    # The loop.

    def _train(self, split, batches, stop, checkpoints, writer, tell):
        done = _Done()
        self._go_on(checkpoints, done, tell)
        # For what it plans: sizes, as a stream under `fit` has them.
        scheduler = callbacks.BatchSizeScheduler(
            batches,
            self._schedule or schedules.constant(batches.batch_size),
            maximum=self.config["maximum"],
            multiple_of=self.config["multiple_of"],
            sizes=self.config["sizes"],
            learning_rate=self.config["scale_learning_rate"],
        )
        saved = time.monotonic()
        while done.epoch < self._epochs and not done.is_over:
            self._epoch(split, batches, scheduler, stop, done)
            loss = done.loss / max(done.in_epoch, 1)
            if writer is not None:
                self._write(writer, done, scheduler, loss)
            fraction = self._fraction_of(batches, done)
            tell(min(fraction, 1.0), f"epoch {done.epoch} loss {loss:.3g}")
            if checkpoints is not None and time.monotonic() - saved >= arm.SECONDS_BETWEEN_CHECKPOINTS:
                checkpoints.save(self._state(done))
                saved = time.monotonic()
        return done

    def _epoch(self, split, batches, scheduler, stop, done):
        boundaries, sizes = scheduler.plan(done.epoch, 0)
        order, n = batches.order(done.epoch), batches.num_examples
        spans = list(itertools.pairwise(boundaries))
        if self.equal == "updates":
            spans = spans[: self.config["updates"] - done.updates]

        def examples():  # what is under way when training is over is counted, too
            for low, high in itertools.takewhile(lambda _: not done.is_over, spans):
                index = order[low:high]
                yield np.asarray(split.x_train)[index], np.asarray(split.y_train)[index]

        places = [done.epoch + low / n for low, _ in spans]
        check = 1 / stop.every if hasattr(stop, "every") else 0
        done.loss, done.in_epoch, position = 0.0, 0, 0
        for update in self._remote.epoch(examples(), self._rates(scheduler, places, sizes)):
            before, position = position, position + update.size
            done.note(update)
            if check and math.floor(position / n * check) > math.floor(before / n * check):
                self._check_loss(stop, done)
            if not math.isfinite(update.loss) or self._is_enough(done):
                done.is_over = True
        if done.is_over:
            done.examples = position % n
        done.epoch += position >= n or not done.is_over

    def _rates(self, scheduler, places, sizes):
        """The rate of each update, or None if the optimizer's own stays."""
        rule, rate = self.config["scale_learning_rate"], self.config["learning_rate"]
        if not is_call(rate) and rule == "none":
            return None
        own = float(self._model.optimizer.learning_rate.numpy())
        schedule = arm.as_schedule(rate, "learning_rate") if is_call(rate) else schedules.constant(own)
        kind = rates.kind_of(self._model.optimizer)[0]
        factors = (
            scaling.rate_factor(
                rule,
                int(size),
                scheduler.reference_batch_size(),
                wanted=float(scheduler.schedule(place)),
                optimizer=kind,
            )
            for size, place in zip(sizes, places, strict=False)
        )
        return [float(schedule(place)) * factor for place, factor in zip(places, factors, strict=True)]

    def _is_enough(self, done):
        if self.equal == "updates":
            return done.updates >= self.config["updates"]
        if self.equal == "seconds":
            self._clock.get_state()
            return self._clock.seconds["train"] >= self.config["seconds"]
        return False

    def _check_loss(self, stop, done):
        self._pull(done)
        loss = float(stop.loss())
        done.hits = done.hits + 1 if loss <= stop.target else 0
        if done.hits >= stop.patience or math.isnan(loss):
            stop.reached, done.is_over = done.hits >= stop.patience, True

    def _fraction_of(self, batches, done):
        if self.equal == "updates":
            return done.updates / self.config["updates"]
        if self.equal == "seconds":
            return self._clock.seconds["train"] / self.config["seconds"]
        return done.epoch / self.config["epochs"]

    def _pull(self, done):
        """Bring the weights into the model on one device."""
        for ours, theirs in zip(self._model.variables, self._remote.model.variables, strict=True):
            ours.assign(theirs.numpy())
        self._model.optimizer.iterations.assign(done.updates)

    def _write(self, writer, done, scheduler, loss):
        for tag, value in {
            "generalization/train_loss": loss,
            "schedule/batch_size": scheduler.size_at(max(done.epoch - 1e-9, 0.0)),
            "schedule/staleness": done.staleness / max(done.updates, 1),
            "progress/epochs": float(done.epoch),
        }.items():
            writer.scalar(tag, value, done.updates)

    # A crash: an epoch is begun anew, for which gradients were under way then is not known.

    def _state(self, done):
        weights = [v.numpy() for v in self._remote.model.variables]
        optimizer = [v.numpy() for v in self._remote.model.optimizer.variables]
        return {
            "weights": weights,
            "optimizer": optimizer,
            "done": vars(done),
            "seconds": self._clock.get_state(),
        }

    def _go_on(self, checkpoints, done, tell):
        _, content = checkpoints.newest(lambda line: tell(0.0, line)) if checkpoints else (0, None)
        if content is not None:
            self._remote.set_variables(content["weights"], content["optimizer"])
            vars(done).update(content["done"])
            self._clock.set_state(content["seconds"])
            tell(0.0, f"going on from epoch {done.epoch + 1}")


class _Done:
    """How far training is."""

    def __init__(self):
        self.epoch = self.examples = self.updates = self.staleness = self.staleness_max = self.hits = 0
        self.loss, self.in_epoch, self.is_over = 0.0, 0, False

    def note(self, update):
        self.updates += 1
        self.staleness += update.staleness
        self.staleness_max = max(self.staleness_max, update.staleness)
        self.loss += update.loss * update.size
        self.in_epoch += update.size

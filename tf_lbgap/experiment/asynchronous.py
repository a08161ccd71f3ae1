"""An arm whose updates are asynchronous: workers and a parameter server on this machine.

Weights live on the server while training runs. To be judged they come into a model on one device, the same for all arms.
"""

import contextlib
import itertools

import keras
import numpy as np

from tf_lbgap import callbacks, scaling, schedules
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.checkpoints import Folder
from tf_lbgap.experiment import arm_callbacks
from tf_lbgap.experiment.arm import Arm
from tf_lbgap.experiment.calls import as_schedule, is_call, make, mistakes
from tf_lbgap.experiment.files import CHECKPOINTS
from tf_lbgap.experiment.making import make_model
from tf_lbgap.strategy.local_cluster import cluster
from tf_lbgap.training.asynchronous import Asynchronous


class AsynchronousArm(Arm):
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
        tell = progress or arm_callbacks.tell_nobody
        with mistakes():
            with self._clock.part("compile"):
                self._prepare(split, seed)
                self._prepare_remote(split, seed)
            batches = self._batches(split, seed)
            stop = self._stop(batches, split)
        checkpoints = Checkpoints(folder, self._remote, self._clock, tell) if folder is not None else None
        self._staleness = Staleness()
        with self._clock.part("train"):
            self._train(split, batches, stop, checkpoints, writer, tell)
        self._pull()
        row = self._finish(seed, split, batches, stop, None, None, folder, writer)
        return {**row, "workers": self._workers, **self._staleness.row()}

    def _prepare_remote(self, split, seed):
        if self._remote is None:

            def compiled():
                model = make_model(self.config["model"], split, seed)
                model.compile(make(self.config["optimizer"]), self.loss)
                return model

            self._remote = Asynchronous(self._cluster, compiled)
            self._workers = self._remote.num_workers
        weights = [v.numpy() for v in self._model.variables]
        optimizer = [v.numpy() for v in self._model.optimizer.variables]
        self._remote.set_variables(weights, optimizer)

    # The loop, which calls the callbacks that stop and tell as `fit` would.

    def _train(self, split, batches, stop, checkpoints, writer, tell):
        hooks = [arm_callbacks.StopAtNaN(), arm_callbacks.Progress(batches, self._fraction, stop, tell)]
        hooks = keras.callbacks.CallbackList([stop, *hooks] if stop else hooks, model=self._model)
        hooks.on_train_begin()
        if checkpoints is not None:
            checkpoints.go_on(batches, stop, self._staleness)
            self._model.optimizer.iterations.assign(self._staleness.count)
        # For what it plans: sizes, as a stream under `fit` has them.
        scheduler = callbacks.BatchSizeScheduler(
            batches,
            self._schedule or schedules.constant(batches.batch_size),
            maximum=self.config["maximum"],
            multiple_of=self.config["multiple_of"],
            sizes=self.config["sizes"],
            learning_rate=self.config["scale_learning_rate"],
        )
        self._model.stop_training = False
        while batches.position[0] < self._epochs and not self._model.stop_training:
            self._epoch(split, batches, scheduler, hooks, writer)
            if checkpoints is not None and not self._model.stop_training:
                checkpoints.save_if_due(batches, stop, self._staleness)

    def _epoch(self, split, batches, scheduler, hooks, writer):
        epoch = batches.position[0]
        boundaries, sizes = scheduler.plan(epoch, 0)
        spans = list(itertools.pairwise(boundaries))
        if self.equal == "updates":
            spans = spans[: self.config["updates"] - self._updates]
        order, model = batches.order(epoch), self._model

        def examples():  # what is under way when training is over is counted, too
            for low, high in itertools.takewhile(lambda _: not model.stop_training, spans):
                index = order[low:high]
                yield np.asarray(split.x_train)[index], np.asarray(split.y_train)[index]

        hooks.on_epoch_begin(epoch)
        places = [epoch + low / batches.num_examples for low, _ in spans]
        position, loss = 0, 0.0
        updates = self._remote.epoch(examples(), self._rates(scheduler, places, sizes))
        for size, update in zip(sizes, updates, strict=False):  # the last batch may be smaller than asked
            position += update.size
            loss += update.loss * update.size
            self._note(batches, epoch, position, int(size), update)
            if not model.stop_training:
                hooks.on_train_batch_end(0, {"loss": update.loss})
        if writer is not None:
            self._write(writer, batches, scheduler, loss / position)
        hooks.on_epoch_end(epoch, {"loss": loss / position})

    @property
    def _updates(self):
        return int(self._model.optimizer.iterations.numpy())

    def _note(self, batches, epoch, position, size, update):
        batches.record(epoch, position, size)
        self._model.optimizer.iterations.assign_add(1)
        self._staleness.note(update.staleness)

    def _rates(self, scheduler, places, sizes):
        """The rate of each update, or None if the optimizer's own stays."""
        rule, rate = self.config["scale_learning_rate"], self.config["learning_rate"]
        if not is_call(rate) and rule == "none":
            return None
        own = float(self._model.optimizer.learning_rate.numpy())
        schedule = as_schedule(rate, "learning_rate") if is_call(rate) else schedules.constant(own)
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

    def _clean_loss(self, sample):
        self._pull()
        return super()._clean_loss(sample)

    def _pull(self):
        """Bring the weights into the model on one device."""
        for ours, theirs in zip(self._model.variables, self._remote.model.variables, strict=True):
            ours.assign(theirs.numpy())

    def _write(self, writer, batches, scheduler, loss):
        for tag, value in {
            "generalization/train_loss": loss,
            "schedule/batch_size": scheduler.size_at(max(batches.progress - 1e-9, 0.0)),
            "schedule/staleness": self._staleness.row()["staleness"],
            "progress/epochs": batches.progress,
        }.items():
            writer.scalar(tag, value, self._updates)


class Staleness:
    """Adds up what was seen."""

    def __init__(self):
        self.sum = self.max = self.count = 0

    def note(self, staleness):
        """Add an update."""
        self.sum, self.max, self.count = self.sum + staleness, max(self.max, staleness), self.count + 1

    def row(self):
        """Return what a row of results tells of it."""
        return {"staleness": self.sum / max(self.count, 1), "staleness_max": self.max}


class Checkpoints:
    """What an arm goes on from: whole epochs, for which gradients were under way within one is not known."""

    def __init__(self, folder, remote, clock, tell):
        self._folder, self._remote, self._clock, self._tell = (
            Folder(folder / CHECKPOINTS),
            remote,
            clock,
            tell,
        )
        self._is_due = arm_callbacks.NowAndThen()

    def save_if_due(self, batches, stop, staleness):
        """Save, if the last is some seconds ago."""
        if not self._is_due(None, None):
            return
        model = self._remote.model
        state = {
            "weights": [v.numpy() for v in model.variables],
            "optimizer": [v.numpy() for v in model.optimizer.variables],
            "epoch": batches.position[0],
            "stop": stop.get_state() if hasattr(stop, "get_state") else None,
            "staleness": vars(staleness),
            "seconds": self._clock.get_state(),
        }
        self._folder.save(state)

    def go_on(self, batches, stop, staleness):
        """Take up the newest, if there is one."""
        _, content = self._folder.newest(lambda line: self._tell(0.0, line))
        if content is None:
            return
        self._remote.set_variables(content["weights"], content["optimizer"])
        batches.go_on_from(content["epoch"], 0)
        vars(staleness).update(content["staleness"])
        if content["stop"] is not None:
            stop.set_state(content["stop"])
        self._clock.set_state(content["seconds"])
        self._tell(0.0, f"going on from epoch {content['epoch'] + 1}")

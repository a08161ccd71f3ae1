"""Surviving a crash: `fit` goes on where it was killed, to the bit."""

import pathlib

import keras

from tf_lbgap import strategy
from tf_lbgap.callbacks.cadence import Epochs, cadence_of
from tf_lbgap.callbacks.monitor import check_whole
from tf_lbgap.callbacks.stream import fit_arguments
from tf_lbgap.callbacks.summaries import flush_all
from tf_lbgap.checkpoints import Folder, archive, growing_files, of_callbacks, randomness, variables

FORMAT = 1


class Checkpoint(keras.callbacks.Callback):
    """Save all that a run is while `fit` trains, and let the next `fit` go on from there.

    A checkpoint is one file, complete or not there: weights, statistics and seeds, optimizer, metrics of the running
    epoch, batch size and position in the epoch, what the callbacks remember (criteria, monitors, `AdaptiveBatchSize`,
    and of Keras' own `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`, `TensorBoard`, `History`), and the random
    generators of the process. After a crash start the same script again: `fit` finds the newest checkpoint, says
    so, and ends with the weights, bit for bit on one device, that it would have had. Event files of callbacks with a
    `log_dir` are cut back to the checkpoint, so no step is there twice.

    With `data.Batches` and a batch-size callback a `fit` goes on in the middle of an epoch; else where an epoch began, and Keras
    shuffles arrays and data sets of its own in another order than it would have. It
    does not matter where in the list of callbacks it stands. A checkpoint is made before the first update, too. One that
    is damaged is told of and set aside, and the one before it is taken. Where the disk is full that is said in a line, and
    training goes on.

    A checkpoint takes as much disk as weights, slots of the optimizer and what monitors keep (a `CurvatureMonitor` k vectors of the
    size of the weights, in float64), and the time to write that, in which training waits: 40 ms for 270,000 weights with momentum.
    Of several machines the chief writes, and all have to see the folder.

    A callback of your own is part of it if it has `get_state()`, which returns plain values and arrays, and
    `set_state(state)`, which is called after `on_train_begin`.

    Example:

    ```python
    batches = lb.data.Batches(x, y, batch_size=128, seed=0)
    model.fit(batches, epochs=200, shuffle=False, callbacks=[
        lb.callbacks.BatchSizeScheduler(batches, lb.schedules.staircase(128, factor=5, milestones=[60, 120, 160])),
        lb.callbacks.Checkpoint("runs/a/checkpoints", every=1000),
    ])
    ```

    Args:
        directory: Folder of the checkpoints. A folder belongs to one training run.
        every: When: "epoch", a number of updates, `{"epochs": 2}`, or a function `(update, progress) -> bool`; an update
            that ends an epoch is saved with the end of the epoch. With `steps_per_execution` above 1 at ends of executions.
        keep: How many checkpoints are kept. Above 1, so that there is another if the newest turns out damaged.
        delete_checkpoint: Whether they are removed when `fit` has come to its end, as by Keras' `BackupAndRestore`. Else
            the next `fit` with the same `epochs` finds nothing to do.
        verbose: 1 says which checkpoint training goes on from; 0 only what is wrong.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit` if the checkpoint is of another model,
            optimizer, or seed, or if it is to be made between updates of a `fit` whose position nobody knows.
    """

    def __init__(self, directory, *, every="epoch", keep=2, delete_checkpoint=True, verbose=1):
        super().__init__()
        check_whole(1, keep=keep)
        if "://" in str(directory):
            raise ValueError(
                f"directory={str(directory)!r} should be a folder that this machine sees: a file there gets its name when it is "
                "complete, which object stores cannot do. Mount it, or copy the folder from time to time."
            )
        self.directory = pathlib.Path(directory)
        self.delete_checkpoint, self.verbose = bool(delete_checkpoint), verbose
        self._cadence = cadence_of(every)
        self._is_by_epoch = isinstance(self._cadence, Epochs)
        self._folder = Folder(self.directory, int(keep))
        self._before = None  # files that grew in the process this one goes on from

    def on_train_begin(self, logs=None):
        arguments = fit_arguments()
        if arguments is None:
            raise ValueError(
                "Checkpoint works in model.fit. In a loop of your own use tf.train.Checkpoint, and get_state() of the "
                "batch-size callback."
            )
        self._container = arguments["callbacks"]
        self._callbacks = self._container.callbacks
        stream = arguments.get("x")
        self._is_exact = bool(getattr(stream, "is_steered", False)) or any(
            getattr(callback, "steers_batches", False) and callback.batches is stream
            for callback in self._callbacks
        )
        self._stream = stream if hasattr(stream, "is_steered") else None
        if not self._is_exact and not self._is_by_epoch:
            raise ValueError(
                f"{type(self).__name__} was to save between updates, but this fit cannot go on in the middle of an epoch. "
                'Give fit lb.data.Batches and lb.callbacks.BatchSizeScheduler(batches), or pass every="epoch".'
            )
        self._callbacks.append(_Last(self))  # fit's loop over the callbacks comes to it, after all others

    def on_train_batch_end(self, batch, logs=None):
        """Nothing is done here, but Keras calls callbacks in order, and not in a thread, where one has this hook."""

    # Called by `_Last`, when all other callbacks were.

    def _begin(self):
        self._metrics = None
        self._saved, self._is_owed = None, False
        path, content = self._newest()
        if content is not None:
            try:
                self._go_on_from(path, content)
            except ValueError as error:
                raise ValueError(
                    f"{path} cannot be gone on from: {error}. Pass Checkpoint another directory, or remove that one to "
                    "begin anew."
                ) from error

    def _newest(self):
        """The checkpoint that the chief finds, for all workers."""
        number, content = 0, None
        if strategy.is_chief(self.model):
            number, content = self._folder.newest(self._tell_problem)
        number = strategy.agreed(strategy.of(self.model), number)
        path = self._folder.path_of(number)
        if number and content is None:
            content = archive.read(path)
        return path, content

    def _go_on_from(self, path, content):
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, and this version reads format {FORMAT}")
        if content["examples"] and not self._is_exact:
            raise ValueError(
                "it was made within an epoch, and this fit can only begin one. Give fit lb.data.Batches and a batch-size "
                "callback, as then"
            )
        variables.write(self.model, content["variables"])
        randomness.write(content["randomness"])
        missing = of_callbacks.write(self._callbacks, content["callbacks"])
        if missing and self.verbose and strategy.is_chief(self.model):
            print(f"Checkpoint: it holds the state of {', '.join(missing)}, which this fit does not have.")
        if strategy.is_chief(self.model):
            growing_files.cut_back(content["files"], self._log_folders())
            self._take_over(content, path)
        self._before = content["files"]
        self._metrics = content["variables"] if content["examples"] else None
        self._saved = content["update"]
        self.model._initial_epoch = content["epoch"]  # as Keras' BackupAndRestore does
        if self.verbose and strategy.is_chief(self.model):
            print(f"Checkpoint: going on from {path}: update {content['update']}, {self._place(content)}.")

    def _take_over(self, content, path):
        """Save what this process begins from as its own: if it is killed before its first checkpoint, what it wrote is cut, too."""
        own = {**content, "files": growing_files.taken_over(content["files"])}
        try:
            archive.write(path, own)
        except OSError as error:
            self._tell_problem(f"could not save where it goes on from: {error.strerror or error}.")

    @staticmethod
    def _place(content):
        epoch = f"epoch {content['epoch'] + 1}"
        return f"{epoch}, after {content['examples']} of its examples" if content["examples"] else epoch

    def _begin_epoch(self, epoch):
        self._epoch = epoch
        if self._metrics is not None:  # Keras has just reset them
            spec = self._stream.element_spec
            if not variables.restore_metrics(self.model, self._metrics, spec) and self.verbose:
                print("Checkpoint: loss and metrics of this epoch are of the rest of it.")
            self._metrics = None
        self.model._initial_epoch = None  # or the next fit would begin there, too
        if self._saved is None:
            self._save(epoch)
        self._last = self._update()

    def _end_update(self):
        if self._is_by_epoch:
            return
        update = self._update()
        is_due = self._cadence.at_update(self._last, update, self._progress())
        self._last = update
        if is_due and self.model.stop_training:
            self._is_owed = True  # the end of the epoch belongs to it
        elif is_due:
            self._save(self._epoch)

    def _end_epoch(self, epoch):
        is_owed, self._is_owed = self._is_owed, False
        if self.model.stop_training:
            return  # what made it stop would have to happen again
        if is_owed or self._cadence.at_epoch_end(epoch):
            self._save(epoch + 1)

    def _end(self):
        # A new list, for Keras is in the middle of the old one.
        self._container.callbacks = [
            c for c in self._container.callbacks if getattr(c, "owner", None) is not self
        ]
        if self.delete_checkpoint and strategy.is_chief(self.model):
            self._folder.remove()

    # A checkpoint.

    def _save(self, epoch):
        content = self._content(epoch)  # by all workers, for some values are sums over them
        self._saved = content["update"]
        if not strategy.is_chief(self.model):
            return
        flush_all()
        self._flush_keras()
        content["files"] = growing_files.read(self._log_folders(), self._other_files(), self._before)
        try:
            self._folder.save(content)
        except OSError as error:
            self._tell_problem(
                f"no checkpoint at update {content['update']}: {error.strerror or error}. Training goes on."
            )
        except TypeError as error:
            raise TypeError(
                f"Checkpoint cannot save what get_state() of a callback returned: {error}. Return numbers, strings, arrays, "
                "and lists and dicts of these."
            ) from error

    def _content(self, epoch):
        position = self._stream.position if self._is_exact else (epoch, 0)
        return {
            "format": FORMAT,
            "update": self._update(),
            "epoch": int(position[0]),
            "examples": int(position[1]),
            "variables": variables.read(self.model),
            "randomness": randomness.read(),
            "callbacks": of_callbacks.read(self._callbacks),
        }

    def _log_folders(self):
        folders = (getattr(callback, "log_dir", None) for callback in self._callbacks)
        return [folder for folder in folders if folder is not None and "://" not in str(folder)]

    def _other_files(self):
        """Rows that Keras' CSVLogger appends; what it does not append it begins anew in each fit."""
        loggers = (c for c in self._callbacks if isinstance(c, keras.callbacks.CSVLogger) and c.append)
        return [logger.filename for logger in loggers]

    def _flush_keras(self):
        for callback in self._callbacks:
            for writer in getattr(callback, "_writers", {}).values():
                writer.flush()

    def _update(self):
        return int(self.model.optimizer.iterations.numpy())

    def _progress(self):
        return float(self._stream.progress)

    def _tell_problem(self, line):
        if strategy.is_chief(self.model):
            print(f"Checkpoint: {line}", flush=True)


class _Last(keras.callbacks.Callback):
    """Stands at the end of the list of callbacks of a `fit`, where the others have done what they do."""

    def __init__(self, owner):
        super().__init__()
        self.owner = owner

    def on_train_begin(self, logs=None):
        self.owner._begin()

    def on_epoch_begin(self, epoch, logs=None):
        self.owner._begin_epoch(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.owner._end_update()

    def on_epoch_end(self, epoch, logs=None):
        self.owner._end_epoch(epoch)

    def on_train_end(self, logs=None):
        self.owner._end()

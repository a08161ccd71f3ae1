"""A `fit` that broke off and is called again ends as if nothing had happened, to the bit.

What breaks it off here is an exception in a callback; `test_resume.py` kills processes.
"""

import errno
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from slow import slow

import tf_lbgap as lb
from tf_lbgap.checkpoints import Folder, archive, growing_files

N = 103


class Broken(Exception):
    pass


class BreakAt(keras.callbacks.Callback):
    """Raises after an update, as if the process had died there."""

    def __init__(self, update):
        super().__init__()
        self.update = update

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) >= self.update:
            raise Broken


class Heard(keras.callbacks.Callback):
    """Remembers, by the two methods that a callback of a user's own may have."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))

    def get_state(self):
        return {"losses": np.array(self.losses)}

    def set_state(self, state):
        self.losses = state["losses"].tolist()


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 4)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype("int64")


def network(width=6, steps_per_execution=1):
    """With all that a checkpoint has to know of: statistics, seeds, slots, metrics."""
    layers = [keras.layers.Dense(width, activation="tanh"), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dropout(0.3), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], steps_per_execution=steps_per_execution
    )
    return model


def small(width=6):
    """For what does not depend on what is trained."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(width)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def planned(batches, folder):
    growth = lb.schedules.staircase(8, factor=2, milestones=[0.7, 2.2])
    return [
        lb.callbacks.BatchSizeScheduler(batches, growth, micro_batch_size=10),
        lb.callbacks.LearningRateScheduler(batches, lb.schedules.cosine(0.01, epochs=4)),
    ]


def static(batches, folder):
    growth = lb.schedules.staircase(8, factor=2, milestones=[0.7, 2.2])
    return [lb.callbacks.BatchSizeScheduler(batches, growth, micro_batch_size=4, static_shapes=True)]


def adaptive(batches, folder):
    criterion = lb.growth.GradientNoiseScale()
    options = {"every": 2, "window": 3, "learning_rate": "adascale", "check_rule": False}
    return [lb.callbacks.AdaptiveBatchSize(batches, criterion, maximum=40, sizes="any", **options)]


def by_losses(batches, folder):
    """Decides by the mean loss of epochs, and of the rest of one."""
    return [lb.callbacks.AdaptiveBatchSize(batches, lb.growth.Plateau(patience=1), maximum=40)]


def by_hand(batches, folder):
    class Set(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == 9:
                batches.batch_size = 20

    return [lb.callbacks.BatchSizeScheduler(batches), Set()]


def monitored(batches, folder):
    x, y = data()
    return [
        *planned(batches, folder),
        lb.callbacks.GradientNoiseMonitor(batches, every=2, window=4, burn_in=1, probe="separate"),
        lb.callbacks.CurvatureMonitor((x[:40], y[:40]), k=2, every=6, at_start=True, log_dir=folder),
        lb.callbacks.TargetLoss(batches, 1e-9, lambda: 1.0),
        lb.callbacks.RunSummary(folder, batches, every=5),
        keras.callbacks.TensorBoard(folder, write_graph=False, update_freq=3),
        keras.callbacks.CSVLogger(folder / "log.csv", append=True),
    ]


def by_keras(batches, folder):
    return [
        lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(8)),
        # No loss is ever lower by 10, so patience counts from the first epoch on.
        keras.callbacks.EarlyStopping("loss", patience=3, min_delta=10, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", patience=2, min_delta=10),
    ]


def arrays(**options):
    return lb.data.Batches(*data(), batch_size=8, seed=1, **options)


def streamed(**options):
    dataset = tf.data.Dataset.from_tensor_slices(data())
    return lb.data.Batches.from_dataset(dataset, batch_size=8, seed=1, **options)


def run(folder, callbacks, *, breaks=(), every=3, first=True, stream=arrays, epochs=4, **options):
    """Train, as often as it breaks off and once more; return model, history and the last callbacks."""
    for at in (*breaks, None):
        keras.utils.set_random_seed(11)
        model, batches = network(**options), stream()
        others = [*callbacks(batches, folder), Heard()]
        checkpoint = lb.callbacks.Checkpoint(folder / "checkpoints", every=every, verbose=0)
        ours = [checkpoint, *others] if first else [*others, checkpoint]
        if at is not None:
            with pytest.raises(Broken):
                fit(model, batches, [*ours, BreakAt(at)], epochs)
        else:
            history = fit(model, batches, ours, epochs)
    return model, history, others


def fit(model, batches, callbacks, epochs):
    return model.fit(
        batches, epochs=epochs, shuffle=False, verbose=0, validation_data=data(), callbacks=callbacks
    )


def variables(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_same(ours, theirs):
    for a, b in zip(variables(ours[0]), variables(theirs[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert json.dumps(ours[1].history) == json.dumps(theirs[1].history)
    assert ours[1].epoch == theirs[1].epoch
    for a, b in zip(ours[2], theirs[2], strict=True):
        for name in ("history", "probes", "losses", "wait", "best", "best_epoch"):
            if hasattr(a, name):
                assert without_seconds(getattr(a, name)) == without_seconds(getattr(b, name)), name


def without_seconds(rows):
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return json.dumps(rows)


@pytest.mark.parametrize(
    "callbacks, options",
    [
        (planned, {"breaks": (14,)}),
        slow(planned, {}),
        slow(planned, {"steps_per_execution": 4, "every": 5}),
        slow(planned, {"first": False}),
        slow(planned, {"every": "epoch"}),
        slow(static, {}),
        slow(planned, {"stream": streamed}),
        slow(adaptive, {}),
        slow(adaptive, {"first": False, "every": 1}),
        slow(adaptive, {"stream": streamed}),
        slow(by_losses, {"epochs": 8, "every": 4}),
        slow(by_hand, {}),
        slow(monitored, {}),
        slow(monitored, {"first": False}),
        slow(by_keras, {"epochs": 12, "every": 5, "breaks": (17, 32)}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fit_that_broke_off_ends_as_if_it_had_not(callbacks, options, tmp_path):
    whole = run(tmp_path / "whole", callbacks, **{**options, "breaks": ()})
    again = run(tmp_path / "again", callbacks, **{"breaks": (2, 14, 17), **options})
    assert_same(again, whole)
    assert not (tmp_path / "again" / "checkpoints").exists()


def test_each_example_of_an_epoch_is_seen_once(tmp_path):
    """Of 103 examples 40 were seen before the crash; the rest of the epoch holds the other 63."""
    x = np.arange(N, dtype="float32")[:, None]
    seen = []

    def run(breaks):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        step = model.train_step
        vars(model)["train_step"] = lambda batch: (seen.append(batch[0].numpy().ravel()), step(batch))[1]
        batches = lb.data.Batches(x, x, batch_size=8, seed=1)
        ours = [lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(8))]
        ours += [lb.callbacks.Checkpoint(tmp_path, every=5, verbose=0)] + [BreakAt(7)] * breaks
        model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=ours)

    with pytest.raises(Broken):
        run(True)
    del seen[5:]  # made after the last checkpoint, and made again
    run(False)
    assert [len(ids) for ids in seen] == [8] * 12 + [7]
    assert sorted(np.concatenate(seen).tolist()) == list(range(N))


def test_data_of_keras_own_go_on_where_an_epoch_began(tmp_path):
    def run(breaks=False):
        keras.utils.set_random_seed(2)
        model = small()
        checkpoint = lb.callbacks.Checkpoint(tmp_path, verbose=0)
        dataset = tf.data.Dataset.from_tensor_slices(data()).batch(8)
        ours = [checkpoint] + [BreakAt(30)] * breaks
        return model, model.fit(dataset, epochs=4, verbose=0, callbacks=ours), []

    whole = run()
    with pytest.raises(Broken):
        run(breaks=True)
    assert_same(run(), whole)


def test_it_says_where_it_goes_on(tmp_path, capsys):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    assert "Checkpoint" not in capsys.readouterr().out
    broken_fit(tmp_path)
    out = capsys.readouterr().out
    assert out.startswith(
        f"Checkpoint: going on from {tmp_path}/checkpoint-000003.npz: update 6, epoch 1, after 48 of its examples."
    )


def broken_fit(folder, at=None, seed=1, width=6, epochs=2, keep=2, **options):
    model, batches = small(width), lb.data.Batches(*data(), batch_size=8, seed=seed)
    ours = [lb.callbacks.BatchSizeScheduler(batches), *([] if at is None else [BreakAt(at)])]
    ours.append(lb.callbacks.Checkpoint(folder, every=3, keep=keep, **options))
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=ours)
    return model


# Files that are not whole.


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(damage, tmp_path, capsys):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    newest = tmp_path / "checkpoint-000003.npz"
    content = bytearray(newest.read_bytes())
    middle = content.index(b"array_0.npy") + 200
    content[middle] ^= 0xFF
    newest.write_bytes(
        {"cut": newest.read_bytes()[: len(content) // 2], "flipped": content, "empty": b""}[damage]
    )
    broken_fit(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Checkpoint: {newest} is damaged (")
    assert lines[0].endswith("; going back to checkpoint-000002.npz.")
    assert lines[1].startswith(f"Checkpoint: going on from {tmp_path}/checkpoint-000002.npz: update 3,")


def test_without_any_whole_checkpoint_training_begins_anew_and_says_so(tmp_path, capsys):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(b"no zip")
    model = broken_fit(tmp_path)
    assert "there is no other; training begins anew." in capsys.readouterr().out
    assert int(model.optimizer.iterations.numpy()) == 2 * 13


def test_what_a_killed_process_was_writing_is_never_read(tmp_path):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    half = tmp_path / ".checkpoint-000004.npz.12345"
    half.write_bytes((tmp_path / "checkpoint-000003.npz").read_bytes()[:100])
    with pytest.raises(Broken):
        broken_fit(tmp_path, 10)
    assert not half.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000003.npz", "checkpoint-000004.npz"]


def test_a_full_disk_is_said_in_a_line_and_training_goes_on(tmp_path, capsys, monkeypatch):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    capsys.readouterr()

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    broken_fit(tmp_path, epochs=1, delete_checkpoint=False, verbose=0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Checkpoint: could not save where it goes on from: No space left on device."
    assert lines[1:] == [
        f"Checkpoint: no checkpoint at update {update}: No space left on device. Training goes on."
        for update in (9, 12, 13)
        if update < 13
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000002.npz", "checkpoint-000003.npz"]


# Who may go on from it.


@pytest.mark.parametrize(
    "change, text",
    [
        ({"width": 7}, "the checkpoint is of another model: 'sequential"),
        ({"seed": 2}, "saved with seed 1, but the stream has seed 2"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change, text, tmp_path):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    with pytest.raises(ValueError, match="cannot be gone on from") as error:
        broken_fit(tmp_path, **change)
    assert text in str(error.value) and "another directory" in str(error.value)


def test_an_object_store_is_refused():
    with pytest.raises(ValueError, match="directory='gs://bucket/a' should be a folder"):
        lb.callbacks.Checkpoint("gs://bucket/a")


def test_a_state_that_cannot_be_saved_is_told_before_the_first_update(tmp_path):
    class Odd(Heard):
        def get_state(self):
            return {"model": self.model}

    batches, model = arrays(), small()
    ours = [lb.callbacks.BatchSizeScheduler(batches), Odd(), lb.callbacks.Checkpoint(tmp_path)]
    with pytest.raises(TypeError, match=r"get_state\(\) of a callback returned: a Sequential"):
        model.fit(batches, shuffle=False, verbose=0, callbacks=ours)
    assert int(model.optimizer.iterations.numpy()) == 0


def test_a_checkpoint_within_an_epoch_needs_a_fit_that_can_begin_there(tmp_path):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 7)
    with pytest.raises(ValueError, match="it was made within an epoch, and this fit can only begin one"):
        small().fit(arrays(), shuffle=False, verbose=0, callbacks=[lb.callbacks.Checkpoint(tmp_path)])


def test_a_fit_whose_position_nobody_knows_saves_no_updates(tmp_path):
    with pytest.raises(ValueError, match='or pass every="epoch"'):
        network().fit(*data(), verbose=0, callbacks=[lb.callbacks.Checkpoint(tmp_path, every=3)])


def test_the_folder_is_left_on_request_and_the_next_fit_finds_nothing_to_do(tmp_path):
    first = broken_fit(tmp_path, delete_checkpoint=False)
    del first
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [
        "checkpoint-000008.npz",
        "checkpoint-000009.npz",
    ]  # at the start, and every 3 of 26 updates
    last = broken_fit(tmp_path, epochs=2)
    assert int(last.optimizer.iterations.numpy()) == 26
    assert not tmp_path.exists()


def test_a_second_fit_of_the_same_model_begins_where_it_is_told(tmp_path):
    with pytest.raises(Broken):
        broken_fit(tmp_path, 20)
    model = broken_fit(tmp_path)
    batches = arrays()
    history = model.fit(
        batches, epochs=2, shuffle=False, verbose=0, callbacks=[lb.callbacks.BatchSizeScheduler(batches)]
    )
    assert history.epoch == [0, 1]


# The parts.


def test_a_file_gives_back_what_was_written(tmp_path):
    content = {
        "none": None,
        "numbers": [1, 2.5, True, float("nan"), float("inf"), "ü"],
        "nested": {"array": np.arange(6).reshape(2, 3), "empty": np.zeros((0, 3), "float16")},
        "bfloat16": tf.constant([1.5, 2.0], tf.bfloat16).numpy(),
        "scalar": np.float32(0.1),
        "flag": np.array(True),
    }
    archive.write(tmp_path / "a.npz", content)
    found = archive.read(tmp_path / "a.npz")
    assert str(found["numbers"]) == str(content["numbers"]) and found["none"] is None
    assert found["scalar"] == content["scalar"]
    for ours, theirs in (
        (found["nested"]["array"], content["nested"]["array"]),
        (found["nested"]["empty"], content["nested"]["empty"]),
        (found["bfloat16"], content["bfloat16"]),
        (found["flag"], content["flag"]),
    ):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("content", [{1: 2}, {"a": {1, 2}}, [keras.layers.Dense(1)]])
def test_what_is_neither_plain_nor_an_array_is_refused(content, tmp_path):
    with pytest.raises(TypeError):
        archive.write(tmp_path / "a.npz", content)
    assert not list(tmp_path.iterdir())


def test_a_folder_keeps_the_last_few(tmp_path):
    folder = Folder(tmp_path / "new", keep=2)
    for value in range(4):
        folder.save({"value": value})
    assert sorted(p.name for p in folder.path.iterdir()) == ["checkpoint-000003.npz", "checkpoint-000004.npz"]
    assert folder.newest(print) == (4, {"value": 3})


def test_event_files_of_others_are_left_alone(tmp_path, monkeypatch):
    ours = growing_files.this_process()
    old, new, other = (
        tmp_path / name
        for name in (f"events.out.tfevents.1{ours}0", f"b.tfevents.2{ours}1", "c.tfevents.3.x.1.0")
    )
    old.write_bytes(b"12345")
    other.write_bytes(b"12345")
    state = growing_files.read([tmp_path])
    for path in (old, new, other):
        with open(path, "ab") as file:
            file.write(b"more")
    monkeypatch.setattr(growing_files, "this_process", lambda: ".host.2.")  # another process goes on
    growing_files.cut_back(state, [tmp_path])
    assert old.read_bytes() == b"12345" and not new.exists() and other.read_bytes() == b"12345more"


def test_what_a_process_wrote_that_died_before_its_first_checkpoint_is_cut_too(tmp_path, monkeypatch):
    """Three processes: the second goes on from the first one's checkpoint, and is killed before it made one of its own."""
    with pytest.raises(Broken):
        broken_fit(tmp_path / "c", 7)
    log = tmp_path / "log"
    log.mkdir()
    monkeypatch.setattr(lb.callbacks.Checkpoint, "_log_folders", lambda self: [log])
    for number in (2, 3):
        monkeypatch.setattr(growing_files, "this_process", lambda number=number: f".host.{number}.")
        with pytest.raises(Broken):
            broken_fit(tmp_path / "c", 8)  # there is one after 6 updates, and the next is after 9
        (log / f"events.out.tfevents.1.host.{number}.0").write_bytes(b"an event")
        (log / "events.out.tfevents.1.another.9.0").write_bytes(b"an event")
        names = sorted(path.name for path in log.iterdir())
        assert names == ["events.out.tfevents.1.another.9.0", f"events.out.tfevents.1.host.{number}.0"]

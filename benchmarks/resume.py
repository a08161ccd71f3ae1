"""Training that is killed with SIGKILL at random moments, and the same script started again each time.

A small network on 2,003 examples, whose batch grows in the middle of epochs 1 and 3, under `callbacks.Checkpoint`. Each
update notes which examples it saw, its batch size and its rate. The driver lets the training run once without
interruption and once with kills, and compares: the final weights and optimizer, bit for bit; every example once per
epoch; the histories of batch and rate; what Keras' History holds; and each step of the event files.

    python benchmarks/resume.py                       20 kills, some minutes
    python benchmarks/resume.py --kills 5 --strategy mirrored
    python benchmarks/resume.py --adaptive            a criterion chooses the batch, and noise is monitored

The last line is the largest difference of a weight (bar: 0 on one device, 1e-6 under a strategy). Exit code 1 if anything
differs.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

N, EPOCHS, BAR = 2003, 4, {"default": 0.0, "mirrored": 1e-6}


# The training.


def train(folder, strategy_name, adaptive):
    """Train in a folder, going on from what is there, and leave `weights.npz` and `history.json`."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tf_lbgap as lb

    if strategy_name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = tf.distribute.get_strategy()
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 8)).astype("float32")
    y = (x[:, 1:4].prod(1) > 0).astype("int64")
    x[:, 0] = np.arange(N)  # the ids, which the network does not look at
    ids = []

    def note(batch):
        ids.append(batch[:, 0].astype(int).tolist())
        return batch[:, 1:]

    class Noted(keras.layers.Layer):
        def call(self, inputs, training=False):
            if not training:
                return inputs[:, 1:]
            outputs = tf.numpy_function(note, [inputs], tf.float32)
            outputs.set_shape([None, 7])
            return outputs

    with strategy.scope():
        layers = [keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(2)]
        if strategy_name == "default":
            layers[1:1] = [keras.layers.BatchNormalization()]
            if not adaptive:
                layers[1:1] = [keras.layers.Dropout(0.1)]
        model = keras.Sequential([keras.Input((8,)), Noted(), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])

    class Log(keras.callbacks.Callback):
        """A line per update, on disk before the next: what was really trained on."""

        def on_train_batch_end(self, batch, logs=None):
            line = {
                "update": int(self.model.optimizer.iterations.numpy()),
                "epoch": batches.position[0] - (batches.position[1] == 0),
                "ids": sorted(itertools.chain.from_iterable(ids)),
                "size": logs["batch_size"],
                "rate": logs.get("learning_rate"),
            }
            ids.clear()
            os.write(file, (json.dumps(line) + "\n").encode())
            time.sleep(0.005)

    file = os.open(folder / "updates.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    batches = lb.data.Batches(x, y, batch_size=16, seed=1)
    if adaptive:
        steering = lb.callbacks.AdaptiveBatchSize(
            batches,
            lb.growth.GradientNoiseScale(),
            maximum=256,
            every=4,
            window=8,
            learning_rate="adascale",
            check_rule=False,
            log_dir=folder / "log",
        )
        more = []
    else:
        growth = lb.schedules.staircase(16, factor=4, milestones=[1.4, 3.3])
        steering = lb.callbacks.BatchSizeScheduler(batches, growth)
        more = [lb.callbacks.LearningRateScheduler(batches, lb.schedules.cosine(0.003, epochs=EPOCHS))]
        if strategy_name == "default":
            sample = (x[:200], y[:200])
            more.append(
                lb.callbacks.CurvatureMonitor(sample, k=2, every=40, log_dir=folder / "log", at_start=True)
            )
    callbacks = [
        # Kept, for there is more to do when fit has ended: who is killed then would train again.
        lb.callbacks.Checkpoint(folder / "checkpoints", every=7, delete_checkpoint=False),
        steering,
        *more,
        lb.callbacks.RunSummary(folder / "log", batches, every=5),
        keras.callbacks.TensorBoard(folder / "log", write_graph=False, update_freq=10),
        keras.callbacks.EarlyStopping("val_loss", patience=100, restore_best_weights=False),
        Log(),
    ]
    history = model.fit(
        batches,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        validation_data=(x[:512], y[:512]),
    )
    values = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    np.savez(folder / "weights.npz", *values)
    rows = getattr(steering, "history", [])
    text = json.dumps({"history": history.history, "epochs": history.epoch, "decisions": rows})
    (folder / "history.json").write_text(text)


# The driver.


def start(folder, options):
    """Start the training in a process of its own."""
    command = [sys.executable, __file__, "--train", str(folder), "--strategy", options.strategy]
    return subprocess.Popen(
        command + ["--adaptive"] * options.adaptive,
        stdout=open(folder / "out.txt", "ab"),
        stderr=subprocess.STDOUT,
    )


def finish(folder, process):
    """Wait until it has ended by itself."""
    if process.wait():
        print((folder / "out.txt").read_text()[-3000:])
        raise SystemExit("the training failed")


def updates(folder):
    """Return the lines of a training; one that was killed may have left half a line."""
    try:
        lines = (folder / "updates.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def kill_at_random_moments(folder, options, total, rng):
    """Kill the training so many times, at updates all over its length, and then let it end."""
    marks = sorted(rng.randrange(0, total - 5) for _ in range(options.kills))
    for mark in marks:
        process = start(folder, options)
        while process.poll() is None and max((row["update"] for row in updates(folder)), default=0) < mark:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        last = max((row["update"] for row in updates(folder)), default=0)
        print(f"killed after update {last} of {total}", flush=True)
    finish(folder, start(folder, options))


def events_of(folder):
    """Return [(tag, step, value)] of the event files below a folder, each as often as it is there."""
    import numpy as np
    import tensorflow as tf

    found = []
    for path in sorted((folder / "log").rglob("*tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                part = path.parent.name
                if value.tag.endswith("eigenvalues"):  # a block of rows, however they were gathered
                    found += [(part, value.tag, int(row[0]), str(np.delete(row, 1))) for row in array]
                else:
                    number = array.tolist() if array.size < 50 else array.size
                    found.append((part, value.tag, event.step, str(number)))
    return sorted(found)


def differences(whole, killed, bar):
    """Print what differs between two trainings; return the largest difference of a variable and whether all is well."""
    import numpy as np

    with np.load(whole / "weights.npz") as a, np.load(killed / "weights.npz") as b:
        largest = max(float(np.abs(a[key].astype(float) - b[key].astype(float)).max()) for key in a.files)
    wrong = [] if largest <= bar else [f"a variable differs by {largest}"]
    expected = {row["update"]: row for row in updates(whole)}
    for row in updates(killed):  # also those that a killed process made after its last checkpoint
        if row != expected.get(row["update"]):
            wrong.append(f"update {row['update']}: {row} is not {expected.get(row['update'])}")
    seen = {row["update"]: row for row in updates(killed)}
    if seen.keys() != expected.keys():
        wrong.append(f"there are {len(seen)} updates, and not {len(expected)}")
    left_out = N % 2 if bar else 0
    for epoch in range(EPOCHS):
        ids = [i for row in seen.values() if row["epoch"] == epoch for i in row["ids"]]
        if len(ids) != N - left_out or len(set(ids)) != len(ids):
            wrong.append(f"epoch {epoch}: {len(ids)} examples, {len(set(ids))} different ones")
    if not bar and (whole / "history.json").read_text() != (killed / "history.json").read_text():
        wrong.append("history.json differs")
    ours, theirs = events_of(whole), events_of(killed)
    if [event[:3] for event in ours] != [event[:3] for event in theirs]:
        odd = sorted(set(e[:3] for e in ours) ^ set(e[:3] for e in theirs))[:5]
        wrong.append(f"event files: {len(theirs)} values, not {len(ours)}: {odd}")
    elif not bar:
        odd = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b and not _is_a_time(a[1])]
        wrong += [f"event files: {a} is not {b}" for a, b in odd[:5]]
    for line in wrong[:20]:
        print(line[:300])
    return largest, not wrong


def _is_a_time(tag):
    return "seconds" in tag or "steps_per_second" in tag


def main():
    """Run the comparison, or with --train one training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="of the moments")
    parser.add_argument("--strategy", choices=sorted(BAR), default="default")
    parser.add_argument("--adaptive", action="store_true")
    parser.add_argument("--train", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, options.strategy, options.adaptive)
        return 0
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"moments by seed {seed}")
    with tempfile.TemporaryDirectory() as work:
        whole, killed = pathlib.Path(work, "whole"), pathlib.Path(work, "killed")
        whole.mkdir()
        killed.mkdir()
        finish(whole, start(whole, options))
        total = len(updates(whole))
        kill_at_random_moments(killed, options, total, random.Random(seed))
        largest, is_well = differences(whole, killed, BAR[options.strategy])
    print(
        f"{'as without interruption' if is_well else 'DIFFERENT'} after {options.kills} kills, {total} updates"
    )
    print(f"largest difference of a weight: {largest}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())

"""One training, under a strategy that the command line names: a program for tests of several devices and processes.

    python tests/distributed.py FOLDER --strategy mirrored --devices 4

It leaves `result-<task>.npz` in FOLDER: the final weights, and the batch sizes and rates of all updates.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

import tf_lbgap as lb

N, EPOCHS, RATE, MOMENTUM = 403, 4, 0.05, 0.9
SIZES = {0.0: 32, 0.6: 95, 1.5: 21, 2.5: 66}


def size_at(progress):
    """Grows, shrinks, and grows: within epochs, and to sizes that 2 and 4 do not divide."""
    return SIZES[max(start for start in SIZES if start <= progress)]


def rate_at(progress):
    """Another rate at each update."""
    return RATE / (1 + progress)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6)).astype("float32")
    return x, (x[:, :3].prod(1) > 0).astype("int64")


def network():
    layers = [keras.layers.Dense(12, activation="tanh"), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((6,)), *layers])


class Noted(keras.callbacks.Callback):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.rows = seconds, []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append((logs["batch_size"], logs["learning_rate"]))
        if self.seconds:
            print(f"update {int(self.model.optimizer.iterations.numpy())}", flush=True)
            time.sleep(self.seconds)


def measured(strategy):
    """Train a little and measure; return numbers that should not depend on the devices."""
    x, y = (part[:96] for part in data())
    with strategy.scope():
        model = network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss)
    batches = lb.data.Batches(x, y, batch_size=32, seed=0)
    probes = {"every": 2, "window": 4, "burn_in": 0, "num_micro_batches": 4}
    adaptive = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.InnerProductTest(theta=1e9), every=2, window=3, num_micro_batches=4, sizes="any"
    )
    noise = [
        lb.callbacks.GradientNoiseMonitor(batches, **probes, per_layer=True),
        lb.callbacks.GradientNoiseMonitor(batches, **probes, probe="separate", prefix="separate_"),
    ]
    curvature = lb.callbacks.CurvatureMonitor(batches, k=2, trace=6, tolerance=1e-6, every="epoch")
    callbacks = [adaptive, *noise, curvature]
    model.fit(batches, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    found = {"eigenvalues": [row["values"] for row in curvature.history]}
    found["trace"] = [row["trace"] for row in curvature.history]
    for monitor in noise:
        for key in ("trace", "squared_norm", "noise_scale"):
            found[f"{monitor.prefix}noise_{key}"] = [row[key] for row in monitor.history]
    found["layers"] = [layer["trace"] for row in noise[0].history for layer in row["layers"].values()]
    found["products"] = [row["numbers"]["inner_product_variance"] for row in adaptive.history]
    for operator in (lb.curvature.GaussNewtonOperator, lb.curvature.FisherOperator):
        pairs = lb.curvature.top_eigenpairs(operator(model, loss, batches), 2, tolerance=1e-7)
        found[operator.__name__] = pairs.values
    found["ascent"] = lb.sharpness.ascent_sharpness(model, loss, (x, y))
    found["average"] = lb.sharpness.average_sharpness(model, loss, (x, y), seed=0)
    found["ragged"] = lb.curvature.trace(
        lb.curvature.HessianOperator(model, loss, lb.data.Batches(x[:95], y[:95], batch_size=40)),
        num_products=10,
    ).value
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--strategy", default="default")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--micro-batch-size", type=int)
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="to sleep after each update, which is told"
    )
    parser.add_argument("--without", help="a cure of strategy.keras_cures that is not to be applied")
    options = parser.parse_args()
    if options.without:
        setattr(lb.strategy.keras_cures, options.without, lambda *arguments: None)
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * options.devices
    )
    strategy = lb.strategy.from_name(options.strategy)
    x, y = data()
    keras.utils.set_random_seed(7)
    if options.measure:
        np.savez(options.folder / "result-0.npz", **measured(strategy))
        return
    with strategy.scope():
        model = network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, metrics=["accuracy"])
    first = model.get_weights()
    batches = lb.data.Batches(x, y, batch_size=32, seed=3)
    noted = Noted(options.seconds)
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches, size_at, micro_batch_size=options.micro_batch_size),
        lb.callbacks.LearningRateScheduler(batches, rate_at),
        lb.callbacks.RunSummary(options.folder / "log", batches),
        noted,
    ]
    if options.checkpoint:
        callbacks.append(lb.callbacks.Checkpoint(options.folder / "checkpoints", every=3))
    history = model.fit(
        batches,
        epochs=EPOCHS,
        shuffle=False,
        verbose=2,
        callbacks=callbacks,
        validation_data=(x[:101], y[:101]),
    )
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0)
    order = [batches.order(epoch) for epoch in range(EPOCHS)]
    np.savez(
        options.folder / f"result-{task}.npz",
        rows=np.array(noted.rows),
        order=np.array(order),
        event_files=len(list((options.folder / "log").iterdir())),
        **{f"first_{i}": w for i, w in enumerate(first)},
        **{f"weight_{i}": w for i, w in enumerate(model.get_weights())},
        **{key: np.array(values) for key, values in history.history.items()},
    )


if __name__ == "__main__":
    main()

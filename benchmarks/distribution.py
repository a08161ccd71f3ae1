"""What the stream and the callbacks cost under MirroredStrategy: against plain `fit` under the same strategy.

Three epochs of `fit` through shuffle().batch().prefetch(), and three through `Batches` with a `BatchSizeScheduler` and a
`LearningRateScheduler` that sets a rate per update, in interleaved pairs whose order alternates; the ratio's median with a 95 %
interval from order statistics. The second column adds what survives a crash to both: a `Checkpoint` per epoch, and Keras'
`BackupAndRestore`. On CPUs the devices are logical ones of one processor, and the time is that of the process; on two or more
GPUs it is that of the wall.

    python benchmarks/distribution.py                  some ten minutes on two cores
    python benchmarks/distribution.py --pairs 3        a look
    python benchmarks/distribution.py --devices 4

Target: the worst median of the first column at most 1.05. The line for GPUs says NOT MEASURED where there are fewer than two.
"""

import argparse
import functools
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from stream import compare, interval

import tf_lbgap as lb
from tf_lbgap.strategy import device_iterators

N, EPOCHS, SIZES = 10_240, 3, (64, 256, 1024)


def workloads():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(N, 28, 28, 1)).astype("float32")
    labels = rng.integers(0, 10, N)
    mlp = functools.partial(lb.networks.mlp, (784,), widths=(256, 256), seed=0)
    yield "mlp", mlp, images.reshape(N, -1), labels
    yield "cnn", functools.partial(lb.networks.small_cnn, seed=0), images, labels


def measure(devices, clock, pairs):
    """Print a line per workload and size; return the worst median."""
    device_iterators.install()  # as `from_name` does, and here for both: else each waits for its iterators now and then
    strategy, worst = tf.distribute.MirroredStrategy(devices), 0.0
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for name, make, x, y in workloads():
        with strategy.scope():
            models = [make(), make()]
            for model in models:
                model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
        for size in SIZES:
            dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(N, seed=0)
            dataset = dataset.batch(size).prefetch(tf.data.AUTOTUNE)
            batches = lb.data.Batches(x, y, batch_size=size)
            steering = [
                lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(size)),
                lb.callbacks.LearningRateScheduler(batches, lb.schedules.cosine(0.01, epochs=EPOCHS)),
            ]
            ours = functools.partial(models[0].fit, batches, epochs=EPOCHS, shuffle=False, verbose=0)
            plain = functools.partial(models[1].fit, dataset, epochs=EPOCHS, shuffle=False, verbose=0)
            cells = []
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = lb.callbacks.Checkpoint(f"{folder}/ours", verbose=0)
                backup = keras.callbacks.BackupAndRestore(f"{folder}/theirs")
                for one, other in (([], []), ([checkpoint], [backup])):
                    ratios = compare(
                        functools.partial(ours, callbacks=steering + one),
                        functools.partial(plain, callbacks=other),
                        pairs,
                        clock,
                    )
                    median, (low, high) = np.median(ratios), interval(ratios)
                    worst = worst if one else max(worst, median)
                    cells.append(f"{median:.3f} ({low:.3f} to {high:.3f})")
            print(f"{name:<6} {size:>5}  {cells[0]:<28} {cells[1]}", flush=True)
    return worst


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--devices", type=int, default=2, help="logical CPU devices")
    options = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * options.devices
    )
    print(f"workload, batch, ours / plain on {options.devices} logical CPUs, CPU time")
    worst = measure([f"CPU:{i}" for i in range(options.devices)], time.process_time, options.pairs)
    if len(gpus) > 1:
        print(f"workload, batch, ours / plain on {len(gpus)} GPUs, wall time")
        worst = max(worst, measure([f"GPU:{i}" for i in range(len(gpus))], time.perf_counter, options.pairs))
    else:
        print(f"GPUs: NOT MEASURED, this machine has {len(gpus)}")
    print(f"worst median ratio: {worst:.3f}")


if __name__ == "__main__":
    main()

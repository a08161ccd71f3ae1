"""What an update accumulated from micro-batches takes, in memory and time, against the plain one.

A network of three convolutions of 16 channels on 28 x 28 images, one update with 2,048 examples. Memory is the growth
of the process in that update, its peak (VmHWM) over what it had before (VmRSS), each variant in a process of its
own and traced before on small batches; the median of several. Time is wall time in interleaved pairs whose order
alternates, the median of the ratios. The last lines are the two ratios to watch.

    python benchmarks/accumulation.py                 some minutes on two cores
    python benchmarks/accumulation.py --pairs 3 --processes 1       a look

Target, for micro-batches of 256: growth at most 0.20 of the plain update's, time at most 1.10.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH, SIZES = 2048, (1024, 256, 64)


def make(micro_batch_size):
    """Return a compiled model, its `TrainFunctions` and one batch; 0 examples stand for the plain step."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tf_lbgap as lb

    keras.utils.set_random_seed(0)
    convolutions = [keras.layers.Conv2D(16, 3, padding="same", activation="relu") for _ in range(3)]
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), *convolutions, keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])
    functions = lb.training.TrainFunctions(model)
    choose(functions, micro_batch_size)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(BATCH, 28, 28, 1)), tf.float32)
    y = tf.constant(rng.integers(0, 10, BATCH))
    return model, functions, (x, y)


def choose(functions, micro_batch_size):
    """Let the next update be accumulated, or plain."""
    if micro_batch_size:
        functions.use_accumulating(micro_batch_size)
    else:
        functions.use_plain()


def update(model, x, y):
    """Make one update and wait for it."""
    float(model.train_function(iter([(x, y)]))["loss"])


def growth(micro_batch_size):
    """Return by how many MiB this process grows in one update."""
    from tf_lbgap.training import memory

    model, _, (x, y) = make(micro_batch_size)
    for n in (8, 12, 16):  # the second shape is traced as any shape
        update(model, x[:n], y[:n])
    before, peak = memory.resident(), memory.Peak()
    with peak.watched():
        update(model, x, y)
    return (peak.bytes - before) / 2**20


def growth_of_a_process(micro_batch_size):
    """Return `growth` in a new process."""
    command = [sys.executable, __file__, "--growth", str(micro_batch_size)]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split()[-1]
    )


def time_ratios(micro_batch_size, pairs):
    """Return wall time over that of the plain update, for each pair."""
    model, functions, batch = make(micro_batch_size)

    def seconds(size):
        choose(functions, size)
        start = time.perf_counter()
        update(model, *batch)
        return time.perf_counter() - start

    seconds(0), seconds(micro_batch_size)
    ratios = []
    for i in range(pairs):
        if i % 2:
            ours, plain = seconds(micro_batch_size), seconds(0)
        else:
            plain, ours = seconds(0), seconds(micro_batch_size)
        ratios.append(ours / plain)
    return ratios


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--growth", type=int, help="only print the MiB of one update in this process")
    options = parser.parse_args()
    if options.growth is not None:
        print(growth(options.growth))
        return

    def typical(size):
        return statistics.median(growth_of_a_process(size) for _ in range(options.processes))

    plain = typical(0)
    print(f"{'micro-batch':>11}  {'growth / MiB':>12}  {'/ plain':>7}  time / plain (range)")
    print(f"{'plain':>11}  {plain:>12.1f}")
    watched = None
    for size in SIZES:
        grown, ratios = typical(size), time_ratios(size, options.pairs)
        median = statistics.median(ratios)
        print(
            f"{size:>11}  {grown:>12.1f}  {grown / plain:>7.3f}  {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            flush=True,
        )
        if size == 256:
            watched = grown / plain, median
    print(f"growth of micro-batches of 256 over plain: {watched[0]:.3f}")
    print(f"time of micro-batches of 256 over plain: {watched[1]:.3f}")


if __name__ == "__main__":
    main()

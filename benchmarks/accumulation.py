"""What an update accumulated from micro-batches takes, in memory and time, against the plain one.

Networks of convolutions of 16 channels on 28 x 28 images, one update with 2,048 examples. Memory is the growth of the
process in that update, its peak (VmHWM) over what it had before (VmRSS), each variant in a process of its own and
traced before on small batches; the median of several. A plain update with 256 examples is what parts of 256 can
reach at best: kernels take some memory whatever the batch, which weighs in a network of three convolutions. Blocks
from 64 KiB on go back to the system when they are freed: with the C library's own habits up to 120 MiB more of what
was freed stay with the process, now and then, and the figures say little. Time is wall time in interleaved pairs
whose order alternates, the median of the ratios, for three convolutions. The last lines are the ratios to watch.

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

BATCH, SIZES, DEPTHS = 2048, (1024, 256, 64), (3, 10)


def make(micro_batch_size, depth=3):
    """Return a compiled model, its `TrainFunctions` and one batch; 0 examples stand for the plain step."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tf_lbgap as lb

    keras.utils.set_random_seed(0)
    convolutions = [keras.layers.Conv2D(16, 3, padding="same", activation="relu") for _ in range(depth)]
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


def growth(micro_batch_size, depth, examples):
    """Return by how many MiB this process grows in one update."""
    from tf_lbgap.training import memory

    model, _, (x, y) = make(micro_batch_size, depth)
    for n in (8, 12, 16):  # the second shape is traced as any shape
        update(model, x[:n], y[:n])
    x, y = x[:examples], y[:examples]
    before, peak = memory.resident(), memory.Peak()
    with peak.watched():
        update(model, x, y)
    return (peak.bytes - before) / 2**20


def growth_of_a_process(*arguments):
    """Return `growth` in a new process."""
    command = [sys.executable, __file__, "--growth", *map(str, arguments)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(result.stdout.strip().split()[-1])


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
    parser.add_argument(
        "--growth", type=int, nargs=3, help="only print the MiB of one update in this process"
    )
    options = parser.parse_args()
    if options.growth is not None:
        print(growth(*options.growth))
        return

    def typical(*arguments):
        return statistics.median(growth_of_a_process(*arguments) for _ in range(options.processes))

    watched = {}
    for depth in DEPTHS:
        plain, best = typical(0, depth, BATCH), typical(0, depth, 256)
        print(
            f"{depth} convolutions, plain update: {plain:.1f} MiB with {BATCH} examples, {best:.1f} with 256"
        )
        for size in SIZES:
            grown = typical(size, depth, BATCH)
            line = f"  micro-batches of {size}: {grown:.1f} MiB, {grown / plain:.3f} of plain"
            if depth == DEPTHS[0]:
                ratios = time_ratios(size, options.pairs)
                median = statistics.median(ratios)
                line += f"; time {median:.3f} of plain ({min(ratios):.3f} to {max(ratios):.3f})"
                watched[f"time of micro-batches of {size} over plain"] = median
            print(line, flush=True)
            watched[f"growth of micro-batches of {size} over plain, {depth} convolutions"] = grown / plain
    for name, value in watched.items():
        if " 256 " in name:
            print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()

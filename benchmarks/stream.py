"""What the stream costs: `fit` through `Batches` against `fit` through shuffle().batch().prefetch().

Process CPU time of one epoch, in interleaved pairs whose order alternates; the ratio's median with a
95 % interval from order statistics. Three workloads at three batch sizes, each with the stream alone
and with a `BatchSizeScheduler`. The last line is the worst median, the figure to watch.

    python benchmarks/stream.py                 about 15 minutes on two cores
    python benchmarks/stream.py --pairs 3       a look
    python benchmarks/stream.py --only mlp      one of mlp, cnn, cnn-augmented

Target: at most 1.05 each (aim 1.0), and at most 2 traces of the training step over ten sizes.
"""

import argparse
import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

import tf_lbgap as lb

N, SIZES = 20_000, (64, 256, 1024)


def augment(x, y, seed):
    """Flip and shift whole batches, as cheap augmentation does."""
    x = tf.image.stateless_random_flip_left_right(x, seed)
    padded = tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]])
    return tf.image.stateless_random_crop(padded, tf.shape(x), seed), y


def augment_unseeded(x, y):
    return augment(x, y, tf.random.uniform([2], maxval=2**30, dtype=tf.int32))


def workloads():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(N, 28, 28, 1)).astype("float32")
    labels = rng.integers(0, 10, N)
    flat = images.reshape(N, -1)
    yield "mlp", lb.networks.mlp((784,), widths=(256, 256), seed=0), flat, labels, None
    yield "cnn", lb.networks.small_cnn(seed=0), images, labels, None
    yield "cnn-augmented", lb.networks.small_cnn(seed=0), images, labels, augment


def plain(x, y, size, function):
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(N, seed=0).batch(size)
    if function is not None:
        dataset = dataset.map(augment_unseeded, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def compare(one, other, pairs, clock=time.process_time):
    """Return the sorted ratios one / other of the seconds of interleaved pairs, after one of each to warm up."""

    def seconds(function):
        start = clock()
        function()
        return clock() - start

    one(), other()
    ratios = []
    for i in range(pairs):
        if i % 2:
            above, below = seconds(one), seconds(other)
        else:
            below, above = seconds(other), seconds(one)
        ratios.append(above / below)
    return np.sort(ratios)


def interval(ratios):
    """Return the 95 % interval of the median from order statistics (binomial)."""
    n = len(ratios)
    k = int(scipy.stats.binom.ppf(0.025, n, 0.5))
    return ratios[max(k - 1, 0)], ratios[min(n - k, n - 1)]


def count_traces():
    """Return how often the training step is traced over ten batch sizes."""
    traces = []

    class Counting(keras.Sequential):
        def train_step(self, data):
            traces.append(1)
            return super().train_step(data)

    model = Counting([keras.Input((784,)), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = lb.data.Batches(np.zeros((2003, 784), "float32"), np.zeros(2003, int), batch_size=8)
    schedule = lb.schedules.staircase(8, factor=1.6, milestones=[0.5 * i for i in range(1, 10)])
    scheduler = lb.callbacks.BatchSizeScheduler(batches, schedule)
    history = model.fit(batches, epochs=5, shuffle=False, verbose=0, callbacks=[scheduler])
    assert len(set(history.history["batch_size"])) == 5
    return len(traces)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", choices=["mlp", "cnn", "cnn-augmented"])
    options = parser.parse_args()
    pairs = options.pairs
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    worst = 0.0
    print(f"{'workload':<14} {'batch':>5}  {'Batches / plain':<28} {'with BatchSizeScheduler / plain'}")
    for name, model, x, y, function in workloads():
        if options.only not in (None, name):
            continue
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
        for size in SIZES:
            dataset = plain(x, y, size, function)
            alone = lb.data.Batches(x, y, batch_size=size, map=function)
            steered = lb.data.Batches(x, y, batch_size=size, map=function)
            scheduler = lb.callbacks.BatchSizeScheduler(steered, lb.schedules.constant(size))

            fit = functools.partial(model.fit, shuffle=False, verbose=0)
            cells = []
            for ours in (
                functools.partial(fit, alone),
                functools.partial(fit, steered, callbacks=[scheduler]),
            ):
                ratios = compare(ours, functools.partial(fit, dataset), pairs)
                median, (low, high) = np.median(ratios), interval(ratios)
                worst = max(worst, median)
                cells.append(f"{median:.3f} ({low:.3f} to {high:.3f})")
            print(f"{name:<14} {size:>5}  {cells[0]:<28} {cells[1]}", flush=True)
    print(f"traces of the training step over ten batch sizes: {count_traces()}")
    print(f"worst median ratio: {worst:.3f}")


if __name__ == "__main__":
    main()

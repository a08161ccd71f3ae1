"""What the remedies cost: the time of an update with each, over that with what Keras has in its place.

Updates of compiled models through their own train functions, traced for batches of any size, as `fit` has
them. CPU time on one thread, in interleaved pairs of a few updates each, whose order alternates; the median
of the ratios with its 95 % interval from order statistics, and the range. A row is a line in `rows()`: a
name, two sides, and a target. A side is a function without arguments that returns a function: which makes one
update, and waits for it.

    python benchmarks/remedies.py                       some minutes on two cores
    python benchmarks/remedies.py --pairs 5             a look
    python benchmarks/remedies.py --only Lars           rows whose name has this in it

Targets: SAM and FGSM training at most 2.1 of SGD, LARS at most 1.15 of SGD with momentum, LAMB at most 1.15 of Adam,
ghost batch normalization at most 1.10 of `BatchNormalization`; the other changes of the update have no target. The
last lines are the ratios to watch.
"""

import argparse
import dataclasses
import functools
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from stream import compare, interval

import tf_lbgap as lb

UPDATES = 5  # of each side, in each pair
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


@dataclasses.dataclass(frozen=True)
class Row:
    """A remedy and what it is compared with."""

    name: str
    ours: Callable  # () -> (() -> None), which makes an update
    theirs: Callable
    target: float | None  # the most that the ratio of their times may be


def batch_for(model, batch_size):
    """Return (x, y) of random numbers and labels that a classifier of ten classes takes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size, *model.input_shape[1:]))
    return tf.constant(x, tf.float32), tf.constant(rng.integers(0, 10, batch_size))


def plain(make_model, make_optimizer, batch_size, change=None):
    """Return a function that makes an update of a model compiled with an optimizer, changed by `change()`."""
    model = make_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make_optimizer(), loss)
    x, y = batch_for(model, batch_size)
    model.fit(x[: batch_size // 2], y[: batch_size // 2], batch_size=batch_size // 3, verbose=0)
    if change is not None:
        changes = lb.training.Changes(change())
        changes.begin_fit(model)
        changes.put()

    def update():
        float(model.train_function(iter([(x, y)]))["loss"])

    for n in (batch_size // 2, batch_size // 3):  # traced for any size after the second
        model.train_function(iter([(x[:n], y[:n])]))
    return update


def rows():
    mlp = functools.partial(lb.networks.mlp, (784,), widths=(256, 256), seed=0)
    cnn = functools.partial(lb.networks.small_cnn, seed=0)
    f1 = functools.partial(lb.networks.f1, seed=0)
    resnet = functools.partial(lb.networks.resnet, (32, 32, 3), depth=8, seed=0)
    sgd = functools.partial(keras.optimizers.SGD, 0.01, momentum=0.9)
    lars = functools.partial(lb.optimizers.Lars, 0.01, weight_decay=1e-4)
    adam = functools.partial(keras.optimizers.Adam, 0.001)
    lamb = functools.partial(lb.optimizers.Lamb, 0.001, weight_decay=0.01)

    def side(model, optimizer, batch_size):
        return functools.partial(plain, model, optimizer, batch_size)

    for name, model, batch_size in (
        ("mlp, batch 128", mlp, 128),
        ("mlp, batch 1024", mlp, 1024),
        ("small_cnn, batch 128", cnn, 128),
        ("small_cnn, batch 512", cnn, 512),
    ):
        theirs = {optimizer: side(model, optimizer, batch_size) for optimizer in (sgd, adam)}
        yield Row(f"Lars over SGD, {name}", side(model, lars, batch_size), theirs[sgd], 1.15)
        yield Row(f"Lamb over Adam, {name}", side(model, lamb, batch_size), theirs[adam], 1.15)
    for name, model, batch_size, size in (
        ("f1, batch 512 in parts of 128", f1, 512, 128),
        ("f1, ragged batch 500 in parts of 96", f1, 500, 96),
        ("resnet8, batch 128 in parts of 32", resnet, 128, 32),
    ):
        ghost = functools.partial(_with_ghosts, model, size)
        ours = side(ghost, sgd, batch_size)
        yield Row(f"GhostBatchNormalization, {name}", ours, side(model, sgd, batch_size), 1.10)


def rows_of_changes():
    cnn = functools.partial(lb.networks.small_cnn, seed=0)
    mlp = functools.partial(lb.networks.mlp, (784,), widths=(256, 256), seed=0)
    resnet = functools.partial(lb.networks.resnet, (32, 32, 3), depth=8, seed=0)
    sgd = functools.partial(keras.optimizers.SGD, 0.01, momentum=0.9)
    changes = (
        ("SAM", lb.training.SharpnessAware, 2.1),
        ("FGSM training", functools.partial(lb.training.Adversarial, "fgsm", 0.01), 2.1),
        (
            "FGSM training, both losses",
            functools.partial(lb.training.Adversarial, mix="add", ratio=0.5),
            None,
        ),
        ("random signs", functools.partial(lb.training.Adversarial, "random_sign", 0.01), None),
        ("m-SAM, m = 128", functools.partial(lb.training.SharpnessAware, m=128), None),
        ("conservative, 3 steps", lb.training.Conservative, None),
        ("stability training", lb.training.Stability, None),
        ("noisy gradients", functools.partial(lb.training.NoisyGradient, 64), None),
    )
    for name, change, target in changes:
        networks = [("small_cnn", cnn, 512), ("mlp", mlp, 512)]
        for network, model, batch_size in networks + [("resnet8", resnet, 128)] * (target is not None):
            theirs = functools.partial(plain, model, sgd, batch_size)
            ours = functools.partial(plain, model, sgd, batch_size, change)
            yield Row(f"{name} over SGD, {network}, batch {batch_size}", ours, theirs, target)


def _with_ghosts(make_model, size):
    return lb.layers.with_ghost_batch_normalization(make_model(), size)


def measure(row, pairs):
    """Return the sorted ratios of a row."""

    def several(update):
        for _ in range(UPDATES):
            update()

    ours, theirs = (functools.partial(several, side()) for side in (row.ours, row.theirs))
    return compare(ours, theirs, pairs, time.process_time)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--only", default="", help="measure rows whose name has this in it")
    options = parser.parse_args()
    watched = []
    for row in (*rows(), *rows_of_changes()):
        if options.only.lower() not in row.name.lower():
            continue
        ratios = measure(row, options.pairs)
        median, (low, high) = float(np.median(ratios)), interval(ratios)
        watched.append((row, median))
        spread = f"95 % {low:.3f} to {high:.3f}, range {ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"{row.name}: {len(ratios)} pairs, {spread}, median {median:.3f}", flush=True)
        keras.backend.clear_session()
    for row, median in watched:
        target = f" (target {row.target:.2f})" if row.target else ""
        print(f"{row.name}{target}: {median:.3f}")


if __name__ == "__main__":
    main()

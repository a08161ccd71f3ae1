"""What `GradientNoiseMonitor` costs at its default: CPU time of `fit` with it over that of `fit` without.

Many pairs of short fits, interleaved and in turns of order, on one model whose functions are all compiled beforehand, on one thread:
threads that wait for each other use CPU time, too, now more, now less. The ratio is the median over pairs, with the
distribution-free 95 % interval of a median. The last line is the worst ratio.

    python benchmarks/gradient_noise.py                 about 4 minutes
    python benchmarks/gradient_noise.py --pairs 15      a look
    python benchmarks/gradient_noise.py --only mlp      one of mlp, cnn

Target: at most 1.03.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

import tf_lbgap as lb

BATCH, EPOCHS = 128, 1
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def workloads():
    """Yield name, compiled model, inputs and labels."""
    rng = np.random.default_rng(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for name, model, n in (
        ("mlp", lb.networks.mlp((784,), 10, widths=(256, 256), seed=0), 19_200),
        ("cnn", lb.networks.small_cnn((28, 28, 1), 10, seed=0), 6_400),
    ):
        labels = rng.integers(0, 10, n)
        images = rng.normal(size=(n, *model.input_shape[1:])).astype("float32")
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
        yield name, model, images, labels


def fit_seconds(model, batches, callbacks):
    """Return the CPU seconds of a fit."""
    start = time.process_time()
    model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    return time.process_time() - start


def interval_of_median(values, confidence=0.95):
    """Return the order statistics between which the median of the distribution lies."""
    low = int(scipy.stats.binom.ppf((1 - confidence) / 2, len(values), 0.5))
    ordered = np.sort(values)
    return ordered[max(low - 1, 0)], ordered[min(len(values) - low, len(values) - 1)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=75)
    parser.add_argument("--only", choices=["mlp", "cnn"])
    options = parser.parse_args()
    medians = []
    for name, model, x, y in workloads():
        if options.only not in (None, name):
            continue
        batches = lb.data.Batches(x, y, batch_size=BATCH, seed=0)

        def monitored(model=model, batches=batches):
            return fit_seconds(model, batches, [lb.callbacks.GradientNoiseMonitor(batches)])

        def plain(model=model, batches=batches):
            return fit_seconds(model, batches, [])

        monitored(), plain()
        ratios = []
        for pair in range(options.pairs):
            if pair % 2:
                first, second = plain(), monitored()
            else:
                second, first = monitored(), plain()
            ratios.append(second / first)
        low, high = interval_of_median(ratios)
        medians.append(float(np.median(ratios)))
        print(
            f"{name:<4} {len(ratios)} pairs: median ratio {medians[-1]:.3f} (95 % interval {low:.3f} to {high:.3f}), "
            f"without a fit takes {first:.2f} s of CPU",
            flush=True,
        )
    print(f"worst median ratio: {max(medians):.3f}")


if __name__ == "__main__":
    main()

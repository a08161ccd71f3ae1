"""Is the advised batch the fastest? A minute of `advise` against training to the target at every size.

Brute force: every size of the ladder is trained to the target loss, as `lbgap run` does, at each of four rates on a split and
a seed that serve for nothing else; the fastest rate of each size is then run on further seeds, split, weights and order
drawn anew, in turn with the other sizes. Counted are the seconds of `fit` that train or wait for input: of each seed the quicker
of two runs, which make the same updates and are disturbed by other programs in turn; then the median over seeds. The advisor sees none of that: it gets one model and one stream, at the batch and rate of the configuration, with
another seed for each of its trials, and its advice is run on the seeds of brute force, in turn with it.

    python benchmarks/advise.py                     8 minutes on two cores
    python benchmarks/advise.py --data digits --advices 1 --seeds 3          a look

Two ratios over the fastest size's seconds: of the advised size at the rate that brute force found for it, and of the advised size
at the advised rate, as a user would train. The last line of each data set is the worse of the two, of all trials.

Target: at most 1.25, and at most 60 seconds for an advice.
"""

import argparse
import math
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
DATA = {
    "digits": ("quickstart.yaml", ["arms={small: {batch_size: 25}}"]),
    "fashion": ("fashion_cnn.yaml", ["data.num_train=3000", "target_loss=0.3"]),
}
MULTIPLES = (1, 2, 4, 8)  # of the configuration's own rate
TUNING_SEED, FIRST_ADVICE = 1000, 2000
SLOWEST = 1.5  # updates, or for smaller batches examples, over those of the configuration's own batch: the rest is given up


class Trained:
    """Trains an arm of a configuration at any size and rate, as `lbgap run` does.

    Args:
        name: Key of `DATA`.
    """

    def __init__(self, name):
        from tf_lbgap import experiment
        from tf_lbgap.experiment.arm import Arm

        file, overrides = DATA[name]
        loaded = experiment.load(CONFIGS / file, [*overrides, "measure.top_eigenvalue_examples=0"])
        self.config = dict(loaded.arms[loaded.reference])
        self._arm, self._splits, self._limit = Arm(dict(self.config), "loss", loaded.measure), {}, None
        self.rate = float(self.config["optimizer"]["learning_rate"])
        self.batch_size = self.config["batch_size"]
        row = self._row(self.batch_size, self.rate, TUNING_SEED)
        self._limit = SLOWEST * row["updates"], SLOWEST * row["examples"]

    def split(self, seed):
        """Return the data of a seed."""
        from tf_lbgap.experiment.making import load_split

        if seed not in self._splits:
            self._splits[seed] = load_split(self.config["data"], seed)
        return self._splits[seed]

    def seconds(self, batch_size, rate, seed):
        """Return the seconds of `fit` to the target, infinite if it was not reached."""
        row = self._row(batch_size, rate, seed)
        return row["seconds_train"] + row["seconds_input"] if row["reached"] else math.inf

    def _row(self, batch_size, rate, seed):
        split = self.split(seed)
        config = {**self.config, "batch_size": batch_size, "learning_rate": rate}
        if self._limit is not None:
            updates, examples = self._limit
            config["epochs"] = math.ceil(max(examples, updates * batch_size) / len(split.x_train))
        self._arm.config.update(config)
        return self._arm.run(seed, split=split)


def brute_force(trained, sizes):
    """Return the fastest rate of each size on the tuning seed, a dict."""
    rates = {}
    for size in sizes:
        took = {m: trained.seconds(size, m * trained.rate, TUNING_SEED) for m in MULTIPLES}
        best = min(took, key=took.get)
        if math.isfinite(took[best]):
            rates[size] = best * trained.rate
        told = ", ".join(f"{m * trained.rate:g}: {s:.2f} s" for m, s in took.items())
        print(f"  batch {size:>5,}: {told}", flush=True)
    return rates


def advised(trained, seed):
    """Return an advice for the model and the data of a seed, and the seconds that it took."""
    import tf_lbgap as lb
    from tf_lbgap.experiment.calls import make
    from tf_lbgap.experiment.making import make_model

    split, config = trained.split(seed), trained.config
    model = make_model(config["model"], split, seed)
    model.compile(make(config["optimizer"]), make(config["loss"]), metrics=["accuracy"], jit_compile=False)
    batches = lb.data.Batches(split.x_train, split.y_train, batch_size=trained.batch_size, seed=seed)
    start = time.perf_counter()
    advice = lb.advise(model, batches, target_loss=config["target_loss"])
    return advice, time.perf_counter() - start


def compare(name, advices, seeds):
    """Print the table of a data set, and return the worst ratio and the longest advice."""
    trained = Trained(name)
    print(
        f"{name}: batch {trained.batch_size} at a rate of {trained.rate:g}, to a loss of {trained.config['target_loss']:g}"
    )
    given = []
    for trial in range(advices):
        advice, seconds = advised(trained, FIRST_ADVICE + trial)
        given.append((advice, seconds))
        print(f"  advice {trial} in {seconds:.1f} s: {advice.sentences[0]}", flush=True)
    sizes = sorted({*(row.batch_size for row in given[0][0].sizes), *(a.batch_size for a, _ in given)})
    rates = brute_force(trained, sizes)
    entries = list(dict.fromkeys([*rates.items(), *((a.batch_size, a.learning_rate) for a, _ in given)]))
    took = {entry: [] for entry in entries}
    for seed in range(seeds):
        twice = [
            {entry: trained.seconds(*entry, seed) for entry in order} for order in (entries, entries[::-1])
        ]
        for entry in entries:
            took[entry].append(min(run[entry] for run in twice))
    median = {entry: statistics.median(seconds) for entry, seconds in took.items()}
    for (size, rate), seconds in median.items():
        every = ", ".join(f"{s:.2f}" for s in took[size, rate])
        print(f"  batch {size:>5,} at {rate:<7.3g}: {seconds:.3f} s ({every})")
    least = min(median[entry] for entry in rates.items())
    worst = 0.0
    for trial, (advice, _) in enumerate(given):
        size = advice.batch_size
        ratios = [
            median[entry] / least
            for entry in ((size, rates.get(size)), (size, advice.learning_rate))
            if entry in median
        ]
        worst = max(worst, *ratios)
        print(
            f"  advice {trial}: batch {size:,}: {ratios[0]:.2f} of the fastest at its tuned rate, {ratios[-1]:.2f} at the advised rate"
        )
    return worst, max(seconds for _, seconds in given)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=sorted(DATA), nargs="*", default=list(DATA))
    parser.add_argument("--advices", type=int, default=2, help="how many trials of the advisor")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = {name: compare(name, options.advices, options.seeds) for name in options.data}
    for name, (worst, seconds) in found.items():
        print(f"{name}: seconds of the longest advice: {seconds:.1f}")
        print(f"{name}: advised over brute force, the worse of both rates: {worst:.3f}")


if __name__ == "__main__":
    main()

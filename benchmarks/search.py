"""What `lbgap search` finds and what it costs: against the best of a grid, and against plain Keras Tuner.

configs/search.yaml is searched. So is a grid of as many batches by as many rates; the best of both, and what plain Keras Tuner
finds, are trained anew on 20 fresh seeds and judged on test data that none of them saw.

Plain Keras Tuner tunes batch and rate as two hyperparameters in `model.fit(batch_size=...)` with a cosine of Keras', as many trials
of as many executions, on one split of the same training data. A point is one of test accuracy above what Keras' default rate of
0.01 reaches with a batch of 32.

    python benchmarks/search.py                    some ten minutes on two cores
    python benchmarks/search.py --jobs 1 --output runs/benchmark

Targets: the search takes less than 300 seconds on two cores; what it found is not worse than the grid's best, with a margin of half a
point (one-sided, 5 %).
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tf_lbgap import experiment, search
from tf_lbgap.claims import non_inferiority, summarize

SIZES = [8, 16, 32, 64, 128, 256]
RATES = {"range": [0.003, 1.0], "scale": "log", "num": 6}
EPOCHS, TRIALS, SEEDS, FRESH, MARGIN = 12, 36, 3, 20, 0.005
CONFIG = os.path.join(os.path.dirname(__file__), "..", "configs", "search.yaml")


class Told:
    """Prints a dot for each trial."""

    def began(self, search, num_train):
        print(search.name, end=" ", flush=True)

    def started(self, trial, seed):
        pass

    def advanced(self, trial, seed, fraction, text):
        pass

    def ended(self, found, is_new):
        print(".", end="", flush=True)

    def winners(self, experiment):
        return None


def of_ours(output, jobs, **changes):
    """Return the winner's keys, the seconds that the search took, and how many trials."""
    overrides = [f"{key}={value}" for key, value in changes.items()]
    loaded = search.load(CONFIG, [*overrides, f"output={output}", "arms={}", "fresh_seeds=1"])
    since = time.perf_counter()
    found = search.run(loaded, jobs=jobs, listen=Told())
    seconds = time.perf_counter() - since
    print(f" {seconds:.0f} s")
    best = next(trial for trial in found["trials"] if trial["trial"] == found["winners"][0])
    return arm(best["batch_size"], best["learning_rate"]), seconds, len(found["trials"])


def of_keras_tuner(output):
    """Search as Keras Tuner's guide does, one process; return as `of_ours`."""
    import keras
    import keras_tuner

    from tf_lbgap import networks
    from tf_lbgap.experiment.making import load_split

    loaded = search.load(CONFIG)
    data = {"call": "data.held_out", "split": loaded.data, "share": loaded.held_out}
    split = load_split(data, 0)
    count = len(split.y_train)

    class Plain(keras_tuner.HyperModel):
        def build(self, hp):
            size = hp.Choice("batch_size", SIZES)
            rate = hp.Float("learning_rate", *RATES["range"], sampling="log")
            decay = keras.optimizers.schedules.CosineDecay(rate, EPOCHS * -(-count // size))
            model = networks.mlp(widths=(64, 64))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(decay, momentum=0.9), loss, metrics=["accuracy"])
            return model

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, batch_size=hp.get("batch_size"), **kwargs)

    tuner = keras_tuner.BayesianOptimization(
        Plain(),
        "val_accuracy",
        max_trials=TRIALS,
        executions_per_trial=SEEDS,
        seed=1,
        directory=output,
        project_name="plain",
    )
    since = time.perf_counter()
    tuner.search(
        split.x_train, split.y_train, epochs=EPOCHS, validation_data=(split.x_test, split.y_test), verbose=0
    )
    seconds = time.perf_counter() - since
    print(f"Keras Tuner {seconds:.0f} s")
    values = tuner.get_best_hyperparameters()[0].values
    return arm(values["batch_size"], values["learning_rate"]), seconds, len(tuner.oracle.trials)


def once(output, name, work):
    """Return what the work returned, in this call or an earlier one with the same output: its seconds are measured once."""
    path = pathlib.Path(output) / f"{name}.json"
    if not path.exists():
        result = work()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return json.loads(path.read_text())


def arm(size, rate):
    return {
        "batch_size": size,
        "learning_rate": {"call": "schedules.cosine", "initial": rate, "epochs": EPOCHS},
    }


def judge(arms, output, jobs):
    """Train the arms on fresh seeds; return the rows."""
    loaded = search.load(CONFIG, [f"output={output}", "arms={}", f"fresh_seeds={FRESH}"])
    apart = ("batch_size", "learning_rate", "equal", "measure")
    shared = {key: value for key, value in loaded.content.items() if key not in apart}
    final = loaded.final({name: {**shared, **keys} for name, keys in arms.items()})
    return experiment.run(final, jobs=jobs)


def told(keys):
    return f"batch {keys['batch_size']}, rate {keys['learning_rate']['initial']:.3g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", help="where runs are kept; what is finished there is not run again")
    options = parser.parse_args()
    output = options.output or tempfile.mkdtemp()
    paths = {name: os.path.join(output, name) for name in ("search", "one", "grid", "judged")}
    grid_rates = f"{{call: schedules.cosine, epochs: {EPOCHS}, initial: {RATES}}}"
    ours, seconds, _ = once(output, "search", lambda: of_ours(paths["search"], options.jobs))
    grid, _, _ = once(
        output, "grid", lambda: of_ours(paths["grid"], options.jobs, tuner="grid", learning_rate=grid_rates)
    )
    one, seconds_of_one, trials = once(output, "one", lambda: of_ours(paths["one"], 1, search_seed=1))
    shape = f"{{call: schedules.cosine, epochs: {EPOCHS}, initial: 1.0}}"
    noise, seconds_of_noise, trials_of_noise = once(
        output,
        "noise",
        lambda: of_ours(
            os.path.join(output, "noise"), 1, search_seed=1, learning_rate=shape,
            noise_scale="{range: [0.1, 100.0], scale: log}",
        ),
    )  # fmt: skip
    plain, seconds_of_plain, trials_of_plain = once(output, "plain", lambda: of_keras_tuner(output))
    arms = {"grid": grid, "search": ours, "one_process": one, "noise_scale": noise, "keras_tuner": plain}
    arms["default"] = arm(32, 0.01)
    rows = judge(arms, paths["judged"], options.jobs)
    found = {
        name: summarize([100 * row["test_accuracy"] for row in rows if row["arm"] == name]) for name in arms
    }
    print(f"\ntest accuracy on {FRESH} fresh seeds, mean ± standard error")
    for name, keys in arms.items():
        print(f"  {name:12} {found[name].mean:6.2f} ± {found[name].standard_error:.2f} %   {told(keys)}")
    print("\nfor a point above the default                      seconds   trials")
    for key, name, spent, count in (
        ("one_process", "lbgap search, batch and rate", seconds_of_one, trials),
        ("noise_scale", "lbgap search, batch and noise scale", seconds_of_noise, trials_of_noise),
        ("keras_tuner", "Keras Tuner, batch and rate independently", seconds_of_plain, trials_of_plain),
    ):
        points = found[key].mean - found["default"].mean
        print(f"  {name:46} {spent / points:8.1f} {count / points:8.1f}")
    tests = {test.arm: test for test in non_inferiority(rows, "grid", MARGIN)}
    test = tests["search"]
    print(
        f"\nsearch against the grid's best: {100 * test.difference:+.2f} points, lower bound {100 * test.lower:+.2f}, margin "
        f"{100 * MARGIN:g}: {test.verdict}"
    )
    print(f"the search: {seconds:.0f} s with --jobs {options.jobs}, target 300 s; ratio {seconds / 300:.2f}")


if __name__ == "__main__":
    main()

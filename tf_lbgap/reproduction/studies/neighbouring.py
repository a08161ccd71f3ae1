"""How far apart does one example lead two trainings? Distances between arms on neighbouring training sets.

What is known of them where the loss is convex is in `stability_bounds`.

References:
    Hardt, Recht & Singer, "Train faster, generalize better: stability of stochastic gradient descent", 2016, theorems 3.8
    (convex) and 3.12 (not convex); section 5 (`normalized_distance`).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count
from tf_lbgap.reproduction.studies.stability_bounds import distance_bound
from tf_lbgap.reproduction.studies.trained_with import batch_of, rate_of

KEYS = (
    "twin_distance",
    "normalized_distance",
    "loss_difference",
    "bound",
    "distance_over_bound",
    "loss_over_bound",
    "generalization_gap",
    "gap_over_bound",
)


def parameter_distance(run, *, pairs, examples=1000, seeds=None):
    """Measure how far apart the final weights of two arms are, seed by seed.

    Two passes over the examples for a pair and seed.

    Args:
        run: A `FinishedRun`.
        pairs: Lists [arm, twin], whose data are those of `data.neighbours.one_example_replaced` and all else is equal.
        examples: Of the test set of the first arm, over which losses are compared; 0: all.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with arm "arm to twin": `twin_distance` ‖w - w'‖ of the trainable weights; `normalized_distance`, divided by
        √(‖w‖² + ‖w'‖²); `loss_difference`, the largest |ℓ(w) - ℓ(w')| of an example; `bound`, of the distance, and
        `distance_over_bound`, `loss_over_bound`: NaN where `stability_bounds` knows none; `generalization_gap`, test minus
        training loss of the first arm, and `gap_over_bound`, divided by L times the bound; `num_train`; and of the first arm the
        batch and the rate, NaN if they were no constants, the updates and the epochs. What diverged has the last five alone.

    Raises:
        ConfigError: If a pair is none, its arms differ in more than their data, or were tuned to different rates.
    """
    count(examples, "examples")
    pairs, rows, done = _checked(run, pairs), [], set(run.finished(seeds=seeds))
    for seed in sorted({seed for _, seed in done}):  # so the data of a seed are read once
        for arm, twin in pairs:
            if {(arm, seed), (twin, seed)} <= done:
                _check_rates(run, arm, twin, seed)
                finite = run.is_finite(arm, seed) and run.is_finite(twin, seed)
                found = _compared(run, arm, twin, seed, examples) if finite else dict.fromkeys(KEYS, math.nan)
                rows.append({"arm": f"{arm} to {twin}", "seed": seed, **_settings(run, arm, seed), **found})
    return {"rows": rows, "curves": []}


def _checked(run, pairs):
    """Return the pairs, tuples, none of which differs in more than its data."""
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ConfigError(f"pairs: {pair!r} must be two arms, [arm, twin].")
        run.arms(pair)
        first, second = ({**run.experiment.arms[arm], "data": None} for arm in pair)
        if different := [key for key in first if first[key] != second[key]]:
            raise ConfigError(
                f"pairs: {pair[0]} and {pair[1]} differ in {', '.join(different)}, not only in data."
            )
    return [tuple(pair) for pair in pairs]


def _check_rates(run, arm, twin, seed):
    """Raise if two arms that were tuned, each on its own data, ended with rates of their own."""
    rates = [run.row(name, seed).get("learning_rate") for name in (arm, twin)]
    if rates[0] != rates[1]:
        raise ConfigError(
            f"pairs: {arm} and {twin} differ in the rates that they were tuned to, {rates[0]} and {rates[1]}, not only in data. "
            "Give both one learning_rate, with equal: epochs."
        )


def _settings(run, arm, seed):
    row = run.row(arm, seed)
    return {
        "batch_size": batch_of(run, arm, seed),
        "learning_rate": rate_of(run, arm, seed),
        "updates": row["updates"],
        "epochs": row["epochs"],
        "num_train": len(run.split(arm, seed).y_train),
    }


def _compared(run, arm, twin, seed, examples):
    x, y = run.test_sample(arm, seed, examples)
    trainable, losses = [], []
    for name in (arm, twin):
        model = run.model(name, seed)
        trainable.append(np.concatenate([np.float64(v.numpy()).ravel() for v in model.trainable_variables]))
        outputs = model.predict(x, batch_size=1000, verbose=0)
        losses.append(np.float64(run.loss(name).call(y, outputs)).reshape(len(y), -1).mean(1))
    distance = float(np.linalg.norm(trainable[0] - trainable[1]))
    found = {
        "twin_distance": distance,
        "normalized_distance": distance / math.hypot(*map(np.linalg.norm, trainable)),
        "loss_difference": float(np.abs(losses[0] - losses[1]).max()),
    }
    bound, lipschitz = distance_bound(run, arm, seed)
    row = run.row(arm, seed)
    gap = row["test_loss"] - row["train_loss"]
    found |= {"bound": bound, "distance_over_bound": distance / bound}
    found |= {"loss_over_bound": found["loss_difference"] / (lipschitz * bound)}
    return {**found, "generalization_gap": gap, "gap_over_bound": gap / (lipschitz * bound)}

"""How far apart does one example lead two trainings? Distances between arms on neighbouring training sets.

For a convex loss whose examples have gradients of norm up to L, and with rates up to 2 / β, gradient steps bring no two
points further apart. So the weights differ only by what the example itself did: it moves either training by up to
rate × L / B in an update whose batch of B it is in. In shuffled epochs that is once an epoch:

    ‖w - w'‖ ≤ 2 L rate epochs / B = 2 L Σ rate / N,     |ℓ(w) - ℓ(w')| ≤ L ‖w - w'‖

for any order and any example. Drawn with replacement it holds in the mean over draws, which is Theorem 3.8 of
Hardt et al. L and β are known for multinomial logistic regression: √2 max ‖(x, 1)‖, and max ‖(x, 1)‖² / 2, which
bounds the largest eigenvalue of diag(p) - ppᵀ, times ‖(x, 1)‖².

References:
    Hardt, Recht & Singer, "Train faster, generalize better: stability of stochastic gradient descent", 2016, lemma 2.5
    and theorems 3.8 (convex) and 3.12 (not convex); section 5 (`normalized_distance`).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count

KEYS = (
    "twin_distance",
    "normalized_distance",
    "loss_difference",
    "bound",
    "distance_over_bound",
    "loss_over_bound",
)
SETTINGS = ("batch_size", "learning_rate", "updates", "epochs")


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
        √(‖w‖² + ‖w'‖²); `loss_difference`, the largest |ℓ(w) - ℓ(w')| of an example; `bound`, of the distance, as above, and
        `distance_over_bound`, `loss_over_bound`: NaN where the model is not a single Dense layer for a softmax, trained by plain
        SGD at a constant rate up to 2 / β; `generalization_gap`, test minus training loss of the first arm, and
        `gap_over_bound`, divided by L times the bound; `num_train`; and the batch, rate, updates and epochs of the first arm.

    Raises:
        ConfigError: If a pair is none, or its arms differ in more than their data.
    """
    count(examples, "examples")
    pairs, rows, done = _checked(run, pairs), [], set(run.finished(seeds=seeds))
    for seed in sorted({seed for _, seed in done}):  # so the data of a seed are read once
        for arm, twin in pairs:
            if {(arm, seed), (twin, seed)} <= done:
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


def _settings(run, arm, seed):
    row, config = run.row(arm, seed), run.experiment.arms[arm]
    rate = config["learning_rate"] or config["optimizer"].get("learning_rate")
    known = {"batch_size": config["batch_size"], "learning_rate": rate}
    known |= {"updates": row["updates"], "epochs": row["epochs"]}
    return {
        **{key: known[key] for key in SETTINGS if isinstance(known[key], (int, float))},
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
    bound, lipschitz = _bound(run, arm, seed)
    row = run.row(arm, seed)
    gap = row["test_loss"] - row["train_loss"]
    found |= {"bound": bound, "distance_over_bound": distance / bound}
    found |= {"loss_over_bound": found["loss_difference"] / (lipschitz * bound)}
    return {**found, "generalization_gap": gap, "gap_over_bound": gap / (lipschitz * bound)}


def _bound(run, arm, seed):
    """Return the bound on the distance, and L; NaN where none is known."""
    config, model = run.experiment.arms[arm], run.model(arm, seed)
    optimizer, rate = config["optimizer"], _settings(run, arm, seed).get("learning_rate")
    shapes = [v.shape for v in model.trainable_variables]
    is_linear = [len(shape) for shape in shapes] == [2, 1]
    is_plain = optimizer["call"] == "keras.optimizers.SGD" and set(optimizer) <= {"call", "learning_rate"}
    is_softmax = config["loss"]["call"] == "keras.losses.SparseCategoricalCrossentropy"
    if not (is_linear and is_plain and is_softmax) or rate is None or config["update"]:
        return math.nan, math.nan
    split = run.split(arm, seed)
    squares = 1 + max(
        (np.float64(x) ** 2).reshape(len(x), -1).sum(1).max() for x in (split.x_train, split.x_test)
    )
    if rate > 4 / squares:
        return math.nan, math.nan
    lipschitz = math.sqrt(2 * squares)
    epochs = math.ceil(
        run.row(arm, seed)["epochs"] - 1e-9
    )  # the example may come at the start of one that was begun
    size, num_train = config["batch_size"], len(split.y_train)
    smallest = num_train % size or size  # the example may be in the last batch of an epoch
    return 2 * lipschitz * rate * epochs / smallest, lipschitz

"""What the calls of an arm's configuration make: its data, its model, its schedules, its strategy."""

import keras
import numpy as np

from tf_lbgap import attacks, data, strategy, training
from tf_lbgap.experiment.accuracy import TokenAccuracy
from tf_lbgap.experiment.calls import ConfigError, is_call, make, mistakes, takes


def strategy_of(config):
    """Return the strategy that an arm's configuration names."""
    with mistakes("strategy"):
        return strategy.from_name(config["strategy"])


def load_split(config, seed):
    """Return the `Split` that a data call gives for a seed; data within it (of `data.corruption`) are of that seed, too."""
    if is_call(config.get("data")):
        config = {**config, "data": load_split(config["data"], seed)}
    if is_call(config.get("split")):
        config = {**config, "split": load_split(config["split"], seed)}
    split = make(config, seed=seed)
    with mistakes("data"):
        return data.splits.as_split(split, str(config["call"]))


def load_held_out(config, seed, share):
    """Return the split whose test set is a share of the training set; copies and noise of labels are made after the cut."""
    if is_call(config.get("data")):
        return load_split({**config, "data": load_held_out(config["data"], seed, share)}, seed)
    return data.held_out(load_split(config, seed), share=share)


def make_model(config, split, seed):
    """Return the un-compiled model of a seed, built for the data."""
    if not is_call(config):
        raise ConfigError(f"model: {config!r} must be a call, such as {{call: networks.mlp}}.")
    keras.utils.set_random_seed(seed)  # for layers that the model's function gives no seed
    offered = {
        "seed": seed,
        "input_shape": keras.tree.map_structure(lambda x: np.shape(x)[1:], split.x_train),
    }
    if is_classification(split):
        offered["num_classes"] = split.num_classes
    if is_call(config.get("model")):  # one within another, as in layers.with_ghost_batch_normalization
        config = {**config, "model": make_model(config["model"], split, seed)}
    model = make(config, **offered)
    if not getattr(model, "built", False):
        raise ConfigError(
            f"model: {config['call']} must return a built Keras model: start it with keras.Input(shape)."
        )
    return model


def make_compiled_model(config, split, seed):
    """Return the compiled model of a seed, from the keys of an arm."""
    model, loss = make_model(config["model"], split, seed), make(config["loss"])
    check_logits(model, loss, first_examples(split.x_train, split.y_train, 100)[0])
    model.compile(
        make(config["optimizer"]),
        loss,
        metrics=[_accuracy(loss)] if is_classification(split) else [],
        jit_compile=config["jit_compile"],
        steps_per_execution=config["steps_per_execution"],
    )
    return model


def _accuracy(loss):
    """Return Keras' accuracy, or, where the loss ignores a label, the one that does, too."""
    ignored = getattr(loss, "ignore_class", None)
    return "accuracy" if ignored is None else TokenAccuracy(ignored)


def check_logits(model, loss, x):
    """Raise if a cross-entropy takes probabilities for logits, or logits for probabilities: it would not tell."""
    from_logits = getattr(loss, "from_logits", None)
    if from_logits is None:
        return
    outputs = np.asarray(model(x, training=False))
    low, high = outputs.min(), outputs.max()
    if not from_logits and (low < 0 or high > 1):
        raise ConfigError(
            f"loss: {type(loss).__name__} takes probabilities, but the model gives values from {low:.3g} to {high:.3g}. "
            "Add from_logits: true to the loss."
        )
    if from_logits and low >= 0 and np.allclose(outputs.sum(-1), 1, atol=1e-3):
        raise ConfigError(
            f"loss: {type(loss).__name__} takes logits, but the model gives probabilities. "
            "Set from_logits: false in the loss, or leave the softmax out of the model."
        )


def first_examples(x, y, count):
    """Return the first `count` examples (0: all); the split is a random one, so they are a random sample."""
    if not count:
        return x, y
    return keras.tree.map_structure(lambda a: a[:count], (x, y))


def is_classification(split):
    labels = split.y_train
    return hasattr(labels, "dtype") and labels.dtype.kind in "iu"


def check_changes(calls):
    """Raise if changes of the update cannot be made, or not stand around each other."""
    if calls and not any("batches" in takes(call) for call in calls):
        with mistakes("update"):
            training.Changes(make(calls))


def check_attacks(robustness):
    """Raise if what is to be measured names no attack, or a range that is none."""
    if robustness is None:
        return
    with mistakes("measure: robustness"):
        for attack in robustness["attacks"]:
            attacks.accuracy.checked_attack(attack)
        low, high = robustness["data_range"] or (0, 1)
        if not low < high:
            raise ConfigError(f"measure: robustness: data_range: [{low}, {high}] must rise, such as [0, 1].")

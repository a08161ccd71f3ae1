"""A rehearsal: two updates of each arm of a paper, on random examples of the right shape, before hours are spent.

It finds what a file's check cannot: a network that does not take the data's shape, an update that does not go with it, a
batch that does not fit into memory. Data that would be downloaded is made up (`data.datasets.synthetic`).
"""

import dataclasses
import math
import time

from tf_lbgap.experiment.attempt import failure_of, trainer_of
from tf_lbgap.experiment.calls import as_schedule, is_call
from tf_lbgap.experiment.config import Experiment, Measure
from tf_lbgap.experiment.files import digest
from tf_lbgap.experiment.quiet import import_tensorflow

UPDATES = 2
ARM = "arm"
DOWNLOADED = "data.datasets.from_tfds"
MEASURED = Measure(check_examples=10, top_eigenvalue_examples=0, validation_examples=10)
_DECIDES_NOTHING = ("learning_rate", "learning_rates", "epochs", "updates", "seconds", "target_loss")


def rehearse(papers, *, batch_size=None):
    """Fit two updates of each arm, and yield a row for each; arms that differ in rates and lengths only are one.

    Args:
        papers: List of `Paper`.
        batch_size: Caps batches, and parts of them; None: they are as the file says.

    Yields:
        Dicts with `experiments` (a list), `arm, batch_size, updates, seconds` and `failure`, a text or None.
    """
    import_tensorflow()
    groups = {}
    for paper in papers:
        for name, experiment in paper.experiments.items():
            for arm, config in experiment.arms.items():
                config, most = _short(config, batch_size)
                kind = digest({key: value for key, value in config.items() if key not in _DECIDES_NOTHING})
                groups.setdefault(kind, (arm, config, most, []))[3].append(f"{paper.name} {name}")
    for arm, config, most, experiments in groups.values():
        yield {"experiments": list(dict.fromkeys(experiments)), "arm": arm, **_tried(config, most)}


def _tried(config, most):
    begin = time.perf_counter()
    try:
        trainer = trainer_of(Experiment("rehearsal", "updates", 1, {ARM: config}, ARM, "", MEASURED), ARM)
        row = trainer.run(0, split=_first(config["data"], most) if config["data"].get("vocabulary") else None)
        told = {"updates": row["updates"], "batch_size": row["batch_size"], "failure": None}
    except Exception as error:  # the other arms are tried
        failure = failure_of(error)
        told = {"updates": 0, "batch_size": None, "failure": failure.text}
    return {**told, "seconds": time.perf_counter() - begin}


def _first(data, most):
    """Return the split, cut to what is needed where the call could not be: all that train are judged in the end."""
    from tf_lbgap.experiment.making import load_split

    split = load_split(data, 0)
    kept = split.training_examples(range(min(most, len(split.y_train))))
    return dataclasses.replace(split, **{f"{name}_train": part for name, part in kept.items()})


def _short(config, cap):
    """Return the arm's configuration with two updates, the batches capped, and data that is there; and how many examples that takes."""
    size, limits = config["batch_size"], [each for each in (config["maximum"], cap) if each]
    limit = min(limits, default=None)
    first = as_schedule(size, "batch_size")(0.0) if is_call(size) else size or 1
    first = min(int(first), limit or math.inf)
    short = {**config, "updates": UPDATES, "maximum": limit if is_call(size) else None}
    if not is_call(size) and size:
        short["batch_size"] = first
    for key in ("ghost_batch_size", "micro_batch_size"):
        if config[key] and cap:
            short[key] = min(config[key], cap)
    most = max(UPDATES * first + 1, limit or 0)
    short["data"] = _made_up(config["data"], most)
    return short, most


def _made_up(data, most):
    """Return the call with no more examples than needed, and random ones in place of those that would be downloaded."""
    if is_call(data.get("data")):
        return {**data, "data": _made_up(data["data"], most)}
    if data["call"] == DOWNLOADED:
        return {"call": "data.datasets.synthetic", "name": data["name"], "num_train": most}
    # The examples that train are those that a vocabulary is made of, and few hold too few sub-words.
    capped = ("num_test",) if data.get("vocabulary") else ("num_train", "num_test")
    return {**data, **{name: min(data[name], most) for name in capped if data.get(name)}}

"""A trial: the seeds of one choice of values, and what came of them."""

import math
import pathlib
import statistics

from tf_lbgap import scaling
from tf_lbgap.experiment.attempt import Failure, attempt, finished
from tf_lbgap.experiment.files import read_json, write_json
from tf_lbgap.search import hparams
from tf_lbgap.search.objectives import OBJECTIVES
from tf_lbgap.search.rates import is_sgd, momentum_of, rate_of

_KEPT = (
    "updates",
    "examples",
    "epochs",
    "reached",
    "top_eigenvalue",
    "top_eigenvalue_converged",
    "sharpness",
)
_RENAMED = {"validation_accuracy": "test_accuracy", "validation_loss": "test_loss"}  # of what is held out
_LEFT_OUT = ("seconds_compile", "seconds_measure", "seconds_evaluate")  # not of training


def name_of(trial_id):
    """Return what a trial of Keras Tuner's is called: 0007."""
    return f"{int(trial_id):04d}"


def train(key, experiment, about, news):
    """Train the seeds of a trial, up to the first that fails.

    Args:
        key: (name of the trial, first seed).
        experiment: Its `Experiment`.
        about: For TensorBoard, a pair: dict of the trial's values, and the search's `space.Dimension`s.
        news: What is told `("started", trial, seed)` and `("advanced", trial, seed, fraction, text)`.

    Returns:
        List of rows, of which the last may be a `Failure`.
    """
    arm, outcomes = key[0], []
    for seed in experiment.seed_numbers:
        row = finished(experiment, arm, seed)
        if row is None:
            news.put(("started", arm, seed))
            row = attempt(experiment, arm, seed, lambda *told, s=seed: news.put(("advanced", arm, s, *told)))
        outcomes.append(row)
        if isinstance(row, Failure):
            break
        folder = pathlib.Path(experiment.output) / arm / str(seed)
        hparams.write_session(folder, arm, *about, row["reached"])
        if not row["reached"]:
            break
    return outcomes


def record(name, values, arm, num_train, outcomes, objective):
    """Return what is kept of a trial, plain numbers and texts.

    Args:
        name: Of the trial.
        values: Dict from the name of a dimension to its value, for reading.
        arm: The keys that were trained.
        num_train: N.
        outcomes: As `train` returns them.
        objective: A key of `OBJECTIVES`.

    Returns:
        A dict: trial, values, batch_size, learning_rate, momentum, noise_scale, status, message, score (the mean over seeds),
        score_deviation (their standard deviation, None of a single one), seconds, seeds (a dict each).
    """
    rows = [_seed(row) for row in outcomes if not isinstance(row, Failure)]
    status, message = _status(outcomes)
    scores = [row.get(objective) for row in rows]
    if status == "finished" and not all(score is not None and math.isfinite(score) for score in scores):
        status, message = "failed", f"it has no {OBJECTIVES[objective].title}"
    is_scored = status == "finished"
    return {
        "trial": name,
        "values": values,
        **settings(arm, num_train),
        "status": status,
        "message": message,
        "score": statistics.fmean(scores) if is_scored else None,
        "score_deviation": statistics.stdev(scores) if is_scored and len(scores) > 1 else None,
        "seconds": sum(row["seconds_in_all"] for row in rows),
        "seeds": rows,
    }


def metrics(found, objective):
    """Return what Keras Tuner is told of a finished trial: the score, and its standard error if there are several seeds."""
    from tf_lbgap.tuning.oracles import ERROR

    told = {objective: found["score"]}
    if found["score_deviation"] is not None:
        told[objective + ERROR] = found["score_deviation"] / math.sqrt(len(found["seeds"]))
    return told


def settings(arm, num_train):
    """Return batch size, learning rate, momentum and noise scale of an arm; None where a schedule moves them, or it is no SGD."""
    size, rate, momentum = arm.get("batch_size"), rate_of(arm), momentum_of(arm)
    size = size if isinstance(size, int) else None
    is_known = size is not None and rate is not None and size <= num_train and is_sgd(arm)
    return {
        "batch_size": size,
        "learning_rate": rate,
        "momentum": momentum,
        "noise_scale": scaling.noise_scale(rate, size, num_train, momentum) if is_known else None,
    }


def _status(outcomes):
    last = outcomes[-1]
    if isinstance(last, Failure):
        return "failed", last.text
    if last["reached"]:
        return "finished", ""
    return ("diverged" if last["train_loss"] is None else "missed the target"), f"seed {last['seed']}"


def _seed(row):
    kept = {key: row[key] for key in _KEPT if key in row}
    if kept.get("top_eigenvalue_converged") is False:
        kept["top_eigenvalue"] = None
    return {
        "seed": row["seed"],
        **{ours: row[theirs] for ours, theirs in _RENAMED.items()},
        "train_loss": row["train_loss"],
        **kept,
        "seconds": row["seconds"] - sum(row.get(part, 0.0) for part in _LEFT_OUT),
        "seconds_in_all": row["seconds"],
    }


def write(search, found):
    """Write a trial's record into its folder."""
    write_json(_file(search, found["trial"]), found)


def read(search, name):
    """Return the record of a trial, or None if it has not ended."""
    return read_json(_file(search, name))


def _file(search, name):
    return pathlib.Path(search.output) / "trials" / name / "trial.json"

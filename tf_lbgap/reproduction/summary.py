"""What a reproduction found, as plain dicts: `results.json`.

Rows of single seeds stay in the run directories; here are means over seeds, and of each claim the values that its verdict rests on.
"""

import math
import pathlib

from tf_lbgap import claims
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.files import digest
from tf_lbgap.experiment.judged_on import FILE, ORIGIN, read_examples
from tf_lbgap.reproduction.code import code_digest

_NOT_SUMMARISED = ("seed", *ORIGIN)


def hashes(paper):
    """Return the digests that say whether results are still those of the configuration, its claims, and this code."""
    shown = ("figures", "features")
    content = {key: value for key, value in paper.content.items() if key not in shown}
    return {
        "config": digest(content),
        "claims": digest(paper.claims_block),
        "code": code_digest(),
    }


def summary(paper, rows, studies, about):
    """Return the content of `results.json`.

    Args:
        paper: A `Paper`.
        rows: {experiment: rows}.
        studies: {study: what it found}.
        about: Further entries, of the environment and such.
    """
    marked = {name: [_marked(paper, name, row) for row in own] for name, own in rows.items()}
    return {
        "name": paper.name,
        "scale": paper.scale,
        "paper": paper.citation,
        "command": paper.command,
        "hash": hashes(paper),
        **about,
        "features": paper.features,
        "figures": paper.figures,
        "claims": [_as_dict(verdict) for verdict in verdicts(paper, marked, studies)],
        "experiments": {name: _experiment(paper.experiments[name], own) for name, own in marked.items()},
        "studies": {name: {"in": _behind(paper, name), **found} for name, found in studies.items()},
    }


def verdicts(paper, rows, studies):
    """Return the `Verdict` of each claim.

    Args:
        paper: A `Paper`.
        rows: {experiment: rows}, with `why_not` in those that are no results.
        studies: {study: what it found}.
    """
    tested = [each for each in paper.claims if not each.not_run]
    joined = [_joined(paper, each.places, rows, studies) for each in tested]
    lookups = [_lookup(paper, each.places) for each in tested]
    judged = iter(claims.judge([each.claim for each in tested], joined, lookups))
    return [
        claims.not_run(each.claim, each.not_run) if each.not_run else next(judged) for each in paper.claims
    ]


def _as_dict(verdict):
    """Return a verdict as it stands in `results.json`."""
    claim = verdict.claim
    return {
        "name": claim.name,
        "says": claim.says,
        "source": claim.source,
        **({"paper": claim.paper} if claim.paper else {}),
        "primary": claim.primary,
        "rule": claim.rule,
        "own": claim.own,
        "statistic": claim.statistic.words if claim.statistic else "",
        "kind": claim.statistic.kind if claim.statistic else "",
        "claimed": claim.claimed,
        "bounds": [claim.low, claim.high],
        "estimate": verdict.estimate,
        "interval": list(verdict.interval),
        "p_value": verdict.p_value,
        "verdict": verdict.verdict,
        "seen": verdict.seen,
        "note": verdict.note,
        "num_seeds": len(verdict.seeds),
        "values": list(verdict.values),
        "seeds": list(verdict.seeds),
    }


def _with_settings(experiment, row):
    """Return a row with those numbers of its arm's settings that a statistic may be taken against."""
    arm = experiment.arms[row["arm"]]
    return {**_settings_of(arm), **{key: value for key, value in row.items() if value is not None}}


def _settings_of(arm):
    """Return numbers that an arm differs in: `batch_size`, `learning_rate`, `momentum`, those that are numbers."""
    optimizer = arm["optimizer"]
    rate = arm["learning_rate"]
    found = {
        "batch_size": arm["batch_size"],
        "learning_rate": optimizer.get("learning_rate") if rate is None else rate,
        "momentum": optimizer.get("momentum"),
    }
    return {key: value for key, value in found.items() if isinstance(value, (int, float))}


def _marked(paper, name, row):
    """Return a row with `why_not` if it is no result."""
    row = _with_settings(paper.experiments[name], row)
    accuracy = row.get("test_accuracy")
    if not row.get("reached", True):
        row["why_not"] = "diverged" if row.get("train_loss") is None else "missed the target"
    elif accuracy is not None and accuracy < paper.learned[name]:
        row["why_not"] = f"did not learn (test accuracy {accuracy:.3f}, asked {paper.learned[name]:g})"
    return row


def _joined(paper, places, rows, studies):
    """Return rows of several places, joined by arm and seed, of the seeds that all of them have; a row that is no result stays none."""
    found, seeds = {}, []
    for place in places:
        own = rows[place] if place in rows else list(_of_study(paper, place, rows, studies))
        seeds.append({row["seed"] for row in own})
        for row in own:
            found.setdefault((row["arm"], row["seed"]), {}).update(row)
    return [row for (_, seed), row in found.items() if all(seed in each for each in seeds)]


def _behind(paper, study):
    """Return the experiment that a study measures; None for a simulation."""
    return next(iter(paper.studies[study]["in"]), None)


def _of_study(paper, name, rows, studies):
    """Yield the rows of a study with what is known of the arms that it measured: `why_not`, and which examples they had.

    What lies between two arms, `small to large`, is a result if both are.
    """
    if (place := _behind(paper, name)) is None:
        yield from studies[name]["rows"]
        return
    measured = {(row["arm"], row["seed"]): row for row in rows[place]}
    for row in studies[name]["rows"]:
        arms = [row["arm"]] if (row["arm"], row["seed"]) in measured else row["arm"].split(" to ")
        unknown = [arm for arm in arms if (arm, row["seed"]) not in measured]
        if unknown:
            raise ConfigError(
                f"studies: {name}: returned a row of {row['arm']!r}, seed {row['seed']}, but {place} has no such arm and seed."
            )
        ends = [measured[arm, row["seed"]] for arm in arms]
        origin = {key: ends[0].get(key) for key in ORIGIN}
        reasons = [f"{end['arm']} {end['why_not']}" for end in ends if "why_not" in end]
        yield {**origin, **row, **({"why_not": f"({'; '.join(reasons)})"} if reasons else {})}


def _lookup(paper, places):
    """Return the function of an arm and seed that reads the test examples, or None where there are none."""
    trained = [paper.experiments[place] for place in places if place in paper.experiments]
    folders = {arm: pathlib.Path(each.output) / arm for each in trained for arm in each.arms}

    def read(arm, seed):
        return read_examples(folders[arm] / str(seed) / FILE) if arm in folders else None

    return read if folders else None


def _experiment(experiment, rows):
    arms = {}
    for name, arm in experiment.arms.items():
        own = [row for row in rows if row["arm"] == name]
        arms[name] = {"settings": {**_settings_of(arm), **_words(arm)}, **_means(own)}
        arms[name]["failed"] = [f"seed {row['seed']}: {row['why_not']}" for row in own if "why_not" in row]
    return {
        "equal": experiment.equal,
        "seeds": list(experiment.seed_numbers),
        "arms": arms,
    }


def _words(arm):
    """What else an arm consists of, as far as it is given."""
    keys = (
        "data",
        "model",
        "optimizer",
        "map",
        "batch_size",
        "learning_rate",
        "update",
        "callbacks",
        "full_batch",
    )
    return {key: arm[key] for key in keys if arm[key] is not None}


def _means(rows):
    found = {}
    numbers = {
        key: None
        for row in rows
        for key, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key not in _NOT_SUMMARISED
    }
    for key in numbers:
        own = claims.summarize([row.get(key) for row in rows])
        if own.num_seeds:
            error = None if math.isnan(own.standard_error) else own.standard_error
            found[key] = {"mean": own.mean, "standard_error": error, "num_seeds": own.num_seeds}
    return found

"""Tables of a reproduction: its power before the run, its claims and their verdicts, its arms.

A verdict that is not PASS never stands alone: the sentence of what was seen is in the same row.
"""

import math

from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.grids import Grid
from tf_lbgap.report.paper_results import (
    arms_of,
    batch_text,
    by_claim,
    quantity,
    rate_text,
    seeds_of,
)

SAME = "the same claim"
_OWN = "paper's own"
_VERDICTS = (
    "PASS: the interval lies within what is claimed; FAIL: it lies outside; INCONCLUSIVE: neither is shown. Verdicts are at 5 % for all "
    "claims together, after Holm's correction, and with a seed missing there is no PASS; the intervals shown are not corrected."
)
_MEASURED = ("test_accuracy", "test_loss", "train_loss", "top_eigenvalue", "sharpness", "updates", "examples")
_HEADINGS = {
    "test_accuracy": "test\naccuracy %",
    "test_loss": "test\nloss",
    "train_loss": "train\nloss",
    "top_eigenvalue": "top\neigenvalue",
    "sharpness": "ε-sharpness\n%",
    "updates": "\nupdates",
    "examples": "\nexamples",
}


def power_grid(claims):
    """Return what so many seeds can show, for the claims before the run.

    Args:
        claims: Dicts with `name, says, rule, claimed, expected, deviation, num_seeds, power`, as in `results.json`; `power`
            is a share, or None where nobody knows what to expect.
    """
    lines = [
        (
            SAME if place and claims[place - 1]["name"] == claim["name"] else claim["says"],
            claim.get("rule") or numbers.UNKNOWN,
            claim["claimed"],
            numbers.statistic(claim.get("expected"), claim),
            numbers.number(claim.get("deviation")),
            str(claim.get("num_seeds", numbers.UNKNOWN)),
            numbers.percent(claim.get("power")),
        )
        for place, claim in enumerate(claims)
    ]
    return Grid(
        "power",
        "what so many seeds can show, before the run",
        ("\nclaim", "\nequal", "\nclaimed", "\nexpected", "deviation\nover seeds", "\nseeds", "power\n%"),
        tuple(lines),
        "Power: how often so many seeds end in PASS if what is expected is true, corrected for the number of claims. The "
        "deviation of a ratio is that of its logarithm.",
    )


def claims_grid(results, second=None, *, narrow=False):
    """Return each claim under each rule, with its estimate and verdict: the primary claim first, the paper's own rule first.

    Args:
        results: Content of a reproduction's `results.json`.
        second: The same of other seeds, whose verdicts stand beside these; or None.
        narrow: Whether to leave out how many seeds there were, to fit 80 columns in place of 100.
    """
    lines, notes = [], {}
    for name, rows in by_claim(results).items():
        for place, claim in enumerate(rows):
            line = [
                _told(claim, place, notes),
                _rule(claim, rows),
                _in_two(claim["claimed"]),
                _estimate(claim),
            ]
            line += [] if narrow else [_num_seeds(claim)]
            line.append(claim["verdict"])
            if second is not None:
                line.append(_verdict_of(second, name, claim.get("rule")))
            lines.append(tuple(line))
    headings = ["claim", "equal", "claimed", "seen\n(95 % interval)"]
    headings += [] if narrow else ["seeds"]
    headings.append("verdict")
    if second is not None:
        headings.append(f"verdict with seeds\n{numbers.seeds(seeds_of(second))}")
    scale = f", scale {results['scale']}" if results.get("scale") else ""
    return Grid(
        "claims",
        f"{results['name']}: claims{scale}, seeds {numbers.seeds(seeds_of(results))}",
        tuple(f"\n{text}" if "\n" not in text else text for text in headings),
        tuple(lines),
        " ".join([_VERDICTS, *(f"[{number}] {note}." for note, number in notes.items())]),
    )


def arms_grid(results, experiment):
    """Return a line per arm of an experiment: batch, rate, and what came out, with seconds by what they were spent on.

    Args:
        results: Content of a reproduction's `results.json`.
        experiment: Name of an experiment in it.
    """
    content, arms = results["experiments"][experiment], arms_of(results, experiment)
    columns = [("\nbatch", batch_text), ("\nrate", rate_text)]
    keys = dict.fromkeys(key for arm in arms.values() for key in arm.summaries)
    known = [key for key in _MEASURED if key in keys]
    robust = sorted(key for key in keys if key.startswith("robust_accuracy_"))
    columns += [(_heading(key), _writer(key)) for key in [*known, *robust]]
    if "seconds" in keys:
        columns.append(("\nseconds", _writer("seconds")))
    if "seconds_train" in keys:
        columns += [("of which\ntraining", _seconds_train), ("\nthe rest", _seconds_rest)]
    columns = [(title, cell) for title, cell in columns if any(_is_told(cell(arm)) for arm in arms.values())]
    count = len(content.get("seeds") or ())
    lines = [(name + _marks(arm, count), *(cell(arm) for _, cell in columns)) for name, arm in arms.items()]
    equal = f", equal {content['equal']}" if content.get("equal") else ""
    return Grid(
        f"arms_{experiment}",
        f"{experiment}: mean ± standard error, seeds {numbers.seeds(seeds_of(results, [experiment]))}{equal}",
        ("\narm", *(title for title, _ in columns)),
        tuple(lines),
        _how_long(content),
    )


def study_grid(results, study):
    """Return a line per arm of what a study measured, mean ± standard error; None if it has no numbers."""
    arms = arms_of(results, study)
    keys = list(dict.fromkeys(key for arm in arms.values() for key in arm.summaries))
    if not keys:
        return None
    rows = results["studies"][study].get("rows") or ()
    lines = [(name, *(_writer(key)(arm) for key in keys)) for name, arm in arms.items()]
    return Grid(
        f"study_{study}",
        f"{study}: mean ± standard error, seeds {numbers.seeds(row.get('seed') for row in rows)}",
        ("\narm", *map(_heading, keys)),
        tuple(lines),
    )


def _told(claim, place, notes):
    """Say what is claimed, and of a verdict that is not PASS what was seen; a note is a number, told below the table."""
    source = f" ({claim['source']})" if claim.get("source") else ""
    told = f"{claim['says']}{source}" if place == 0 else SAME
    if claim.get("note"):
        told += f" [{notes.setdefault(claim['note'], len(notes) + 1)}]"
    seen = claim.get("seen") if claim["verdict"] != "PASS" else ""
    return f"{told}\n{seen}" if seen else told


def _rule(claim, rows):
    rule = claim.get("rule") or numbers.UNKNOWN
    marked = claim.get("own") and len(rows) > 1
    return f"{rule}\n({_OWN})" if marked else rule


def _in_two(claimed):
    """Break `within 0.8 to 1.25` in two lines, to be narrow."""
    return claimed.replace("within ", "within\n", 1)


def _estimate(claim):
    return numbers.estimate(claim).replace(" (", "\n(", 1)


def _num_seeds(claim):
    count = claim.get("num_seeds")
    return numbers.UNKNOWN if count is None else str(count)


def _verdict_of(results, name, rule):
    for claim in results.get("claims", ()):
        if claim["name"] == name and claim.get("rule") == rule:
            return claim["verdict"]
    return numbers.UNKNOWN


def _heading(key):
    if key in _HEADINGS:
        return _HEADINGS[key]
    named = quantity(key)
    first, _, rest = named.words.partition(" ")
    unit = f" {named.unit}" if named.unit else ""
    return f"{first}\n{rest}{unit}" if rest else f"\n{first}{unit}"


def _writer(key):
    scale = quantity(key).scale
    return lambda arm: numbers.mean(arm.summary(key), scale)


def _seconds_train(arm):
    return numbers.number(arm.summary("seconds_train").mean)


def _seconds_rest(arm):
    rest = arm.summary("seconds").mean - arm.summary("seconds_train").mean
    return numbers.number(max(rest, 0.0) if math.isfinite(rest) else rest)


def _is_told(text):
    return text != numbers.UNKNOWN


def _marks(arm, count):
    """Say so where seeds are missing in the means of an arm, or are in them and no results."""
    told = list(arm.failed)
    done = max((summary.num_seeds for summary in arm.summaries.values()), default=0)
    if count and done < count:
        told.append(f"{done} of {count} seeds")
    if len(told) > 2:  # by what happened, for there may be many seeds
        reasons = {}
        for each in told:
            reasons.setdefault(each.partition(": ")[2].partition(" (")[0] or each, []).append(each)
        told = [f"{why}: {len(own)} seeds" if len(own) > 1 else own[0] for why, own in reasons.items()]
    return "".join(f"\n{each}" for each in told)


def _how_long(content):
    """Say what is held equal, as far as the settings tell it."""
    settings = content.get("settings") or {}
    told = {
        "target_loss": "target loss {}", "epochs": "{} epochs", "updates": "{} updates", "seconds": "{} seconds",
    }  # fmt: skip
    keys = {"loss": ("target_loss", "epochs"), "tuned": ("epochs",)}.get(
        content.get("equal"), (content.get("equal"),)
    )
    parts = [
        told[key].format(numbers.whole(settings[key])) for key in keys if key in told and settings.get(key)
    ]
    if content.get("equal") == "loss" and len(parts) == 2:
        parts[1] = f"at most {parts[1]}"
    return f"Held equal: {', '.join(parts)}." if parts else None

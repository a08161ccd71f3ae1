"""What a reproduction found, as its `results.json` tells it: claims in their order, arms with means over seeds, settings.

```
{"name", "scale", "paper", "hash", "environment", "seconds", "first_seed", "seeds",
 "claims": [...], "experiments": {name: ...}, "studies": {name: ...},
 "figures": {...}, "features": {...}, "command": "..."}      # the first two as in the YAML file; all three may be missing
```
Nothing here trains or measures: the same file always gives the same tables and figures.
"""

import collections
import dataclasses
import math

import scipy.special

from tf_lbgap.claims import Summary, summarize
from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.calls import is_call, nearest
from tf_lbgap.report.audit import text_of
from tf_lbgap.report.paper_numbers import is_number

RULES = ("loss", "epochs", "updates", "seconds", "tuned")
VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "NOT RUN")
_OF_EVERY_FIGURE = ("call", "in", "caption", "headline")
_ROWS_ONLY = ("arm", "seed", "settings")


@dataclasses.dataclass(frozen=True)
class Quantity:
    """How a result is named at an axis and in a heading."""

    words: str
    scale: float = 1.0
    unit: str = ""

    @property
    def label(self):
        return f"{self.words} ({self.unit})" if self.unit else self.words


_QUANTITIES = {
    "test_accuracy": Quantity("test accuracy", 100.0, "%"),
    "train_accuracy": Quantity("train accuracy", 100.0, "%"),
    "top_eigenvalue": Quantity("top eigenvalue", unit="loss / weight²"),
    "sharpness": Quantity("ε-sharpness", unit="%"),
    "updates": Quantity("weight updates"),
    "examples": Quantity("examples seen"),
    "seconds": Quantity("time", unit="s"),
    "seconds_train": Quantity("training time", unit="s"),
    "seconds_cpu": Quantity("CPU time", unit="s"),
    "distance": Quantity("distance from start"),
    "twin_distance": Quantity("distance between twins"),
    "test_chrf": Quantity("chrF"),
    "test_bleu": Quantity("BLEU"),
    "top_over_edge": Quantity("top eigenvalue / edge"),
    "time_to_escape": Quantity("rate × updates to escape"),
    "staleness": Quantity("staleness", unit="updates"),
}
_ROBUST = "robust_accuracy_"


def quantity(key):
    """Return the `Quantity` of a key of `results.json`."""
    if key in _QUANTITIES:
        return _QUANTITIES[key]
    if key.startswith(_ROBUST):
        attack, _, epsilon = key.removeprefix(_ROBUST).rpartition("_")
        return Quantity(f"accuracy under {attack.replace('_', ' ')} {epsilon}", 100.0, "%")
    if key.endswith("accuracy"):
        return Quantity(key.replace("_", " "), 100.0, "%")
    return Quantity(key.replace("_", " "))


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm of an experiment, or what a study measured of it."""

    settings: dict
    summaries: dict  # key -> `claims.Summary`
    values: dict  # key -> list over seeds, where they are known
    failed: tuple = ()  # a text for each seed that is no result, such as "seed 3: diverged"

    def joined(self, other):
        """Return this with what else was measured of the same arm."""
        return Arm(
            {**other.settings, **self.settings},
            {**other.summaries, **self.summaries},
            {**other.values, **self.values},
            self.failed or other.failed,
        )

    def summary(self, key):
        return self.summaries.get(key, Summary(math.nan, math.nan, 0))

    def setting(self, key):
        """Return a setting; `optimizer.momentum` reaches into one, and a rate may stand in the optimizer."""
        found = self.settings
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found is None and key == "learning_rate":
            return self.setting("optimizer.learning_rate")
        return found


def place_of(options, figure):
    """Return what a figure's `in` names; `in` is a word of Python, so figures take it among their further options.

    Raises:
        ConfigError: If it is missing, or there is an option that nobody knows.
    """
    for key in options:
        if key not in _OF_EVERY_FIGURE:
            raise ConfigError(f"{figure} has no argument {key!r}. {nearest(key, _OF_EVERY_FIGURE)}")
    if not options.get("in"):
        raise ConfigError(f"{figure} needs in: the name of an experiment or a study.")
    return options["in"]


def reach(summary):
    """Return half the width of the 95 % interval of a mean, by Student's t; NaN for a single seed."""
    if summary.num_seeds < 2 or not is_number(summary.standard_error):
        return math.nan
    return float(scipy.special.stdtrit(summary.num_seeds - 1, 0.975)) * summary.standard_error


def places_of(given):
    """Return the names that a figure's `in` holds, one or a list."""
    return [given] if isinstance(given, str) else list(given or ())


def arms_of(results, places):
    """Return {arm: `Arm`} of an experiment, or of a study from its rows; or of several.

    What a study measured is joined to the arms of the experiment that it measured, if that is among the places. Where arms of
    two experiments have one name, the experiment stands before it: `gap: large`.

    Raises:
        ConfigError: If there is neither of that name.
    """
    places = places_of(places)
    joined = {}
    for name in places:
        home = next((each for each in experiments_of(results, name) if each in places), name)
        for arm, found in _arms(results, name).items():
            joined[home, arm] = joined[home, arm].joined(found) if (home, arm) in joined else found
    counts = collections.Counter(arm for _, arm in joined)
    return {
        arm if counts[arm] == 1 else f"{home}: {arm}": found for (home, arm), found in joined.items()
    }  # fmt: skip


def _arms(results, name):
    if name in results.get("experiments", {}):
        found = results["experiments"][name]["arms"]
        return {arm: _of_experiment(content) for arm, content in found.items()}
    if name in results.get("studies", {}):
        return _of_study(results, name)
    raise ConfigError(f"in: {name!r} is no experiment and no study. {_known(results)}")


def curves_of(results, places):
    """Return the curves of a study, a list of dicts; a ConfigError if there is no study of that name."""
    found = []
    for name in places_of(places):
        if name not in results.get("studies", {}):
            raise ConfigError(f"in: {name!r} is no study. {_known(results)}")
        found += results["studies"][name].get("curves") or []
    return found


def experiments_of(results, places):
    """Return the names of the experiments that stand behind experiments or studies; all of them for None."""
    known = results.get("experiments", {})
    if not places:
        return list(known)
    behind = []
    for name in places_of(places):
        behind += [name] if name in known else places_of(results.get("studies", {}).get(name, {}).get("in"))
    return [name for name in dict.fromkeys(behind) if name in known]


def claims_of(results):
    """Return the claims: the primary one first, under the paper's own rule and then the others, then the rest."""
    return sorted(results.get("claims", ()), key=_rank)  # stable


def by_claim(results):
    """Return {name: its claims under one or several rules}, in the order of `claims_of`."""
    found = {}
    for claim in claims_of(results):
        found.setdefault(claim["name"], []).append(claim)
    return found


def batch_text(arm):
    """Return the batch size of an `Arm` in words."""
    criterion = arm.setting("adaptive.criterion")
    told = _short(arm.setting("batch_size"))
    return f"{told}, {_short(criterion)}" if criterion else told


def rate_text(arm):
    """Return the learning rate of an `Arm` in words; where it was tuned, the one that was chosen."""
    scaled = arm.setting("scale_learning_rate")
    told, chosen = _short(arm.setting("learning_rate")), arm.summary("learning_rate").mean
    if is_number(chosen) and arm.setting("learning_rate") != chosen:
        told = f"{told}, times {chosen:g}" if is_call(arm.setting("learning_rate")) else f"{chosen:g}"
    return f"{told}, scaled: {scaled}" if scaled and scaled != "none" else told


def setting_of(results, experiments, key):
    """Return a setting of experiments in words, or that it differs."""
    told = {}
    for name in experiments:
        content = results["experiments"][name]
        shared = (content.get("settings") or {}).get(key)
        for arm in content["arms"].values():
            own = (arm.get("settings") or {}).get(key, shared)
            told[text_of(own) if own is not None else ""] = None
        if not content["arms"] and shared is not None:
            told[text_of(shared)] = None
    told = [each for each in told if each]
    return told[0] if len(told) == 1 else "differs" if told else ""


def environment_text(results):
    """Return the device in words."""
    environment = results.get("environment") or {}
    devices = environment.get("devices") or []
    told = ", ".join(dict.fromkeys(map(str, devices)))
    if told == "CPU" and environment.get("processor"):
        cores = environment.get("cores")
        told = f"CPU ({environment['processor']}{f', {cores} cores' if cores else ''})"
    return told


def command_of(results):
    """Return the command that repeats a reproduction."""
    told = results.get("command")
    if told:
        return told
    count = len(seeds_of(results))
    more = f" --seeds {count}" if results.get("seeds") else ""
    return f"lbgap reproduce {results['name']} --scale {results.get('scale', 'small')}{more}"


def seconds_of(results):
    """Return the seconds of all runs and studies together, and those that passed by a clock, or None where they are not told."""
    told = results.get("seconds")
    if isinstance(told, dict):
        studies = sum(study.get("seconds") or 0 for study in results.get("studies", {}).values())
        return (told.get("runs") or 0) + studies, told.get("wall")
    return told, None


def seeds_of(results, experiments=()):
    """Return the numbers of the seeds of experiments, or of the reproduction where they do not tell."""
    known = results.get("experiments", {})
    told = results.get("seeds")
    if experiments or told is None:
        found = {seed for name in experiments or known for seed in known[name].get("seeds") or ()}
        if not known:  # simulations only
            found = {
                row["seed"]
                for study in results.get("studies", {}).values()
                for row in study.get("rows") or ()
            }
        if found:
            return sorted(found)
    if isinstance(told, (list, tuple)):
        return sorted(told)
    first = results.get("first_seed") or 0
    return list(range(first, first + (told or 0)))


def _of_experiment(content):
    summaries = {
        key: Summary(*(_known_number(value.get(part)) for part in ("mean", "standard_error")), value.get("num_seeds") or 0)
        for key, value in content.items()
        if isinstance(value, dict) and "mean" in value
    }  # fmt: skip
    return Arm(content.get("settings") or {}, summaries, {}, tuple(content.get("failed") or ()))


def _of_study(results, study):
    behind = [results["experiments"][name]["arms"] for name in experiments_of(results, study)]
    rows = {}
    for row in results["studies"][study].get("rows") or ():
        rows.setdefault(row["arm"], []).append(row)
    found = {}
    for arm, own in rows.items():
        keys = dict.fromkeys(k for row in own for k, v in row.items() if is_number(v) and k not in _ROWS_ONLY)
        values = {key: [row[key] for row in own if is_number(row.get(key))] for key in keys}
        settings = next((arms[arm].get("settings") for arms in behind if arm in arms), None)
        settings = settings or next((row["settings"] for row in own if "settings" in row), {})
        found[arm] = Arm(settings, {key: summarize(own) for key, own in values.items()}, values)
    return found


def _known(results):
    names = [*results.get("experiments", {}), *results.get("studies", {})]
    return f"Known: {', '.join(names)}." if names else "There are none."


def _known_number(value):
    return float(value) if is_number(value) else math.nan


def _rank(claim):
    rule = claim.get("rule")
    place = RULES.index(rule) if rule in RULES else len(RULES)
    return (not claim.get("primary"), *((not claim.get("own"), place) if claim.get("primary") else (0, 0)))


def _short(value):
    """Return a setting without the folder of what it calls."""
    return text_of(value).replace("schedules.", "").replace("growth.", "")

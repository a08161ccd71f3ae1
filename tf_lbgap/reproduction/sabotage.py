"""Papers that are broken on purpose: a verdict that survives this says nothing.

- `rate`: the arm that the primary claim is about trains at ten times its learning rate (all arms do, where the claim names none);
- `swapped`: that arm and the one it is compared with exchange their settings. Arms that are the same, or no worse than each other, stay so;
- `bare`: that arm keeps its batch sizes and takes all else from the one it is compared with, so that what the paper prescribes is missing;
- `labels`: training labels are drawn at random.
"""

import copy

from tf_lbgap.experiment.calls import ConfigError, is_call, nearest
from tf_lbgap.experiment.config import DEFAULTS, EQUAL
from tf_lbgap.reproduction.paper import NOT_RUN, laid_over

KINDS = ("rate", "swapped", "bare", "labels")
SHUFFLED = "data.corruption.noisy_labels"


def sabotaged(content, kind, factor=10):
    """Return the content of a paper's file with its primary claim only, under the paper's own rule, broken.

    Args:
        content: Of the YAML file at one scale (`paper.at_scale`).
        kind: One of `KINDS`.
        factor: Of the learning rate, where the kind is `rate`.

    Raises:
        ConfigError: If the kind is unknown, or the primary claim names no two arms, or nothing but batch sizes is different in them.
    """
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is no way to break a paper. {nearest(kind, KINDS)}")
    content = _primary_only(copy.deepcopy(content))
    ((_, own),) = content["experiments"].items()
    statistic, arms = content["claims"][content["primary"]]["statistic"], own["arms"]
    tested, other = statistic.get("arm"), statistic.get("to")
    if kind == "labels":
        for settings in (content, own, *arms.values()):
            if "data" in settings or settings is content:
                data = settings.get("data", DEFAULTS["data"])
                settings["data"] = {"call": SHUFFLED, "data": data, "fraction": 1}
    elif kind in ("swapped", "bare"):
        if tested not in arms or other not in arms:
            raise ConfigError(f"{content['primary']}: compares no two arms, so none can be exchanged.")
        if kind == "swapped":
            arms[tested], arms[other] = arms[other], arms[tested]
        else:
            arms[tested] = _bare(arms[tested], arms[other], content["primary"])
    else:
        for name in [tested] if tested in arms else arms:
            arms[name] |= _hastened({**DEFAULTS, **content, **own, **arms[name]}, factor)
    return content


def _primary_only(content):
    """Keep the primary claim and its experiment under the paper's own rule."""
    name, rule = content["primary"], content["rules"]["own"]
    claim = content["claims"][name]
    place, *more = [claim["in"]] if isinstance(claim["in"], str) else claim["in"]
    settings = content["rules"][rule]
    experiment = laid_over(content["experiments"][place], settings)
    studies = {key: call for key, call in content.get("studies", {}).items() if key in more}
    others = dict.fromkeys(EQUAL, f"{NOT_RUN}sabotage is of the paper's own rule")
    return {
        **{key: value for key, value in content.items() if key not in ("figures", "features")},
        "rules": {**others, "own": rule, rule: settings},
        "experiments": {place: experiment},
        "studies": studies,
        "claims": {name: claim},
    }


def _bare(tested, other, claim):
    """Return an arm of the batch sizes of the first and all other settings of the second."""
    bare = {**other, "batch_size": tested["batch_size"]}
    if bare == tested:
        raise ConfigError(f"{claim}: prescribes nothing but batch sizes, so nothing can be left out.")
    return bare


def _hastened(settings, factor):
    """Return what an arm has to say for its learning rate, whatever gives it, to be so many times as large."""
    rates, rate, optimizer = settings.get("learning_rates"), settings["learning_rate"], settings["optimizer"]
    if rates:
        return {"learning_rates": [factor * each for each in rates]}
    if is_call(rate):
        return {"learning_rate": {"call": "schedules.scaled", "schedule": rate, "factor": factor}}
    if rate is not None:
        return {"learning_rate": factor * rate}
    return {"optimizer": {**optimizer, "learning_rate": factor * optimizer["learning_rate"]}}

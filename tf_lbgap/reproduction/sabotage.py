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
    experiments, claim = content["experiments"], content["claims"][content["primary"]]
    if not experiments:
        raise ConfigError(f"{content['primary']}: is about no arm that is trained, so nothing can be broken.")
    arms = next((own["arms"] for name, own in experiments.items() if name in _places(claim)), {})
    tested, other = claim["statistic"].get("arm"), claim["statistic"].get("to")
    if kind in ("swapped", "bare") and (tested not in arms or other not in arms):
        raise ConfigError(f"{content['primary']}: compares no two arms, so none can be exchanged.")
    if kind == "swapped":
        arms[tested], arms[other] = arms[other], arms[tested]
    elif kind == "bare":
        arms[tested] = _bare(arms[tested], arms[other], content["primary"])
    elif kind == "rate":
        for own in experiments.values():
            for name, arm in own["arms"].items():
                if name == tested or tested not in arms:
                    arm |= _hastened({**DEFAULTS, **content, **own, **arm}, factor)
    else:
        _shuffle_labels(content)
    return content


def _shuffle_labels(content):
    content.setdefault("data", DEFAULTS["data"])
    for own in content["experiments"].values():
        for settings in (own, *own["arms"].values()):
            if "data" in settings:
                settings["data"] = {"call": SHUFFLED, "data": settings["data"], "fraction": 1}
    content["data"] = {"call": SHUFFLED, "data": content["data"], "fraction": 1}


def _primary_only(content):
    """Keep the primary claim under the paper's own rule, with its experiment and those that its studies measure."""
    name, rules = content["primary"], content.get("rules")
    claim = content["claims"][name]
    places, settings = _places(claim), rules[rules["own"]] if rules else {}
    studies = {key: call for key, call in content.get("studies", {}).items() if key in places}
    measured = [each for call in studies.values() for each in _places(call)]
    others = dict.fromkeys(EQUAL, f"{NOT_RUN}sabotage is of the paper's own rule")
    return {
        **{key: value for key, value in content.items() if key not in ("figures", "features")},
        **({"rules": {**others, "own": rules["own"], rules["own"]: settings}} if rules else {}),
        "experiments": {
            each: laid_over(own, settings) if each == places[0] else own
            for each, own in content.get("experiments", {}).items()
            if each in (*places, *measured)
        },
        "studies": studies,
        "claims": {name: claim},
    }


def _places(call):
    places = call.get("in") or ()
    return [places] if isinstance(places, str) else list(places)


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

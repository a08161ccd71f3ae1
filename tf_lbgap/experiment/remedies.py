"""Keys of a configuration that change how an arm is trained, or attack what was trained."""

from tf_lbgap.experiment.calls import ConfigError, is_call
from tf_lbgap.experiment.checks import check_keys, positive, whole


def calls_of(value, where, example):
    """Return None or a list of calls, given None, a call or a list of them."""
    if value is None:
        return None
    value = [value] if is_call(value) else value
    if not isinstance(value, list) or not all(map(is_call, value)):
        raise ConfigError(
            f"{where}: {value!r} must be a call, such as {{call: {example}}}, or a list of them."
        )
    return value or None


FULL_BATCH_KEYS = ("method", "memory", "trials", "c", "factor", "growth", "halvings")
"""Arguments of `training.FullBatch` that `full_batch:` may set."""

_FOR_BATCHES = {
    "batch_size": None,
    "maximum": None,
    "multiple_of": 1,
    "sizes": "any",
    "last_batch": "partial",
    "adaptive": None,
    "map": None,
    "update": None,
    "micro_batch_size": None,
    "ghost_batch_size": None,
    "learning_rate": None,
    "scale_learning_rate": "none",
    "momentum_correction": False,
    "steps_per_execution": 1,
}
"""Keys that mean nothing without batches, and what they are then. Those shared by all arms are left out for this one."""


def full_batch(arm, own, equal, where):
    """Return the keys of an arm that has all data in one batch, checked."""
    content = {"method": arm["full_batch"]} if isinstance(arm["full_batch"], str) else arm["full_batch"]
    if not isinstance(content, dict) or "method" not in content:
        raise ConfigError(
            f"{where}: {content!r} must hold a method, such as  full_batch: {{method: l-bfgs}}."
        )
    check_keys(content, FULL_BATCH_KEYS, where)
    for key, nothing in _FOR_BATCHES.items():
        if own.get(key) not in (None, nothing):
            raise ConfigError(f"{where}: there are no batches, so the arm takes no {key}. Leave it out.")
    if equal not in ("loss", "epochs", "updates"):
        raise ConfigError(f"{where}: works with equal: loss, epochs or updates, not with equal: {equal}.")
    if arm["strategy"] != "default":
        raise ConfigError(f"{where}: runs on one device, not with strategy: {arm['strategy']}.")
    return {**_FOR_BATCHES, "full_batch": dict(content)}


def robustness(content):
    """Return the arguments of `attacks.accuracy_under_attack`, checked, with `attacks` as {name: its sizes}."""
    if content is None:
        return None
    where = "measure: robustness"
    if not isinstance(content, dict):
        raise _no_sizes(content, where)
    check_keys(content, ("attacks", "epsilons", "examples", "data_range"), where)
    settings = {"examples": 1000, "data_range": None} | content
    shared = settings.pop("epsilons", None)
    settings["attacks"] = _sizes(settings.get("attacks", "fgsm"), shared, content, where)
    settings["examples"] = whole(settings["examples"], f"{where}: examples")
    bounds = settings["data_range"]
    if bounds is not None and (not isinstance(bounds, list) or len(bounds) != 2):
        raise ConfigError(f"{where}: data_range: {bounds!r} must be two numbers, such as [0, 1].")
    return settings


def _sizes(names, shared, content, where):
    """Return {attack: its sizes}, from that, or from names and the sizes that they share."""
    sized = isinstance(names, dict)
    if sized and shared is not None:
        raise ConfigError(f"{where}: attacks already holds the size of each. Leave epsilons out.")
    for name in names if sized else _listed(names):
        if not isinstance(name, str):
            raise ConfigError(f"{where}: attacks: {name!r} must be the name of an attack, such as fgsm.")
    sizes = names if sized else dict.fromkeys(_listed(names), shared)
    if not sizes or any(own is None or own == [] for own in sizes.values()):
        raise _no_sizes(content, where)
    key = f"{where}: {'attacks' if sized else 'epsilons'}"
    return {name: [positive(size, key) for size in _listed(own)] for name, own in sizes.items()}


def _no_sizes(content, where):
    return ConfigError(
        f"{where}: {content!r} must hold sizes, such as  robustness: {{attacks: [fgsm], epsilons: [0.05]}}."
    )


def _listed(value):
    return value if isinstance(value, list) else [value]

"""What a search cannot be, told before anything is imported that takes time."""

from tf_lbgap.experiment.calls import ConfigError, nearest
from tf_lbgap.search import space
from tf_lbgap.search.objectives import MEASURED, OBJECTIVES
from tf_lbgap.search.rates import check_noise_scale


def check(search):
    """Raise for the first thing in a `Search` that cannot be."""
    if search.held_out >= 1:
        raise ConfigError(
            f"held_out: {search.held_out:g} is the share of the training set, and must be below 1."
        )
    if not isinstance(search.objective, str) or search.objective not in OBJECTIVES:
        raise ConfigError(f"objective: {search.objective!r} is none of {', '.join(OBJECTIVES)}.")
    dimensions = search.dimensions
    if not dimensions:
        raise ConfigError(
            "Nothing varies. Write a range where a value stands, such as  batch_size: {choice: [16, 64, 256]}."
        )
    _check_tuner(search, dimensions)
    check_noise_scale(search.content)
    _check_trials(search)
    _check_objective(search)
    if space.find(search.content.get("data")):
        raise ConfigError("data: cannot vary: trials are compared on the same data.")
    if not isinstance(search.arms, dict):
        raise ConfigError(
            f"arms: {search.arms!r} must name what winners are compared with, such as  arms: {{known: {{batch_size: 32, ...}}}}."
        )
    for name, own in search.arms.items():
        _check_known(name, own, search)
    _check_final(search)


def _check_known(name, own, search):
    """Raise if what winners are compared with lacks a value for what is searched."""
    searched = {dimension.name: dimension.name.partition(".")[0] for dimension in search.dimensions}
    if search.content.get("noise_scale") is not None:
        searched.pop("noise_scale", None)
        searched["noise_scale"] = "learning_rate"
    if not isinstance(own, dict):
        raise ConfigError(f"arms: {name}: must hold keys such as batch_size, not {own!r}.")
    if "data" in own:
        raise ConfigError(
            f"arms: {name}: data: winners and what they are compared with have the same data. Leave it out."
        )
    for dimension, key in searched.items():
        if key not in own:
            raise ConfigError(f"arms: {name}: {dimension} is searched: give {key} a value.")


def _check_final(search):
    """Raise for what would be told only after all trials: a reference that is no arm, a margin that is none."""
    if search.reference is not None and search.reference not in search.arms:
        raise ConfigError(
            f"reference: {search.reference!r} is not one of arms. {nearest(search.reference, search.arms)}"
        )
    arms = {name: {**search.shared, **own} for name, own in search.arms.items()}
    _, _, values = next(search.samples())
    search.check({**arms, "winner": search.values(values, num_train=10**9)})


def _check_tuner(search, dimensions):
    name = search.tuner["name"]
    endless = [dimension.name for dimension in dimensions if dimension.values is None]
    if name == "grid" and endless:
        raise ConfigError(
            f"tuner: grid: {', '.join(endless)}: a range needs num, how many values of it are tried."
        )
    equal = search.content["equal"]
    if name == "hyperband" and equal != "epochs":
        raise ConfigError(
            f"tuner: hyperband: ends trials after epochs, which are examples: it needs equal: epochs, not {equal}."
        )
    if name == "hyperband" and space.find(search.content.get("epochs")):
        raise ConfigError(
            "tuner: hyperband: chooses the epochs itself. Give epochs a number, the most of a trial."
        )


def _check_objective(search):
    if search.content.get("strategy") in ("parameter_server", "multiworker"):
        raise ConfigError(
            f"strategy: {search.content['strategy']}: a trial trains on one machine. For several set Keras Tuner's variables, see "
            "lbgap search --help."
        )
    needs = OBJECTIVES[search.objective].needs
    equal = search.content["equal"]
    if equal == "tuned":
        raise ConfigError("equal: tuned: the search tunes. Give learning_rate a range, with equal: epochs.")
    if needs is not None and equal != needs:
        raise ConfigError(
            f"objective: {search.objective}: is counted until a loss is reached: it needs equal: {needs} and target_loss."
        )
    measure = search.content.get("measure") or {}
    if search.objective in MEASURED and measure.get("top_eigenvalue_examples") == 0:
        raise ConfigError(f"objective: {search.objective}: needs measure: top_eigenvalue_examples above 0.")
    if search.objective == "sharpness" and measure.get("epsilon") == 0:
        raise ConfigError(
            "objective: sharpness: needs measure: epsilon above 0, or left out for Keskar et al.'s 1e-3."
        )


def _check_trials(search):
    """Raise if some value of some dimension makes no experiment."""
    for dimension, value, values in search.samples():
        try:
            search.check({"0": search.values(values, num_train=10**9)})
        except ConfigError as error:
            told = str(error).replace("arms: 0: ", "")
            is_told = told.startswith(dimension.name)
            raise ConfigError(
                told if is_told else f"{dimension.name}: {space.label(value)}: {told}"
            ) from error

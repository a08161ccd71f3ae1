"""An advice as an experiment that `lbgap run` runs as it is: the known arm, the advised one, and one that grows.

Nothing here imports TensorFlow.
"""

import dataclasses
import math
import pathlib

import yaml

from tf_lbgap import experiment
from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.calls import nearest
from tf_lbgap.experiment.config import DEFAULTS, Measure

OF_THE_BATCH = (
    *("batch_size", "maximum", "multiple_of", "sizes", "adaptive"),
    *("learning_rate", "scale_learning_rate", "check_rule", "momentum_correction"),
)
"""Keys that arms differ in; all others are the same for all."""
_HOW_LONG = ("epochs", "updates", "seconds", "target_loss", "learning_rates", "workers")
ENOUGH = 3  # times the epochs that were seen to suffice


def content_of(loaded, arm, advice):
    """Return the content of a YAML file, a dict, that compares the advice with an arm at equal training loss.

    Args:
        loaded: The `experiment.Experiment` that was advised on.
        arm: Name of its arm.
        advice: The `pilot.Advice`.
    """
    own = loaded.arms[arm]
    always = ("data", "model", "loss", "optimizer")
    shared = {
        key: value
        for key, value in own.items()
        if key in always or (value != DEFAULTS[key] and key not in (*OF_THE_BATCH, *_HOW_LONG))
    }
    known = {key: own[key] for key in OF_THE_BATCH if own[key] != DEFAULTS[key]}
    goal = advice.target_loss or advice.goal_loss or advice.start_loss / 2
    content = {
        "name": f"{loaded.name}_advised",
        **shared,
        "equal": "loss",
        "target_loss": float(f"{goal:.4g}"),
        "epochs": _epochs(own, advice),
        "seeds": loaded.seeds,
        "reference": "known",
        "measure": {k: v for k, v in dataclasses.asdict(loaded.measure).items() if v != getattr(Measure, k)},
        "arms": {"known": known, **_arms(own, advice)},
    }
    return {key: value for key, value in content.items() if value != {}}


def text_of(content, advice):
    """Return the YAML text, its sentences on top as comments, checked by reading it as an experiment.

    Raises:
        ConfigError: If the experiment would not be accepted.
    """
    experiment.from_dict(content)
    told = [
        "Claim   The advised arm reaches the training loss in fewer seconds than the known one.",
        *advice.sentences,
    ]
    told += ["What the advice does not know:", *(f"- {text}" for text in advice.unknowns)]
    told += ["Cost    Type  lbgap run  and the name of this file; add seeds=2 for a first look."]
    comments = "".join(f"# {line}\n" for text in told for line in text.splitlines())
    return comments + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def arm_of(loaded, options):
    """Return the name of the arm that is asked about."""
    name = loaded.reference if options.arm is None else options.arm
    if name not in loaded.arms:
        raise ConfigError(f"--arm: {name!r} is not an arm. {nearest(name, loaded.arms)}")
    return name


def default_output(loaded):
    """Return where the YAML goes if nobody says otherwise: runs/NAME/advice.yaml."""
    return pathlib.Path(loaded.output) / "advice.yaml"


def _arms(own, advice):
    arms = advice.arms()
    del arms["known"]
    if advice.known_learning_rate is None and own["learning_rate"] is not None:
        scaled = {"call": "schedules.scaled", "schedule": own["learning_rate"], "factor": advice.rate_factor}
        arms["advised"]["learning_rate"] = scaled
    return arms


def _epochs(own, advice):
    """Epochs that suffice for each arm, as far as that was seen."""
    seen = [
        (row.raced_updates or row.predicted_updates or 0) * row.batch_size / advice.num_examples
        for row in advice.sizes
        if row.batch_size in (advice.batch_size, advice.known_batch_size)
    ]
    beyond = 1 if advice.target_loss is None or advice.goal_loss == advice.target_loss else 10
    return max(own["epochs"] or 1, math.ceil(ENOUGH * beyond * max(seen, default=1)))

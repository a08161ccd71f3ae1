"""An experiment as it stands in a YAML file: arms, seeds, and what is held equal.

```yaml
data: {call: data.datasets.digits, num_train: 1000}
model: {call: networks.mlp, widths: [64, 64]}
optimizer: {call: keras.optimizers.SGD, learning_rate: 0.05, momentum: 0.9}
equal: loss                  # every arm trains until the clean training loss is target_loss
target_loss: 0.01
seeds: 5
arms:
  small: {batch_size: 16}
  large: {batch_size: 256}
  grown: {batch_size: {call: schedules.staircase, initial: 16, factor: 4, milestones: [2, 4]}}
```

Each key outside `arms` holds for all arms, and an arm may set any key of `ARM_KEYS` for itself.
"""

import copy
import dataclasses
import pathlib
import re

from tf_lbgap import scaling
from tf_lbgap.experiment.calls import ConfigError, is_call, nearest
from tf_lbgap.experiment.checks import check_keys, count, positive, switch, text, whole
from tf_lbgap.experiment.reading import read
from tf_lbgap.experiment.remedies import calls_of, full_batch, robustness

DEFAULTS = {
    "data": {"call": "data.datasets.digits"},
    "model": {"call": "networks.mlp"},
    "loss": {"call": "keras.losses.SparseCategoricalCrossentropy", "from_logits": True},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.9},
    "map": None,
    "jit_compile": False,
    # what it runs on: a name of `strategy.from_name`
    "strategy": "default",
    # processes that train asynchronously, under strategy: parameter_server
    "workers": None,
    "steps_per_execution": 1,
    # the batch
    "batch_size": None,
    "maximum": None,
    "multiple_of": 1,
    "sizes": "any",
    "last_batch": "partial",
    # who chooses it, in place of a schedule: arguments of `callbacks.AdaptiveBatchSize`
    "adaptive": None,
    # changes of the update: a call such as training.SharpnessAware, or a list of them
    "update": None,
    # further callbacks, a list of calls
    "callbacks": None,
    # all data at once instead of batches: arguments of `training.FullBatch`
    "full_batch": None,
    # examples of a forward pass, and those that batch normalization sees at a time
    "micro_batch_size": None,
    "ghost_batch_size": None,
    # the rate: a number, or a schedule of progress; None keeps the optimizer's own
    "learning_rate": None,
    "scale_learning_rate": "none",
    "check_rule": True,
    "momentum_correction": False,
    # how long
    "epochs": None,
    "updates": None,
    "seconds": None,
    "target_loss": None,
    # what to choose the rate from, with equal: tuned
    "learning_rates": None,
}
"""What an arm consists of, and what holds if nobody says otherwise."""

ARM_KEYS = frozenset(DEFAULTS)

EQUAL = {
    "loss": ("target_loss", "epochs"),
    "epochs": ("epochs",),
    "updates": ("updates",),
    "seconds": ("seconds",),
    "tuned": ("epochs", "learning_rates"),
}
"""What can be held equal between arms, and the keys that it needs."""


_CHOICES = {
    "scale_learning_rate": scaling.RATE_RULES,
    "check_rule": (True, False),
    "sizes": ("any", "ladder"),
    "last_batch": ("partial", "merge", "drop"),
    "jit_compile": (True, False, "auto"),
    "momentum_correction": (True, False),
    "strategy": ("auto", "default", "mirrored", "multiworker", "parameter_server", "tpu"),
}
_FILES = ("config.yaml", "results.json", "results.csv", "report.html", "error.txt")  # of a run directory


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is measured, and on how much data."""

    check_examples: int = 1000  # of the training set, for the loss that stops an arm; 0: all
    check_every: float = 1 / 12  # epochs between looks at that loss; `callbacks.TargetLoss`
    top_eigenvalue_examples: int = 1000  # of the training set, for the Hessian; 0: it is not measured
    validation_examples: int = 1000  # of the test set, for the curve of each epoch; 0: no curve
    tolerance: float = 1e-3  # relative residual of an eigenvalue
    epsilon: float = 1e-3  # of `sharpness`, Keskar et al.'s Metric 2.1, on the examples of the Hessian; 0: it is not measured
    monitor: dict | None = None  # of `callbacks.CurvatureMonitor`, while training, on the same examples
    robustness: dict | None = None  # arguments of `attacks.accuracy_under_attack`, on test examples
    test_examples: bool = False  # whether to keep loss and correctness of each test example


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration whose every key is known and every value is of the right kind."""

    name: str
    equal: str
    seeds: int  # how many
    arms: dict  # name -> dict with the keys of DEFAULTS
    reference: str  # the arm that the others are compared with
    output: str  # the run directory
    measure: Measure = dataclasses.field(default_factory=Measure)
    margin: float | None = None  # points of test accuracy; an arm that loses less is as good as the reference
    first_seed: int = 0  # the seeds are this one and those after it

    @property
    def seed_numbers(self):
        """The seeds, a range."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def to_dict(self):
        """Return plain dicts, as they are written into the run directory."""
        return dataclasses.asdict(self)


def load(path, overrides=()):
    """Read an experiment from a YAML file.

    Args:
        path: The file.
        overrides: Strings `key=value`; the key may reach into the file, `arms.small.batch_size=8`.

    Raises:
        ConfigError: If the file is missing or says something that nobody understands.
    """
    content = read(path, overrides, DEFAULTS)
    if {"tuner", "objective", "max_trials"} & content.keys():
        raise ConfigError(f"{path} is a search. Type  lbgap search {path}")
    if "paper" in content:
        raise ConfigError(f"{path} is a paper's. Type  lbgap reproduce {path}")
    return from_dict(content, name=pathlib.Path(path).stem)


def from_dict(content, name="experiment"):
    """Make an experiment from the content of a YAML file."""
    content = copy.deepcopy(content)
    top = {field.name for field in dataclasses.fields(Experiment)}
    check_keys(content, top | ARM_KEYS, "the file")
    arms = content.get("arms")
    if not isinstance(arms, dict) or not arms:
        raise ConfigError("arms: must name at least one arm, such as  arms: {small: {batch_size: 32}}.")
    equal = content.get("equal", "loss")
    if not isinstance(equal, str) or equal not in EQUAL:
        raise ConfigError(f"equal: {equal!r} is none of {', '.join(EQUAL)}.")
    shared = {key: content[key] for key in ARM_KEYS & content.keys()}
    complete = {arm: _arm(arm, own, shared, equal) for arm, own in arms.items()}
    reference = content.get("reference", next(iter(arms)))
    if not isinstance(reference, str) or reference not in arms:
        raise ConfigError(f"reference: {reference!r} is not an arm. {nearest(reference, arms)}")
    name = text(content.get("name", name), "name")
    return Experiment(
        name=name,
        equal=equal,
        seeds=whole(content.get("seeds", 5), "seeds"),
        arms=complete,
        reference=reference,
        output=text(content.get("output", str(pathlib.Path("runs") / name)), "output"),
        measure=_measure(content.get("measure", {})),
        margin=_margin(content.get("margin")),
        first_seed=count(content.get("first_seed", 0), "first_seed"),
    )


def _margin(value):
    if value is None:
        return None
    margin = positive(value, "margin", "of points of test accuracy, such as 0.5")
    if margin >= 100:
        raise ConfigError(f"margin: {value!r} is in points of test accuracy, and should be below 100.")
    return margin


def _arm(name, own, shared, equal):
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise ConfigError(
            f"arms: {name!r} cannot be the name of a folder; use letters, digits, '_', '.', '+' and '-'."
        )
    if name in _FILES or len(name) > 100:
        reason = "it is too long" if len(name) > 100 else "a file has that name"
        raise ConfigError(f"arms: {name!r} cannot be the name of a folder: {reason}.")
    if not isinstance(own, dict):
        raise ConfigError(f"arms: {name}: must hold keys such as batch_size, not {own!r}.")
    check_keys(own, ARM_KEYS, f"arm {name}")
    arm = copy.deepcopy({**DEFAULTS, **shared, **own})
    for key in ("data", "model", "loss", "optimizer", "map"):
        if not is_call(arm[key]) and not (key == "map" and arm[key] is None):
            example = (DEFAULTS[key] or {"call": "my_module:my_function"})["call"]
            raise ConfigError(
                f"arms: {name}: {key}: {arm[key]!r} must be a call, such as {{call: {example}}}."
            )
    arm["update"] = calls_of(arm["update"], f"arms: {name}: update", "training.SharpnessAware")
    arm["callbacks"] = calls_of(arm["callbacks"], f"arms: {name}: callbacks", "callbacks.WeightAveraging")
    if arm["full_batch"] is not None:
        arm |= full_batch(arm, own, equal, f"arms: {name}: full_batch")
    elif arm["batch_size"] is None:
        raise ConfigError(f"arms: {name}: needs a batch_size, a number or a schedule.")
    if not is_call(arm["batch_size"]) and arm["full_batch"] is None:
        whole(
            arm["batch_size"], f"arms: {name}: batch_size", "or a schedule, {call: schedules.staircase, ...}"
        )
    if arm["learning_rate"] is not None and not is_call(arm["learning_rate"]):
        example = "or a schedule, {call: schedules.cosine, ...}"
        arm["learning_rate"] = positive(arm["learning_rate"], f"arms: {name}: learning_rate", example)
    inner = arm["optimizer"].get("learning_rate")
    if is_call(inner) and str(inner["call"]).startswith("schedules."):
        raise ConfigError(
            f"arms: {name}: optimizer: {inner['call']} counts epochs, and Keras' optimizers count updates. Take "
            "learning_rate out of the optimizer: write it as a key beside optimizer, or in the arm."
        )
    for key in EQUAL[equal]:
        if arm[key] is None:
            raise ConfigError(f"arms: {name}: equal: {equal} needs {key}.")
    for key in ("epochs", "updates", "steps_per_execution", "multiple_of", "maximum"):
        if arm[key] is not None:
            arm[key] = whole(arm[key], f"arms: {name}: {key}")
    for key in ("seconds", "target_loss"):
        if arm[key] is not None:
            arm[key] = positive(arm[key], f"arms: {name}: {key}")
    arm["adaptive"] = _adaptive(arm, f"arms: {name}: adaptive")
    arm["workers"] = _workers(arm, equal, f"arms: {name}")
    for key in ("micro_batch_size", "ghost_batch_size"):
        if arm[key] is not None and not (key == "micro_batch_size" and arm[key] == "auto"):
            arm[key] = whole(arm[key], f"arms: {name}: {key}", 'or "auto"' if key[0] == "m" else "")
    if arm["learning_rates"] is not None:
        arm["learning_rates"] = _rates(arm["learning_rates"], f"arms: {name}: learning_rates", equal)
    for key, choices in _CHOICES.items():
        if not any(arm[key] is choice or arm[key] == choice != 1 for choice in choices):
            known = ", ".join("true" if c is True else "false" if c is False else c for c in choices)
            raise ConfigError(f"arms: {name}: {key}: {arm[key]!r} is none of {known}.")
    if equal == "updates" and arm["steps_per_execution"] > 1:
        raise ConfigError(f"arms: {name}: equal: updates counts each update: leave out steps_per_execution.")
    return arm


def _workers(arm, equal, where):
    if arm["strategy"] != "parameter_server":
        if arm["workers"] is not None:
            raise ConfigError(f"{where}: workers: is for strategy: parameter_server; leave it out.")
        return None
    for key in (
        "adaptive",
        "micro_batch_size",
        "ghost_batch_size",
        "map",
        "update",
        "callbacks",
        "full_batch",
    ):
        if arm[key] is not None:
            raise ConfigError(
                f"{where}: strategy: parameter_server: asynchronous updates take no {key}. Leave it out."
            )
    if equal == "tuned" or arm["momentum_correction"] or arm["steps_per_execution"] > 1:
        key = "equal: tuned" if equal == "tuned" else "momentum_correction or steps_per_execution"
        raise ConfigError(f"{where}: strategy: parameter_server: asynchronous updates take no {key}.")
    return whole(2 if arm["workers"] is None else arm["workers"], f"{where}: workers")


ADAPTIVE_KEYS = ("criterion", "minimum", "sizes", "every", "window", "num_micro_batches", "probe")
"""Arguments of `callbacks.AdaptiveBatchSize` that `adaptive:` may set; the others are keys of the arm."""


def _adaptive(arm, where):
    content = arm["adaptive"]
    if content is None:
        return None
    example = "adaptive: {criterion: {call: growth.GradientNoiseScale}, every: 16}"
    if not isinstance(content, dict) or not is_call(content.get("criterion")):
        raise ConfigError(f"{where}: {content!r} must hold a criterion, a call, such as  {example}.")
    check_keys(content, ADAPTIVE_KEYS, where)
    if is_call(arm["batch_size"]):
        raise ConfigError(
            f"{where}: a criterion chooses the batch, and so does the schedule batch_size. Give the first size."
        )
    for key in ("multiple_of", "sizes"):
        if arm[key] != DEFAULTS[key]:
            hint = "Write it inside adaptive" if key in ADAPTIVE_KEYS else "Leave it out"
            raise ConfigError(f"{where}: the arm's {key} is for schedules. {hint}.")
    return dict(content)


def _rates(value, where, equal):
    if equal != "tuned":
        raise ConfigError(f"{where}: are tried with equal: tuned, not with equal: {equal}.")
    if not isinstance(value, list) or len(value) < 2:
        raise ConfigError(
            f"{where}: {value!r} must be a list of at least two numbers, such as [0.01, 0.1, 1.0]."
        )
    return [positive(rate, where) for rate in value]


def _measure(content):
    if not isinstance(content, dict):
        raise ConfigError(
            f"measure: {content!r} must hold keys, such as  measure: {{top_eigenvalue_examples: 0}}."
        )
    known = {field.name for field in dataclasses.fields(Measure)}
    check_keys(content, known, "measure")
    content = dict(content)
    for key, value in content.items():
        if key == "epsilon" and value == 0:
            continue
        if key in ("tolerance", "epsilon", "check_every"):
            content[key] = positive(value, f"measure: {key}")
        elif key == "monitor":
            content[key] = _monitor(value)
        elif key == "robustness":
            content[key] = robustness(value)
        elif key == "test_examples":
            content[key] = switch(value, f"measure: {key}")
        else:
            count(value, f"measure: {key}")
    return Measure(**content)


MONITOR_KEYS = ("k", "which", "trace", "density", "every", "max_overhead", "subsets", "at_start")
"""Arguments of `callbacks.CurvatureMonitor` that `measure: monitor:` may set."""


def _monitor(content):
    if content is None:
        return None
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"measure: monitor: {content!r} must hold keys, such as  monitor: {{k: 5, max_overhead: 0.05}}."
        )
    check_keys(content, MONITOR_KEYS, "measure: monitor")
    return dict(content)

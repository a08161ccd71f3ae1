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

import yaml

from tf_lbgap.experiment.calls import ConfigError, nearest

DEFAULTS = {
    "data": {"call": "data.datasets.digits"},
    "model": {"call": "networks.mlp"},
    "loss": {"call": "keras.losses.SparseCategoricalCrossentropy", "from_logits": True},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.9},
    "map": None,
    "jit_compile": False,
    "steps_per_execution": 1,
    # the batch
    "batch_size": None,
    "maximum": None,
    "multiple_of": 1,
    "sizes": "any",
    "last_batch": "partial",
    # the rate: a number, or a schedule of progress; None keeps the optimizer's own
    "learning_rate": None,
    "scale_learning_rate": "none",
    "momentum_correction": False,
    # how long
    "epochs": None,
    "updates": None,
    "seconds": None,
    "target_loss": None,
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


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is measured, and on how much data."""

    check_examples: int = 1000  # of the training set, for the loss that stops an arm; 0: all
    top_eigenvalue_examples: int = 1000  # of the training set, for the Hessian; 0: it is not measured
    validation_examples: int = 1000  # of the test set, for the curve of each epoch; 0: no curve
    tolerance: float = 1e-3  # relative residual of an eigenvalue


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration whose every key is known and every value is of the right kind."""

    name: str
    equal: str
    seeds: int  # how many: 0, 1, ..., seeds - 1
    arms: dict  # name -> dict with the keys of DEFAULTS
    reference: str  # the arm that the others are compared with
    output: str  # the run directory
    measure: Measure = dataclasses.field(default_factory=Measure)

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
    path = pathlib.Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"There is no file {str(path)!r}. {_yaml_files(path)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values, such as 'arms:', not {type(content).__name__}.")
    for override in overrides:
        _override(content, override)
    return from_dict(content, name=path.stem)


def from_dict(content, name="experiment"):
    """Make an experiment from the content of a YAML file."""
    content = copy.deepcopy(content)
    top = {field.name for field in dataclasses.fields(Experiment)}
    _check_keys(content, top | ARM_KEYS, "the file")
    arms = content.get("arms")
    if not isinstance(arms, dict) or not arms:
        raise ConfigError("arms: must name at least one arm, such as  arms: {small: {batch_size: 32}}.")
    equal = content.get("equal", "loss")
    if equal not in EQUAL:
        raise ConfigError(f"equal: {equal!r} is none of {', '.join(EQUAL)}.")
    shared = {key: content[key] for key in ARM_KEYS & content.keys()}
    complete = {arm: _arm(arm, own, shared, equal) for arm, own in arms.items()}
    reference = content.get("reference", next(iter(arms)))
    if reference not in arms:
        raise ConfigError(f"reference: {reference!r} is not an arm. {nearest(reference, arms)}")
    name = str(content.get("name", name))
    return Experiment(
        name=name,
        equal=equal,
        seeds=_whole(content.get("seeds", 5), "seeds"),
        arms=complete,
        reference=reference,
        output=str(content.get("output", pathlib.Path("runs") / name)),
        measure=_measure(content.get("measure") or {}),
    )


def _arm(name, own, shared, equal):
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise ConfigError(f"arms: {name!r} cannot be the name of a folder; use letters, digits, '_', '.', '+' and '-'.")
    if not isinstance(own, dict):
        raise ConfigError(f"arms: {name}: must hold keys such as batch_size, not {own!r}.")
    _check_keys(own, ARM_KEYS, f"arm {name}")
    arm = copy.deepcopy({**DEFAULTS, **shared, **own})
    if arm["batch_size"] is None:
        raise ConfigError(f"arms: {name}: needs a batch_size, a number or a schedule.")
    for key in EQUAL[equal]:
        if arm[key] is None:
            raise ConfigError(f"arms: {name}: equal: {equal} needs {key}.")
    for key in ("epochs", "updates", "steps_per_execution", "multiple_of", "maximum"):
        if arm[key] is not None:
            arm[key] = _whole(arm[key], f"arms: {name}: {key}")
    for key in ("seconds", "target_loss"):
        if arm[key] is not None:
            arm[key] = _positive(arm[key], f"arms: {name}: {key}")
    if arm["scale_learning_rate"] not in ("none", "linear", "sqrt"):
        raise ConfigError(f"arms: {name}: scale_learning_rate: {arm['scale_learning_rate']!r} is none of none, linear, sqrt.")
    return arm


def _measure(content):
    known = {field.name for field in dataclasses.fields(Measure)}
    _check_keys(content, known, "measure")
    for key, value in content.items():
        if key == "tolerance":
            _positive(value, "measure: tolerance")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"measure: {key}: {value!r} must be a whole number of at least 0.")
    return Measure(**content)


def _check_keys(content, known, where):
    for key in content:
        if key not in known:
            raise ConfigError(f"{key!r} in {where} is not a key. {nearest(key, known)}")


def _whole(value, where):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where}: {value!r} must be a whole number of at least 1.")
    return value


def _positive(value, where):
    # YAML 1.1 reads 1e-3 as text; Python does not.
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf"):
        raise ConfigError(f"{where}: {value!r} must be a positive number.")
    return number


def _override(content, override):
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not of the form key=value, such as seeds=10.")
    try:
        value = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{override!r}: the value cannot be read as YAML.") from None
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{override!r}: {parent} holds no keys.")
    content[last] = value


def _yaml_files(path):
    folder = path.parent if path.parent.is_dir() else pathlib.Path("configs")
    found = sorted(str(p) for p in folder.glob("*.yaml")) if folder.is_dir() else []
    return nearest(path, found) if found else "Give the path of a YAML file."

"""What a search may vary: ranges that stand in a configuration where else a value does.

```yaml
batch_size: {choice: [16, 64, 256]}                        # one of these
learning_rate: {range: [0.01, 1.0], scale: log}            # anything between
model: {call: networks.mlp, widths: {choice: [[64], [64, 64]]}}
optimizer: {call: keras.optimizers.SGD, momentum: {range: [0.0, 0.9], num: 4}}   # one of 4, equally far apart
```

A dimension of the space is called by where its range stands: `batch_size`, `optimizer.momentum`, `model.widths`.
"""

import copy
import dataclasses
import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError, is_call
from tf_lbgap.experiment.checks import check_keys, whole

DIGITS = 6  # significant ones of a value: a worker gets float32 from the chief


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One thing that varies.

    Attributes:
        name: Where it stands, with dots.
        values: What it may be, as it goes into the configuration; `None` if it is anything from `low` to `high`.
        low, high: The ends of numbers, `None` if the values have no order.
        scale: "linear" or "log".
    """

    name: str
    values: tuple | None = None
    low: float | None = None
    high: float | None = None
    scale: str = "linear"

    @property
    def labels(self):
        """The values as Keras Tuner knows them: numbers of one kind, or short texts."""
        return tuple(self.values) if _is_plain(self.values) else tuple(label(value) for value in self.values)

    def register(self, hyperparameters):
        """Add the dimension to Keras Tuner's `HyperParameters`."""
        if self.values is not None:
            hyperparameters.Choice(self.name, list(self.labels))
        else:
            hyperparameters.Float(self.name, self.low, self.high, sampling=self.scale)

    def value(self, given):
        """Return what goes into the configuration for a value of Keras Tuner's."""
        if self.values is None:
            return min(max(float(f"{given:.{DIGITS}g}"), self.low), self.high)
        if given in self.labels:
            return copy.deepcopy(self.values[self.labels.index(given)])
        return min(self.values, key=lambda value: abs(value - given))  # float32 has been over it


def find(content, where=""):
    """Return the `Dimension`s of a configuration, in the order in which they stand.

    Raises:
        ConfigError: If a range says something that nobody understands.
    """
    if is_range(content):
        return [_dimension(content, where)]
    if isinstance(content, dict):
        found = [find(value, f"{where}.{key}" if where else str(key)) for key, value in content.items()]
        return [dimension for each in found for dimension in each]
    if isinstance(content, list):
        return [d for i, value in enumerate(content) for d in find(value, f"{where}.{i}")]
    return []


def fill(content, values, where=""):
    """Return a configuration with a value for each range.

    Args:
        content: The configuration.
        values: Dict from the name of a dimension to a value of Keras Tuner's.
    """
    if is_range(content):
        return _dimension(content, where).value(values[where])
    if isinstance(content, dict):
        return {k: fill(v, values, f"{where}.{k}" if where else str(k)) for k, v in content.items()}
    if isinstance(content, list):
        return [fill(value, values, f"{where}.{i}") for i, value in enumerate(content)]
    return copy.deepcopy(content)


def is_range(content):
    """Return whether this is a range and not a value."""
    return isinstance(content, dict) and "call" not in content and bool({"choice", "range"} & content.keys())


def label(value):
    """Return a short text for a value of any kind: `staircase(initial=16, factor=2)`, `64 x 64`, `none`."""
    if is_call(value):
        arguments = ", ".join(f"{key}={label(each)}" for key, each in value.items() if key != "call")
        return f"{str(value['call']).rpartition('.')[2]}({arguments})"
    if isinstance(value, list):
        return " x ".join(map(label, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _dimension(content, where):
    if "choice" in content:
        check_keys(content, ("choice",), where)
        return _choice(content["choice"], where)
    check_keys(content, ("range", "scale", "num"), where)
    low, high = _ends(content["range"], where)
    scale = content.get("scale", "linear")
    if scale not in ("linear", "log"):
        raise ConfigError(f"{where}: scale: {scale!r} is none of linear, log.")
    if scale == "log" and low <= 0:
        raise ConfigError(f"{where}: range: [{low:g}, {high:g}] with scale: log has to begin above 0.")
    if "num" in content:
        return _steps(low, high, scale, whole(content["num"], f"{where}: num"), where)
    if isinstance(low, int) and isinstance(high, int):
        raise ConfigError(
            f"{where}: range: [{low}, {high}] of whole numbers needs num, how many of them, such as num: 6; for fractions write "
            f"[{low}.0, {high}.0]."
        )
    return Dimension(where, None, float(low), float(high), scale)


def _choice(values, where):
    if not isinstance(values, list) or len(values) < 2:
        raise ConfigError(f"{where}: choice: {values!r} must be a list of at least two values.")
    dimension = Dimension(where, tuple(values))
    labels = dimension.labels
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{where}: choice: {values!r} names a value twice.")
    if not all(map(_is_number, values)):
        return dimension
    low, high = min(values), max(values)
    scale = "log" if low > 0 and high > 5 * low else "linear"
    return Dimension(where, tuple(values), low, high, scale)


def _ends(ends, where):
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_number, ends)):
        raise ConfigError(f"{where}: range: {ends!r} must be the two ends, such as [0.01, 1.0].")
    if not ends[0] < ends[1]:
        raise ConfigError(f"{where}: range: {ends!r} must begin with the smaller end.")
    return ends


def _steps(low, high, scale, num, where):
    if num < 2:
        raise ConfigError(f"{where}: num: {num} must be at least 2, for both ends are among them.")
    values = (np.geomspace if scale == "log" else np.linspace)(low, high, num).tolist()
    if isinstance(low, int) and isinstance(high, int):
        values = list(dict.fromkeys(round(value) for value in values))
    else:
        values = [float(f"{value:.{DIGITS}g}") for value in values]
    return Dimension(where, tuple(values), values[0], values[-1], scale)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_plain(values):
    return any(all(type(value) is kind for value in values) for kind in (int, float, str, bool))

"""Decisions: which batch size a criterion wants, and why.

A criterion is a pure function of the batch size and of what was measured; it keeps no state and reads no clock, so
the same numbers give the same decision, in `fit`, in a test, or later from a log. `callbacks.AdaptiveBatchSize`
measures, asks, and then bounds and rounds what was wanted.

A new criterion is one file with one frozen dataclass: `needs`, the names it takes, and `decide`, which gets them by name.
"""

import dataclasses
import math

_FROM_PROBES = (
    "the probes of callbacks.AdaptiveBatchSize(batches, criterion, every=16, window=20) measure it, and so does "
    "gradient_noise.measure(model, loss, batches) at fixed weights"
)
_MEASURED_BY = {
    "inner_product_variance": 'the probes of callbacks.AdaptiveBatchSize(batches, criterion, probe="update") measure it',
    "first_trace": "callbacks.AdaptiveBatchSize keeps the trace of its first decision",
    "losses": "callbacks.AdaptiveBatchSize collects the mean training loss of each epoch since the size changed",
    "top_eigenvalues": (
        "callbacks.AdaptiveBatchSize(batches, criterion, sample=(x, y)) measures the largest eigenvalue of the sample's "
        "Hessian at the end of each epoch"
    ),
}
for _name in ("loss", "learning_rate", "momentum", "updates", "progress", "num_examples", "first_batch_size"):
    _MEASURED_BY[_name] = "callbacks.AdaptiveBatchSize reads it from the fit"

_SERIES = ("losses", "top_eigenvalues")  # tuples of a number per epoch
_MAY_BE_INFINITE = ("noise_scale", "noise_scale_low", "noise_scale_high")  # where |G|² may be 0


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a criterion wants."""

    batch_size: float  # examples, before bounds and before rounding to the sizes that are allowed
    reason: str  # one sentence, with the numbers that decided
    numbers: dict  # what was used and what was computed from it, by name; plain values


class Criterion:
    """What the criteria share: they take what they need by name, and nothing follows from a NaN.

    Subclasses are frozen dataclasses.
    """

    needs = ()
    """Names of the measurements that `decide` takes."""

    in_small_steps = False
    """Whether a decision asks for less than twice the size, which no ladder of powers of two can follow."""

    multiplies = False
    """Whether it asks for a multiple of the size that it is given: at a maximum it is given what it wanted last."""

    ends_at_maximum = False
    """Whether nothing is left to decide at the maximum: then it is not asked there, and nothing is measured for it."""

    def __call__(self, batch_size, measured):
        """Return the `Decision` for a batch size, examples per update.

        Args:
            batch_size: The present one, at least 1.
            measured: A dict with at least the names in `needs`.

        Raises:
            ValueError: If a measurement is missing.
        """
        values = {name: self._taken(name, measured) for name in self.needs}
        for name, value in values.items():
            if not _is_usable(name, value):
                reason = f"{name} is {value!r}, from which nothing follows: the batch size stays."
                return Decision(float(batch_size), reason, values)
        return self.decide(float(batch_size), **values)

    def check_optimizer(self, name, momentum=0.0):
        """Raise if the criterion is known not to hold for an optimizer; most are used with any.

        Args:
            name: Of its class, such as `"SGD"`.
            momentum: Of SGD.
        """

    def decide(self, batch_size, **measured):
        """Return the `Decision`, from numbers that are finite (noise scales may be infinite)."""
        raise NotImplementedError

    def _taken(self, name, measured):
        value = measured.get(name)
        if value is None:
            found = ", ".join(sorted(key for key in measured if measured[key] is not None)) or "nothing"
            raise ValueError(
                f"{type(self).__name__} needs {name!r}, but was given {found}: {_MEASURED_BY.get(name, _FROM_PROBES)}."
            )
        return tuple(float(entry) for entry in value) if name in _SERIES else float(value)


def keep(batch_size, reason, numbers):
    """Return the decision to leave the size as it is."""
    return Decision(batch_size, f"{reason}: the batch size stays.", numbers)


def check_above_zero(who, **named):
    """Raise unless the arguments are finite numbers above 0."""
    for name, value in named.items():
        if not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f"{who}({name}={value!r}): {name} must be a number above 0.")


def check_flags(who, **named):
    """Raise unless the arguments are true or false."""
    for name, value in named.items():
        if not isinstance(value, bool):
            raise ValueError(f"{who}({name}={value!r}): {name} must be True or False.")


def is_number(value):
    """Whether a value is a number, and no NaN; `True` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_usable(name, value):
    if name == "top_eigenvalues":  # an earlier one that is unknown is an epoch that went by
        return all(map(math.isfinite, value[-1:]))
    if isinstance(value, tuple):
        return all(map(math.isfinite, value))
    return math.isfinite(value) or (name in _MAY_BE_INFINITE and value == math.inf)

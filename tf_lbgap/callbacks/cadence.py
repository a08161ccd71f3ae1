"""When a monitor measures: at ends of epochs, at given updates, when a function says so, or within a budget.

A cadence is asked after each update and at each end of an epoch. What it is made of is a plain dict, so that one
run can find it within a budget and others, given that dict, measure at the same updates: times differ from run to
run, and arms that are measured at other points cannot be compared.

Updates are those of `optimizer.iterations`, which several `fit` calls share. With `steps_per_execution` above 1
a monitor is asked once per execution, and measures at the first end of one at or after the update.

Nothing here imports Keras or TensorFlow, or looks at a clock.
"""

import difflib
import math
import statistics

_EXECUTIONS = 8  # executions that are timed before the first measurement within a budget
_TRACED = 2  # executions at the start of a fit that may hold tracing, and are not timed
_OUTLIER = 5  # an execution that took that many medians held something else, such as a new trace
_KEYS = ("epochs", "updates", "first", "max_products")


def cadence_of(every, max_overhead=None):
    """Make the cadence that a user's arguments ask for.

    Args:
        every: "epoch"; a whole number of updates; a dict, `{"epochs": 2}` or `{"updates": 100}`, or what
            `plain()` of another cadence returned; or a function `(update, progress) -> bool`.
        max_overhead: Share of the run's time, above 0 and below 1, instead of `every`.

    Returns:
        An `Epochs`, `Updates`, `Asked` or `Budget`.

    Raises:
        ValueError: If there is no such cadence.
    """
    if max_overhead is not None:
        if every != "epoch":
            raise ValueError(
                f"Both every={every!r} and max_overhead={max_overhead!r} say when to measure. Leave one of them out."
            )
        return Budget(max_overhead)
    if isinstance(every, str):
        if every != "epoch":
            raise ValueError(f"every={every!r} is not known. {_FORMS}")
        return Epochs(1)
    if isinstance(every, dict):
        return _of_dict(every)
    if callable(every):
        return Asked(every)
    return Updates(_whole(every, every))


_FORMS = (
    'Write every="epoch", every={"epochs": 2}, every={"updates": 100} (or 100), or a function '
    "(update, progress) -> bool."
)


def _of_dict(every):
    unknown = [key for key in every if key not in _KEYS]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), _KEYS, 1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"every={every!r} has no key {unknown[0]!r}. {hint}{_FORMS}")
    if ("epochs" in every) == ("updates" in every) or ("epochs" in every and len(every) > 1):
        raise ValueError(f"every={every!r} should count either epochs or updates. {_FORMS}")
    if "epochs" in every:
        return Epochs(_whole(every["epochs"], every))
    first = [_whole(update, every) for update in every.get("first", ())]
    if first != sorted(set(first)):
        raise ValueError(f"every={every!r}: the updates in 'first' should increase.")
    products = every.get("max_products")
    return Updates(_whole(every["updates"], every), first, products and _whole(products, every))


def _whole(value, every):
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(
            f"every={every!r} is none: {value!r} should be a whole number of at least 1. {_FORMS}"
        )
    return int(value)


class _Stateless:
    """A cadence that is the same at any time."""

    def get_state(self):
        return None

    def set_state(self, state):
        pass


class Epochs(_Stateless):
    """At the end of every n-th epoch, counted as Keras does: with n = 2 after epochs 2, 4, 6, .."""

    max_products = None

    def __init__(self, number):
        self.number = number

    def at_update(self, last, update, progress):
        return False

    def at_epoch_end(self, epoch):
        return (epoch + 1) % self.number == 0

    def plain(self):
        return {"epochs": self.number}


class Updates(_Stateless):
    """At updates n, 2n, 3n, .., or at the `first` ones and then n, 2n, .. after the last of these.

    Args:
        number: n.
        first: Increasing updates.
        max_products: What a monitor of curvature may spend on the eigenvalues of a measurement.
    """

    def __init__(self, number, first=(), max_products=None):
        self.number, self.first, self.max_products = number, list(first), max_products

    def count(self, update):
        """Return how many points there are up to an update."""
        last = self.first[-1] if self.first else 0
        return sum(point <= update for point in self.first) + max(update - last, 0) // self.number

    def at_update(self, last, update, progress):
        return self.count(update) > self.count(last)

    def at_epoch_end(self, epoch):
        return False

    def plain(self):
        parts = {"updates": self.number}
        if self.first:
            parts["first"] = list(self.first)
        if self.max_products is not None:
            parts["max_products"] = self.max_products
        return parts


class Asked(_Stateless):
    """After each update (execution) for which a function of the update's number and the progress says so."""

    max_products = None

    def __init__(self, function):
        self.function = function

    def at_update(self, last, update, progress):
        return bool(self.function(update, progress))

    def at_epoch_end(self, epoch):
        return False

    def plain(self):
        return self.function


class Budget:
    """At most a share of a run's time, by a cadence that is found once and then kept.

    The first measurement starts anew and comes as soon as some updates were timed. The second comes when updates
    have paid for the first, so it starts from the first one's result as far away as later ones will; from its
    time follows how many updates pay for one measurement. That cadence is kept.

    Attributes:
        share: What measuring may take of the time of training and measuring together.
        updates: `Updates` as known so far: None before the first measurement, final once `is_frozen`.
    """

    def __init__(self, share):
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise ValueError(
                f"max_overhead={share!r} should be a number between 0 and 1, the share of the run's time that measuring "
                "may take: max_overhead=0.05 for 5 %."
            )
        self.share, self.updates, self.is_frozen = share, None, False
        self._executions, self._to_skip, self._most_products = [], _TRACED, 0

    @property
    def max_products(self):
        return self.updates.max_products if self.is_frozen else None

    def get_state(self):
        """Return what was timed and found, plain values."""
        return {
            "updates": self.plain(),
            "is_frozen": self.is_frozen,
            "executions": [list(pair) for pair in self._executions],
            "most_products": self._most_products,
        }

    def set_state(self, state):
        """Go on from `get_state()`."""
        self.updates = state["updates"] and _of_dict(state["updates"])
        self.is_frozen, self._most_products = state["is_frozen"], state["most_products"]
        self._executions = [tuple(pair) for pair in state["executions"]]

    def begin_fit(self):
        """Do not time the executions in which a fit is traced."""
        self._to_skip = _TRACED

    def note_training(self, seconds, updates):
        """Note what an execution of so many updates took."""
        if self._to_skip:
            self._to_skip -= 1
        elif not self.is_frozen and updates:
            self._executions.append((seconds / updates, updates))

    def note_measurement(self, update, seconds, products=None):
        """Note what a measurement took, and the most products that one eigenvalue problem of it took."""
        if self.is_frozen or not self._executions:
            return
        self._most_products = max(self._most_products, products or 0)
        number = max(1, math.ceil(seconds * (1 - self.share) / (self.share * self.seconds_per_update())))
        if self.updates is None:
            self.updates = Updates(number, [update])
        else:
            self.updates = Updates(
                number, [*self.updates.first, update], 2 * self._most_products if products else None
            )
            self.is_frozen = True

    def seconds_per_update(self):
        """The mean over the timed executions, without outliers."""
        median = statistics.median(seconds for seconds, _ in self._executions)
        usual = [(s, n) for s, n in self._executions if s <= _OUTLIER * median]
        return max(sum(s * n for s, n in usual) / sum(n for _, n in usual), 1e-9)

    def at_update(self, last, update, progress):
        if self.updates is None:
            return len(self._executions) >= _EXECUTIONS
        return self.updates.at_update(last, update, progress)

    def at_epoch_end(self, epoch):
        return False

    def plain(self):
        return None if self.updates is None else self.updates.plain()

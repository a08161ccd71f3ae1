"""Schedules: what a batch size or a learning rate should be after a given amount of training.

A schedule maps progress, in epochs (examples seen / training-set size, a float), to a value. Epochs
and not updates: an epoch holds fewer updates once the batch has grown, so a schedule counted in
updates would bend its own clock. Any function of progress is a schedule; those made here also print
as they were typed, compare by their arguments, pickle, and become the configs that YAML files hold:

    >>> batch_size = staircase(128, factor=5, milestones=[60, 120, 160])
    >>> [batch_size(progress) for progress in (0, 59.99, 60, 199)]
    [128, 128, 640, 16000]
    >>> warmup(cosine(0.1, epochs=200), epochs=5)
    warmup(cosine(0.1, epochs=200), epochs=5)

A new schedule is one function under `@_schedule`, which checks its arguments and returns the rule.
Arguments that are the default are left out of what is printed and saved.

References:
    Smith et al., "Don't decay the learning rate, increase the batch size", 2018 (staircase, both ways).
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017 (warmup).
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017 (cosine).
"""

import bisect
import dataclasses
import difflib
import functools
import importlib
import inspect
import itertools
import math
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, repr=False)
class Schedule:
    """A function of progress that knows how it was made; made by the functions of this module."""

    function: Callable  # of this module: staircase, cosine, ...
    arguments: tuple  # of pairs (name, value) that differ from the default; sequences as tuples
    rule: Callable = dataclasses.field(compare=False)  # progress -> value

    def __call__(self, progress):
        if not progress >= 0:
            raise ValueError(
                f"Progress is a number of epochs, 0 or more, but {self} was asked at {progress!r}."
            )
        return self.rule(progress)

    def __repr__(self):
        parameters = inspect.signature(self.function).parameters
        texts = []
        for name, value in self.arguments:
            by_name = parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
            texts.append(f"{name}={_text(value)}" if by_name else _text(value))
        return f"{self.function.__name__}({', '.join(texts)})"

    def __reduce__(self):  # by arguments: the rule is a local function, which does not pickle
        return _remake, (self.function, dict(self.arguments))

    def get_config(self):
        """The schedule as plain dicts, lists and numbers, the form that YAML files use.

        Raises:
            ValueError: If it holds a lambda, or another function that cannot be imported by name.

        Example:
            >>> exponential(0.1, factor=0.97, every=2.4).get_config()
            {'call': 'schedules.exponential', 'initial': 0.1, 'factor': 0.97, 'every': 2.4}
        """
        values = {name: get_config(value) for name, value in self.arguments}
        return {"call": f"schedules.{self.function.__name__}", **values}


def get_config(value):
    """Return a schedule as the plain dict that `from_config` reads; lists and numbers stay as they are.

    Args:
        value: A schedule of this module, or a user's own function at the top level of a module, which
            becomes `{"call": "module:function"}`.

    Raises:
        ValueError: If it is a lambda, or another function that cannot be imported by name.
    """
    if isinstance(value, tuple):
        return [get_config(item) for item in value]
    if isinstance(value, Schedule):
        return value.get_config()
    if not callable(value):
        return value
    path = f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', None)}"
    try:
        found = _imported(path)
    except ValueError:
        found = None
    if found is not value:
        raise ValueError(
            f"{_text(value)} cannot be written to a config, because it cannot be imported by name. "
            f"Define it with def at the top level of a module."
        )
    return {"call": path}


def from_config(config):
    """Make the schedule that `get_config` described.

    Args:
        config: `{"call": "schedules.cosine", "initial": 0.1, "epochs": 200}`: a function of this module
            and its arguments, which may be such dicts again; or `{"call": "module:function"}`, where
            the function is itself the schedule and maps progress to a value. It is imported.

    Raises:
        ValueError: If a name is unknown. The message gives the nearest known one.

    Example:
        >>> from_config({"call": "schedules.cosine", "initial": 0.1, "epochs": 200})(100)
        0.05
    """
    if not isinstance(config, dict) or not isinstance(config.get("call"), str):
        raise ValueError(
            f"A schedule's config is a dict such as {{'call': 'schedules.constant', 'value': 0.1}}, but got {config!r}."
        )
    arguments = dict(config)
    call = arguments.pop("call")
    if ":" in call:
        if arguments:
            raise ValueError(
                f"{call} is itself the schedule, a function of progress, and takes no {', '.join(map(str, arguments))}. "
                f"Leave 'call' alone in its config, and keep the numbers in the function."
            )
        return _imported(call)
    known = [name for name, value in globals().items() if hasattr(value, "makes_schedules")]
    prefix, _, name = call.rpartition(".")
    if prefix != "schedules" or name not in known:
        raise ValueError(
            f"{call!r} is no schedule. {_nearest(name, known, 'schedules.')} "
            f"Type 'module:function' for a function of your own."
        )
    function = globals()[name]
    parameters = list(inspect.signature(function).parameters)
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(f"{call} has no argument {argument!r}. {_nearest(argument, parameters)}")
    try:
        return function(**{key: _from_nested(value) for key, value in arguments.items()})
    except TypeError as error:  # an argument is missing
        raise ValueError(f"{call} in {config!r}: {error}") from error


def _schedule(function):
    """Turn a function from arguments to a rule into one from arguments to a `Schedule`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*args, **kwargs):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__name__}{signature}: {error}.") from None
        arguments = {name: _plain(value) for name, value in bound.arguments.items()}
        rule = function(**arguments)  # checks the arguments, so before any is left out
        typed = [(k, v) for k, v in arguments.items() if v != signature.parameters[k].default]
        return Schedule(make, tuple(typed), rule)

    make.makes_schedules = True
    return make


@_schedule
def constant(value):
    """The same value throughout.

    Example:
        >>> constant(128)(7.5)
        128
    """
    _require_numbers(value=value)
    return lambda progress: value


@_schedule
def staircase(initial, *, factor, milestones):
    """Multiply by `factor` at each milestone: initial · factor^(number of milestones ≤ progress).

    With `factor` above 1 it grows a batch, below 1 it decays a rate. Whole numbers stay whole.

    Args:
        initial: Value before the first milestone.
        factor: Positive number.
        milestones: Increasing list of epochs. The new value holds from the milestone on.

    Example:
        >>> staircase(0.1, factor=0.5, milestones=[30, 60])(60)
        0.025
    """
    _require_numbers(initial=initial)
    _require_positive(factor=factor)
    _require_milestones(milestones)
    return lambda progress: initial * factor ** bisect.bisect_right(milestones, progress)


@_schedule
def exponential(initial, *, factor, every=1.0):
    """Multiply by `factor` in each `every` epochs, smoothly: initial · factor^(progress / every).

    Example:
        >>> exponential(128, factor=2, every=10)(20)
        512.0
    """
    _require_numbers(initial=initial)
    _require_positive(factor=factor, every=every)
    return lambda progress: initial * factor ** (progress / every)


@_schedule
def linear(initial, final, *, epochs):
    """A straight line from `initial` at progress 0 to `final` at `epochs`, which then holds.

    Example:
        >>> linear(128, 640, epochs=10)(5)
        384.0
    """
    _require_numbers(initial=initial, final=final)
    _require_positive(epochs=epochs)
    return lambda progress: _blend(_left(progress, epochs), initial, final)


@_schedule
def polynomial(initial, final, *, epochs, power):
    """final + (initial - final) · (1 - progress / epochs)^power until `epochs`, then `final`.

    A power above 1 moves fast first; power 1 is `linear`. The convention of Keras' `PolynomialDecay`.

    Example:
        >>> polynomial(1.0, 0.0, epochs=90, power=2)(45)
        0.25
    """
    _require_numbers(initial=initial, final=final)
    _require_positive(epochs=epochs, power=power)
    return lambda progress: _blend(_left(progress, epochs) ** power, initial, final)


@_schedule
def cosine(initial, *, epochs, final=0.0):
    """Half a cosine: final + (initial - final) · (1 + cos(π · progress / epochs)) / 2, then `final`.

    References:
        Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, eq. 5,
        without the restarts, and for each progress rather than each epoch.

    Example:
        >>> cosine(0.1, epochs=200)(100)
        0.05
    """
    _require_numbers(initial=initial, final=final)
    _require_positive(epochs=epochs)
    return lambda progress: _blend((1 + math.cos(math.pi * min(progress / epochs, 1))) / 2, initial, final)


@_schedule
def quarter_cosine(initial, *, epochs):
    """A quarter of a cosine: initial · cos(π/2 · progress / epochs) until `epochs`, then practically 0.

    The decay of which Seesaw's saving is told: an update costs cos(π/2 · progress / epochs) of what it did at first
    if the batch grows in its place, so a share of 1 - 2/π, 36.3 %, of the updates is saved.

    References:
        Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size scheduling", 2026.

    Example:
        >>> round(quarter_cosine(0.1, epochs=90)(60), 12)
        0.05
    """
    _require_numbers(initial=initial)
    _require_positive(epochs=epochs)
    return lambda progress: initial * math.cos(math.pi / 2 * min(progress / epochs, 1))


@_schedule
def reciprocal(schedule, initial):
    """What grows as a schedule falls: initial · schedule(0) / schedule(progress).

    A batch that grows in place of a rate that would decay. Where the rate falls to nearly 0 this is large, so give the
    batch a maximum.

    Args:
        schedule: Function of progress, above 0.
        initial: Value at progress 0, such as the first batch.

    Raises:
        ValueError: When it is asked, if the schedule is not above 0 there.

    Example:
        >>> round(reciprocal(staircase(0.1, factor=0.2, milestones=[60, 120, 160]), 128)(120), 6)
        3200.0
    """
    rule = _as_function(schedule=schedule)
    _require_positive(initial=initial)

    def value(progress):
        first, now = rule(0.0), rule(progress)
        if not (first > 0 and now > 0):
            raise ValueError(
                f"reciprocal needs a schedule above 0, but {schedule} is {first!r} at the start and {now!r} at {progress!r}. Give "
                "it a final value above 0."
            )
        return initial * first / now

    return value


@_schedule
def warmup(schedule, *, epochs, initial=0.0):
    """A straight line from `initial` at progress 0 to schedule(epochs) at `epochs`, then the schedule.

    The schedule's own clock is not shifted: a milestone at 30 stays at epoch 30. To scale a rate by k
    as Goyal et al. did, `initial` is the rate of the small batch and the schedule starts at k times it.

    Args:
        schedule: Function of progress, or a number.
        epochs: Length of the warm-up; 5 in the paper.
        initial: Value at progress 0.

    References:
        Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.

    Example:
        >>> rate = warmup(staircase(3.2, factor=0.1, milestones=[30, 60, 80]), epochs=5, initial=0.1)
        >>> [round(rate(progress), 3) for progress in (0, 2.5, 5, 30)]
        [0.1, 1.65, 3.2, 0.32]
    """
    after = _as_function(schedule=schedule)
    _require_positive(epochs=epochs)
    _require_numbers(initial=initial)

    def rule(progress):
        if progress >= epochs:
            return after(progress)
        return _blend(_left(progress, epochs), initial, after(epochs))

    return rule


@_schedule
def join(schedules, milestones):
    """One schedule after the other, each from its milestone on and each on a clock of its own.

    Args:
        schedules: List of n functions of progress, or numbers. Each later one receives the progress
            since its milestone, as in optax' `join_schedules`.
        milestones: Increasing list of n - 1 epochs.

    Example:
        >>> rate = join([0.1, linear(0.1, 0.0, epochs=10)], [80])
        >>> rate(79), rate(85)
        (0.1, 0.05)
    """
    if not isinstance(schedules, tuple):
        raise ValueError(
            f"schedules must be a list, as in join([0.1, 0.01], [60]), but got {_text(schedules)}."
        )
    parts = [_as_function(**{f"schedules[{i}]": part}) for i, part in enumerate(schedules)]
    _require_milestones(milestones)
    if len(milestones) != len(parts) - 1:
        raise ValueError(
            f"{len(parts)} schedules meet at {max(len(parts) - 1, 0)} milestones, but got {_text(milestones)}. "
            f"Type as many schedules as milestones and one more, as in join([0.1, 0.01], [60])."
        )
    starts = (0, *milestones)

    def rule(progress):
        index = bisect.bisect_right(milestones, progress)
        return parts[index](progress - starts[index])

    return rule


@_schedule
def scaled(schedule, factor):
    """The product of two schedules, schedule(progress) · factor(progress); either may be a number.

    Example:
        >>> scaled(cosine(0.1, epochs=200), 8)(100)
        0.4
    """
    left = _as_function(schedule=schedule)
    if not callable(factor):
        _require_positive(factor=factor)
    right = _as_function(factor=factor)
    return lambda progress: left(progress) * right(progress)


@_schedule
def stretched(schedule, factor):
    """The schedule on a clock that is `factor` times slower: schedule(progress / factor).

    Hoffer et al.'s regime adaptation: trained with a batch k times larger, an epoch holds k times fewer updates, so
    epochs and all boundaries are multiplied by k = `scaling.regime_factor(batch_size, new_batch_size)`, and each phase
    of the regime has the updates that it had. Multiply `epochs` of `fit` by k, too.

    Args:
        schedule: Function of progress, or a number.
        factor: k, above 0.

    References:
        Hoffer et al., "Train longer, generalize better: closing the generalization gap in large batch training of
        neural networks", 2017, section 5.

    Example:
        >>> rate = stretched(staircase(0.1, factor=0.1, milestones=[81, 122]), 32)
        >>> rate(81 * 32 - 1), round(rate(81 * 32), 3)
        (0.1, 0.01)
    """
    rule = _as_function(schedule=schedule)
    _require_positive(factor=factor)
    return lambda progress: rule(progress / factor)


def _left(progress, epochs):
    """The share of `epochs` still to go: 1 at progress 0, 0 from `epochs` on."""
    return max(1 - progress / epochs, 0.0)


def _blend(weight, initial, final):
    """Equal to `initial` at weight 1 and to `final` at weight 0 exactly, which final + weight · (...) is not."""
    return weight * initial + (1 - weight) * final


def _plain(value):
    """NumPy's numbers as Python's, sequences as tuples: what prints, compares, hashes and fits in YAML."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple | range) else value


def _text(value):
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return value.__qualname__ if inspect.isroutine(value) else repr(value)


def _from_nested(value):
    if isinstance(value, list | tuple):
        return [_from_nested(item) for item in value]
    return from_config(value) if isinstance(value, dict) else value


def _remake(function, arguments):
    return function(**arguments)


def _imported(path):
    module, _, name = path.partition(":")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path!r} could not be imported ({error}). Type 'module:function', where `import module` works "
            f"in the folder you start from."
        ) from error
    if not callable(found):
        raise ValueError(f"{path!r} is {found!r}, but a schedule is a function of progress.")
    return found


def _nearest(name, known, prefix=""):
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"Did you mean {prefix + near[0]!r}?"
    return f"Known are {', '.join(prefix + name for name in known)}."


def _as_function(**named):
    [(name, value)] = named.items()
    if hasattr(value, "makes_schedules"):
        raise ValueError(
            f"{name}={value.__name__} makes schedules: type {value.__name__}(...), with its arguments."
        )
    if callable(value):
        return value
    if not _is_number(value):
        raise ValueError(
            f"{name} must be a schedule (a function of progress) or a finite number, but got {_text(value)}."
        )
    return lambda progress: value


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_numbers(**named):
    for name, value in named.items():
        if not _is_number(value):
            raise ValueError(f"{name} must be a finite number, but got {_text(value)}.{_hint(value)}")


def _hint(value):
    try:
        return f" In YAML, {value} is text and {float(value):e} a number." if isinstance(value, str) else ""
    except ValueError:
        return ""


def _require_positive(**named):
    _require_numbers(**named)
    for name, value in named.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, but got {value!r}.")


def _require_milestones(milestones):
    if not isinstance(milestones, tuple):
        raise ValueError(
            f"milestones must be a list of epochs, as in milestones=[60, 120], but got {milestones!r}."
        )
    _require_numbers(**{f"milestones[{i}]": milestone for i, milestone in enumerate(milestones)})
    if any(m < 0 for m in milestones) or any(b <= a for a, b in itertools.pairwise(milestones)):
        raise ValueError(
            f"milestones must be 0 or more and increase, but got {_text(milestones)}. "
            f"Type them in epochs, in the order in which training passes them."
        )

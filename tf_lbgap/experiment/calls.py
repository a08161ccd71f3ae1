"""`call: networks.mlp` in a YAML file: names of functions, found where they live.

A call names a function of `tf_lbgap` (`networks.mlp`), of Keras (`keras.optimizers.SGD`) or of the
user (`module:function`); the other keys beside `call` are its arguments, and may be calls again.
There is no registry: what can be imported can be called.
"""

import contextlib
import difflib
import importlib
import inspect
import os
import sys


class ConfigError(ValueError):
    """A mistake in a configuration, told in one line."""


def nearest(name, known):
    """Return the end of an error message: what may have been meant, or what there is."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(map(str, known)))}."


def is_call(value):
    return isinstance(value, dict) and "call" in value


def resolve(path):
    """Return the function that a call names.

    Args:
        path: Such as `"networks.mlp"`, `"keras.losses.MeanSquaredError"` or `"my_module:my_function"`.

    Raises:
        ConfigError: If there is no such thing; it names the nearest one.
    """
    if not isinstance(path, str) or not all(path.partition(":")[::2] if ":" in path else path):
        raise ConfigError(f"call: {path!r} is not a name such as networks.mlp or my_module:my_function.")
    function = _users(path) if ":" in path else _ours(path)
    if not callable(function):
        raise ConfigError(f"call: {path} is no function, but of type {type(function).__name__}.")
    return function


def _ours(path):
    *parents, name = path.split(".")
    if not parents:
        raise ConfigError(
            f"call: {path} names no module: write networks.{path}, or module:{path} for your own."
        )
    root = "keras" if parents[0] == "keras" else "tf_lbgap"
    place = importlib.import_module(root)
    for parent in parents[1:] if root == "keras" else parents:
        place = _attribute(place, parent, path)
    return _attribute(place, name, path)


def make(value, **offered):
    """Return what a configuration value stands for: calls are made, all else stays as it is.

    Args:
        value: A number, string, list, dict or call.
        **offered: Further arguments for the outermost call, given if it takes them and does not name them.
    """
    if isinstance(value, list):
        return [make(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "call" not in value:
        return {key: make(item) for key, item in value.items()}
    function, takes = _checked(value)
    arguments = {key: make(item) for key, item in value.items() if key != "call"}
    offered = {key: item for key, item in offered.items() if key in takes}
    with mistakes(f"call: {value['call']}"):
        return function(**{**offered, **arguments})


def check(value):
    """Raise a ConfigError if a call in a configuration value names no function, or an argument that it lacks."""
    if isinstance(value, list):
        for item in value:
            check(item)
    if isinstance(value, dict):
        if "call" in value:
            _checked(value)
        for item in value.values():
            check(item)


def takes(value):
    """Return the names of the arguments of a call's function."""
    return _checked(value)[1]


@contextlib.contextmanager
def mistakes(where=None):
    """Tell what a function has against its arguments as a mistake in the configuration."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


@contextlib.contextmanager
def placed(where):
    """Put the place before what is said of mistakes within it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def make_function(value, **offered):
    """Like `make`, for what has to be a function: a user's `module:function` alone is that function itself."""
    if is_call(value) and ":" in str(value["call"]) and len(value) == 1:
        return resolve(value["call"])
    return make(value, **offered)


def as_schedule(config, where):
    """Return the function of progress that a call stands for."""
    made = make_function(config)
    if not callable(made):
        raise ConfigError(f"{where}: {config['call']} gave {made!r}, which is not a function of progress.")
    return made


def _checked(value):
    """Return the function of a call, and the names that may be offered to it."""
    function = resolve(value["call"])
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions have none
        return function, ()
    takes = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    # Optimizers of Keras have **kwargs, and refuse what comes in it without saying what they take.
    takes_all = len(takes) < len(parameters) and not value["call"].startswith("keras.optimizers.")
    for key in value:
        if key != "call" and not takes_all and key not in takes:
            raise ConfigError(f"{value['call']} has no argument {key!r}. {nearest(key, takes)}")
    return function, takes


def _users(path):
    module, _, name = path.partition(":")
    if os.getcwd() not in sys.path:  # a script beside the YAML file, as with `python -m`
        sys.path.insert(0, os.getcwd())
    try:
        place = importlib.import_module(module)
    except Exception as error:  # a mistake in the user's file, of any kind
        raise ConfigError(
            f"call: {path}: cannot import {module!r} from {os.getcwd()} ({type(error).__name__}: {error})."
        ) from error
    for part in name.split("."):
        place = _attribute(place, part, path)
    return place


def _attribute(place, name, path):
    try:
        return getattr(place, name)
    except AttributeError:
        known = [key for key in dir(place) if not key.startswith("_")]
        raise ConfigError(f"call: {path}: {place.__name__} has no {name!r}. {nearest(name, known)}") from None

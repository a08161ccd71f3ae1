"""Values of a configuration that have to be of a kind: the value itself, or one line that says what was wanted."""

from tf_lbgap.experiment.calls import ConfigError, nearest


def check_keys(content, known, where):
    """Raise for a key that is not known, and name the nearest one."""
    for key in content:
        if key not in known:
            raise ConfigError(f"{key!r} in {where} is not a key. {nearest(key, known)}")


def whole(value, where, instead=""):
    """Return a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"{where}: {value!r} must be a whole number of at least 1{instead and ' ' + instead}."
        )
    return value


def count(value, where):
    """Return a whole number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where}: {value!r} must be a whole number of at least 0.")
    return value


def positive(value, where, instead=""):
    """Return a float above 0."""
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf"):
        raise ConfigError(f"{where}: {value!r} must be a positive number{instead and ' ' + instead}.")
    return number


def text(value, where):
    """Return a str; numbers become one."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
        raise ConfigError(f"{where}: {value!r} must be a text; leave {where} out for the default.")
    return str(value)


def switch(value, where):
    """Return true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r} must be true or false.")
    return value


def mapping(content, key):
    """Return the dict that stands under a key, an empty one if there is none."""
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: {value!r} must hold names and what they stand for.")
    return value

"""Arms of simulations: their settings from a configuration, and a stream of random numbers for each.

A stream is that of a seed and a name, so arms that are added, left out or put in another order leave the others' draws as they
were.
"""

import hashlib

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import check_keys, mapping


def settings_of(arms, defaults, check):
    """Return the settings of each arm, {name: dict}.

    Args:
        arms: `{name: {key: value}}`, as it came.
        defaults: The value of each key where an arm does not name it.
        check: Function (settings, where) that returns the settings as they are to be used, or raises.

    Raises:
        ConfigError: If an arm is no dict, has a key that is none, or does not pass.
    """
    found = {}
    for name, own in mapping({"arms": arms}, "arms").items():
        where = f"arms: {name}"
        if not isinstance(own, dict):
            raise ConfigError(f"{where}: must hold keys such as {next(iter(defaults))}, not {own!r}.")
        check_keys(own, defaults, where)
        found[name] = check({**defaults, **own}, where)
    return found


def simulated(seeds, settings, examples_of, walk):
    """Return `rows` and `curves` of each arm in each seed, which begin with arm, seed and (rows) the settings.

    Args:
        seeds: Whole numbers.
        settings: What `settings_of` returned.
        examples_of: Function (rng) that draws the examples, which the arms of a seed share.
        walk: Function (rng, examples, settings of an arm) that returns a row and a curve, two dicts.
    """
    rows, curves = [], []
    for seed in seeds:
        examples = examples_of(stream(seed, "examples"))
        for name, arm in settings.items():
            row, curve = walk(stream(seed, f"arm {name}"), examples, arm)
            rows.append({"arm": name, "seed": seed, **arm, **row})
            curves.append({"arm": name, "seed": seed, **curve})
    return {"rows": rows, "curves": curves}


def stream(seed, name):
    """Return a generator of random numbers, of its own for each seed and name; the same in every process."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])])

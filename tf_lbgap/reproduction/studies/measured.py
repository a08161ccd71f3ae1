"""Every measure of sharpness of one network, by name: what the studies have in columns."""

import functools

from tf_lbgap.experiment.calls import ConfigError, nearest

OPTIONS = {
    "top_eigenvalue": {"tolerance": 1e-2},
    "hessian_trace": {},
    "epsilon_sharpness": {},
    "ascent_sharpness": {},
    "m_sharpness": {},
    "average_sharpness": {},
    "adaptive_sharpness": {"scale_biases": True},
    "adaptive_average_sharpness": {"adaptive": True, "rho": 0.1},
    "relative_flatness": {},
    "squared_fisher_rao_norm": {},
}
"""Names of measures, and the arguments of the functions of `tf_lbgap.sharpness` that differ from their defaults."""

EVIDENCE = ("evidence_penalty", "negative_log_evidence", "negative_eigenvalues")
"""Parts of `sharpness.Evidence`."""

NAMES = (*OPTIONS, *EVIDENCE)


def checked(names):
    """Return names of measures: all for None.

    Raises:
        ConfigError: If one is not in `NAMES`.
    """
    if names is None:
        return NAMES
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"measures: {name!r} is not one. {nearest(name, NAMES)}")
    return tuple(names)


def measured(subject, names, *, seed, evidence=None):
    """Measure a `sharpness.Subject` at its present weights.

    Args:
        subject: The network.
        names: In `NAMES`.
        seed: Of random directions, signs and starts.
        evidence: Arguments of `sharpness.negative_log_evidence`, with `l2`, if a part of it is wanted.

    Returns:
        {name: float}.
    """
    from tf_lbgap import sharpness

    @functools.cache
    def of_evidence():
        found = sharpness.negative_log_evidence(subject, seed=seed, **(evidence or {"l2": 1.0}))
        return dict(zip(EVIDENCE, (found.penalty, found.value, found.negative), strict=True))

    def value(name):
        if name in EVIDENCE:
            return of_evidence()[name]
        function = getattr(sharpness, name.replace("adaptive_average", "average"))
        random = {"seed": seed} if name in _RANDOM else {}
        return function(subject, **OPTIONS[name], **random)

    return {name: float(value(name)) for name in names}


_RANDOM = {
    "top_eigenvalue",
    "hessian_trace",
    "epsilon_sharpness",
    "average_sharpness",
    "adaptive_average_sharpness",
    "relative_flatness",
}
"""Measures with a seed."""

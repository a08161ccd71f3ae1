"""Which rule lets the learning rate follow the batch, and what it says."""

from tf_lbgap import scaling


def rule_for(optimizer, momentum, noise_is_known):
    """Return the name of the rule in `scaling.RATE_RULES` that is known to hold for an optimizer.

    The square root for those that divide by the gradient's size, AdaScale's gain for SGD, or without a noise scale the
    linear rule. Of an optimizer of which nothing is known, the square root, the more careful one.

    Args:
        optimizer: Name of its class.
        momentum: Of SGD.
        noise_is_known: Whether there is a noise scale to make the gain from.
    """
    for rule in ("adascale" if noise_is_known else "linear", "sqrt"):
        if _holds(rule, optimizer, momentum) and not (rule != "sqrt" and _holds("sqrt", optimizer, momentum)):
            return rule
    return "sqrt"


def rate_factor(rule, batch_size, known_batch_size, noise_scale):
    """Return by what the rate of the known batch is multiplied.

    Args:
        rule: "adascale", "linear", "sqrt" or "none".
        batch_size, known_batch_size: Examples.
        noise_scale: tr(Σ) / |G|² in examples, for "adascale".

    Example:
        >>> rate_factor("adascale", 1000, 100, noise_scale=1000)
        5.5
    """
    noise = {"trace": noise_scale, "squared_norm": 1.0} if rule == "adascale" else {}
    return scaling.rate_factor(rule, batch_size, known_batch_size, **noise)


def _holds(rule, optimizer, momentum):
    try:
        scaling.check_rate_rule(rule, optimizer, momentum)
    except ValueError:
        return False
    return True

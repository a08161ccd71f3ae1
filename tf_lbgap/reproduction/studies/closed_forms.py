"""The stationary variance of SGD on a quadratic, direction by direction, by how its batches are drawn.

| draws | variance of w |
|---|---|
| with replacement | (a c / B) (1 + m) / (h (1 - m) (2 (1 + m) - a h)) |
| each batch without replacement | the same, times (N - B) / (N - 1) |
| shuffled epochs, at their ends, m = 0 | c / (h² (N - 1)) (n (1 - r) / (1 + r) - (1 - rⁿ) / (1 + rⁿ)) |
| diffusion approximation | a c / (2 B h (1 - m)) |

a is the rate, m the momentum, h the curvature, c the noise of one example, N the examples, B the batch, n = N / B
the batches of an epoch, and r = 1 - a h. The third line is for means of n disjoint batches, whose covariance is
c / (h² (N - 1)) (n I - 1 1ᵀ): over an epoch they cancel.

Here c = h.

References:
    Zhang et al., "Which algorithmic choices matter at which batch sizes? Insights from a noisy quadratic model", 2019
    (without momentum). Li, Li, Qian & Liu, 2017 (the last line). The others are derived here, and tested against Lyapunov's
    equation, and against all orders of a handful of examples.
"""

import numpy as np


def exact_variance(h, arm, examples):
    """Return the variance of each direction, by the line of the table that holds for the draws of an arm; shape of `h`.

    Args:
        h: Curvatures; c = h.
        arm: Dict with the keys of `SETTINGS`.
        examples: N.
    """
    if arm["sampling"] != "epochs":
        part = (examples - arm["batch_size"]) / (examples - 1) if arm["sampling"] == "without" else 1.0
        return part * independent_variance(h, arm)
    n, r = examples // arm["batch_size"], 1 - arm["learning_rate"] * h
    return (n * (1 - r) / (1 + r) - (1 - r**n) / (1 + r**n)) / (h * (examples - 1))


def independent_variance(h, arm):
    """Return the first line of the table, shape of `h`."""
    a, m = arm["learning_rate"], arm["momentum"]
    return a / arm["batch_size"] * (1 + m) / ((1 - m) * (2 * (1 + m) - a * h))


def diffusion_variance(h, arm):
    """Return the last line of the table, shape of `h`: with c = h it is the same in all directions."""
    return np.full_like(h, arm["learning_rate"] / (2 * arm["batch_size"] * (1 - arm["momentum"])))

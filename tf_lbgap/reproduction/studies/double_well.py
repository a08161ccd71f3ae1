"""A loss of one weight with a sharp and a flat minimum of equal depth, and how long diffusion takes from one to the other.

L(w) = E ((w / l)² - 1)², with l the width of the sharp basin for w < 0 and that of the flat one for w > 0: two minima of depth
0 and curvature 8 E / l², a barrier of height E between them, and a continuous slope.

References:
    Gardiner, "Handbook of stochastic methods", section 5.2.7 (mean time of first passage).
"""

import math

import numpy as np


class DoubleWell:
    """L of a weight, its slope, and how strong noise is in each basin.

    Args:
        barrier: E, in loss.
        sharp, flat: l of the two basins, in weight.
    """

    def __init__(self, barrier, sharp, flat):
        self.barrier, self.sharp, self.flat = barrier, sharp, flat

    def loss(self, w):
        return self.barrier * ((w / self.width(w)) ** 2 - 1) ** 2

    def slope(self, w):
        u = w / self.width(w)
        return 4 * self.barrier / self.width(w) * u * (u * u - 1)

    def width(self, w):
        return np.where(w < 0, self.sharp, self.flat)

    def strength(self, w, noise):
        """Return s(w): a number, or in proportion to the root of the curvature, with a mean of squares of 1."""
        if noise == "isotropic":
            return 1.0
        return 1 / (self.width(w) * math.sqrt((self.sharp**-2 + self.flat**-2) / 2))

    @property
    def largest_curvature(self):
        return 8 * self.barrier / min(self.sharp, self.flat) ** 2


def escape_time(landscape, temperature, points=4001):
    """Return the mean time of first passage from the sharp minimum to the flat one, by the trapezoidal rule.

    Time is rate × updates. The error is below 1e-4 of it where E / T is below 20.
    """
    low = -landscape.sharp * 3  # the loss is 64 E there
    y = np.linspace(low, landscape.flat, points)
    loss = landscape.loss(y) / temperature
    inner = np.exp(-loss)
    below = np.concatenate([[0.0], np.cumsum((inner[1:] + inner[:-1]) / 2 * np.diff(y))])
    return float(
        np.trapezoid(np.where(y >= -landscape.sharp, np.exp(np.minimum(loss, 500)) * below, 0.0), y)
        / temperature
    )

"""Descents by line search on a deterministic function of a vector: NumPy and SciPy alone.

Each is made with its own options, and runs as `descent(function, weights, accepted)`: `function(weights)` returns value and
gradient; `accepted(weights)` is told of each iterate and stops the descent by raising. A descent that returns has found
no step that lowers the value further.
"""

import dataclasses

import numpy as np
import scipy.optimize

from tf_lbgap.training.checked import at_least, check_whole

_NO_END = 2**31 - 1  # iterations and evaluations are counted by who calls


@dataclasses.dataclass
class Lbfgs:
    """L-BFGS of SciPy (L-BFGS-B without bounds), whose line search looks for the strong Wolfe conditions (Moré & Thuente).

    Attributes:
        memory: Pairs of steps and changes of the gradient that are kept, two vectors of float64 each.
        trials: Most evaluations of one line search.
    """

    memory: int = 10
    trials: int = 20

    def __post_init__(self):
        check_whole("L-BFGS", memory=self.memory)
        check_whole("L-BFGS", trials=self.trials)

    def __call__(self, function, weights, accepted):
        options = {"maxcor": self.memory, "maxls": self.trials, "ftol": 0.0, "gtol": 0.0}
        scipy.optimize.minimize(
            function,
            weights,
            jac=True,
            method="L-BFGS-B",
            callback=lambda weights: accepted(weights.copy()),  # SciPy goes on to write into it
            options=options | {"maxiter": _NO_END, "maxfun": _NO_END},
        )


@dataclasses.dataclass
class GradientDescent:
    """Gradient descent, each step the first of a, a/2, a/4, ... that Armijo's rule accepts; a doubles after one halved by none.

    Attributes:
        c: Share of the decrease along the gradient that the value has to fall by, between 0 and 1.
        factor: What the step is multiplied by where it does not, between 0 and 1.
        growth: What it is multiplied by after an iteration whose first step was accepted, 1 or more.
        halvings: Most halvings of one iteration.
        step: a, the step of the next iteration, without that growth.
    """

    c: float = 0.1
    factor: float = 0.5
    growth: float = 2.0
    halvings: int = 30
    step: float = dataclasses.field(default=1.0, init=False)

    def __post_init__(self):
        for name in ("c", "factor"):
            at_least(1e-6, "Gradient descent", most=1 - 1e-6, **{name: getattr(self, name)})
        at_least(1.0, "Gradient descent", growth=self.growth)
        check_whole("Gradient descent", halvings=self.halvings)

    def __call__(self, function, weights, accepted):
        value, gradient = function(weights)
        at_once = False
        while True:
            step = self.step * self.growth if at_once else self.step
            at_once = True
            for _ in range(self.halvings + 1):
                new = weights - step * gradient
                new_value, new_gradient = function(new)
                # Below the value, too: of a step so short that the bound rounds to the value, equal is not enough.
                if new_value <= value - self.c * step * np.sum(gradient**2) and new_value < value:
                    break
                at_once, step = False, step * self.factor
            else:
                return
            weights, value, gradient, self.step = new, new_value, new_gradient, step
            accepted(weights)


DESCENTS = {"l-bfgs": Lbfgs, "gradient_descent": GradientDescent}

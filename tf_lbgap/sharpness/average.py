"""Sharpness on average: how much normal noise on the weights raises the loss.

    E L(w + δ) - L(w),    δ ~ N(0, ρ²), or N(0, ρ² diag(w²)) if adaptive.

For small ρ it is ρ²/2 times the trace of the Hessian, or that of diag(w) H diag(w), whatever the gradient. The
adaptive one does not change when a weight is multiplied and another divided so that the function stays the same.

Each draw is used with both signs, L(w + δ)/2 + L(w - δ)/2 - L(w): the mean is the same, and the gradient, which
would otherwise make most of the spread, drops out of every single sample.

References:
    Andriushchenko et al., "A modern look at the relationship between sharpness and generalization", 2023 (arXiv
    2302.07011), section 2, and the authors' code (tml-epfl/sharpness-vs-generalization).
"""

import dataclasses
import math

import numpy as np

from tf_lbgap.sharpness.increases import for_each
from tf_lbgap.sharpness.subject import subject


@dataclasses.dataclass(frozen=True)
class AverageSharpness:
    """An estimate of an average sharpness.

    Attributes:
        value: The estimate, in the unit of the loss.
        standard_error: Of the value, from the spread of the samples; NaN for a single one.
        num_samples: How many draws of the noise it took, each used with both signs.
    """

    value: float
    standard_error: float
    num_samples: int


def average_sharpness(
    model, loss=None, batches=None, *, rho=0.05, adaptive=False, num_samples=20, seed=0, **options
):
    """The mean rise of the loss under normal noise on the weights.

    Costs 2 num_samples + 1 evaluations of the loss over the data. The estimate is unbiased;
    `sampled_average_sharpness` has its standard error.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        rho: ρ, the standard deviation, or several: in the unit of the weights, or relative to each if adaptive.
            Andriushchenko et al. used 0.05 to 0.4 for the adaptive one.
        adaptive: Whether the noise on a weight is proportional to its magnitude. All weights take part, biases too.
        num_samples: Draws of the noise.
        seed: Of the noise. Equal seeds give equal results, and several ρ share the draws.
        **options: Of `Subject`.

    Returns:
        A float, in the unit of the loss; a list of floats if `rho` is a sequence. May be below 0.

    Raises:
        ValueError: If the loss is not finite at the weights, or ρ or num_samples is out of range.

    Warns:
        UserWarning: If the loss is not finite under some noise.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> data = np.array([[1.0]]), np.array([[0.0]])
        >>> round(average_sharpness(model, "mse", data, rho=0.1, num_samples=10_000), 3)    # ρ²
        0.01
    """
    s = subject(model, loss, batches, options)
    noise = {"adaptive": adaptive, "num_samples": num_samples, "seed": seed}
    return for_each(rho, "rho", lambda r: sampled_average_sharpness(s, rho=r, **noise).value)


def sampled_average_sharpness(
    model, loss=None, batches=None, *, rho=0.05, adaptive=False, num_samples=20, seed=0, **options
):
    """The same as `average_sharpness`, with its standard error.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        rho: ρ, a single one.
        adaptive: As for `average_sharpness`.
        num_samples: As for `average_sharpness`.
        seed: As for `average_sharpness`.
        **options: Of `Subject`.

    Returns:
        `AverageSharpness(value, standard_error, num_samples)`.

    Raises:
        ValueError: If the loss is not finite at the weights, or ρ or num_samples is out of range.
    """
    surface = subject(model, loss, batches, options).surface
    if not (isinstance(num_samples, int | np.integer) and num_samples >= 1):
        raise ValueError(f"num_samples is {num_samples!r}, but should be a whole number of at least 1.")
    if not (math.isfinite(rho) and rho > 0):
        raise ValueError(f"rho is {rho!r}, but should be a number above 0.")
    weights = surface.weights()
    value = surface.value(weights)
    if not math.isfinite(value):
        raise ValueError(
            f"The loss is {value} at the present weights, so it has no sharpness there. Has training diverged, or do the "
            "data hold NaN?"
        )
    rng = np.random.default_rng(seed)
    scale = rho * np.abs(weights) if adaptive else rho
    samples = []
    for _ in range(num_samples):
        noise = scale * rng.standard_normal(len(weights))
        samples.append((surface.value(weights + noise) + surface.value(weights - noise)) / 2 - value)
    error = float(np.std(samples, ddof=1)) / math.sqrt(num_samples) if num_samples > 1 else math.nan
    return AverageSharpness(float(np.mean(samples)), error, num_samples)

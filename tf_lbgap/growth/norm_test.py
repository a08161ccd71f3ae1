"""Tests of the batch gradient against its noise: by its norm (Byrd et al. 2012), and along it (Bollapragada et al. 2018)."""

import dataclasses
import math

from tf_lbgap.growth.decision import Criterion, Decision, check_above_zero, check_flags, keep


@dataclasses.dataclass(frozen=True)
class NormTest(Criterion):
    """Grow when the variance of the batch gradient is above θ² times its squared norm.

    The test, and the size that would pass it with the same numbers, where it fails:

        tr(Σ) / B ≤ θ² |g_B|²,        B' = ⌈tr(Σ) / (θ² |g_B|²)⌉

    A batch that passes stays, so it never shrinks. The squared norm of a batch gradient is biased upwards by its own
    noise, E|g_B|² = |G|² + tr(Σ)/B. So on average the test holds from B = (1/θ² - 1) tr(Σ)/|G|² on, later than it
    should, for θ = 1 always, and B' falls short. With `unbiased=True` it asks for B = tr(Σ) / (θ² |G|²) at once.

    Args:
        theta: θ, the largest ratio of error to gradient, above 0; below 1 in the paper, smaller is stricter.
        unbiased: Whether to compare with |G|² instead of |g_B|².
        finite: Whether to count that a batch is drawn without replacement: tr(Σ)/B times (N - B) / (N - 1),
            which the paper leaves out for N ≫ B.

    References:
        Byrd, Chin, Nocedal and Wu, "Sample size selection in optimization methods for machine learning",
        2012, equations 3.6, 3.9 and 3.11.

    Example:
        >>> decision = NormTest(theta=0.5)(64, {"trace": 32.0, "batch_squared_norm": 0.2})
        >>> decision.batch_size, round(decision.numbers["theta_max"], 3)
        (640.0, 1.581)
        >>> decision.reason
        'tr(Σ)/B = 0.5 is above θ²|g|² = 0.05: 640 examples would pass the test.'
    """

    theta: float = 0.5
    unbiased: bool = False
    finite: bool = False

    def __post_init__(self):
        check_above_zero("NormTest", theta=self.theta)
        check_flags("NormTest", unbiased=self.unbiased, finite=self.finite)

    @property
    def needs(self):
        squared = "squared_norm" if self.unbiased else "batch_squared_norm"
        return ("trace", squared, *(("num_examples",) if self.finite else ()))

    def decide(self, batch_size, *, trace, num_examples=math.inf, **squared):
        ((name, squared_norm),) = squared.items()
        allowed = self.theta**2 * squared_norm
        error, told = trace / batch_size, "tr(Σ)/B"
        if self.finite:
            error *= (num_examples - batch_size) / max(num_examples - 1, 1)
            told = "tr(Σ)/B (N-B)/(N-1)"
        bound = "θ²|G|²" if self.unbiased else "θ²|g|²"
        numbers = {"trace": trace, name: squared_norm, "theta_max": _theta_max(error, squared_norm)}
        wanted = _passing(trace, allowed, num_examples)
        return _tested(batch_size, f"{told} = {error:.3g}", error, bound, allowed, wanted, numbers)


@dataclasses.dataclass(frozen=True)
class InnerProductTest(Criterion):
    """Grow when the gradients of single examples differ too much *along* the batch gradient.

    The test, and the size that would pass it with the same numbers, where it fails:

        Var(gᵢ · g_B) / B ≤ θ² |g_B|⁴,        B' = ⌈Var(gᵢ · g_B) / (θ² |g_B|⁴)⌉

    Noise across the gradient, most of it in many dimensions, does not count, so batches stay far smaller than by
    `NormTest`. It asks for descent directions only; the paper's second test, of orthogonality, is not made here.

    Args:
        theta: θ, above 0; the paper's experiments use 0.9.

    References:
        Bollapragada, Byrd and Nocedal, "Adaptive sampling strategies for stochastic optimization", 2018,
        equations 2.6 and 4.7.

    Example:
        >>> measured = {"inner_product_variance": 8.1, "batch_squared_norm": 0.5}
        >>> InnerProductTest(theta=0.9)(10, measured).batch_size
        40.0
    """

    theta: float = 0.9

    needs = ("inner_product_variance", "batch_squared_norm")

    def __post_init__(self):
        check_above_zero("InnerProductTest", theta=self.theta)

    def decide(self, batch_size, *, inner_product_variance, batch_squared_norm):
        error = inner_product_variance / batch_size
        fourth_power = batch_squared_norm * batch_squared_norm
        allowed = self.theta**2 * fourth_power
        numbers = {
            "inner_product_variance": inner_product_variance,
            "batch_squared_norm": batch_squared_norm,
            "theta_max": _theta_max(error, fourth_power),
        }
        told, wanted = f"Var(gᵢ·g)/B = {error:.3g}", _passing(inner_product_variance, allowed)
        return _tested(batch_size, told, error, "θ²|g|⁴", allowed, wanted, numbers)


def _passing(noise, allowed, num_examples=math.inf):
    """Return the size B that solves noise / B (N - B) / (N - 1) = allowed, infinite if there is none."""
    if allowed <= 0:
        return math.inf
    if math.isinf(num_examples):
        return noise / allowed
    return noise * num_examples / (allowed * (num_examples - 1) + noise)


def _tested(batch_size, told, error, bound, allowed, wanted, numbers):
    """Return the decision of a test error ≤ allowed that `wanted` examples would pass."""
    if error <= allowed:
        return keep(batch_size, f"{told} is not above {bound} = {allowed:.3g}", numbers)
    if math.isinf(wanted):
        reason = f"{told}, but {bound} = {allowed:.3g}, so noise hides the gradient and no size would pass the test"
        return keep(batch_size, reason, numbers)
    wanted = float(math.ceil(wanted * (1 - 1e-12)))  # 40.000000000000004 examples are 40
    reason = f"{told} is above {bound} = {allowed:.3g}: {wanted:.0f} examples would pass the test."
    return Decision(wanted, reason, numbers)


def _theta_max(error, squared):
    """The gauge of Cockpit (Schneider et al. 2021): the θ that the batch just passes."""
    return math.sqrt(max(error, 0.0) / squared) if squared > 0 else math.inf

"""De et al. 2017: the batch grows until the gradient stands out of its noise."""

import dataclasses

from tf_lbgap.growth.decision import Criterion, Decision, check_above_zero, keep


@dataclasses.dataclass(frozen=True)
class BigBatch(Criterion):
    """Grow by a step as long as noise is above signal in the batch gradient.

        |g_B|² ≥ tr(Σ) / (θ² B),  else  B ← B + max(1, growth · B)

    This is the test of `NormTest`, with a step instead of a jump. The paper takes its steps at the same weights, with
    new examples, until the test holds; here a decision is one step, and the next updates bring the new
    examples. Since E|g_B|² = |G|² + tr(Σ)/B, on average the test for θ = 1 holds always: it fails by
    chance, about half the time once |G|² has vanished. The paper's line search is not part of it.

    Args:
        theta: θ, above 0; 1 compares signal and noise as they are.
        growth: Relative step, above 0.

    References:
        De, Yadav, Jacobs and Goldstein, "Big batch SGD: automated inference using adaptive batch sizes", 2017,
        section 3 (the test), algorithm 1 (the loop); the step of a tenth is the paper's.

    Example:
        >>> BigBatch()(100, {"trace": 30.0, "batch_squared_norm": 0.2}).batch_size
        110.0
    """

    theta: float = 1.0
    growth: float = 0.1

    needs = ("trace", "batch_squared_norm")

    def __post_init__(self):
        check_above_zero("BigBatch", theta=self.theta, growth=self.growth)

    @property
    def in_small_steps(self):
        return self.growth < 1

    def decide(self, batch_size, *, trace, batch_squared_norm):
        noise = trace / (self.theta**2 * batch_size)
        numbers = {"trace": trace, "batch_squared_norm": batch_squared_norm, "noise": noise}
        told = f"|g|² = {batch_squared_norm:.3g}"
        if batch_squared_norm >= noise:
            return keep(batch_size, f"{told} is not below tr(Σ)/(θ²B) = {noise:.3g}", numbers)
        step = max(1.0, self.growth * batch_size)
        reason = f"{told} is below tr(Σ)/(θ²B) = {noise:.3g}: {step:.4g} examples more."
        return Decision(batch_size + step, reason, numbers)

"""McCandlish et al. 2018: the batch follows the gradient noise scale."""

import dataclasses
import math

from tf_lbgap.growth.decision import Criterion, Decision, check_above_zero, keep

BOUNDS = ("low", "value")


@dataclasses.dataclass(frozen=True)
class GradientNoiseScale(Criterion):
    """Want a batch of `fraction` times the noise scale, B_simple = tr(Σ) / |G|², in examples.

    In the paper's model a batch of B_simple needs twice the fewest updates and twice the fewest examples; far
    smaller ones save no examples any more, far larger ones no updates. The estimate of a ratio from few
    probes is easily far off, or infinite where |G|² comes out at 0 or below. So by default (`bound="low"`) the
    batch grows only as far as the lower end of the interval, and shrinks only as far as the upper end:
    in between nobody can tell, and it stays.

    Args:
        fraction: Multiple of the noise scale to want, above 0. 1 is the paper's.
        bound: `"low"`, or `"value"` to follow the estimate itself, up and down.

    References:
        McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, sections 2.2 to 2.4.

    Example:
        >>> measured = {"noise_scale": 900.0, "noise_scale_low": 500.0, "noise_scale_high": 2000.0}
        >>> [GradientNoiseScale()(size, measured).batch_size for size in (100, 700, 5000)]
        [500.0, 700.0, 2000.0]
        >>> GradientNoiseScale(bound="value")(100, measured).batch_size
        900.0
    """

    fraction: float = 1.0
    bound: str = "low"

    needs = ("noise_scale", "noise_scale_low", "noise_scale_high")

    def __post_init__(self):
        check_above_zero("GradientNoiseScale", fraction=self.fraction)
        if self.bound not in BOUNDS:
            raise ValueError(
                f"GradientNoiseScale(bound={self.bound!r}): bound must be {' or '.join(map(repr, BOUNDS))}."
            )

    def decide(self, batch_size, *, noise_scale, noise_scale_low, noise_scale_high):
        numbers = {
            "noise_scale": noise_scale,
            "noise_scale_low": noise_scale_low,
            "noise_scale_high": noise_scale_high,
        }
        told = (
            f"The noise scale is {noise_scale:.4g} examples ({noise_scale_low:.4g} to {noise_scale_high:.4g})"
        )
        by_value = self.bound == "value"
        low = self.fraction * (noise_scale if by_value else noise_scale_low)
        high = self.fraction * (noise_scale if by_value else noise_scale_high)
        if low > batch_size and math.isfinite(low):
            return Decision(low, f"{told}: {low:.4g} examples, up from {batch_size:g}.", numbers)
        if high < batch_size:
            wanted = max(high, 1.0)
            return Decision(wanted, f"{told}: {wanted:.4g} examples, down from {batch_size:g}.", numbers)
        if math.isinf(low):
            return keep(batch_size, f"{told}, no number that a batch could have", numbers)
        return keep(batch_size, f"{told}, which does not contradict {batch_size:g} examples", numbers)

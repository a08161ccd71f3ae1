"""Friedlander and Schmidt 2012: the batch grows so that the gradient's error decays at a fixed rate."""

import dataclasses
import math

from tf_lbgap.growth.decision import Criterion, Decision, check_flags, is_number, keep


@dataclasses.dataclass(frozen=True)
class FriedlanderSchmidt(Criterion):
    """Let the expected squared error of the batch gradient decay as rateᵏ, with k in *updates*.

    A batch of b out of N, drawn without replacement, has the error E‖e‖² = (N - b)/N · S/b, with S = tr(Σ). The
    bound starts at the error of the first decision, E_0, and where it is exceeded the size is the one that meets it:

        (1/B - 1/N) S ≤ E_0 rateᵏ,        B' = ⌈S / (E_0 rateᵏ + S/N)⌉

    k counts updates of the optimizer since the first decision, and S is the present one. While noise shrinks
    by itself faster than the bound, the size stays. If rate is that of gradient descent on a strongly
    convex loss, 1 - μ/L, descent keeps it in spite of the error; where a network has no such rate, choose it by the
    number of updates in which noise should halve: rate = 0.5 ** (1 / updates).

    Args:
        rate: Factor of the bound per update, above 0 and below 1.
        practical: Take the paper's experiments instead, min(⌈1.1 B + 1⌉, N), with nothing measured. There it is
            a step per update; here it is one per decision, and `callbacks.AdaptiveBatchSize` decides at
            the end of each epoch if nothing has to be measured. Leave `rate` out.

    References:
        Friedlander and Schmidt, "Hybrid deterministic-stochastic methods for data fitting", 2012,
        sections 2 (the rate), 3 (the error without replacement), 5 (growth by 1.1).

    Example:
        >>> measured = {"trace": 8.0, "first_trace": 8.0, "first_batch_size": 10, "num_examples": 1000}
        >>> [FriedlanderSchmidt(rate=0.5)(10, {**measured, "updates": k}).batch_size for k in (0, 1, 2, 20)]
        [10.0, 20.0, 39.0, 1000.0]
        >>> FriedlanderSchmidt(practical=True)(10, {"num_examples": 1000}).batch_size
        12.0
    """

    rate: float | None = None
    practical: bool = False

    def __post_init__(self):
        check_flags("FriedlanderSchmidt", practical=self.practical)
        if self.practical and self.rate is not None:
            raise ValueError(
                f"FriedlanderSchmidt(rate={self.rate!r}, practical=True): the practical growth has no rate. Pass one of the two."
            )
        if not self.practical and not (is_number(self.rate) and 0 < self.rate < 1):
            raise ValueError(
                f"FriedlanderSchmidt(rate={self.rate!r}): rate must be a number above 0 and below 1, the factor of the "
                "error per update, such as 0.999; or pass practical=True."
            )

    @property
    def needs(self):
        if self.practical:
            return ("num_examples",)
        return ("trace", "first_trace", "first_batch_size", "num_examples", "updates")

    @property
    def in_small_steps(self):
        return self.practical

    def decide(self, batch_size, *, num_examples, **measured):
        if not self.practical:
            return self._bounded(batch_size, num_examples, **measured)
        wanted = float(min(math.ceil(1.1 * batch_size + 1 - 1e-9), num_examples))
        numbers = {"num_examples": num_examples}
        return Decision(wanted, f"min(⌈1.1 B + 1⌉, N) is {wanted:.0f} examples.", numbers)

    def _bounded(self, batch_size, num_examples, *, trace, first_trace, first_batch_size, updates):
        error = trace * (1 / batch_size - 1 / num_examples)
        bound = first_trace * (1 / first_batch_size - 1 / num_examples) * self.rate**updates
        numbers = {"trace": trace, "updates": updates, "error": error, "bound": bound}
        told = f"After {updates:.0f} updates the squared error {error:.3g}"
        if error <= bound:
            return keep(batch_size, f"{told} is not above its bound {bound:.3g}", numbers)
        wanted = trace / (bound + trace / num_examples)
        wanted = float(min(math.ceil(wanted * (1 - 1e-12)), num_examples))
        return Decision(
            wanted, f"{told} is above its bound {bound:.3g}: {wanted:.0f} examples meet it.", numbers
        )

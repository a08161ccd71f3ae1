"""Yao et al. 2018 (ABSA): the batch grows where the loss has become flatter, and where nothing happens for long."""

import dataclasses
import math

from tf_lbgap.growth.decision import Criterion, Decision, check_above_zero, keep


@dataclasses.dataclass(frozen=True)
class Absa(Criterion):
    """Grow by `factor` when the top eigenvalue of the Hessian has fallen by as much, or after `duration` epochs.

        λ ≤ λ_ref / factor:                     B ← factor · B,  λ_ref ← λ
        `duration` epochs without an increase:  B ← factor · B

    The rule as its authors coded it. λ_ref is not the largest eigenvalue so far, though their code calls it so: it is the one
    that the last fall ended at, at first the one of the first epoch, and growth by duration leaves it. Where λ rises
    for long, as it mostly does early on, duration alone makes the batch grow. Nothing makes it shrink. At the maximum
    nothing is measured any more.

    The rule has no state here: it is replayed over the eigenvalues of all epochs, and grows if the last of them makes it
    grow. An unknown one, NaN, is an epoch that goes by. A reference that is not above 0 gives way to the next
    eigenvalue, since half of it is no flatter (by the authors' comparison the batch would grow epoch after epoch).

    The method's other parts are their own: `training.Adversarial` with `callbacks.AdversarialShare`, and the rate's linear
    rule, `AdaptiveBatchSize(..., learning_rate="linear")`.

    Args:
        factor: By which λ has to fall, and by which the batch grows; above 1.
        duration: Epochs after which the batch grows anyhow, at least 1; None: it never does.

    References:
        Yao, Gholami, Keutzer and Mahoney, "Large batch size training of neural networks with adversarial training and
        second-order information", 2018 (arXiv 1810.01021), and the authors' code (HessianFlow), of which the defaults are.

    Example:
        >>> Absa()(128, {"top_eigenvalues": (8.0, 9.0, 4.0)}).batch_size
        256.0
        >>> Absa()(256, {"top_eigenvalues": (8.0, 9.0, 4.0, 3.0)}).batch_size
        256.0
        >>> Absa(duration=2)(256, {"top_eigenvalues": (8.0, 9.0)}).batch_size
        512.0
    """

    factor: float = 2.0
    duration: int | None = 10

    needs = ("top_eigenvalues",)
    ends_at_maximum = True

    def __post_init__(self):
        check_above_zero("Absa", factor=self.factor)
        if self.factor <= 1:
            raise ValueError(
                f"Absa(factor={self.factor!r}): factor must be above 1, since the batch grows by it."
            )
        if self.duration is None:
            return
        check_above_zero("Absa", duration=self.duration)
        if self.duration != int(self.duration):
            raise ValueError(
                f"Absa(duration={self.duration!r}): duration must be a whole number of epochs, or None."
            )

    @property
    def in_small_steps(self):
        return self.factor < 2

    def decide(self, batch_size, *, top_eigenvalues):
        if not top_eigenvalues:
            return keep(batch_size, "No epoch is over yet", {"reference": None, "last": None, "waited": 0})
        reference, waited = self._replayed(top_eigenvalues[:-1])
        last, waited = top_eigenvalues[-1], waited + 1
        numbers = {"reference": reference, "last": last, "waited": waited}
        if self._has_fallen(last, reference):
            told = f"The top eigenvalue {last:.4g} is at most 1/{self.factor:g} of {reference:.4g}"
        elif self._is_over(waited):
            told = f"The batch did not grow for {waited} epoch{'s' if waited > 1 else ''}"
        else:
            nothing = reference is None
            than = (
                "has none to be compared with"
                if nothing
                else f"is above 1/{self.factor:g} of {reference:.4g}"
            )
            return keep(batch_size, f"The top eigenvalue {last:.4g} {than}", numbers)
        return Decision(self.factor * batch_size, f"{told}: times {self.factor:g}.", numbers)

    def _replayed(self, eigenvalues):
        """The reference, None before the first, and the epochs since the last increase."""
        reference, waited = None, 0
        for value in eigenvalues:
            waited += 1
            if not math.isfinite(value):
                continue
            has_fallen = self._has_fallen(value, reference)
            if has_fallen or reference is None:
                reference = value if value > 0 else None
            if has_fallen or self._is_over(waited):
                waited = 0
        return reference, waited

    def _has_fallen(self, value, reference):
        return reference is not None and value <= reference / self.factor

    def _is_over(self, waited):
        return self.duration is not None and waited >= self.duration

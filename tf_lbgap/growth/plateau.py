"""The batch grows where the training loss has stopped to fall."""

import dataclasses

from tf_lbgap.growth.decision import Criterion, Decision, check_above_zero, check_flags, is_number, keep


@dataclasses.dataclass(frozen=True)
class Plateau(Criterion):
    """Grow by `factor` when the training loss has not improved for `patience` epochs.

    What `keras.callbacks.ReduceLROnPlateau` does to the rate, done to the batch, as Smith et al. trade the one for the
    other. Epochs and the best loss are counted anew from the epoch in which the size last changed (Keras
    keeps the best loss across its reductions, and so waits for a loss below all earlier ones). Where the batch can grow
    no further, `learning_rate="smith"` divides the rate instead, plateau for plateau.

    Args:
        factor: By which the batch grows, above 1.
        patience: Epochs without improvement before it does, at least 1.
        min_delta: By how much a loss has to be below the best one to be an improvement, 0 or more.
        relative: Whether `min_delta` is a fraction of the best loss.

    References:
        Smith et al., "Don't decay the learning rate, increase the batch size", 2018 (the trade). Patience and min_delta are
        the defaults of Keras.

    Example:
        >>> Plateau(patience=2)(64, {"losses": (0.9, 0.7, 0.71, 0.7)}).batch_size
        128.0
        >>> Plateau(patience=2)(64, {"losses": (0.9, 0.7, 0.71, 0.6)}).batch_size
        64.0
    """

    factor: float = 2.0
    patience: int = 10
    min_delta: float = 1e-4
    relative: bool = False

    needs = ("losses",)
    multiplies = True

    def __post_init__(self):
        check_above_zero("Plateau", factor=self.factor, patience=self.patience)
        check_flags("Plateau", relative=self.relative)
        if self.factor <= 1:
            raise ValueError(
                f"Plateau(factor={self.factor!r}): factor must be above 1, since the batch grows by it."
            )
        if self.patience != int(self.patience):
            raise ValueError(
                f"Plateau(patience={self.patience!r}): patience must be a whole number of epochs."
            )
        if not (is_number(self.min_delta) and self.min_delta >= 0):
            raise ValueError(
                f"Plateau(min_delta={self.min_delta!r}): min_delta must be a number of at least 0."
            )

    @property
    def in_small_steps(self):
        return self.factor < 2

    def decide(self, batch_size, *, losses):
        best, waited = None, 0
        for loss in losses:
            waited += 1
            if best is None or loss < best - self.min_delta * (abs(best) if self.relative else 1):
                best, waited = loss, 0
        numbers = {"best": best, "last": losses[-1] if losses else None, "waited": waited}
        if waited < self.patience:
            since = f"The loss last improved {waited} epochs ago" if losses else "No epoch is over yet"
            return keep(batch_size, since, numbers)
        reason = (
            f"For {waited} epochs no loss was below {best:.4g} by more than min_delta: times {self.factor:g}."
        )
        return Decision(self.factor * batch_size, reason, numbers)

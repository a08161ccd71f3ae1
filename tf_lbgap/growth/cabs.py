"""Balles et al. 2017 (CABS): the batch that a learning rate and a loss call for."""

import dataclasses

from tf_lbgap.growth.decision import Criterion, Decision, keep


@dataclasses.dataclass(frozen=True)
class Cabs(Criterion):
    """Want B = round(ε tr(Σ) / F), with the learning rate ε and the training loss F; up and down.

    The size that maximises a lower bound of the expected progress per example, for plain SGD, a rate that suits the
    curvature (ε = 1/L) and a loss whose smallest value is 0. Momentum and adaptive rates break the derivation, label
    smoothing, label noise and a weight penalty in the loss move its smallest value. Leave the rate as
    it is (`learning_rate="none"`): it is the rate that chooses the batch.

    References:
        Balles, Romero and Hennig, "Coupling adaptive batch sizes with learning rates", 2017, equation 22. The authors
        average trace and loss by an exponential mean of 0.95 per update; ours are means over the window of probes.

    Example:
        >>> Cabs()(32, {"learning_rate": 0.1, "trace": 600.0, "loss": 0.5}).batch_size
        120.0
    """

    needs = ("learning_rate", "trace", "loss")

    def check_optimizer(self, name, momentum=0.0):
        """Raise for anything but SGD without momentum."""
        if name != "SGD" or momentum:
            came = f"{name} with momentum={momentum:g}" if name == "SGD" else name
            raise ValueError(
                f"Cabs holds for plain SGD, but the model is trained by {came}. Compile it with "
                "keras.optimizers.SGD(learning_rate), without momentum, or choose growth.GradientNoiseScale()."
            )

    def decide(self, batch_size, *, learning_rate, trace, loss):
        numbers = {"learning_rate": learning_rate, "trace": trace, "loss": loss}
        if loss <= 0:
            return keep(
                batch_size, f"The loss is {loss:.3g}, and Cabs takes 0 for its smallest value", numbers
            )
        wanted = max(float(round(learning_rate * trace / loss)), 1.0)
        reason = f"ε tr(Σ) / F = {learning_rate:.3g} · {trace:.3g} / {loss:.3g} is {wanted:.0f} examples."
        return Decision(wanted, reason, numbers)

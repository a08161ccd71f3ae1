"""Two arms that are compared, each with what its run directory knows; and how equal they are, in words."""

import dataclasses

import numpy as np

from tf_lbgap.report import noise

_DECAY = {"AdamW": 0.004, "Muon": 0.004}  # Keras' defaults; of the others it is None
_MOMENTUM = {"Muon": 0.95}


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two arms."""

    name: str
    config: dict  # of the arm, with the keys of `experiment.config.DEFAULTS`; empty if nobody wrote it
    layers: frozenset | None  # kinds of layers, as the weights are called; None without weights
    history: noise.History | None  # of one seed

    @property
    def optimizer(self):
        config = self.config.get("optimizer") or {}
        while isinstance(config.get("inner_optimizer"), dict):
            config = config["inner_optimizer"]
        return config

    @property
    def optimizer_name(self):
        return str(self.optimizer.get("call", "")).replace(":", ".").rpartition(".")[2]

    @property
    def momentum(self):
        """m of the configuration, else as the noise scale was computed with."""
        known = self.optimizer.get("momentum")
        if known is None and self.history is not None and self.history.inverse_friction:
            known = round(1 - 1 / self.history.inverse_friction, 6)
        return float(_MOMENTUM.get(self.optimizer_name, 0.0) if known is None else known)

    @property
    def decay(self):
        """Decoupled weight decay; 0 if there is none. In Keras every optimizer's own is decoupled."""
        name, call = self.optimizer_name, str(self.optimizer.get("call", ""))
        own = self.optimizer.get("weight_decay", _DECAY.get(name))
        return float(own or 0.0) if call.startswith("keras.") or name in _DECAY else 0.0

    def uses(self, *names):
        return self.optimizer_name in names


@dataclasses.dataclass(frozen=True)
class Pair:
    """An arm and the reference; partings are None without schedules."""

    arm: Side
    reference: Side
    exact: noise.Parting | None  # of the noise scale
    simple: noise.Parting | None  # of rate / batch, its form for B ≪ N

    @property
    def sides(self):
        return self.arm, self.reference

    def same(self, *keys):
        """Return whether keys of the configuration are equal."""
        return all(self.arm.config.get(key) == self.reference.config.get(key) for key in keys)

    def part(self, quantity):
        """Return the `noise.Parting` of another quantity, or None without schedules."""
        if self.exact is None:
            return None
        return noise.part(self.arm.history, self.reference.history, quantity)

    def trained_alike(self):
        """Return whether batch size and rate were the same at every update."""
        if self.exact is None:
            return self.same(
                "batch_size", "maximum", "learning_rate", "adaptive", "scale_learning_rate", "optimizer"
            )
        quantities = (lambda h, e: h.batch_size.at(e), lambda h, e: h.learning_rate.at(e))
        return all(self.part(quantity).share == 0 for quantity in quantities)


def amount(parting, pair):
    """Return in words how equal a quantity is in the two arms; it follows "the arms" or "they"."""
    percent = f"{100 * noise.TOLERANCE:g} %"
    if parting.share == 0:
        return f"are equal within {100 * abs(np.expm1(abs(np.log(parting.largest)))):.2g} %"
    at, factor = parting.first
    begin = f"part at {when(pair.arm, at)}" if at > pair.arm.history.start else "are apart from the beginning"
    return (
        f"{begin}, where the ratio is {factor:.3g}, and differ by more than {percent} during "
        f"{_percent(parting.share)} of the examples; the ratio farthest from 1 is {parting.largest:.3g}"
    )


def when(side, examples):
    """Return in words when an arm had seen some examples."""
    return f"epoch {side.history.epoch(examples):.3g} ({examples:,.0f} examples)"


def _percent(share):
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"

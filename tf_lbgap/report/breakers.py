"""What makes two arms of equal noise scale differ all the same, by name.

The noise scale describes SGD that has forgotten how it began, whose gradient is a mean over examples and whose weights
nothing else moves. Each function below knows one departure from that, as far as configuration, schedules and weights
show it, and tells of it where it differs between two arms.
"""

from typing import NamedTuple

import numpy as np

from tf_lbgap.report import noise
from tf_lbgap.report.audit import text_of
from tf_lbgap.report.pairs import amount, when

# Optimizers that divide by the gradient's own size, so that noise enters by rate / √B (Malladi et al. 2022).
_ADAM = ("Adam", "AdamW", "Nadam", "Adamax", "RMSprop", "Adadelta", "Adagrad", "Adafactor", "Lion", "Muon")
_LAYERWISE = ("Lars", "Lamb")  # each layer's step is scaled by |w| / |g|
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


class Breaker(NamedTuple):
    """One departure."""

    name: str
    text: str  # a sentence


def breakers(pair):
    """Return a list of `Breaker`: what differs between the two arms of a `Pair` beside the noise scale."""
    return [found for find in _ALL if (found := find(pair)) is not None]


def optimizer(pair):
    arm, reference = (side.optimizer_name for side in pair.sides)
    if arm == reference:
        return None
    return Breaker(
        "optimizer",
        f"{pair.arm.name} uses {arm or 'an unknown optimizer'}, not {reference or 'an unknown one'}.",
    )


def momentum(pair):
    if (
        any(side.uses(*_ADAM) for side in pair.sides)
        and pair.arm.optimizer_name != pair.reference.optimizer_name
    ):
        return None  # means of another kind: `optimizer` says so
    ours, theirs = (side.momentum for side in pair.sides)
    if abs(ours - theirs) > 2e-6:  # one may come from float32 in the files
        return Breaker(
            "momentum",
            f"Momentum is {ours:g}, not {theirs:g}: its buffer takes 1 / (1 - m) = {_updates(ours)} to fill, and as many to "
            f"forget, not {_updates(theirs)}; the noise scale does not see that.",
        )
    for key, default in (("nesterov", None), ("beta_1", 0.9)):
        ours, theirs = (side.optimizer.get(key) or default for side in pair.sides)
        if ours != theirs:
            return Breaker("momentum", _differs(key, ours, theirs))
    if not pair.same("momentum_correction") and pair.reference.momentum > 0:
        with_it, without = sorted(pair.sides, key=lambda side: not side.config.get("momentum_correction"))
        return Breaker(
            "momentum",
            f"{with_it.name} corrects the momentum buffer when the rate jumps; in {without.name} it goes on at the old rate "
            f"for about {_updates(without.momentum)}.",
        )
    return None


def weight_decay(pair):
    if not any(side.decay for side in pair.sides):
        return None
    rule = "w -= w · rate · {} at each update".format(
        " or ".join(dict.fromkeys(f"{side.decay:g}" for side in pair.sides if side.decay))
    )
    if pair.exact is None:
        if pair.trained_alike() and pair.arm.decay == pair.reference.decay:
            return None
        return Breaker(
            "decoupled weight decay", f"Decoupled weight decay, {rule}, depends on how many there are."
        )
    sums, counts = zip(*(_decayed(side, pair.exact) for side in pair.sides), strict=True)
    if abs(sums[0] - sums[1]) <= noise.TOLERANCE * min(sums):
        return None
    return Breaker(
        "decoupled weight decay",
        f"Decoupled weight decay, {rule}, sums to {sums[0]:.3g} over the {counts[0]:,.0f} updates of {pair.arm.name}, and to "
        f"{sums[1]:.3g} over the {counts[1]:,.0f} of {pair.reference.name}, in the same examples: weights lose "
        f"{-100 * np.expm1(-sums[0]):.3g} % and {-100 * np.expm1(-sums[1]):.3g} % by it.",
    )


def _decayed(side, parting):
    """Return the sum of rate · decay over the updates of all pieces, and their number."""
    counts = side.history.updates(parting.starts + parting.widths) - side.history.updates(parting.starts)
    rates = side.history.learning_rate.at(parting.middles)
    return float((counts * rates).sum() * side.decay), float(counts.sum())


def adam(pair):
    using = [side for side in pair.sides if side.uses(*_ADAM)]
    if not using or (len(using) == 2 and pair.trained_alike()):
        return None
    begin = f"The noise scale describes SGD; {using[0].optimizer_name} divides by the size of the gradient, so that noise enters by rate / √B"
    if len(using) == 1:
        return Breaker("Adam-type optimizer", f"{begin}, and only {using[0].name} uses it.")
    parting = pair.part(noise.rate_over_root)
    if parting is None:
        return Breaker("Adam-type optimizer", f"{begin}.")
    return Breaker("Adam-type optimizer", f"{begin}: by that rule the arms {amount(parting, pair)}.")


def layerwise(pair):
    using = [side for side in pair.sides if side.uses(*_LAYERWISE)]
    if not using or (len(using) == 2 and pair.trained_alike()):
        return None
    return Breaker(
        "layerwise rates",
        f"{using[0].optimizer_name} scales the step of each layer by |w| / |g|, which itself depends on the batch; the noise "
        "scale describes SGD.",
    )


def ghost_batches(pair):
    """Batch normalization that sees batches of other sizes."""
    known = [side.layers for side in pair.sides if side.layers is not None]
    having = [any("batch_normalization" in kind for kind in layers) for layers in known]
    if known and not any(having):
        return None
    if having in ([True, False], [False, True]):
        name = pair.sides[having.index(True)].name
        return Breaker(
            "batch normalization",
            f"Only {name} has batch normalization over the batch, whose noise is not in the noise scale.",
        )
    sizes = [
        side.config.get("ghost_batch_size") or side.config.get("micro_batch_size") for side in pair.sides
    ]
    if not known and (sizes == [None, None] or sizes[0] == sizes[1]):
        return None  # most models have none, and nobody said anything of it
    beside = (
        "" if known else " (whether the models have batch normalization is not known: there are no weights)"
    )
    if pair.exact is None:
        if sizes[0] == sizes[1] and (sizes[0] is not None or pair.same("batch_size", "maximum", "adaptive")):
            return None
        ours, theirs = (_told(size, side) for size, side in zip(sizes, pair.sides, strict=True))
        return Breaker(
            "ghost batches", f"Batch normalization sees {ours} examples at a time, not {theirs}{beside}."
        )
    seen = {id(side.history): side for side in pair.sides}
    parting = pair.part(lambda history, examples: _normalized(seen[id(history)], examples))
    if parting.share == 0:
        return None
    ours, theirs = (_range(_normalized(side, parting.middles)) for side in pair.sides)
    return Breaker(
        "ghost batches",
        f"Batch normalization sees {ours} examples at a time in {pair.arm.name}, and {theirs} in {pair.reference.name}{beside}: "
        "the noise of its statistics is not in the noise scale. ghost_batch_size holds it fixed.",
    )


def _told(size, side):
    return text_of(size if size is not None else side.config.get("batch_size"))


def _normalized(side, examples):
    """Return how many examples batch normalization sees at a time: of equal parts of the batch, if it is cut."""
    size = side.history.batch_size.at(examples)
    for key in ("ghost_batch_size", "micro_batch_size"):
        most = side.config.get(key)
        if isinstance(most, int):
            size = size / np.ceil(size / most)
    return size


def cap(pair):
    """A batch that stopped growing, and a rate that did not take over what the batch could not."""
    if pair.simple is None:
        return None
    with np.errstate(divide="ignore"):
        inverse = 1 / pair.simple.ratio
    for side, other, ratio in ((*pair.sides, pair.simple.ratio), (*pair.sides[::-1], inverse)):
        total = side.history.num_examples
        most = min(side.config.get("maximum") or total, total)
        size = side.history.batch_size.at(pair.simple.middles)
        is_stuck = size > most - max(1, side.config.get("multiple_of") or 1)
        if is_stuck.all() and not isinstance(side.config.get("batch_size"), dict):
            continue  # a batch that never was to grow
        grew = ratio[: np.argmax(is_stuck)] if is_stuck.any() else ratio[:0]
        before = max(1.0, grew[-1]) if len(grew) else 1.0
        noisier = pair.simple.is_apart & is_stuck & (ratio > before * (1 + noise.TOLERANCE))
        if not noisier.any():
            continue
        at = float(pair.simple.starts[noisier][0])
        return Breaker(
            "cap",
            f"The batch of {side.name} stopped at {size[noisier][0]:,.0f}, {'its maximum' if most < total else 'all there are'}, and "
            f"the rate did not take over what the batch could not: from {when(side, at)} on its noise scale is up to "
            f"{ratio[noisier].max():.3g} times that of {other.name}.",
        )
    return None


def rate_rule(pair):
    """Rules by which the rate follows the batch, where noise scales part."""
    if pair.same("scale_learning_rate") or (pair.simple is not None and pair.simple.share == 0):
        return None
    ours, theirs = (side.config.get("scale_learning_rate", "none") for side in pair.sides)
    return Breaker(
        "learning-rate rule",
        f"The rate follows the batch by the rule {ours!r} in {pair.arm.name}, and by {theirs!r} in {pair.reference.name}; "
        "in proportion, 'linear', it keeps the noise scale.",
    )


def clipping(pair):
    ours, theirs = ({key: side.optimizer.get(key) for key in _CLIPPING} for side in pair.sides)
    used = {
        key: (ours[key], theirs[key]) for key in _CLIPPING if ours[key] is not None or theirs[key] is not None
    }
    if not used:
        return None
    if ours != theirs:
        key, values = next((key, pair_of) for key, pair_of in used.items() if pair_of[0] != pair_of[1])
        return Breaker("gradient clipping", _differs(key, *values))
    if pair.trained_alike():
        return None
    key = next(iter(used))
    return Breaker(
        "gradient clipping",
        f"{key} = {text_of(used[key][0])} meets gradients of another norm: the mean over a larger batch has less noise, and is "
        "cut less often.",
    )


def finite_data(pair):
    """The -1 in N / B - 1, for batches that are not small against the training set."""
    if pair.exact is None or pair.simple.share > 0 or pair.exact.share == 0:
        return None
    (at, factor), largest = pair.exact.first, pair.exact.largest
    farthest = f", and at the farthest {largest:.3g}" if largest != factor else ""
    shares = [
        side.history.batch_size.at(pair.exact.middles).max() / side.history.num_examples
        for side in pair.sides
    ]
    side, share = max(zip(pair.sides, shares, strict=True), key=lambda each: each[1])
    return Breaker(
        "large share of the data",
        f"Rate / batch is equal, and the exact noise scale, with N / B - 1, is not: from {when(side, at)} on its ratio is "
        f"{factor:.3g}{farthest}, as the batch of {side.name} grows to {100 * share:.3g} % of the training set.",
    )


_ALL = (
    optimizer, momentum, weight_decay, adam, layerwise, ghost_batches, cap, rate_rule, clipping, finite_data,
)  # fmt: skip


def _differs(key, ours, theirs):
    ours, theirs = ("not set" if value is None else text_of(value) for value in (ours, theirs))
    return f"{key} is {ours}, and in the reference {theirs}."


def _updates(momentum):
    if momentum >= 1:
        return "endless updates"
    return f"{1 / (1 - momentum):.3g} update{'s' if momentum else ''}"


def _range(sizes):
    low, high = sizes.min(), sizes.max()
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"

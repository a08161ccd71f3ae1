"""An advice in plain words, and what it does not know."""

import math
from typing import NamedTuple

DROPPING = {
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
}


class About(NamedTuple):
    """What the words need beside the numbers."""

    optimizer: str  # name of its class
    momentum: float
    pilot_factor: float  # of the rate, below 1 if training diverged
    step: int  # powers of two from the rule's rate to the advised one
    why_no_noise: str | None
    layers: frozenset  # names of the classes of the model's layers


def kinds_of(model):
    """Return the names of the classes of a model's layers."""
    return frozenset(type(layer).__name__ for layer in model._flatten_layers())


def sentences(advice, about):
    """Yield what was found."""
    yield _first(advice)
    yield _rate(advice, about)
    if about.pilot_factor != 1:
        yield (
            f"At your own learning rate training diverged; the pilot went on with {about.pilot_factor:g} of it, and all rates "
            "were raced from there."
        )
    yield _noise(advice, about)
    if advice.is_raced and advice.noise_pair:
        yield _model_and_race(advice)
    yield _growth(advice)
    yield (
        f"{len(advice.sizes)} sizes were run, from {advice.sizes[0].batch_size:,} to {advice.sizes[-1].batch_size:,}: no larger "
        f"one, for {advice.stopped_growing}."
    )
    yield (
        f"All of it took {advice.seconds:.0f} s, of which {advice.compile_seconds:.1f} s went into tracing and compiling; model and "
        "stream are as before."
    )


def unknowns(advice, about):
    """Yield what the advice does not know, as far as it applies."""
    yield "Generalization: it looks at the training loss only. Compare test accuracy in the experiment."
    yield "Other machines, and this one under another load: seconds per update were measured here and now."
    if not advice.is_raced:
        yield "Whether it is so: nothing was raced, the numbers are those of a model. Give a larger budget."
    elif advice.target_loss is not None and advice.goal_loss > advice.target_loss:
        yield (
            f"The way from a loss of {advice.goal_loss:.3g}, to which sizes were raced, to {advice.target_loss:g}: the noise scale "
            "grows on the way, so a larger batch may be faster in the end."
        )
    elif advice.target_loss is None:
        yield (
            f"What holds below a loss of {advice.goal_loss:.3g}, which the pilot reached: no target_loss was given."
        )
    if advice.is_raced:
        yield "Rates between those that were tried, which differ by factors of two, and momentum, warm-up and decay, which stayed."
        seeds = max(row.raced_seeds for row in advice.sizes)
        if seeds < 3:
            yield f"Luck: sizes were raced with {seeds} order{'s' * (seeds > 1)} of the examples."
    yield "Other initial weights: all trainings began at the weights that the model has."
    yield from _of_the_noise(advice, about)
    if advice.plan is not None and advice.plan.raced_seconds is None:
        yield "Whether growing is faster: there was no time to race it, it is a prediction."


def _of_the_noise(advice, about):
    if not advice.noise:
        return
    if about.optimizer.lower() != "sgd":
        yield f"The noise scale is that of SGD's gradient; for {about.optimizer} it is known to mislead (Merrill et al. 2025)."
    if about.layers & DROPPING:
        yield "The noise of dropout: the noise scale was measured without it."
    if any("BatchNormalization" in name for name in about.layers):
        yield "The noise of batch normalization: the noise scale was measured with exact statistics, and small ghost batches have more."
    if any(math.isinf(row.high) for row in advice.noise):
        yield "An upper end of the noise scale, at some points: from so many examples the gradient cannot be told from 0."


def _first(advice):
    what = f"Train with batches of {advice.batch_size:,}"
    if advice.learning_rate is not None:
        what += f" at a learning rate of {advice.learning_rate:.3g}"
    elif advice.rate_factor != 1:
        what += f" at {advice.rate_factor:.3g} times your learning rate"
    row, known = advice.row(advice.batch_size), advice.row(advice.known_batch_size)
    if not advice.is_raced:
        if row.predicted_seconds is None:
            return f"{what}: no other size could be raced or predicted, so it is your own."
        return f"{what}: predicted {row.predicted_seconds:.3g} s to a loss of {advice.goal_loss:.3g}, and not raced."
    own = next((r for r in advice.races if _is_known(advice, r)), None)
    versus = "" if own is None or not math.isfinite(own.seconds) else f"; your own took {own.seconds:.3g} s"
    if advice.batch_size == advice.known_batch_size and advice.rate_factor == 1:
        return f"{what}, as you do: nothing that was raced reached a loss of {advice.goal_loss:.3g} sooner than {known.raced_seconds:.3g} s."
    return f"{what}: {row.raced_seconds:.3g} s of updates to a loss of {advice.goal_loss:.3g} (mean of {row.raced_seeds}){versus}."


def _is_known(advice, race):
    return race.batch_size == advice.known_batch_size and race.rate_factor == 1


def _rate(advice, about):
    if advice.rate_rule == "none":
        return (
            "Your optimizer computes its rate from a Keras schedule that counts updates; it was left alone."
        )
    how = {
        "adascale": "AdaScale's gain from the noise scale",
        "linear": "the linear rule",
        "sqrt": "the square-root rule",
    }[advice.rate_rule]
    text = f"The rate follows {how} (for {about.optimizer})"
    if about.step:
        return f"{text} times {2.0**about.step:g}, which was faster in the race."
    return f"{text}."


def _noise(advice, about):
    if not advice.noise:
        return f"The gradient noise scale could not be measured: {about.why_no_noise or 'its value was not finite'}"
    first, last = advice.noise[0], advice.noise[-1]
    return (
        f"The gradient noise scale was {_scale(first)} before the first update and {_scale(last)} after {last.updates:,} "
        f"updates, at a loss of {last.loss:.3g}."
    )


def _scale(row):
    ends = (f"{end:,.0f}" if math.isfinite(end) else "∞" for end in (row.low, row.high))
    value = f"{row.noise_scale:,.0f}" if math.isfinite(row.noise_scale) else "∞"
    return f"{value} examples (95 % {' to '.join(ends)})"


def _model_and_race(advice):
    expected = min(advice.sizes, key=lambda row: row.predicted_seconds or math.inf)
    if expected.batch_size == advice.batch_size:
        return f"Race and noise scale agree on {advice.batch_size:,}."
    took = f"took {expected.raced_seconds:.3g} s there" if expected.raced_seconds else "was given up there"
    return (
        f"By the noise scale alone {expected.batch_size:,} would be fastest, in {expected.predicted_seconds:.3g} s; it was raced and "
        f"{took}. The race counts."
    )


def _growth(advice):
    plan = advice.plan
    if plan is None and not (
        advice.is_raced and advice.noise_pair and advice.known_learning_rate is not None
    ):
        return "Whether growing the batch saves anything was not looked at: that takes a race, a noise scale, and a rate that is a number."
    if plan is None:
        return "Growing the batch saves less than 2 % here, by the noise scale."
    steps = ", ".join(
        f"{size:,} from epoch {at:g}" for size, at in zip(plan.batch_sizes[1:], plan.milestones, strict=True)
    )
    text = f"Growing with the noise scale, {plan.batch_sizes[0]:,}, then {steps}, saves {plan.predicted_saving:.0%} by the model"
    if plan.raced_seconds is None:
        return f"{text}; it was not raced."
    fixed = advice.row(advice.batch_size).raced_seconds
    return f"{text}; raced it took {plan.raced_seconds:.3g} s against {fixed:.3g} s fixed."

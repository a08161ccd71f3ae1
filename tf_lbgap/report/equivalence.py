"""Are the arms equivalent by their noise scale, and if so, what differs all the same?

Smith and Le's g = rate / (1 - m) (N / B - 1) is compared over examples seen, arm by arm with the reference of the first
run: where batch and rate are traded for each other it stays, up to the -1, which counts for batches that are no small
share of the training set. So an arm is called equal if g is within 5 % of the reference's, "equal in rate / batch" if
it would be without the -1, and what the number does not see is named beside it (`breakers`).

References:
    Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018.
    Smith et al., "Don't decay the learning rate, increase the batch size", 2018.
    Malladi et al., "On the SDEs and scaling rules for adaptive gradient algorithms", 2022.
"""

import dataclasses
import re

from tf_lbgap.report import noise
from tf_lbgap.report.answers import Plugin
from tf_lbgap.report.breakers import breakers
from tf_lbgap.report.grids import Grid
from tf_lbgap.report.pairs import Pair, Side, amount
from tf_lbgap.report.runs import read_runs

EQUAL, EQUAL_RATIO, DIFFERENT, UNKNOWN = "equal", "equal in rate / batch", "different", "not known"
_BUFFER = (
    "Keras' SGD holds the rate in its momentum buffer: after a jump of the rate it goes on at the old one for about 1 / (1 - m) "
    "updates, unless momentum_correction is true."
)


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """An arm against the reference."""

    arm: str
    reference: str
    verdict: str  # EQUAL, EQUAL_RATIO, DIFFERENT or UNKNOWN
    tolerance: float  # within which noise scales are equal, relative
    examples: float  # that both have seen and were compared; 0 if nothing was written
    share_apart: float  # of the examples, during which noise scales differ by more
    largest_ratio: float  # arm / reference, the farthest from 1; NaN if not known
    parts_at: float | None  # examples seen when they first differ by more, None if they do not
    parts_at_epoch: float | None
    parts_by: float | None  # the ratio there
    breakers: tuple  # of `Breaker(name, text)`: what differs beside the noise scale
    num_seeds: int  # that were compared, paired
    sentence: str  # all of it but the breakers


def check_equivalence(paths):
    """Compare the noise scales of arms, as `lbgap report` does, and name what breaks their equivalence.

    Args:
        paths: Run directories. The reference is that of the first; all other arms are compared with it.

    Returns:
        List of `Equivalence`, in the order of the arms; empty for a single arm.

    Raises:
        ConfigError: If a path is no run directory, or holds nothing.
    """
    runs = read_runs(paths)
    return [found for found, _ in compare_noise(runs, Plugin(runs))]


def compare_noise(runs, plugin):
    """Return a list of (`Equivalence`, `noise.Parting` of the first pair of seeds or None)."""
    arms = {run.group(arm, runs): (run, arm) for run in runs for arm in run.arms}
    strides = {name: run.experiment.arms[arm]["steps_per_execution"] for name, (run, arm) in arms.items()}
    histories = noise.read_histories(plugin, strides)
    names = [*arms, *(name for name in histories if name not in arms)]
    if len(names) < 2:
        return []
    first = next((run for run in runs if run.arms), None)
    wanted = first.group(first.experiment.reference, runs) if first else names[0]
    reference = wanted if wanted in names else names[0]
    return [
        _compare(name, reference, arms, histories.get(name, {}), histories.get(reference, {}))
        for name in names
        if name != reference
    ]


def equivalence_grid(found):
    """Return a row for each `Equivalence`, or None if there are none."""
    if not found:
        return None
    rows = []
    for each in found:
        known = each.verdict != UNKNOWN
        rows.append(
            (
                each.arm,
                each.verdict,
                "-" if each.parts_at is None else f"epoch {each.parts_at_epoch:.3g}\nx {each.parts_by:.3g}",
                f"x {each.largest_ratio:.3g}" if known else "-",
                f"{100 * each.share_apart:.0f} %" if known else "-",
                "\n".join(breaker.name for breaker in each.breakers) or "-",
            )
        )
    return Grid(
        "equivalence",
        f"noise scale against {found[0].reference}, over examples seen",
        ("\narm", "\nnoise scale", "first\nparts", "largest\nratio", "examples\napart", "\nbroken by"),
        tuple(rows),
        f"g = rate / (1 - m) (N / B - 1), equal within {100 * noise.TOLERANCE:g} %; equal in rate / batch: without the -1. {_BUFFER}",
    )


def sentences(found):
    """Return a paragraph for each `Equivalence`: how equal it is, and what breaks it."""
    return [" ".join([each.sentence, *(breaker.text for breaker in each.breakers)]) for each in found]


def _compare(name, reference, arms, ours, theirs):
    pairs = _paired(ours, theirs)
    exact = [noise.part(*pair, lambda history, examples: history.noise_scale.at(examples)) for pair in pairs]
    pairs = [pair for pair, parting in zip(pairs, exact, strict=True) if parting is not None]
    exact = [parting for parting in exact if parting is not None]
    simple = [noise.part(*pair, noise.rate_over_batch) for pair in pairs]
    sides = [
        Side(side, *_of_arm(arms.get(side)), history)
        for side, history in zip((name, reference), pairs[0] if pairs else (None, None), strict=True)
    ]
    pair = Pair(*sides, exact[0] if exact else None, simple[0] if simple else None)
    broken = tuple(breakers(pair))
    if not exact:
        nothing = f"{name}: its noise scale and that of {reference} cannot be compared, as event files do not hold both."
        unknown = (0.0, float("nan"), float("nan"), None, None, None)
        return Equivalence(name, reference, UNKNOWN, noise.TOLERANCE, *unknown, broken, 0, nothing), None
    whole = noise.together(exact)
    is_equal, is_ratio = whole.share == 0, noise.together(simple).share == 0
    at, factor = whole.first or (None, None)
    verdict = EQUAL if is_equal else EQUAL_RATIO if is_ratio else DIFFERENT
    found = Equivalence(
        name, reference, verdict, noise.TOLERANCE, float(exact[0].widths.sum()),
        whole.share, whole.largest, at, None if at is None else sides[0].history.epoch(at), factor,
        broken, len(exact), "",
    )  # fmt: skip
    return dataclasses.replace(found, sentence=_sentence(found, whole, pair, noise.together(simple))), exact[
        0
    ]


def _sentence(found, whole, pair, simple):
    over = f"over {found.examples:,.0f} examples ({pair.reference.history.epoch(found.examples):.3g} epochs)"
    begin = f"{found.arm} against {found.reference}, {over}:"
    if found.verdict == EQUAL_RATIO:
        return f"{begin} rate / batch, the noise scale for B ≪ N, {amount(simple, pair).replace('are', 'is', 1)}."
    return f"{begin} noise scales {amount(whole, pair)}."


def _paired(ours, theirs):
    """Return pairs of histories by seed; arms without a seed in common in the order they come."""
    common = [seed for seed in ours if seed in theirs]
    if common:
        return [(ours[seed], theirs[seed]) for seed in common]
    return list(zip(ours.values(), theirs.values(), strict=False))


def _of_arm(known):
    """Return the configuration of an arm, and the kinds of its layers."""
    if known is None:
        return {}, None
    run, arm = known
    seeds = [row["seed"] for row in run.rows if row["arm"] == arm]
    return run.experiment.arms[arm], _layers(run.path / arm / str(seeds[0]) / "model.weights.h5")


def _layers(path):
    """Return the kinds of layers that saved weights are of, a frozenset; None if they cannot be read."""
    import h5py

    kinds = set()

    def visit(name, entry):
        *_, owner, last = ["", *name.split("/")]
        if last != "vars" or name.startswith("optimizer/") or not isinstance(entry, h5py.Group):
            return
        kind = re.sub(r"_\d+$", "", owner)
        shapes = [each.shape for each in entry.values() if hasattr(each, "shape")]
        # In a subclassed model a layer is called as its attribute; no other layer has three vectors and nothing else.
        is_normalizing = len(shapes) > 2 and len(shapes[0]) == 1 and len(set(shapes)) == 1
        kinds.add("batch_normalization" if is_normalizing and "ghost" not in kind else kind)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError:
        return None
    return frozenset(kinds)

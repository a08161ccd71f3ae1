"""The critical batch size at a moment of training, by trying: branches that differ in nothing but their batch.

From the model as it stands, branches of k B examples per update are trained on the same examples in the same order, each with
the rate that the rule gives for its batch. As long as a larger batch loses nothing, the branches end at one loss; the critical
batch is the largest that does. No model of the noise is needed, where the noise scale tr(Σ) / |G|² rests on one, and both are of
one moment: S(B) of `critical_batch_size` is of a whole training.

References:
    Merrill, Arora, Groeneveld and Hajishirzi, "Critical batch size revisited", 2025, section 2.
    Goyal et al., "Accurate, large minibatch SGD", 2017, section 3 (momentum correction).
"""

import dataclasses
import math
import numbers

import numpy as np

from tf_lbgap import batch_normalization, scaling, strategy
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.data import Batches
from tf_lbgap.experiment.evaluation import Evaluation
from tf_lbgap.pilot.branch import Branch
from tf_lbgap.pilot.snapshot import Snapshot
from tf_lbgap.pilot.streams import first_examples, twin
from tf_lbgap.training.train_functions import check_micro_batch_size, check_model

RULES = ("merrill", "linear", "sqrt", "none")
UPDATES = 16  # of the largest batch, if nobody says how many examples a branch takes
LOOKS = 6  # at the loss, for its running mean: with the smoothing of the paper what came before weighs 1/64


@dataclasses.dataclass(frozen=True)
class Branches:
    """What branches of one model came to; sizes ascend.

    Attributes:
        value: Critical batch size in examples, k* B: the largest tried whose loss is at most `tolerance` above that of each
            smaller one.
        interval: From it to the next larger size tried, in examples. Low is 0 if `value` is the smallest size tried, and high is
            inf if it is the largest: nothing was tried beyond.
        batch_sizes: Sizes really run, shape (branches,).
        learning_rates: Of whole batches, shape (branches,).
        updates: Of each branch, shape (branches,).
        losses: Smoothed clean loss at the end, shape (seeds, branches); inf where a branch diverged.
        histories: Clean loss at the last looks, before smoothing, shape (seeds, branches, looks).
        looked_at: Examples seen by the looks, shape (looks,); of a size that does not divide them at the update after.
        start_loss: Clean loss before the first update.
        examples: What each branch was trained on. All took examples x branches x seeds.
        tolerance: What a loss may be above another to count as no worse.
    """

    value: int
    interval: tuple
    batch_sizes: tuple
    learning_rates: tuple
    updates: tuple
    losses: np.ndarray
    histories: np.ndarray
    looked_at: tuple
    start_loss: float
    examples: int
    tolerance: float

    @property
    def mean_losses(self):
        """Over seeds, shape (branches,); inf where a seed diverged."""
        return self.losses.mean(0)

    @property
    def excess(self):
        """By how much each mean loss is above the least of smaller sizes, shape (branches,); NaN for the first."""
        return np.array([math.nan] + [m - before for m, before in self._pairs()])

    @property
    def excess_error(self):
        """Standard error of `excess` over seeds that share the order of examples, shape (branches,); NaN for one seed.

        A verdict is sure only where |excess - tolerance| is some of these.
        """
        told = [math.nan]
        for index in range(1, len(self.batch_sizes)):
            best = int(np.argmin(self.mean_losses[:index]))
            with np.errstate(invalid="ignore"):
                differences = self.losses[:, index] - self.losses[:, best]
            few = len(differences) < 2 or not np.isfinite(differences).all()
            told.append(math.nan if few else differences.std(ddof=1) / math.sqrt(len(differences)))
        return np.array(told)

    @property
    def is_fine(self):
        """Whether each size loses nothing against smaller ones, bools of shape (branches,)."""
        return np.array(
            [True] + [m <= before + self.tolerance and m < math.inf for m, before in self._pairs()]
        )

    def _pairs(self):
        means = self.mean_losses
        return [(means[index], means[:index].min()) for index in range(1, len(means))]


def branched_training(
    model,
    batches,
    *,
    factors=(1, 2, 4, 8, 16),
    examples=None,
    learning_rate="merrill",
    tolerance=0.01,
    smoothing=0.5,
    seeds=3,
    check_examples=1000,
    micro_batch_size=None,
    loss=None,
):
    """Measure the critical batch size of a model where it stands, by branched training.

    For each factor k the model is trained from its present state, optimizer included, with batches of k B and the rate f(k) η,
    over the same examples; sizes above that of the data set are left out. k* is the largest k whose smoothed loss is at most
    `tolerance` above that of each smaller k. A branch whose loss is no number any more counts as not fine.

    Departures from the paper, all because data sets here are small: the loss is the clean one (fixed training examples,
    inference mode, exact statistics of batch normalization), for the noise of a training loss of few examples is far above the
    tolerance, and it is looked at 6 times at the end, after equal examples. Batches run on over the end of an epoch, so that none
    but the last is smaller; the rate of that one follows its own size. SGD's momentum buffers, which in Keras hold the rate,
    are multiplied by f(k) at the start (the form of PyTorch, and of Goyal et al.). Adam's betas stay.

    Model and stream are as before, bit for bit: weights, optimizer, statistics, metrics, seeds. The cost is `examples` x branches
    x `seeds` of training, 6 passes over `check_examples` for each branch, and tracing.

    Args:
        model: A compiled and built Keras model, trained so far with the batch B and the rate η that `batches` and its
            optimizer have now. A Keras schedule of the rate is held at its present value.
        batches: `data.Batches` of B examples per update. Its order and `map` are used, from its position on; it is not read.
        factors: k, numbers for which k B is whole; below 1 they look for a critical batch below B.
        examples: What each branch is trained on. Defaults to 16 updates of the largest batch run, at most 16 epochs. The paper
            takes 2e9 tokens, 477 updates of a batch of 1024 documents: 0.3 % of the training, too few here for an update of
            the largest batch.
        learning_rate: f(k): `"merrill"` is k for SGD and √k for all else, as the paper has it; or one of `"linear"`, `"sqrt"`,
            `"none"` for any optimizer.
        tolerance: In units of the loss. Defaults to 0.01, of the paper's cross entropies of 2 to 3; compare `start_loss`.
        smoothing: Weight of a new loss in the running mean, above 0 and at most 1.
        seeds: How many orders of the examples each size is trained on; losses are averaged. The paper has one.
        check_examples: How many examples the clean loss is over, the first as stored.
        micro_batch_size: Most examples of a forward pass; larger batches are accumulated. Defaults to `None`: no limit.
        loss: Function without arguments that returns the loss to compare, a float, leaving the model as it is, as of
            `callbacks.TargetLoss`. Defaults to the compiled loss of the clean examples.

    Returns:
        `Branches`.

    Raises:
        ValueError: If the model is not compiled and built, or trains under a strategy of several replicas; if fewer than two
            sizes are left; if the smallest branch diverges; or a number is out of range.

    References:
        Merrill et al., 2025, section 2 (tolerance 0.01, smoothing 0.5, √k for Adam and k for SGD).

    Example:
        >>> batches = lb.data.Batches(x, y, batch_size=16)
        >>> model.fit(batches, epochs=2)
        >>> found = lb.pilot.branched_training(model, batches)
        >>> found.value, found.interval
        (64, (64, 128))
    """
    _check_model(model, batches)
    sizes = _sizes(factors, batches)
    examples = UPDATES * sizes[-1] if examples is None else _checked_examples(examples, sizes[-1])
    _check_numbers(learning_rate, tolerance, smoothing, seeds, check_examples, loss)
    micro_batch_size = micro_batch_size and check_micro_batch_size(micro_batch_size)
    looks = [at for at in (examples - ago * sizes[-1] for ago in range(LOOKS)) if at > 0][::-1]
    snapshot = Snapshot(model)
    try:
        clean_loss = loss or _clean_loss(model, batches, check_examples)
        start_loss = _finite_start(clean_loss())
        kind, own = rates.kind_of(model.optimizer)[0], rates.read_rate(model.optimizer)

        def factor(size):
            return scaling.rate_factor(learning_rate, size, batches.batch_size, optimizer=kind)

        branch = Branch(model, factor, clean_loss, micro_batch_size)
        histories = np.full((seeds, len(sizes), len(looks)), math.nan)
        for seed, index in np.ndindex(histories.shape[:2]):
            stream = twin(batches, batches.batch_size, seed)
            histories[seed, index] = branch(stream, batches.position, sizes[index], examples, looks)
            snapshot.restore()
            if index == 0:
                _check_smallest(histories[seed, 0], sizes[0], factor(sizes[0]) * own)
    finally:
        snapshot.end()
    return _branches(
        sizes, histories, smoothing, tolerance,
        learning_rates=tuple(factor(size) * own for size in sizes),
        updates=tuple(-(-examples // size) for size in sizes),
        looked_at=tuple(looks), start_loss=start_loss, examples=examples,
    )  # fmt: skip


def _branches(sizes, histories, smoothing, tolerance, **rest):
    """Return `Branches` with the verdict."""
    losses = histories[..., 0]
    for look in range(1, histories.shape[-1]):
        losses = smoothing * histories[..., look] + (1 - smoothing) * losses
    losses = np.where(np.isfinite(losses), losses, math.inf)
    found = Branches(0, (0, 0), tuple(sizes), losses=losses, histories=histories, tolerance=tolerance, **rest)
    best = int(np.flatnonzero(found.is_fine)[-1])
    interval = (sizes[best] if best else 0, sizes[best + 1] if best + 1 < len(sizes) else math.inf)
    return dataclasses.replace(found, value=sizes[best], interval=interval)


def _clean_loss(model, batches, count):
    """Return a function that gives the loss over the first examples, NaN for a model that has diverged."""
    sample, evaluation = first_examples(batches, count), Evaluation(model, model.loss)

    def clean_loss():
        try:
            with batch_normalization.recalibrated(model, sample):
                return float(evaluation(*sample[:2])[0])
        except ValueError:  # statistics that are not finite
            return math.nan

    return clean_loss


def _check_model(model, batches):
    if not isinstance(batches, Batches):
        raise ValueError(
            f"batches is a {type(batches).__name__}, but other sizes are to be cut from it. Pass "
            "lb.data.Batches(x, y, batch_size=...), with the size that the model was trained with."
        )
    check_model(model)
    if strategy.num_replicas(model) > 1:
        raise ValueError(
            f"The model trains on {strategy.num_replicas(model)} replicas, and branches are trained on one. Load its weights into a "
            "model that is made outside strategy.scope(), with micro_batch_size= if the batch does not fit."
        )


def _sizes(factors, batches):
    """Return the sizes to run, ascending ints."""
    if isinstance(factors, numbers.Real):
        factors = (factors,)
    sizes = set()
    for factor in factors:
        size = factor * batches.batch_size if isinstance(factor, numbers.Real) else math.nan
        if isinstance(factor, bool) or not size >= 1 or size != round(size):
            raise ValueError(
                f"factors holds {factor!r}, and {factor!r} times the batch of {batches.batch_size} is no batch size. Pass whole "
                "numbers, such as factors=(1, 2, 4, 8)."
            )
        sizes.add(round(size))
    kept = sorted(size for size in sizes if size <= batches.num_examples)
    if len(kept) < 2:
        raise ValueError(
            f"factors={factors!r} times the batch of {batches.batch_size} leaves {len(kept)} of {len(sizes)} sizes up to "
            f"{batches.num_examples}, the size of the data set, and two are needed to compare. Pass more factors, or begin with "
            "a smaller batch."
        )
    return kept


def _checked_examples(examples, largest):
    if isinstance(examples, bool) or not isinstance(examples, numbers.Integral) or examples < largest:
        raise ValueError(
            f"examples={examples!r} must be a whole number, {largest} or more: an update of the largest batch. Pass "
            f"{UPDATES * largest} for {UPDATES} of them, or leave out large factors."
        )
    return int(examples)


def _check_numbers(learning_rate, tolerance, smoothing, seeds, check_examples, loss):
    if learning_rate not in RULES:
        raise ValueError(
            f"learning_rate={learning_rate!r} must be one of {', '.join(map(repr, RULES))}; the rate itself is the optimizer's."
        )
    for name, value, most in (("tolerance", tolerance, math.inf), ("smoothing", smoothing, 1.0)):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= most or (name == "smoothing" and value == 0):
            wanted = (
                "above 0 and at most 1, such as 0.5" if name == "smoothing" else "0 or more, such as 0.01"
            )
            raise ValueError(f"{name}={value!r} must be a number {wanted}.")
    for name, value in {"seeds": seeds, "check_examples": check_examples}.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number, 1 or more: how many there are.")
    if loss is not None and not callable(loss):
        raise ValueError(f"loss={loss!r} must be a function without arguments that returns a float.")


def _finite_start(loss):
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss of the model as it stands is {loss}, so there is nothing to branch from. Do the data or the weights hold NaN?"
        )
    return loss


def _check_smallest(history, size, rate):
    if not np.isfinite(history).all():
        raise ValueError(
            f"The smallest branch, of {size} examples per update and rate {rate:g}, diverged, so there is nothing to compare "
            "with. Set a lower learning rate in the optimizer, or train the model further before it branches."
        )

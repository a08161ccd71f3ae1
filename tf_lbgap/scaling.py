"""Scaling: how batch size, learning rate and momentum trade against each other.

SGD with learning rate ε, batch size B, momentum m and N training examples walks randomly around the
path of steepest descent. To first order the strength of that noise is the one number

    g = ε / (1 - m) · (N / B - 1) ≈ ε N / (B (1 - m))          (`noise_scale`, in units of ε)

so a batch that is k times larger goes with a rate that is k times larger (`linear_rule`), and instead
of decaying the rate one may grow the batch (`smith`), with fewer updates for the same epochs
(`num_updates`). Adam divides by the gradient's size, so that noise enters as a square root
(`sqrt_rule`, `seesaw`). `rate_factor` is all of these rules as one function of the batch of an update, for
batches that no schedule planned, and `check_rate_rule` says which rule does not hold for which optimizer.

Pure functions of numbers and of schedules, which are functions of progress in epochs. For the noise
of a measured gradient, tr(Σ) / |G|², see `gradient_noise`; this one follows from the settings alone.

References:
    Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018.
    Smith et al., "Don't decay the learning rate, increase the batch size", 2018.
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.
    Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size
    scheduling", 2026.
    Johnson et al., "AdaScale SGD: a user-friendly algorithm for distributed training", 2020.
    Merrill et al., "Critical batch size revisited", 2025.
"""

import dataclasses
import math
from collections.abc import Callable


def noise_scale(learning_rate, batch_size, num_examples, momentum=0.0, exact=True):
    """Noise scale of SGD: g = ε / (1 - m) · (N / B - 1).

    Args:
        learning_rate: ε, positive.
        batch_size: B, from 1 to N.
        num_examples: N, the size of the training set.
        momentum: m, from 0 to below 1.
        exact: Whether to keep the -1. Without it g = ε N / (B (1 - m)), the form for B ≪ N, under
            which rate and batch trade exactly; with it the whole training set, B = N, has no noise.

    Returns:
        A float in the unit of the learning rate.

    References:
        Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018,
        section 4; with momentum, Smith et al., 2018, section 4.

    Example:
        >>> noise_scale(0.1, 100, 1000), noise_scale(0.2, 200, 1000), noise_scale(0.2, 1000, 1000)
        (0.9, 0.8, 0.0)
    """
    _require_positive(learning_rate=learning_rate)
    _require_batch(batch_size, num_examples)
    _require_momentum(momentum)
    return learning_rate / (1 - momentum) * (num_examples / batch_size - (1 if exact else 0))


def batch_size_for_noise_scale(noise_scale, learning_rate, num_examples, momentum=0.0):
    """The batch size with a given (exact) noise scale: B = N / (1 + g (1 - m) / ε).

    Args:
        noise_scale: g, 0 or more; 0 asks for the whole training set.
        learning_rate: ε, positive.
        num_examples: N, the size of the training set.
        momentum: m, from 0 to below 1.

    Returns:
        A float; round it to train with it. Below 1 where even single examples are too quiet.

    References:
        Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018,
        section 4, solved for B.

    Example:
        >>> round(batch_size_for_noise_scale(0.9, 0.2, 1000), 1)  # not 200: N / B - 1 is not N / B
        181.8
    """
    _require_numbers(noise_scale=noise_scale)
    if noise_scale < 0:
        raise ValueError(f"noise_scale must be 0 or more, but got {noise_scale!r}.")
    _require_positive(learning_rate=learning_rate, num_examples=num_examples)
    _require_momentum(momentum)
    return num_examples / (1 + noise_scale * (1 - momentum) / learning_rate)


def learning_rate_for_noise_scale(noise_scale, batch_size, num_examples, momentum=0.0):
    """The learning rate with a given (exact) noise scale: ε = g (1 - m) / (N / B - 1).

    Args:
        noise_scale: g, positive.
        batch_size: B, from 1 to below N: the whole training set has no noise at any rate.
        num_examples: N, the size of the training set.
        momentum: m, from 0 to below 1.

    References:
        Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018,
        section 4, solved for ε.

    Example:
        >>> round(learning_rate_for_noise_scale(0.9, 100, 1000), 12)
        0.1
    """
    _require_positive(noise_scale=noise_scale)
    _require_batch(batch_size, num_examples)
    _require_momentum(momentum)
    if batch_size == num_examples:
        raise ValueError(
            f"batch_size={batch_size} is all {num_examples} examples, which have no noise at any rate. Pass a smaller batch."
        )
    return noise_scale * (1 - momentum) / (num_examples / batch_size - 1)


def linear_rule(learning_rate, batch_size, new_batch_size):
    """The rate for a new batch size under SGD: ε · B' / B, which keeps the noise scale for B ≪ N.

    References:
        Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014;
        Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.1.

    Example:
        >>> linear_rule(0.1, 256, 8192)
        3.2
    """
    _require_positive(learning_rate=learning_rate, batch_size=batch_size, new_batch_size=new_batch_size)
    return learning_rate * (new_batch_size / batch_size)


def sqrt_rule(learning_rate, batch_size, new_batch_size):
    """The rate for a new batch size by the square root: ε · √(B' / B).

    Keeps the covariance of a single SGD update (Hoffer et al.), and for Adam and RMSprop the
    stochastic differential equation that they follow (Malladi et al., who also move Adam's betas and epsilon).

    References:
        Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017, section 4;
        Malladi et al., "On the SDEs and scaling rules for adaptive gradient algorithms", 2022.

    Example:
        >>> sqrt_rule(0.001, 256, 1024)
        0.002
    """
    _require_positive(learning_rate=learning_rate, batch_size=batch_size, new_batch_size=new_batch_size)
    return learning_rate * math.sqrt(new_batch_size / batch_size)


def regime_factor(batch_size, new_batch_size):
    """How many times longer to train with a larger batch, so that weights are updated as often: ⌈new / old⌉.

    Regime adaptation: epochs and each boundary of the schedules are multiplied by it (`schedules.stretched`). It is
    no remedy that saves time: the updates are as many, and each costs more.

    With N examples, whose last batch may be smaller, k = ⌈B' / B⌉ epochs of ⌈N / B'⌉ updates are never fewer than one of
    ⌈N / B⌉. They are k ⌈N / B'⌉ - ⌈N / B⌉ more, which is at most k - 1 where B' is a multiple of B.

    Args:
        batch_size: B, of the regime that is known.
        new_batch_size: B', at least B.

    Returns:
        k, a whole number.

    References:
        Hoffer et al., "Train longer, generalize better", 2017, section 5; ⌈⌉ is of their code.

    Example:
        >>> regime_factor(128, 4096), regime_factor(128, 200)
        (32, 2)
    """
    _require_whole(batch_size=batch_size, new_batch_size=new_batch_size)
    if new_batch_size < batch_size:
        raise ValueError(
            f"new_batch_size={new_batch_size!r} is smaller than batch_size={batch_size!r}, and regime adaptation is for "
            "batches that grow. Give the smaller first."
        )
    return -(-int(new_batch_size) // int(batch_size))


def cap(batch_size, learning_rate, maximum):
    """Cut the batch to `maximum`, and the learning rate by the factor that the batch could not take.

    Keeps rate / batch, the noise scale for B ≪ N. Smith et al. cap at about a tenth of the training set.

    Returns:
        `(batch_size, learning_rate)`.

    References:
        Smith et al., "Don't decay the learning rate, increase the batch size", 2018, section 5.

    Example:
        >>> batch_size, learning_rate = cap(16000, 0.5, maximum=5120)
        >>> batch_size, round(learning_rate, 6)
        (5120, 0.16)
    """
    _require_positive(batch_size=batch_size, learning_rate=learning_rate, maximum=maximum)
    batch = min(batch_size, maximum)
    return batch, learning_rate * (batch / batch_size)


def smith(learning_rate, batch_size, maximum=None):
    """Grow the batch where a schedule would decay the learning rate (for SGD, with or without momentum).

    Where the schedule is a times below its start, the batch is a times larger and the rate as at the
    start; what the batch cannot take, above `maximum` or by rounding, the rate takes:

        B(p) = min(round(B(0) · max(ε(0) / ε(p), 1)), maximum),    ε'(p) = ε(p) · B(p) / B(0)

    so ε'(p) / B(p) = ε(p) / B(0) at every progress p: the noise scale (for B ≪ N) is the schedule's own.

    Args:
        learning_rate: Decaying schedule, ε, a function of progress that starts above 0. Warm up
            afterwards, `warmup(rate, epochs=5)`, since a decay counts from the value at progress 0.
        batch_size: B(0), the batch of that schedule and the first batch here. It is never undercut.
        maximum: Largest batch, about N / 10 in the paper. None grows without bound, which a rate
            that decays to 0 does not allow.

    Returns:
        `(batch_size, learning_rate)`, two functions of progress. The batch is an int. They pickle and copy.

    References:
        Smith et al., "Don't decay the learning rate, increase the batch size", 2018, sections 3 and 5.

    Example:
        >>> from tf_lbgap import schedules
        >>> decay = schedules.staircase(0.1, factor=0.2, milestones=[60, 120, 160])
        >>> batch, rate = smith(decay, 128, maximum=5120)
        >>> [(batch(p), round(rate(p), 6)) for p in (0, 60, 120, 160)]
        [(128, 0.1), (640, 0.1), (3200, 0.1), (5120, 0.032)]
    """
    batch = GrowingBatch(learning_rate, batch_size, maximum)
    return batch, TradedRate(learning_rate, batch, power=1.0)


def seesaw(learning_rate, batch_size, maximum=None):
    """Grow the batch by a and cut the rate by √a where a schedule would cut it by a (for Adam).

    The batch is that of `smith`; the rate is ε'(p) = ε(p) · √(B(p) / B(0)). The derivation replaces
    Adam by normalised SGD, and holds while noise dominates the gradient's norm, that is up to the
    critical batch size; above it the paper's losses are worse than the schedule's own. `maximum` is
    the place to say so.

    Args:
        learning_rate: Decaying schedule, a function of progress that starts above 0. Warm up afterwards.
        batch_size: First batch, never undercut.
        maximum: Largest batch. What it cannot take, the rate takes in full.

    Returns:
        `(batch_size, learning_rate)`, two functions of progress. The batch is an int. They pickle and copy.

    References:
        Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size
        scheduling", 2026.

    Example:
        >>> from tf_lbgap import schedules
        >>> batch, rate = seesaw(schedules.staircase(0.004, factor=0.25, milestones=[10]), 256)
        >>> batch(10), round(rate(10), 6)
        (1024, 0.002)
    """
    batch = GrowingBatch(learning_rate, batch_size, maximum)
    return batch, TradedRate(learning_rate, batch, power=0.5)


@dataclasses.dataclass(frozen=True)
class GrowingBatch:
    """Batch size that grows by the factor by which a schedule is below its start; see `smith`."""

    learning_rate: Callable
    batch_size: int
    maximum: int | None

    def __post_init__(self):
        if not callable(self.learning_rate):
            raise ValueError(
                f"learning_rate must be a decaying schedule, a function of progress, but got {self.learning_rate!r}. "
                f"Pass for example schedules.staircase(0.1, factor=0.2, milestones=[60, 120, 160])."
            )
        _require_whole(batch_size=self.batch_size)
        if self.maximum is not None:
            _require_whole(maximum=self.maximum)
            if self.maximum < self.batch_size:
                raise ValueError(
                    f"maximum={self.maximum!r} is below the first batch, batch_size={self.batch_size!r}. Raise the "
                    f"maximum, or start from the smaller batch and rate that cap(batch_size, learning_rate, maximum) gives."
                )
        start = self.learning_rate(0)
        if not (start > 0 and math.isfinite(start)):
            raise ValueError(
                f"The schedule {self.learning_rate!r} starts at {start!r}, but the decay from its start is what grows "
                f"the batch, so that must be above 0. Pass it without its warm-up, and put "
                f"schedules.warmup(...) around the rate that comes back."
            )

    def __call__(self, progress):
        now = self.learning_rate(progress)
        if not now >= 0:
            raise ValueError(
                f"{self.learning_rate!r} is {now!r} at progress {progress!r}, but a rate is 0 or more."
            )
        wanted = self.batch_size * max(self.learning_rate(0) / now, 1) if now > 0 else math.inf
        if self.maximum is not None and wanted > self.maximum:
            return int(self.maximum)
        if math.isinf(wanted):
            raise ValueError(
                f"{self.learning_rate!r} has decayed to {now!r} at progress {progress!r}, so the batch would grow "
                f"without bound. Pass maximum=, the largest batch; about a tenth of the training set is usual."
            )
        return round(wanted)


@dataclasses.dataclass(frozen=True)
class TradedRate:
    """Learning rate of a schedule whose batch grows: rate(p) · (batch(p) / batch(0))^power; see `smith`."""

    learning_rate: Callable
    batch: GrowingBatch
    power: float  # 1 for SGD (Smith et al.), 1/2 for Adam (Seesaw)

    def __call__(self, progress):
        growth = self.batch(progress) / self.batch.batch_size
        return self.learning_rate(progress) * growth**self.power


def momentum_correction(old_rate, new_rate):
    """The factor for the momentum buffer when the learning rate changes: ε' / ε.

    Keras' SGD keeps the rate inside the buffer, m ← momentum · m - ε g and w ← w + m, so after a jump
    from ε to ε' the buffer goes on taking steps of the old size for about 1 / (1 - momentum) updates.
    Times ε' / ε it holds what it would hold had all its gradients been taken at the new rate. With the
    rate outside the buffer, w ← w - ε u (PyTorch, and Smith et al.), nothing needs correcting.

    References:
        Goyal et al., "Accurate, large minibatch SGD", 2017, section 3, remark 2 (momentum correction).

    Example:
        >>> momentum_correction(0.5, 0.05)
        0.1
    """
    _require_positive(old_rate=old_rate)
    _require_numbers(new_rate=new_rate)
    if new_rate < 0:
        raise ValueError(f"new_rate must be 0 or more, but got {new_rate!r}.")
    return new_rate / old_rate


def num_updates(batch_size, num_examples, epochs, maximum=None):
    """Number of weight updates in a training, counted as in the papers: ∫ N / B(p) dp over 0 ≤ p ≤ epochs.

    No batch is partial at the end of an epoch, so a training of few batches per epoch makes a few
    updates more than this. The integral is a sum over midpoints of 1/64 epoch: exact for steps at
    multiples of 1/64, off by at most 1/128 epoch of updates for any other step.

    Args:
        batch_size: B, a number or a schedule (function of progress).
        num_examples: N, the size of the training set.
        epochs: Length of the training.
        maximum: Largest batch, which cuts the schedule: min(B(p), maximum).

    Returns:
        An int, rounded.

    References:
        Smith et al., "Don't decay the learning rate, increase the batch size", 2018, section 5, whose
        CIFAR-10 runs of 200 epochs make about 80000 updates with decay and 29000 with growth:

    Example:
        >>> from tf_lbgap import schedules
        >>> num_updates(128, 50000, 200)
        78125
        >>> num_updates(schedules.staircase(128, factor=5, milestones=[60, 120, 160]), 50000, 200, maximum=5120)
        29141
    """
    _require_positive(num_examples=num_examples, epochs=epochs)
    if maximum is not None:
        _require_positive(maximum=maximum)

    def updates_per_epoch(progress):
        size, where = batch_size, ""
        if callable(batch_size):
            size, where = batch_size(progress), f" at progress {progress:g}"
        if maximum is not None:
            _require_positive(**{f"batch_size{where}": size})
            size = min(size, maximum)
        _require_batch(size, num_examples, where)
        return num_examples / size

    whole = math.floor(epochs * 64)
    cells = [updates_per_epoch((cell + 0.5) / 64) / 64 for cell in range(whole)]
    rest = epochs - whole / 64
    if rest > 0:
        cells.append(updates_per_epoch(epochs - rest / 2) * rest)
    return round(math.fsum(cells))


RATE_RULES = ("none", "linear", "sqrt", "adascale", "smith", "seesaw", "merrill")
"""How a learning rate may follow the batch; see `rate_factor`."""

# Optimizers that divide by the gradient's size, so that its noise enters as a square root.
_ADAPTIVE = (
    *("Adam", "AdamW", "Nadam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Adafactor", "Ftrl"),
    *("Lion", "Lamb", "Muon", "ScheduleFreeAdamW"),
)
_SGD = ("SGD",)
_DO_NOT_HOLD = {
    "linear": (
        _ADAPTIVE,
        "such optimizers divide by the gradient's size, and go with √k times the rate for k times the batch "
        "(Malladi et al. 2022). Pass 'sqrt'",
    ),
    "adascale": (
        (*_ADAPTIVE, "Lars"),  # of LARS neither "linear", its authors' rule, nor "sqrt" is known not to hold
        "its gain is derived for SGD (Johnson et al. 2020), and such optimizers divide by the gradient's size. Pass 'sqrt'",
    ),
    "sqrt": (
        _SGD,
        "it keeps the covariance of a single update, for which Hoffer et al. 2017 proposed it, but in as many examples SGD, with "
        "or without momentum, then goes less far: its noise scale is rate / batch. Pass 'linear' or 'adascale'",
    ),
    "seesaw": (
        _SGD,
        "it is derived for Adam; where a rate would be cut by a, SGD's batch grows by a and its rate stays. Pass 'smith'",
    ),
}


def rate_factor(
    rule, batch_size, first_batch_size, *, wanted=None, optimizer="SGD", trace=None, squared_norm=None
):
    """By what to multiply the learning rate of the first batch for a batch that has grown.

    With B the batch, B₀ the first one, and W ≥ B what was wanted before a cap, the factor is

        none      1                                    the rate stays
        linear    B / B₀                               Goyal et al., SGD
        sqrt      √(B / B₀)                            Malladi et al., Adam and RMSprop
        adascale  `adascale_gain`, from 1 to B / B₀    Johnson et al., SGD
        merrill   B / B₀ for SGD, else √(B / B₀)       Merrill et al., at doublings of the critical batch
        smith     B / W                                `smith`: growth replaces a decay of the rate
        seesaw    B₀ / W · √(B / B₀)                   `seesaw`: the same, for Adam

    The first five say which rate a larger batch can take. The last two say what is left of a decay by B₀ / W after
    the batch has grown to B: below the cap, where W = B, nothing for SGD, and √(B₀ / B) for Adam.

    Args:
        rule: One of `RATE_RULES`.
        batch_size: B, examples of the update, above 0.
        first_batch_size: B₀, the batch for which the rate was chosen.
        wanted: W; None means B, and so does less than B.
        optimizer: Name of its class, which "merrill" asks for.
        trace: tr(Σ) of the gradients of single examples, for "adascale".
        squared_norm: |G|², for "adascale".

    Returns:
        A float above 0.

    Raises:
        ValueError: If there is no such rule, or "adascale" lacks what it is made from.

    Example:
        >>> [rate_factor(rule, 640, 160) for rule in ("none", "linear", "sqrt", "smith", "seesaw")]
        [1.0, 4.0, 2.0, 1.0, 0.5]
        >>> rate_factor("smith", 640, 160, wanted=2560), rate_factor("seesaw", 640, 160, wanted=2560)
        (0.25, 0.125)
    """
    _require_rule(rule)
    _require_positive(batch_size=batch_size, first_batch_size=first_batch_size)
    growth = batch_size / first_batch_size
    if rule in ("smith", "seesaw"):
        if wanted is not None:
            _require_positive(wanted=wanted)
        decay = first_batch_size / max(batch_size, wanted or 0)
        return decay * (growth if rule == "smith" else math.sqrt(growth))
    if rule == "adascale":
        return adascale_gain(trace, squared_norm, batch_size, first_batch_size)
    if rule == "none":
        return 1.0
    is_linear = rule == "linear" or (rule == "merrill" and _is_one_of(_SGD, optimizer))
    return growth if is_linear else math.sqrt(growth)


def adascale_gain(trace, squared_norm, batch_size, first_batch_size):
    """AdaScale's gain of a larger batch: r = (tr(Σ)/B₀ + |G|²) / (tr(Σ)/B + |G|²).

    The ratio of the expected squared gradients of the two batches. An update at r times the rate makes the expected
    progress, and the expected squared length, of r updates of the first batch: on a quadratic loss it costs
    and wins as much. r is 1 where there is no noise, since then a larger batch knows no more, and B / B₀, the
    linear rule, where there is nothing but noise. (The paper counts such an update as r, and lets the schedule of the
    rate end after so many. Schedules here are functions of examples, and do not.)

    Args:
        trace: tr(Σ), of gradients of single examples. An estimate below 0 counts as 0.
        squared_norm: |G|², likewise.
        batch_size: B.
        first_batch_size: B₀.

    References:
        Johnson et al., "AdaScale SGD: a user-friendly algorithm for distributed training", 2020, section 3.

    Example:
        >>> adascale_gain(trace=1000, squared_norm=1, batch_size=1000, first_batch_size=100)
        5.5
    """
    if trace is None or squared_norm is None:
        raise ValueError(
            f"'adascale' is made from the gradient noise, but got trace={trace!r}, squared_norm={squared_norm!r}. Use "
            "callbacks.AdaptiveBatchSize, which measures both, or pass 'linear'."
        )
    _require_numbers(trace=trace, squared_norm=squared_norm)
    _require_positive(batch_size=batch_size, first_batch_size=first_batch_size)
    noise, signal = max(float(trace), 0.0), max(float(squared_norm), 0.0)
    if noise == 0:
        return 1.0
    return (noise / first_batch_size + signal) / (noise / batch_size + signal)


def check_rate_rule(rule, optimizer, momentum=0.0):
    """Raise if a rule is known not to hold for an optimizer; of an unknown optimizer nothing is known.

    Args:
        rule: One of `RATE_RULES`.
        optimizer: Name of the optimizer's class, such as `"AdamW"`.
        momentum: Of SGD. No rule depends on it: rate and batch enter the noise scale as their ratio with any.

    Raises:
        ValueError: If there is no such rule, or the pair does not hold. It says which rule does.

    Example:
        >>> check_rate_rule("linear", "SGD", momentum=0.9)
        >>> check_rate_rule("linear", "Adam")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: The rule 'linear' does not hold for Adam: ... Pass 'sqrt', or check_rule=False to insist.
    """
    _require_rule(rule)
    _require_momentum(momentum)
    optimizers, why = _DO_NOT_HOLD.get(rule, ((), ""))
    if _is_one_of(optimizers, optimizer):
        used = f"{optimizer} with momentum={momentum:g}" if momentum else optimizer
        raise ValueError(f"The rule {rule!r} does not hold for {used}: {why}, or check_rule=False to insist.")


def _is_one_of(names, optimizer):
    return str(optimizer).lower() in [name.lower() for name in names]


def _require_rule(rule):
    if rule not in RATE_RULES:
        raise ValueError(f"The rule {rule!r} of the rate must be one of {', '.join(map(repr, RATE_RULES))}.")


def _require_numbers(**named):
    for name, value in named.items():
        if hasattr(value, "tolist"):  # a NumPy number is as good as Python's
            value = value.tolist()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, but got {value!r}.")


def _require_positive(**named):
    _require_numbers(**named)
    for name, value in named.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, but got {value!r}.")


def _require_whole(**named):
    _require_positive(**named)
    for name, value in named.items():
        if value != int(value):
            raise ValueError(f"{name} must be a whole number of examples, but got {value!r}.")


def _require_batch(batch_size, num_examples, where=""):
    _require_positive(num_examples=num_examples)
    _require_positive(**{f"batch_size{where}": batch_size})
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size{where} is {batch_size!r}, but a batch is at most the training set, num_examples={num_examples!r}."
        )


def _require_momentum(momentum):
    _require_numbers(momentum=momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be from 0 to below 1, but got {momentum!r}.")

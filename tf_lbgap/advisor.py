"""Which batch on how many devices? A simulator of what a run would take, on paper.

Two facts decide. A batch of B takes S = S_min (1 + B_noise / B) updates to a target (McCandlish et al. 2018, equation 2.11),
so above the noise scale more examples hardly save updates. And an update takes t(B) seconds, which grow slower than B as long
as devices are not busy. The product has a minimum, and if the noise scale grows while training runs, so does the batch at
which it lies: then a batch that grows is faster than any fixed one.

Everything is given as numbers: the noise scale (`callbacks.GradientNoiseMonitor` measures it), the throughput of a device at
some batch sizes, and one run that is known to reach the target. Nothing here imports TensorFlow.

References:
    McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, section 2.2 and appendix D.
    Keskar et al., "On large-batch training for deep learning", 2017, appendix C (`break_even`).
"""

import dataclasses
import math

import numpy as np

BEYOND = 8  # the largest batch worth a look, in noise scales: more examples hardly save an update there
_STEPS = 4000  # of the integrals over training; their error is below 1e-6


@dataclasses.dataclass(frozen=True)
class Training:
    """What is to be reached, in terms of one run that reaches it.

    Args:
        updates: Updates of that run.
        batch_size: Its batch, examples.
        noise_scale: B_noise in examples; or a pair, at the beginning and at the end: it moves between them by a constant factor
            per unit of progress towards the target.

    Raises:
        ValueError: If a number is not positive.
    """

    updates: float
    batch_size: int
    noise_scale: tuple

    def __post_init__(self):
        pair = self.noise_scale
        pair = tuple(pair) if isinstance(pair, (tuple, list)) else (pair, pair)
        if len(pair) != 2:
            raise ValueError(
                f"noise_scale={self.noise_scale!r} should be a number or a pair (at the beginning, at the end)."
            )
        _check_positive(updates=self.updates, batch_size=self.batch_size, noise_scale=min(pair))
        object.__setattr__(self, "noise_scale", pair)

    @property
    def min_updates(self):
        """S_min: updates of a batch without noise."""
        start, end = self.noise_scale
        mean = start if start == end else (end - start) / math.log(end / start)
        return self.updates / (1 + mean / self.batch_size)

    def noise_scales(self):
        """B_noise at `_STEPS` equal steps of progress, the middle of each; shape (steps,)."""
        start, end = self.noise_scale
        return start * (end / start) ** ((np.arange(_STEPS) + 0.5) / _STEPS)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What an update takes on several devices that share a batch.

    Seconds of an update are those of a device for its share, and of the all-reduce of the gradients around a ring of n devices:
    2 (n - 1) / n x bytes / bandwidth + 2 (n - 1) x latency.

    Args:
        throughput: Examples per second of one device: a number, or a dict from batch size to it. Between sizes the seconds of an
            update are interpolated; below the smallest they stay, above the largest they grow in proportion.
        devices: n.
        gradient_bytes: Bytes of the gradients, 4 per weight in float32.
        bandwidth: Bytes per second between two devices.
        latency: Seconds per message.
        largest_share: Most examples of a device at a time, or None; larger batches are accumulated.

    Raises:
        ValueError: If a number is not positive.
    """

    throughput: dict
    devices: int = 1
    gradient_bytes: float = 0.0
    bandwidth: float = math.inf
    latency: float = 0.0
    largest_share: int | None = None

    def __post_init__(self):
        given = self.throughput if isinstance(self.throughput, dict) else {1: self.throughput}
        if not given:
            raise ValueError(
                "throughput={} says nothing. Pass examples per second, such as {64: 900, 256: 2000}."
            )
        _check_positive(
            devices=self.devices,
            bandwidth=self.bandwidth,
            batch_size=min(given),
            throughput=min(given.values()),
        )
        object.__setattr__(self, "throughput", dict(sorted(given.items())))

    def seconds(self, batch_size):
        """Return the seconds of an update, a float."""
        return self.seconds_of_devices(batch_size) + self.seconds_of_messages()

    def seconds_of_devices(self, batch_size):
        """Return what forward and backward pass take."""
        share = -(-batch_size // self.devices)
        most = self.largest_share or share
        return share // most * self._of_share(most) + (self._of_share(share % most) if share % most else 0.0)

    def seconds_of_messages(self):
        """Return what the all-reduce takes."""
        n = self.devices
        return 2 * (n - 1) / n * self.gradient_bytes / self.bandwidth + 2 * (n - 1) * self.latency

    def _of_share(self, share):
        sizes = np.array(list(self.throughput))
        seconds = sizes / np.array(list(self.throughput.values()))
        if share > sizes[-1]:
            return float(share * seconds[-1] / sizes[-1])
        return float(np.interp(share, sizes, seconds))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a choice of batches takes.

    Attributes:
        batch_sizes: Examples, one after the other.
        milestones: When each of them begins, in examples seen so far.
        updates: How many in all.
        examples: How many in all.
        seconds: In all.
    """

    batch_sizes: tuple
    milestones: tuple
    updates: float
    examples: float
    seconds: float

    @property
    def is_grown(self):
        """Whether the batch changes."""
        return len(self.batch_sizes) > 1


def fixed(training, machine, batch_size):
    """Return the `Plan` of one batch size."""
    _check_positive(batch_size=batch_size)
    return _plan(training, machine, np.full(_STEPS, int(batch_size)))


def grown(training, machine, batch_sizes):
    """Return the fastest `Plan` whose batch is always one of some sizes.

    At each moment it takes the size with the least seconds per progress, (1 + B_noise / B) t(B), whichever came before.
    """
    sizes = np.array(sorted(batch_sizes))
    cost = np.array([machine.seconds(int(size)) for size in sizes])
    noise = training.noise_scales()
    per_progress = (1 + noise[:, None] / sizes) * cost  # (steps, sizes)
    return _plan(training, machine, sizes[per_progress.argmin(1)])


def ladder(machine, smallest, largest):
    """Return the sizes that the devices share equally, from `smallest` on by powers of two, a list of ints."""
    _check_positive(smallest=smallest, largest=largest)
    size, found = -(-int(smallest) // machine.devices) * machine.devices, []
    while size <= largest:
        found.append(size)
        size *= 2
    if not found:
        raise ValueError(f"No batch from {smallest} to {largest} can be shared by {machine.devices} devices.")
    return found


def break_even(small_batch, large_batch, efficiency_small, efficiency_large=1.0):
    """Return the share of the small batch's iterations from which on the large one is faster, I_L / I_S.

    Keskar et al.'s model: an iteration costs B / f, where f is the parallel efficiency with that batch on the devices at hand. A
    large batch is faster if it takes less than this share.

    Args:
        small_batch, large_batch: B_S and B_L.
        efficiency_small, efficiency_large: f_S and f_L, above 0 and at most 1.

    Example:
        >>> break_even(256, 2560, efficiency_small=0.2)
        0.5
    """
    _check_positive(
        small_batch=small_batch,
        large_batch=large_batch,
        efficiency_small=efficiency_small,
        efficiency_large=efficiency_large,
    )
    return small_batch * efficiency_large / (efficiency_small * large_batch)


def efficiency(machine, batch_size):
    """Return the parallel efficiency f: what one device would take for the batch, over what all take times their number."""
    one = dataclasses.replace(machine, devices=1)
    return one.seconds(batch_size) / (machine.devices * machine.seconds(batch_size))


def _plan(training, machine, sizes):
    """Integrate over training; `sizes` are those at equal steps of progress."""
    updates = training.min_updates / _STEPS * (1 + training.noise_scales() / sizes)
    examples = updates * sizes
    changes = np.flatnonzero(np.diff(sizes)) + 1
    starts = [0, *changes.tolist()]
    seen = np.concatenate([[0.0], np.cumsum(examples)])
    cost = {int(size): machine.seconds(int(size)) for size in np.unique(sizes)}
    return Plan(
        tuple(int(sizes[i]) for i in starts),
        tuple(float(seen[i]) for i in starts),
        float(updates.sum()),
        float(examples.sum()),
        float(sum(updates[sizes == size].sum() * seconds for size, seconds in cost.items())),
    )


def _check_positive(**named):
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not value > 0:
            raise ValueError(f"{name}={value!r} should be a positive number.")

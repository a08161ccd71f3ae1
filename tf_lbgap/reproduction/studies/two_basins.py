"""SGD between a sharp and a flat minimum of equal depth: when does it leave the one, and where is it found in the end?

The slope of example i is L'(w) + s(w) ξ_i, L the loss of `double_well` and Σ ξ_i = 0, so a batch of B examples drawn with
replacement has the slope L'(w) plus noise of variance s² c / B. With s = 1 noise is isotropic, as in the papers' formulas; with
s² in proportion to the curvature of a basin, and a mean of 1 over both, it is as near minima of networks.

For small rates SGD is Langevin dynamics in the time t = rate × updates at the temperature T = a c / (2 B), and so, with s = 1:

- found in a basin: P(flat) / P(sharp) = √(h_sharp / h_flat), of the whole basins exactly, at any temperature;
- mean time from the sharp minimum into the flat one: (1 / T) ∫ dy exp(L(y) / T) ∫ dz exp(-L(z) / T), y from the one
  minimum to the other and z from -∞ to y (`escape_time`), which grows as exp(E / T) = exp(2 E B / (a c)).

References:
    Li, Li, Qian & Liu, "Batch size matters: a diffusion approximation framework on nonconvex stochastic gradient
    descent", 2017 (escape). Jastrzebski et al., "Three factors influencing minima in SGD", 2017 (occupation).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import positive, whole
from tf_lbgap.reproduction.studies.double_well import DoubleWell, escape_time
from tf_lbgap.reproduction.studies.simulated_arms import settings_of, simulated

SETTINGS = {"batch_size": None, "learning_rate": None, "noise": "isotropic"}
NOISES = ("isotropic", "curvature")
CHUNK = 256  # updates whose batches are drawn at a time


def escape(
    seeds,
    *,
    arms,
    barrier=1.0,
    noise=1000.0,
    widths=(0.5, 1.0),
    examples=256,
    walkers=200,
    time=60.0,
    times=12,
):
    """Start walkers in the sharp minimum, and see when they first reach the flat one and where they are in the end.

    A simulation in NumPy: some 2 s for ten thousand updates of 200 walkers at a batch of 16.

    Args:
        seeds: Seeds of the examples, which the arms of a seed share, and of the draws, which are an arm's own.
        arms: `{name: {batch_size:, learning_rate:, noise: isotropic}}`; noise is one of `NOISES`.
        barrier: E, in loss.
        noise: c, the variance of the slopes of examples, in (loss / weight)².
        widths: l of the sharp and of the flat basin.
        examples: N.
        walkers: Independent trainings of an arm and seed.
        time: Rate × updates of each.
        times: How often, evenly spread over it, walkers are counted for the curves; at most as often as there are updates.

    Returns:
        `rows` with `reached`, the share of walkers that reached the flat minimum; `updates_to_escape` and `time_to_escape`
        (rate × updates), the mean until then, those that did not get there counted as for an exponential law: all time until
        then divided by how many got there (NaN if none did); `escape_over_exact`, the time divided by `escape_time`;
        `flat`, the share that is in the flat basin, the mean over the second half of the time; `flat_over_sharp`, its ratio to
        the rest, and `flat_over_exact`, this divided by the formula above; `boltzmann`, exp(E / T), so that an exponent of 1 in it
        is Arrhenius' law; and the settings. `curves` with `time` and `flat`. Of `noise: curvature` both `.._over_exact` are divided by
        the law of isotropic noise, too, with the same mean variance: how far off it is, no test of the simulation.

    Raises:
        ConfigError: If a setting is out of range, or an arm has fewer updates than `times`.
    """
    for value, where in ((barrier, "barrier"), (noise, "noise"), (time, "time")):
        positive(value, where)
    for value, where in ((examples, "examples"), (walkers, "walkers"), (times, "times")):
        whole(value, where)
    if len(widths) != 2:
        raise ConfigError(f"widths: {widths!r} must be two, of the sharp and of the flat basin.")
    landscape = DoubleWell(barrier, *(positive(width, "widths") for width in widths))
    settings = settings_of(arms, SETTINGS, lambda arm, where: _checked(arm, where, landscape, time, times))

    def walk(rng, slopes, arm):
        updates = round(time / arm["learning_rate"])
        first, counts = _walked(rng, landscape, slopes, arm, walkers, updates, times)
        at = np.linspace(0, time, times + 1)
        curve = {"time": at.tolist(), "flat": [0.0, *counts.tolist()]}
        return _row(first, counts, landscape, noise, arm, updates), curve

    return simulated(seeds, settings, lambda rng: _slopes(rng, examples, noise), walk)


def _checked(arm, where, landscape, time, times):
    whole(arm["batch_size"], f"{where}: batch_size")
    arm["learning_rate"] = positive(arm["learning_rate"], f"{where}: learning_rate")
    if arm["noise"] not in NOISES:
        raise ConfigError(f"{where}: noise: {arm['noise']!r} is none of {', '.join(NOISES)}.")
    limit = min(1 / landscape.largest_curvature, time)
    if arm["learning_rate"] > limit:
        raise ConfigError(
            f"{where}: learning_rate: {arm['learning_rate']:g} is too large for the sharp basin, or for the time. Take at most "
            f"{limit:g}."
        )
    if round(time / arm["learning_rate"]) < times:
        raise ConfigError(
            f"{where}: learning_rate: {arm['learning_rate']:g} makes {round(time / arm['learning_rate'])} updates in the time, too "
            f"few to count walkers {times} times. Set times to as many at most, or lower the rate."
        )
    return arm


def _slopes(rng, examples, noise):
    """Return ξ, shape (N,), with a mean of exactly 0 and a variance (over N) of exactly `noise`."""
    slopes = rng.normal(size=examples)
    slopes -= slopes.mean()
    return slopes * math.sqrt(noise) / slopes.std()


def _walked(rng, landscape, slopes, arm, walkers, updates, times):
    """Return the update at which each walker first reached the flat minimum (one more than there are, if it did not), and the
    share in the flat basin after each of `times` parts."""
    a, w = arm["learning_rate"], np.full(walkers, -float(landscape.sharp))
    first, counts = np.full(walkers, updates + 1), []
    ends = set(np.round(np.linspace(0, updates, times + 1)[1:]).astype(int))
    for update in range(1, updates + 1):
        at = (update - 1) % CHUNK
        if at == 0:
            chosen = rng.integers(
                len(slopes), size=(min(CHUNK, updates + 1 - update), walkers, arm["batch_size"])
            )
            batches = slopes[chosen].mean(2)
        w = w - a * (landscape.slope(w) + landscape.strength(w, arm["noise"]) * batches[at])
        np.minimum(first, np.where(w >= landscape.flat, update, updates + 1), out=first)
        if update in ends:
            counts.append((w > 0).mean())
    return first, np.array(counts)


def _row(first, counts, landscape, noise, arm, updates):
    got = first <= updates
    flat = counts[len(counts) // 2 :].mean()
    temperature = arm["learning_rate"] * noise / (2 * arm["batch_size"])
    until = np.minimum(first, updates).sum() / got.sum() if got.any() else math.nan
    found = flat / (1 - flat) if flat < 1 else math.inf
    return {
        "reached": float(got.mean()),
        "updates_to_escape": float(until),
        "time_to_escape": float(until * arm["learning_rate"]),
        "escape_over_exact": float(until * arm["learning_rate"] / escape_time(landscape, temperature)),
        "flat": float(flat),
        "flat_over_sharp": float(found),
        "flat_over_exact": float(found * landscape.sharp / landscape.flat),
        "boltzmann": math.exp(landscape.barrier / temperature)
        if landscape.barrier < 700 * temperature
        else math.inf,
    }

"""Small believable runs: a small batch, a large one and one that grows, with several seeds each.

Nothing is trained. Curves follow what the papers report: at one learning rate the large batch is driven to the edge of
stability 2 / rate and the small one stays below; sharper runs generalize worse; a growing batch lies between.
Equal arguments write equal numbers.

    python -m tb_plugin.demo runs/demo
    python -m tb_plugin.demo runs/demo --runs 20 --steps 10000
    tensorboard --logdir runs/demo
"""

import argparse
import math
import os
from dataclasses import dataclass

import numpy as np

from tb_plugin.writer import Writer

EXAMPLES = 50_000
K = 5  # eigenvalues a row
MOMENTS = 9  # densities, lines and planes a run
MEASURED = {"model": "resnet20", "data": "demo", "examples": 2048, "matrix": "hessian"}
_EPOCH_ZERO = 1_760_000_000.0  # a fixed start, so that equal arguments write equal files


@dataclass(frozen=True)
class Arm:
    """One way to train.

    `batch_size` maps the share of training done, 0 to 1, to a batch; `edge` is the share of the edge of stability
    that the top eigenvalue settles at, likewise; `gap` is the final difference of test and train loss.
    """

    name: str
    batch_size: object
    edge: object
    gap: float


ARMS = (
    Arm("small", lambda done: 128, lambda done: 0.35, 0.20),
    Arm("large", lambda done: 2048, lambda done: 1.0, 0.55),
    Arm(
        "grown",
        lambda done: 128 * 4 ** min(int(3 * done), 2),
        lambda done: 0.35 + 0.3 * min(int(3 * done), 2) / 2,
        0.24,
    ),
)


def rate(done):
    """Return the learning rate at a share of training: a warmup, 0.1, then two steps down."""
    if done < 0.05:
        return 0.1 * max(done, 0.005) / 0.05
    return 0.1 * 0.4 ** ((done >= 0.6) + (done >= 0.85))


def write(log_dir, *, runs=6, steps=2000, points=250):
    """Write demonstration runs `small/0`, `large/0`, `grown/0`, `small/1`, ...

    Args:
        log_dir: Directory they are written to.
        runs: Number of runs.
        steps: Number of updates of the small batch; the others see as many examples, in fewer updates.
        points: Most rows of eigenvalues and values of a scalar in one run.
    """
    for i in range(runs):
        arm, seed = ARMS[i % len(ARMS)], i // len(ARMS)
        write_run(
            os.path.join(log_dir, arm.name, str(seed)), arm, seed, steps=steps, points=points, start=60.0 * i
        )


def write_run(run_dir, arm, seed, *, steps, points, start=0.0):
    """Write one run.

    Args:
        run_dir: Directory of the run.
        arm: How it trains.
        seed: Its seed.
        steps: Number of updates that the smallest batch would take.
        points: Most rows of eigenvalues and values of a scalar.
        start: Seconds of its start after the first run's.
    """
    rng = np.random.default_rng([seed, *arm.name.encode()])
    history = list(_updates(arm, 128 * steps))
    measured_at = _spread(np.arange(len(history)), points)
    moments = set(_spread(measured_at, MOMENTS))
    measured_at = set(measured_at)
    wall = _EPOCH_ZERO + start
    clock = [wall]
    top = 4.0 * rng.uniform(0.9, 1.1)
    path, scale = [], rng.uniform(0.9, 1.1)
    with Writer(run_dir, clock=lambda: clock[0]) as writer:
        for i, (examples, batch, done) in enumerate(history):
            edge = 2.0 / rate(done)
            # Progressive sharpening, in examples seen and not in updates, as far as the edge lets it.
            target = min(arm.edge(done) * edge, 130.0)
            top += (target - top) * min(1.0, 12.0 * batch / (128 * steps))
            clock[0] = wall = wall + 0.02 + 2e-5 * batch
            if i not in measured_at:
                continue
            step = i + 1
            hover = top * (1 + rng.normal(scale=0.05) + 0.04 * (-1) ** i * (arm.edge(done) >= 1))
            _write_scalars(writer, step, arm, scale, rng, examples, batch, done, hover)
            _write_eigenvalues(writer, step, rng, hover, done)
            path.append((step, *_position(done, rng)))
            if i in moments:
                _write_moment(writer, step, rng, hover, done, arm.gap)
        writer.trajectory(
            "landscape/trajectory", [p[0] for p in path], [p[1:] for p in path], [0.71, 0.18], step=len(history),
            measured=MEASURED,
        )  # fmt: skip


def _spread(entries, count):
    """Return at most `count` of the entries, evenly spread, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(entries) - 1, count).round().astype(int))
    return [int(entries[i]) for i in chosen]


def _updates(arm, total):
    """Yield examples seen, batch size and share of training done of each update."""
    examples = 0
    while examples < total:
        batch = arm.batch_size(examples / total)
        examples += batch
        yield examples, batch, min(examples / total, 1.0)


def _write_scalars(writer, step, arm, scale, rng, examples, batch, done, top):
    noise = rng.normal(size=8)
    learning_rate = rate(done)
    train = 2.2 * math.exp(-5 * done) * scale + 0.02 + 0.01 * noise[0] * (1.2 - done)
    test = train + arm.gap * scale * (1 - math.exp(-3 * done)) + 0.008 * noise[1]
    train, test = max(train, 1e-3), max(test, 2e-3)
    gradient_noise = 150 * math.exp(3.2 * done) * math.exp(0.1 * noise[2])
    values = {
        "sharpness/top_eigenvalue": (top, "loss / weight²"),
        "sharpness/edge_of_stability": (2 / learning_rate, "loss / weight²"),
        "sharpness/trace": (top * (9 + 0.3 * noise[3]), "loss / weight²"),
        "sharpness/epsilon_sharpness": (0.4 * top * math.exp(0.1 * noise[4]), "%"),
        "schedule/batch_size": (batch, "examples"),
        "schedule/learning_rate": (learning_rate, ""),
        "schedule/noise_scale": (learning_rate * (EXAMPLES / batch - 1), ""),
        "schedule/gradient_noise_scale": (gradient_noise, "examples"),
        "schedule/gradient_noise_scale_low": (0.7 * gradient_noise, "examples"),
        "schedule/gradient_noise_scale_high": (1.4 * gradient_noise, "examples"),
        "generalization/train_loss": (train, "loss"),
        "generalization/test_loss": (test, "loss"),
        "generalization/train_accuracy": (math.exp(-0.35 * train), "share"),
        "generalization/test_accuracy": (math.exp(-0.35 * test), "share"),
        "progress/epochs": (examples / EXAMPLES, "epochs"),
        "progress/examples": (examples, "examples"),
    }
    for name, (value, unit) in values.items():
        writer.scalar(
            name, value, step, unit=unit, measured=MEASURED if name.startswith("sharpness") else None
        )


def _write_eigenvalues(writer, step, rng, top, done):
    largest = top * np.array([1, 0.62, 0.47, 0.38, 0.31])[:K] * (1 + 0.02 * rng.normal(size=K))
    largest = np.sort(largest)[::-1]
    smallest = -top * (0.25 * math.exp(-4 * done) + 0.02) * np.array([1, 0.8])
    for name, values, which in (
        ("curvature/eigenvalues", largest, "largest"),
        ("curvature/smallest_eigenvalues", smallest, "smallest"),
    ):
        # Values that lie close together converge late, and early spectra are crowded.
        converged = rng.uniform(size=values.size) > 0.25 * np.arange(values.size) / values.size * (1.5 - done)
        residuals = np.abs(values) * np.where(converged, 1e-4, 0.08)
        writer.eigenvalues(
            name, values, step, residuals=residuals, converged=converged, which=which, mirror=which != "largest",
            measured=MEASURED,
        )  # fmt: skip


def _position(done, rng):
    """Return where the weights are in the plane: on a bent way to the origin."""
    left = math.exp(-3 * done) - math.exp(-3)
    return 1.1 * left + 0.01 * rng.normal(), 0.8 * left * (left - 0.55) + 0.01 * rng.normal()


def _write_moment(writer, step, rng, top, done, gap):
    """Write a spectrum, a line and a plane."""
    grid = np.sort(
        np.concatenate([-np.geomspace(1e-3, 0.3 * top, 100), [0.0], np.geomspace(1e-3, 1.3 * top, 300)])
    )
    outliers = top * np.array([1, 0.62, 0.47, 0.38, 0.31])
    density = 0.93 * _bump(grid, 0.0, 0.02 * top) + 0.04 * _bump(grid, 0.06 * top, 0.06 * top)
    density += sum(0.006 * _bump(grid, center, 0.015 * top) for center in outliers)
    density /= np.trapezoid(density, grid)
    writer.density("curvature/density", grid, density, step, measured=MEASURED)

    floor = 2.2 * math.exp(-5 * done) + 0.02
    alpha = np.linspace(-1, 1, 41)
    train = floor + 2.5 * (1 - np.exp(-0.02 * top * alpha**2))
    test = train + gap * (0.6 + 0.4 * done) + 0.1 * alpha
    writer.line(
        "landscape/line", alpha, step, train_loss=train, test_loss=test, train_accuracy=np.exp(-0.35 * train),
        test_accuracy=np.exp(-0.35 * np.abs(test)), measured=MEASURED,
    )  # fmt: skip

    a, b = np.linspace(-1.3, 1.3, 31), np.linspace(-1, 1, 25)
    bowl = 0.02 * top * (a[None, :] ** 2 + 0.35 * b[:, None] ** 2 + 0.3 * a[None, :] * b[:, None])
    loss = floor + 2.5 * (1 - np.exp(-bowl)) + 0.03 * np.cos(4 * a)[None, :] * np.cos(3 * b)[:, None] - 0.03
    writer.plane("landscape/plane", a, b, loss, floor, step=step, measured=MEASURED)


def _bump(grid, center, width):
    return np.exp(-0.5 * ((grid - center) / width) ** 2) / (width * math.sqrt(2 * math.pi))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log_dir", metavar="DIR", help="where to write")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2000, help="updates of the small batch")
    parser.add_argument("--points", type=int, default=250, help="most values of a tag in a run")
    options = parser.parse_args()
    try:
        write(options.log_dir, runs=options.runs, steps=options.steps, points=options.points)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"Wrote {options.runs} runs. Look at them: tensorboard --logdir {options.log_dir}")


if __name__ == "__main__":
    main()

"""Runs for the tests of the page, whose numbers the tests know."""

import numpy as np

from tb_plugin.writer import Writer

STEPS = [10, 20, 30, 40]
TOP = [4.0, 8.0, 16.0, 12.0]
TOP_SPREAD = [0.5, 1.0, 1.0, 2.0]
EIGENVALUES = [[4.0, 2.0], [8.0, 3.0], [16.0, 5.0], [12.0, 6.0]]
CONVERGED = [[1, 1], [1, 0], [1, 1], [1, 0]]
EDGE = [20.0, 20.0, 50.0, 50.0]
BATCH = [32, 32, 128, 128]
NOISE, NOISE_LOW, NOISE_HIGH = (
    [100.0, 120.0, 140.0, 160.0],
    [90.0, 110.0, 130.0, 150.0],
    [115.0, 130.0, 150.0, 180.0],
)
TRAIN, TEST = [1.0, 0.5, 0.25, 0.125], [1.25, 1.0, 0.75, 0.875]
EPOCHS = [0.5, 1.0, 1.5, 2.0]
GRID, DENSITY = [-1.0, 0.0, 1.0, 2.0, 10.0], [0.0, 0.5, 0.25, 0.01, 0.0]
ALPHA, LINE_TRAIN, LINE_TEST = [-1.0, 0.0, 1.0], [2.0, 0.5, 3.0], [2.5, 1.0, 3.5]
A, B, LOSS = [-1.0, 0.0, 1.0], [-0.5, 0.5], [[3.0, 1.0, 2.0], [4.0, 0.5, 1.5]]
PATH = [[1.0, 0.4], [0.5, 0.1], [0.0, 0.0]]
LONG = 10_000  # steps of the run that the server thins
SPIKE = 5_003  # the step of its one high value
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<b>bold</b>",
    "quote\"s and 'ticks' & $x$",
    "a" * 26 + "!",  # (a+)+$ takes 2^26 steps on it
    "deep/" + "/".join(["x" * 60] * 14),
]  # names are directories: a part has at most 255 characters


def write_mine(log_dir):
    """One run with every kind, of the numbers above."""
    with Writer(str(log_dir / "mine" / "0")) as writer:
        for i, step in enumerate(STEPS):
            scalars = {
                "sharpness/top_eigenvalue": TOP[i], "sharpness/edge_of_stability": EDGE[i], "sharpness/top_eigenvalue_spread": TOP_SPREAD[i],
                "schedule/batch_size": BATCH[i],
                "schedule/gradient_noise_scale": NOISE[i], "schedule/gradient_noise_scale_low": NOISE_LOW[i],
                "schedule/gradient_noise_scale_high": NOISE_HIGH[i], "generalization/train_loss": TRAIN[i],
                "generalization/test_loss": TEST[i], "progress/epochs": EPOCHS[i],
            }  # fmt: skip
            for name, value in scalars.items():
                writer.scalar(name, value, step)
            writer.eigenvalues("curvature/eigenvalues", EIGENVALUES[i], step, converged=CONVERGED[i])
            writer.density("curvature/density", GRID, DENSITY, step)
        writer.line("landscape/line", ALPHA, 40, train_loss=LINE_TRAIN, test_loss=LINE_TEST)
        writer.plane("landscape/plane", A, B, LOSS, 0.5, step=40)
        writer.trajectory("landscape/trajectory", [10, 20, 40], PATH, [0.75, 0.2], step=40)


def write_broken(log_dir):
    """A run with numbers that no axis can show."""
    with Writer(str(log_dir / "broken" / "0")) as writer:
        for step, value in enumerate([1.0, float("nan"), float("inf"), -2.0, 3.0], start=1):
            writer.scalar("sharpness/top_eigenvalue", value, step)


def write_seeds(log_dir):
    """Three seeds of one arm: means 2, 4, deviations 1, 2."""
    for seed, (first, second) in enumerate([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]):
        with Writer(str(log_dir / "arm" / str(seed))) as writer:
            writer.scalar("sharpness/top_eigenvalue", first, 1)
            writer.scalar("sharpness/top_eigenvalue", second, 2)


def write_long(log_dir, first=0, last=LONG):
    """A run of more points than a panel asks for."""
    with Writer(str(log_dir / "long" / "0")) as writer:
        for step in range(first, last):
            writer.scalar("sharpness/top_eigenvalue", 500.0 if step == SPIKE else 2 + np.sin(step / 7), step)


def write_hostile(log_dir):
    """Scalars only, under names that are markup, paths and long."""
    for name in HOSTILE:
        with Writer(str(log_dir / name)) as writer:
            writer.scalar("sharpness/<script>alert(2)</script>", 1.0, 1)
            writer.scalar("sharpness/<script>alert(2)</script>", 2.0, 2)

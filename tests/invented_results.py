"""Results of reproductions that nobody ran, with every kind of claim, figure and study."""

import copy
import io
import os
import re

import numpy as np

from tf_lbgap.report import (
    drawing,
    paper_figures,
)

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SEEDS = list(range(100, 110))
MODEL = {"call": "networks.mlp", "widths": [128, 128]}
DATA = {"call": "data.datasets.digits", "num_train": 1000}
PAPER = "Keskar et al., On large-batch training for deep learning, ICLR 2017, arXiv 1609.04836"
HOSTILE = '<script>alert("x")</script> & | $y$ [z](javascript:1) `c` *d*'


def mean(middle, error=0.01, num_seeds=10):
    return {"mean": middle, "standard_error": error if num_seeds > 1 else None, "num_seeds": num_seeds}


def arm(batch_size, rate=0.001, *, num_seeds=10, failed=(), **measured):
    """An arm of results.json: settings, means, seeds that are no results."""
    settings = {
        "batch_size": batch_size, "learning_rate": rate, "data": DATA, "model": MODEL,
        "optimizer": {"call": "keras.optimizers.Adam", "learning_rate": 0.001},
    }  # fmt: skip
    found = {
        "test_accuracy": mean(0.9719, 0.0046, num_seeds), "test_loss": mean(0.1021, 0.013, num_seeds),
        "train_loss": mean(0.0084, 0.0003, num_seeds), "top_eigenvalue": mean(1.08, 0.2, num_seeds),
        "sharpness": mean(3.21, 0.4, num_seeds), "updates": mean(426, 19, num_seeds),
        "examples": mean(10_640, 480, num_seeds), "seconds": mean(4.0, 0.2, num_seeds),
        "seconds_train": mean(2.5, 0.1, num_seeds), "learning_rate": mean(rate, 0.0, num_seeds),
    }  # fmt: skip
    return {"settings": settings, **found, **measured, "failed": list(failed)}


def claim(name, verdict="PASS", *, estimate=3.92, interval=(2.91, 5.08), rule="loss", kind="ratio", **more):
    """A claim of results.json."""
    is_run = verdict != "NOT RUN"
    low = {"ratio": 1.5, "difference": 0.0, "number": 0.5}[kind]
    values = [estimate * 1.1**i for i in range(-2, 3)] if is_run and estimate is not None else []
    found = {
        "name": name, "says": f"At equal training loss a large batch ends where the claim {name} says that it does.", "source": "Table 3", "primary": False, "rule": rule, "own": True,
        "statistic": f"{name}, large / small", "kind": kind, "claimed": f"above {low:g}", "bounds": [low, None],
        "estimate": estimate if is_run else None, "interval": list(interval) if is_run else [None, None],
        "p_value": 0.01, "verdict": verdict, "seen": f"{name}, large / small: {estimate} (seen under {rule}), claimed above {low:g}: the interval says {verdict}.", "note": "",
        "num_seeds": len(values), "values": values, "seeds": SEEDS[: len(values)],
    }  # fmt: skip
    return {**found, **more}


def primary(verdict, rule, estimate=3.92, interval=(2.91, 5.08), **more):
    more = {"own": rule == "loss", **more}
    return claim("sharper", verdict, estimate=estimate, interval=interval, rule=rule, primary=True, **more)


def line(seed, pair="small to large", scale=1.0):
    alpha = np.linspace(-1, 2, 25)
    train = (
        scale
        * (0.02 + 0.6 * alpha**2 * (1 + 3 * (alpha > 1) * (alpha - 1)) * np.abs(alpha - 1))
        * (1 + 0.02 * seed)
    )
    accuracy = np.clip(1 - 0.25 * train, 0.1, 1)
    at = np.linspace(0, 1, 6)
    return {
        "arm": pair, "seed": seed, "alpha": alpha.tolist(), "train_loss": train.tolist(),
        "test_loss": (train + 0.12).tolist(), "train_accuracy": accuracy.tolist(),
        "test_accuracy": (accuracy - 0.04).tolist(), "alpha_eigenvalues": at.tolist(),
        "top_eigenvalue": (0.6 * (1 + 8 * at) * (1 + 0.05 * (seed % 5))).tolist(),
    }  # fmt: skip


def falling(name, seed, growth):
    loss = np.geomspace(2.3, 0.01, 60) * np.exp(0.1 * np.sin(seed + np.arange(60)))
    return {
        "arm": name, "seed": seed, "update": list(range(0, 600, 10)), "loss": loss.tolist(),
        "top_eigenvalue": (2 * (2.3 / loss) ** growth * (1 + 0.03 * (seed % 7))).tolist(),
    }  # fmt: skip


def results(**changes):
    """What a reproduction writes, invented: claims of all verdicts, three experiments, three studies."""
    sizes = (16, 64, 256, 512, 1000)
    threshold = {
        f"b{size}": arm(size, test_accuracy=mean(0.975 - 0.00002 * size, 0.002), top_eigenvalue=mean(0.5 * size**0.5, 0.1))
        for size in sizes
    }  # fmt: skip
    smith = {
        "decay": arm(64, {"call": "schedules.staircase", "initial": 0.05, "factor": 0.25, "milestones": [6, 11, 15]}),
        "growth": arm(
            {"call": "schedules.staircase", "initial": 64, "factor": 4, "milestones": [6, 11, 15]},
            updates=mean(1197, 0.0), seconds=mean(2.9, 0.11),
        ),
        "constant": arm(64, test_accuracy=mean(0.951, 0.003), updates=mean(3140, 0.0), seconds=mean(5.2, 0.21)),
    }  # fmt: skip
    for own in smith.values():
        del own["learning_rate"]
    minima = {
        "small": arm(32, sharpness_100=mean(0.42, 0.1)),
        "large": arm(
            200, num_seeds=9, failed=["seed 103: missed the target"], top_eigenvalue=mean(4.23, 0.31, 9),
            robust_accuracy_fgsm_0=mean(0.21, 0.02, 9),
        ),
    }  # fmt: skip
    found = {
        "name": "keskar2017", "scale": "small", "paper": PAPER,
        "hash": {"config": "00aa11bb22cc33dd", "claims": "1234567890abcdef", "code": "fedcba0987654321"},
        "environment": {"tf_lbgap": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.1", "devices": ["CPU"], "processor": "Some & Co", "cores": 2},
        "seconds": 754.3, "first_seed": 100, "seeds": 10,
        "features": {"scales": "batch size", "rule": "none, at equal loss", "models": "F1, C1", "data": "digits", "measures": "ε-sharpness"},
        "figures": {
            "threshold": {"call": "report.paper_figures.against", "in": ["threshold"], "x": "batch_size",
                          "y": ["test_accuracy", "top_eigenvalue"], "caption": "Accuracy and curvature over the batch.", "headline": True},
            "line": {"call": "report.paper_figures.lines", "in": ["line"], "caption": "On the way from small to large."},
            "evolution": {"call": "report.paper_figures.evolution", "in": ["evolution"], "caption": "While training."},
            "schedules": {"call": "report.paper_figures.arms", "in": ["schedules"], "y": ["test_accuracy", "updates", "seconds"],
                          "caption": "Three schedules."},
        },
        "claims": [
            claim("distance", "FAIL", estimate=1.02, interval=(0.93, 1.12), claimed="above 3", bounds=[3, None]),
            primary("PASS", "epochs", 2.1, (1.6, 2.9)), primary("PASS", "loss"), primary("INCONCLUSIVE", "updates", 1.63, (1.11, 2.4)),
            primary("FAIL", "seconds", 0.71, (0.52, 0.96)), primary("NOT RUN", "tuned", seen="no time for it"),
            claim("worse", "INCONCLUSIVE", kind="difference", estimate=-0.0043, interval=(-0.0109, 0.0024), claimed="below 0",
                  bounds=[None, 0.0], note="one test set, its examples bootstrapped"),
            claim("slope", kind="number", estimate=0.972, interval=(0.93, 1.01), claimed="within 0.8 to 1.2", bounds=[0.8, 1.2]),
            claim("imagenet", "NOT RUN", estimate=None, seen="needs a GPU and ImageNet"),
        ],
        "experiments": {
            "minima-loss": {"equal": "loss", "seeds": SEEDS, "settings": {"target_loss": 0.02, "epochs": 300}, "arms": minima},
            "threshold": {"equal": "loss", "seeds": SEEDS, "arms": threshold},
            "schedules": {"equal": "epochs", "seeds": SEEDS, "arms": smith},
        },
        "studies": {
            "line": {"in": "minima-loss", "rows": [{"arm": "small to large", "seed": s, "barrier": 0.2 + s / 1000} for s in SEEDS],
                     "curves": [line(s - 100) for s in SEEDS]},
            "evolution": {"in": "minima-loss", "rows": [],
                          "curves": [falling(a, s, g) for a, g in (("small", 0.2), ("large", 0.7)) for s in SEEDS]},
            "manifold": {"in": "minima-loss", "curves": [],
                         "rows": [{"arm": a, "seed": s, "sharpness_7": 1.0 + s / 1000} for a in ("small", "large") for s in SEEDS]},
        },
    }  # fmt: skip
    return {**copy.deepcopy(found), **changes}


def drawn(found, name):
    """Draw a figure, and a file of it."""
    figure = paper_figures.draw(found, name)
    with drawing.style():
        figure.savefig(io.BytesIO(), format="svg")
    return figure


def figure_of(found, **call):
    """Draw a figure of a call that results do not have."""
    return drawn({**found, "figures": {"asked": call}}, "asked")


def floats(text):
    """Return the numbers in a text."""
    return [float(each.replace(",", "")) for each in re.findall(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]\d+)?", text)]


def only_claims(*claims, **more):
    return results(claims=list(claims), **more)

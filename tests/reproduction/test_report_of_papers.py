"""A reproduction's tables, figures, page and gallery: every number is that of results.json, and no FAIL is hidden."""

import copy
import io
import math
import os
import re

import numpy as np
import pytest
import scipy.stats

from tf_lbgap.experiment import ConfigError
from tf_lbgap.report import (
    arms_grid,
    claims_grid,
    drawing,
    paper_figures,
    power_grid,
    rich_table,
    write_paper,
)
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.gallery import gallery, headline_figures, write_images
from tf_lbgap.report.paper_captions import caption_of
from tf_lbgap.report.paper_grids import study_grid
from tf_lbgap.report.paper_page import paper_page
from tf_lbgap.report.paper_results import arms_of, command_of
from tf_lbgap.report.paper_svg import svg_of

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


# Numbers.


@pytest.mark.parametrize(
    "value, text",
    [
        (3.9216, "3.92"), (9.996, "10.0"), (0.25, "0.250"), (1234.5, "1,234"), (0, "0"), (2e-7, "2.00e-07"), (-0.0123456, "-0.0123"),
        (None, "-"), (math.nan, "-"), (math.inf, "-"), (0.00012345, "0.000123"),
    ],
)  # fmt: skip
def test_a_number_has_three_digits(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    "kind, middle, interval, text",
    [
        ("ratio", 3.92, (2.91, 5.08), "3.92 (2.91 to 5.08)"),
        ("ratio", 0.0123, (0.001, 120.4), "0.0123 (0.00100 to 120)"),
        ("difference", -0.00432, (-0.01094, 0.0024), "-0.0043 (-0.0109 to +0.0024)"),
        ("number", 0.972, (0.931, 1.013), "0.972 (0.931 to 1.013)"),
        ("number", 0.972, (None, 1.013), "0.972 (- to 1.013)"),
        ("difference", 0.01, (math.nan, math.nan), "+0.0100"),
        ("ratio", None, (None, None), "-"),
        ("number", 12.0, (12.0, 12.0), "12.0 (12.0 to 12.0)"),
    ],
)  # fmt: skip
def test_an_estimate_is_written_with_its_interval(kind, middle, interval, text):
    assert numbers.estimate({"kind": kind, "estimate": middle, "interval": interval}) == text


def test_an_estimate_without_an_interval_in_the_file_is_written():
    assert numbers.estimate({"kind": "ratio", "estimate": 2.0, "interval": None}) == "2.00"


def test_seeds_are_named():
    assert numbers.seeds(range(100, 110)) == "100 to 109"
    assert numbers.seeds([3, 1]) == "1, 3"
    assert numbers.seeds([100, 101, 103]) == "100, 101, 103"
    assert numbers.seeds([]) == "-"


def test_seconds_are_said_in_minutes_and_hours():
    assert [numbers.duration(s) for s in (8.31, 59.98, 754.3, 7300, None)] == [
        "8.3 s", "60.0 s", "12 min 34 s", "2 h 1 min", "-"
    ]  # fmt: skip


# Claims.


def test_the_primary_claim_is_first_and_under_the_papers_own_rule_first():
    rows = claims_grid(results()).rows
    assert [row[1].partition("\n")[0] for row in rows[:5]] == [
        "loss",
        "epochs",
        "updates",
        "seconds",
        "tuned",
    ]
    assert rows[0][1] == "loss\n(paper's own)" and all("own" not in row[1] for row in rows[1:])
    assert rows[0][0] == f"{results()['claims'][2]['says']} (Table 3)"
    assert "distance" in rows[5][0] and "imagenet" in rows[-1][0]


def test_the_papers_own_rule_is_first_whichever_it_is():
    rows = claims_grid(
        only_claims(*[primary("PASS", rule, own=rule == "updates") for rule in ("loss", "epochs", "updates", "seconds")])
    ).rows  # fmt: skip
    assert [row[1].partition("\n")[0] for row in rows] == ["updates", "loss", "epochs", "seconds"]


def test_every_number_of_a_claim_is_that_of_the_results():
    found = {(c["name"], c["rule"]): c for c in results()["claims"]}
    order = [("sharper", rule) for rule in ("loss", "epochs", "updates", "seconds", "tuned")]
    order += [(name, "loss") for name in ("distance", "worse", "slope", "imagenet")]
    rows = claims_grid(results()).rows
    for key, row in zip(order, rows, strict=True):
        claim = found[key]
        assert row[5] == claim["verdict"] and row[4] == str(claim["num_seeds"])
        assert row[2].replace("\n", " ") == claim["claimed"]
        if claim["estimate"] is None or claim["verdict"] == "NOT RUN":
            assert row[3] == "-"
        else:
            np.testing.assert_allclose(floats(row[3]), [claim["estimate"], *claim["interval"]], rtol=5e-3)


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", "NOT RUN"])
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_what_did_not_pass_says_in_its_row_what_was_seen(verdict, narrow):
    grid = claims_grid(results(), narrow=narrow)
    expected = [claim["seen"] for claim in results()["claims"] if claim["verdict"] == verdict]
    shown = [row[0] for row in grid.rows if row[-1] == verdict]
    assert len(shown) == len(expected) > 0
    assert all(any(seen in text for text in shown) for seen in expected)


def test_notes_stand_below_once_for_all_claims_that_have_them():
    grid = claims_grid(
        only_claims(
            claim("a", note="one test set"), claim("b", note="seed 3: lost"), claim("c", note="one test set")
        )
    )
    assert [row[0].rpartition(" ")[2] for row in grid.rows] == ["[1]", "[2]", "[1]"]
    assert grid.caption.endswith("[1] one test set. [2] seed 3: lost.")


def test_the_narrow_table_has_no_seeds_and_fits_80_columns_as_the_other_fits_100():
    from rich.console import Console

    for narrow, width in ((False, 100), (True, 80)):
        console = Console(width=width, file=io.StringIO())
        console.print(rich_table(claims_grid(results(), narrow=narrow), whole="numbers"))
        text = console.file.getvalue()
        assert max(map(len, text.splitlines())) <= width
        for whole in ("INCONCLUSIVE", "(2.91 to 5.08)", "(-0.0109 to +0.0024)", "(paper's own)", "above 1.5"):
            assert whole in text, whole
        assert ("seeds " in text.splitlines()[3]) is not narrow


def test_verdicts_of_other_seeds_stand_beside():
    second = results(first_seed=200)
    second["claims"][0]["verdict"] = "INCONCLUSIVE"
    del second["claims"][-1]
    grid = claims_grid(results(), second)
    assert [row[-1] for row in grid.rows[:5]] == ["PASS", "PASS", "INCONCLUSIVE", "FAIL", "NOT RUN"]
    assert grid.columns[-1] == "verdict with seeds\n200 to 209"
    shown = {
        name: row[-2:]
        for name in ("distance", "imagenet", "slope")
        for row in grid.rows
        if f"claim {name} " in row[0]
    }
    assert shown == {
        "distance": ("FAIL", "INCONCLUSIVE"),
        "imagenet": ("NOT RUN", "-"),
        "slope": ("PASS", "PASS"),
    }


def test_power_is_told_in_percent_and_where_it_is_not_known():
    base = {"name": "a", "says": "A.", "rule": "loss", "claimed": "above 1.5", "expected": 4, "deviation": 0.5, "num_seeds": 10}  # fmt: skip
    grid = power_grid(
        [{**base, "power": 0.834}, {**base, "power": 0.9999}, {**base, "expected": None, "deviation": None, "power": None}]
    )  # fmt: skip
    assert grid.rows == (
        ("A.", "loss", "above 1.5", "4.00", "0.500", "10", "83"),
        ("A.", "loss", "above 1.5", "4.00", "0.500", "10", "> 99"),
        ("A.", "loss", "above 1.5", "-", "-", "10", "not known"),
    )


# Arms.


def columns(grid):
    """Return {heading: cells}, the heading on one line."""
    return {
        heading.strip().replace("\n", " "): [row[i] for row in grid.rows] for i, heading in enumerate(grid.columns)
    }  # fmt: skip


def test_arms_show_settings_and_means_with_two_digits_of_the_error():
    found = columns(arms_grid(results(), "minima-loss"))
    assert found["batch"] == ["32", "200"] and found["rate"] == ["0.001", "0.001"]
    assert found["test accuracy %"] == ["97.19±0.46"] * 2
    assert found["train loss"] == ["0.00840±0.00030"] * 2
    assert found["top eigenvalue"] == ["1.08±0.20", "4.23±0.31"]
    assert found["examples"] == ["10,640±480"] * 2
    assert found["accuracy under fgsm 0 %"] == ["-", "21.0±2.0"]


def test_seconds_are_split_into_training_and_the_rest():
    found = columns(arms_grid(results(), "schedules"))
    assert found["seconds"] == ["4.00±0.20", "2.90±0.11", "5.20±0.21"]
    assert found["of which training"] == ["2.50"] * 3
    assert found["the rest"] == ["1.50", "0.400", "2.70"]


def test_only_columns_that_have_data_are_shown():
    few = {"settings": {"batch_size": 8}, "test_accuracy": mean(0.5), "updates": mean(3.0, 0.0)}
    found = results(experiments={"one": {"equal": "epochs", "seeds": SEEDS, "arms": {"a": few}}})
    assert list(columns(arms_grid(found, "one"))) == ["arm", "batch", "test accuracy %", "updates"]


def test_seeds_that_are_no_results_are_named_and_many_are_counted():
    grid = arms_grid(results(), "minima-loss")
    assert grid.rows[1][0] == "large\nseed 103: missed the target\n9 of 10 seeds"
    many = results()
    many["experiments"]["minima-loss"]["arms"]["small"]["failed"] = [
        f"seed {seed}: {why}" for seed, why in ((100, "diverged"), (101, "missed the target"), (102, "missed the target"))
    ]  # fmt: skip
    assert (
        arms_grid(many, "minima-loss").rows[0][0] == "small\nseed 100: diverged\nmissed the target: 2 seeds"
    )


def test_a_single_seed_has_no_error():
    found = results(
        experiments={"one": {"equal": "loss", "seeds": [100], "arms": {"a": arm(8, num_seeds=1)}}}
    )
    cells = columns(arms_grid(found, "one"))
    assert cells["test accuracy %"] == ["97.2"] and cells["updates"] == ["426"]
    assert "seeds 100," in arms_grid(found, "one").title


def test_the_rate_is_the_one_that_was_chosen():
    tuned = arm(32, learning_rate=mean(0.01, 0.0))
    schedule = arm(32, {"call": "schedules.cosine", "initial": 1.0}, learning_rate=mean(0.3, 0.0))
    found = results(
        experiments={"one": {"equal": "tuned", "seeds": SEEDS, "arms": {"a": tuned, "b": schedule}}}
    )
    assert columns(arms_grid(found, "one"))["rate"] == ["0.01", "cosine(initial=1), times 0.3"]


def test_a_study_has_a_table_of_its_means():
    grid = study_grid(results(), "manifold")
    expected = np.array([1.0 + seed / 1000 for seed in SEEDS])
    middle, error = floats(grid.rows[0][1].replace("±", " "))
    np.testing.assert_allclose(middle, expected.mean(), atol=1e-5)
    np.testing.assert_allclose(error, expected.std(ddof=1) / math.sqrt(10), atol=1e-5)
    assert study_grid(results(), "evolution") is None


# The forest plot.


def test_a_claim_is_drawn_with_its_estimate_interval_bounds_and_verdict():
    (axis,) = drawn(only_claims(claim("a", "FAIL", estimate=0.71, interval=(0.52, 0.96))), "claims").axes
    assert axis.get_xscale() == "log"
    segments = {tuple(map(float, line.get_xdata())) for line in axis.lines}
    assert (0.71,) in segments and (0.52, 0.96) in segments and (1.5, 1.5) in segments
    assert [text.get_text() for text in axis.texts] == ["FAIL", "0.710 (0.520 to 0.960)"]
    (claimed,) = [patch for patch in axis.patches if patch.get_x() == 1.5]
    assert claimed.get_x() + claimed.get_width() == pytest.approx(axis.get_xlim()[1])
    ticks = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 15]
    np.testing.assert_allclose(ticks[0][::3], [0.71 * 1.1**i for i in range(-2, 3)])


@pytest.mark.parametrize(
    "bounds, shaded", [((None, 0.01), (None, 0.01)), ((-0.01, 0.01), (-0.01, 0.01)), ((0.0, None), (0.0, None))]
)  # fmt: skip
def test_the_claimed_region_is_shaded_on_the_side_that_is_claimed(bounds, shaded):
    own = claim("a", kind="difference", estimate=0.002, interval=(-0.02, 0.02), bounds=list(bounds))
    (axis,) = drawn(only_claims(own), "claims").axes
    left, right = axis.get_xlim()
    (patch,) = axis.patches
    assert axis.get_xscale() == "linear"
    np.testing.assert_allclose(patch.get_x(), left if shaded[0] is None else shaded[0])
    np.testing.assert_allclose(patch.get_x() + patch.get_width(), right if shaded[1] is None else shaded[1])


def test_verdicts_differ_by_marker_and_word_and_each_rule_has_a_row():
    figure = drawn(results(), "claims")
    axis = figure.axes[0]
    words = [text.get_text() for text in axis.texts][::2]
    assert words == ["PASS", "PASS", "INCONCLUSIVE", "FAIL", "NOT RUN"]
    markers = [line.get_marker() for line in axis.lines if len(line.get_xdata()) == 1]
    assert len(set(markers)) == 3
    assert [label.get_text() for label in axis.get_yticklabels()][1:] == [
        "epochs",
        "updates",
        "seconds",
        "tuned",
    ]
    assert len(figure.axes) == 4  # of the claims that were run
    titles = [text.get_text() for text in figure.texts]
    assert titles[0].startswith("Primary claim: ")
    assert len(titles) == 5 and titles[-1].startswith("NOT RUN: ") and "imagenet" in titles[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"estimate": None, "interval": [None, None], "values": []},
        {"estimate": math.nan, "interval": [math.nan, math.nan], "values": [math.nan]},
        {"estimate": 2.0, "interval": [None, None], "values": [2.0]},
        {"interval": [None, 5.0]},
        {"interval": []},
        {"values": None, "bounds": None},
        {"estimate": 2.0, "interval": [2.0, 2.0], "values": [2.0] * 5, "bounds": [2.0, None]},
        {"bounds": [0.0, 2.0]},
    ],
    ids=["none", "nan", "one seed", "open", "no interval", "missing", "no spread", "bound at 0"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["ratio", "difference", "number"])
def test_claims_without_some_numbers_are_drawn(kind, changes):
    drawn(only_claims(claim("a", "INCONCLUSIVE", kind=kind, **changes)), "claims")


def test_without_claims_there_is_no_forest():
    assert paper_figures.draw(only_claims(), "claims") is None
    assert paper_figures.draw(only_claims(claim("a", "NOT RUN")), "claims") is None


# Figures of means.


def bars(axis):
    """Return [(x, y, low, high)] of the error bars of an axis with vertical ones."""
    found = []
    for container in axis.containers:
        line, _, (segments,) = container.lines
        for x, y, segment in zip(line.get_xdata(), line.get_ydata(), segments.get_segments(), strict=True):
            found.append(
                (
                    float(x),
                    float(y),
                    *map(float, sorted(segment[:, 1]) if len(segment) else (math.nan, math.nan)),
                )
            )
    return found


def test_means_over_a_setting_have_intervals_of_students_t():
    axis, other = drawn(results(), "threshold").axes
    reach = scipy.stats.t(9).ppf(0.975)
    for (x, y, low, high), size in zip(bars(axis), (16, 64, 256, 512, 1000), strict=True):
        middle = 100 * (0.975 - 0.00002 * size)
        np.testing.assert_allclose(
            (x, y, low, high), (size, middle, middle - 0.2 * reach, middle + 0.2 * reach)
        )
    assert axis.get_xscale() == "log" and axis.get_yscale() == "linear" and other.get_yscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["16", "64", "256", "512", "1000"]
    assert axis.get_ylabel() == "test accuracy (%)" and axis.get_xlabel() == "batch size"


def test_series_are_lines_of_their_own():
    axis = figure_of(
        results(), call="report.paper_figures.against", **{"in": "threshold"}, x="batch_size", y="test_loss",
        series={"few": ["b64", "b16"], "many": ["b512", "b1000"]},
    ).axes[0]  # fmt: skip
    assert [[x for x, *_ in bars_of] for bars_of in (bars(axis)[:2], bars(axis)[2:])] == [
        [16, 64],
        [512, 1000],
    ]
    assert axis.get_legend_handles_labels()[1] == ["few", "many"]


def test_an_arm_with_a_schedule_has_no_place_on_its_axis():
    axis = figure_of(
        results(), call="report.paper_figures.against", **{"in": "schedules"}, x="batch_size", y="test_accuracy"
    ).axes[0]  # fmt: skip
    assert [x for x, *_ in bars(axis)] == [64, 64]


def test_a_quantity_may_be_the_axis():
    axis = figure_of(
        results(), call="report.paper_figures.against", **{"in": "schedules"}, x="updates", y="test_accuracy"
    ).axes[0]  # fmt: skip
    assert [x for x, *_ in bars(axis)] == [426, 1197, 3140]


def test_a_setting_in_the_optimizer_may_be_the_axis():
    assert arms_of(results(), "schedules")["growth"].setting("optimizer.learning_rate") == 0.001
    found = results()
    found["experiments"]["threshold"]["arms"]["b16"]["settings"]["learning_rate"] = None
    assert arms_of(found, "threshold")["b16"].setting("learning_rate") == 0.001


@pytest.mark.parametrize(
    "call, message",
    [
        ({"in": "treshold"}, "no experiment and no study. Known: minima-loss"),
        ({"in": "threshold", "series": {"a": ["b61"]}}, "no arm 'b61'. Did you mean 'b64'"),
        ({"in": "threshold", "colour": 3}, "no argument 'colour'"),
        ({}, "needs in:"),
    ],
)  # fmt: skip
def test_a_figure_that_means_nothing_says_what_there_is(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        figure_of(results(), call="report.paper_figures.against", x="batch_size", y="test_loss", **call)


def test_a_figure_without_data_is_none():
    found = {**results(), "figures": {"a": {"call": "report.paper_figures.against", "in": "threshold", "x": "nothing", "y": "test_loss"},
                                      "b": {"call": "report.paper_figures.arms", "in": "threshold", "y": ["nothing"]},
                                      "c": {"call": "report.paper_figures.lines", "in": "manifold"},
                                      "d": {"call": "report.paper_figures.evolution", "in": "manifold"}}}  # fmt: skip
    assert [paper_figures.draw(found, name) for name in "abcd"] == [None] * 4


def horizontal(axis):
    """Return [(row, mean, low, high)] of horizontal error bars."""
    found = []
    for container in axis.containers:
        line, _, (segments,) = container.lines
        (segment,) = segments.get_segments()
        found.append(
            (float(line.get_ydata()[0]), float(line.get_xdata()[0]), *map(float, sorted(segment[:, 0])))
        )
    return found


def test_arms_are_rows_with_their_means():
    accuracy, updates, seconds = drawn(results(), "schedules").axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["decay", "growth", "constant"]
    assert [middle for _, middle, *_ in horizontal(updates)] == [426, 1197, 3140]
    reach = scipy.stats.t(9).ppf(0.975) * 0.21
    np.testing.assert_allclose(horizontal(seconds)[2], (2, 5.2, 5.2 - reach, 5.2 + reach))
    assert updates.get_xscale() == "log" and seconds.get_xscale() == "linear"


def test_seeds_of_a_study_are_faint_dots():
    (axis,) = figure_of(
        results(), call="report.paper_figures.arms", **{"in": ["minima-loss", "manifold"]}, y="sharpness_7"
    ).axes  # fmt: skip
    dots = [line for line in axis.lines if len(line.get_xdata()) == 10]
    np.testing.assert_allclose(dots[0].get_xdata(), [1.0 + seed / 1000 for seed in SEEDS])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["small", "large"]


def test_seeds_are_drawn_in_the_unit_of_the_axis():
    rows = [{"arm": "small", "seed": seed, "test_accuracy": 0.9 + seed / 1000} for seed in (1, 2)]
    found = results(studies={"own": {"in": "minima-loss", "rows": rows}})
    (axis,) = figure_of(found, call="report.paper_figures.arms", **{"in": "own"}, y="test_accuracy").axes
    (dots,) = [line for line in axis.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(dots.get_xdata(), [90.1, 90.2])
    np.testing.assert_allclose(horizontal(axis)[0][1], 90.15)


def test_an_interval_that_reaches_below_0_stays_on_a_log_axis():
    arms = {"a": arm(8, test_loss=mean(0.01, 0.02)), "b": arm(16, test_loss=mean(1.0, 0.1))}
    found = results(experiments={"one": {"equal": "loss", "seeds": SEEDS, "arms": arms}})
    axis = figure_of(
        found, call="report.paper_figures.against", **{"in": "one"}, x="batch_size", y="test_loss"
    ).axes[0]
    (_, _, low, high), _ = bars(axis)
    assert axis.get_yscale() == "log"
    np.testing.assert_allclose((low, high), (0.001, 0.01 + 0.02 * scipy.stats.t(9).ppf(0.975)))
    assert axis.get_ylim()[0] < 0.001


def test_arms_of_one_name_in_two_experiments_are_not_mixed_up():
    found = results()
    found["experiments"]["other"] = {
        "equal": "loss",
        "seeds": SEEDS,
        "arms": {"small": arm(8, test_loss=mean(9.0))},
    }
    known = arms_of(found, ["minima-loss", "other"])
    assert list(known) == ["minima-loss: small", "large", "other: small"]
    assert known["minima-loss: small"].summary("test_loss").mean == 0.1021
    assert known["other: small"].summary("test_loss").mean == 9.0


def test_a_single_seed_is_a_point_without_a_bar():
    found = results(
        experiments={
            "one": {
                "equal": "loss",
                "seeds": [100],
                "arms": {"a": arm(8, num_seeds=1), "b": arm(9, num_seeds=1)},
            }
        }
    )
    axis = figure_of(
        found, call="report.paper_figures.against", **{"in": "one"}, x="batch_size", y="test_loss"
    ).axes[0]
    assert (
        all(math.isnan(low) for _, _, low, _ in bars(axis)) and [y for _, y, *_ in bars(axis)] == [0.1021] * 2
    )


# Figures of curves.


def test_the_loss_between_two_minima_is_the_median_over_seeds_with_the_ends_named():
    found = results()
    curves = found["studies"]["line"]["curves"]
    curves[9]["train_loss"] = [9 * loss for loss in curves[9]["train_loss"]]  # far from the others
    left, below, right = drawn(found, "line").axes
    thick = [line for line in left.lines if line.get_linewidth() == 1.5 and len(line.get_xdata()) == 25]
    for drawn_line, key in zip(thick, ("train_loss", "test_loss"), strict=True):
        np.testing.assert_allclose(
            drawn_line.get_ydata(), np.median([curve[key] for curve in curves], axis=0)
        )
    assert sum(line.get_linewidth() == 0.6 for line in left.lines) == 20
    assert left.get_yscale() == "log" and right.get_ylabel() == "accuracy (%)"
    assert [(text.get_text(), text.xy[0]) for text in left.texts] == [("small", 0), ("large", 1)]
    np.testing.assert_allclose(right.lines[-1].get_ydata().max(), 95.5, atol=0.1)
    assert below.get_xlim() == left.get_xlim()


def test_pairs_have_a_panel_each_and_what_is_missing_is_left_out():
    found = results()
    curves = [line(0), line(0, "small to grown", 2.0), line(1, "small to grown", 2.0)]
    for curve in curves:
        del curve["top_eigenvalue"], curve["alpha_eigenvalues"]
    curves[0]["train_loss"][:3] = [None, math.inf, math.nan]
    curves[0]["test_accuracy"] = None
    found["studies"]["line"] = {"in": "minima-loss", "rows": [], "curves": curves}
    first, second, *twins = drawn(found, "line").axes
    assert (
        len(twins) == 2 and first.get_title() == "small to large" and second.get_title() == "small to grown"
    )
    assert np.isnan(first.lines[0].get_ydata()[:3].astype(float)).sum() >= 2


def test_curvature_is_against_the_loss_which_falls_to_the_right():
    (axis,) = drawn(results(), "evolution").axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert axis.get_xlim()[0] > axis.get_xlim()[1]
    assert axis.get_legend_handles_labels()[1] == ["small", "large"]
    assert sum(line.get_linewidth() == 0.7 for line in axis.lines) == 20
    means = [line for line in axis.lines if line.get_linewidth() == 1.6]
    for drawn_line, growth in zip(
        means, (0.2, 0.7), strict=True
    ):  # seeds have factors 1 to 1.18 before the same power law
        expected = 2 * (2.3 / drawn_line.get_xdata()) ** growth
        factors = drawn_line.get_ydata() / expected
        assert 1 < factors.min() <= factors.max() < 1.18


def test_a_mean_ends_where_fewer_than_half_of_the_seeds_are():
    found = results()
    curves = [
        {"arm": "a", "seed": seed, "loss": [1.0, 0.5], "top_eigenvalue": [2.0, 8.0]} for seed in range(3)
    ]
    curves[0] = {**curves[0], "loss": [1.0, 0.5, 0.01], "top_eigenvalue": [2.0, 1.0, 99.0]}
    found["studies"]["evolution"]["curves"] = curves
    (axis,) = drawn(found, "evolution").axes
    (middle,) = [line for line in axis.lines if line.get_linewidth() == 1.6]
    np.testing.assert_allclose(sorted(middle.get_xydata().tolist()), [[0.5, 4.0], [1.0, 2.0]])


def test_points_that_a_log_axis_cannot_show_are_left_out():
    found = results()
    curve = {
        "arm": "a",
        "seed": 1,
        "loss": [1.0, 0.5, None, 0.0, 0.1],
        "top_eigenvalue": [2.0, None, 3.0, 4.0, -1.0],
    }
    found["studies"]["evolution"]["curves"] = [curve]
    (axis,) = drawn(found, "evolution").axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[1.0], [1.0]]
    curve["loss"] = [None] * 5
    assert paper_figures.draw(found, "evolution") is None


# Captions, page, gallery.


def test_a_caption_says_of_what_it_is():
    text = caption_of(results(), "threshold")
    assert text.startswith("Accuracy and curvature over the batch.")
    for part in (
        "Model: networks.mlp(widths=[128, 128])", "data: data.datasets.digits(num_train=1000)", "seeds: 100 to 109", "arms: 5",
        "device: CPU (Some & Co, 2 cores)", "scale: small", "95 % intervals by Student's t", "optimizer: keras.optimizers.Adam",
    ):  # fmt: skip
        assert part in text, part
    assert "arms: 2;" in caption_of(results(), "line")  # small to large
    assert "not" in caption_of(results(), "claims") and "95 % interval" in caption_of(results(), "claims")


def test_a_caption_says_if_models_differ_and_which_seeds_a_study_had():
    found = results()
    found["experiments"]["threshold"]["arms"]["b16"]["settings"]["model"] = {"call": "networks.f1"}
    assert "Model: differs" in caption_of(found, "threshold")
    found["studies"]["line"]["rows"] = found["studies"]["line"]["rows"][:2]
    assert "seeds: 100, 101;" in caption_of(found, "line")


def text_of_page(html):
    """Return what a reader of the page sees, without figures."""
    import html as escapes

    body = re.sub(r"<svg.*?</svg>|<style>.*?</style>", " ", html, flags=re.DOTALL)
    return escapes.unescape(re.sub(r"<[^>]*>", "\n", body))


def test_the_page_shows_all_and_files_lie_beside_it(tmp_path):
    (tmp_path / "paper.yaml").write_text("paper: <b>x</b>\n")
    found = results()
    written = write_paper(found, tmp_path)
    assert written[0] == tmp_path / "report.html" and all(path.is_file() for path in written)
    page = written[0].read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places
    text = text_of_page(page)
    for part in (
        PAPER, "12 min 34 s", "00aa11bb22cc33dd", "1234567890abcdef", "fedcba0987654321", "CPU (Some & Co, 2 cores)",
        "lbgap reproduce keskar2017 --scale small --seeds 10", "paper: <b>x</b>", "97.19±0.46", "needs a GPU and ImageNet", "no time for it",
        "minima-loss: mean ± standard error", "threshold: mean ± standard error", "manifold: mean",
    ):  # fmt: skip
        assert part in text, part
    for each in found["claims"]:
        if each["verdict"] != "PASS":
            assert each["seen"] in text
    names = {path.name for path in written}
    assert {f"{name}.{kind}" for name in paper_figures.figures_of(found) for kind in ("svg", "pdf")} < names
    assert {"captions.md", "claims.tex", "arms_minima-loss.tex", "study_manifold.tex"} < names
    assert "**threshold.** Accuracy and curvature" in (tmp_path / "figures" / "captions.md").read_text()
    assert max(path.stat().st_size for path in written if path.suffix == ".svg") < 60_000


def test_equal_results_give_equal_files(tmp_path):
    first, second = (write_paper(results(), tmp_path / name) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def hostile():
    found = results(name=HOSTILE, paper=HOSTILE, scale=HOSTILE, command=HOSTILE)
    found["environment"]["processor"] = HOSTILE
    found["features"]["scales"] = HOSTILE
    for each in found["claims"]:
        each.update(
            says=HOSTILE, seen=HOSTILE, note=HOSTILE + "2", source=HOSTILE, statistic=HOSTILE, claimed=HOSTILE
        )
    arms = found["experiments"]["threshold"]["arms"]
    arms[HOSTILE] = {**arms.pop("b16"), "failed": [HOSTILE]}
    arms[HOSTILE]["settings"]["model"] = {"call": HOSTILE}
    found["experiments"][HOSTILE] = found["experiments"].pop("schedules")
    found["studies"]["line"]["curves"][0]["arm"] = HOSTILE
    found["studies"]["evolution"]["curves"][0]["arm"] = HOSTILE
    found["figures"]["schedules"] = {
        "call": "report.paper_figures.arms",
        "in": HOSTILE,
        "y": "test_loss",
        "caption": HOSTILE,
    }
    found["figures"][HOSTILE] = {**found["figures"]["threshold"], "series": {HOSTILE: [HOSTILE, "b64"]}}
    return found


def test_markup_in_results_is_text_everywhere(tmp_path):
    (tmp_path / "paper.yaml").write_text(f"paper: {HOSTILE}</pre></details></main>\n")
    written = write_paper(hostile(), tmp_path)
    page = written[0].read_text()
    assert "<script" not in page and page.count("</main>") == 1
    assert HOSTILE in text_of_page(page)
    assert "default-src 'none'".replace("'", "&#x27;") in page
    assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in written)
    text = gallery([hostile()], [hostile()])
    text = re.sub("```.*?```", "", text, flags=re.DOTALL)  # where all is text
    assert "<script" not in text and not re.search(r"(?<!\\)\]\(javascript", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for row in tables:
        assert len(re.findall(r"(?<!\\)\|", row)) in (9, 8, 7), row  # a bar in a cell ends none


def test_parts_that_are_empty_are_left_out(tmp_path):
    bare = {"name": "bare", "scale": "small", "paper": "A paper", "claims": [claim("a", "NOT RUN", estimate=None, seen="no data")],
            "experiments": {}, "studies": {}}  # fmt: skip
    text = text_of_page(write_paper(bare, tmp_path)[0].read_text())
    assert "no data" in text and "lbgap reproduce bare --scale small" in text
    assert "no data" in gallery([bare]) and "NOT RUN" in gallery([bare])
    nothing = {"name": "nothing", "claims": []}
    assert "nothing" in text_of_page(write_paper(nothing, tmp_path / "b")[0].read_text())
    assert "nothing" in gallery([nothing]) and headline_figures(nothing) == []


def test_one_seed_and_values_that_are_not_finite_work_throughout(tmp_path):
    lone = arm(
        32,
        num_seeds=1,
        top_eigenvalue={"mean": None, "standard_error": None, "num_seeds": 0},
        sharpness=mean(math.nan),
    )
    found = results(
        seeds=1, figures={"a": {"call": "report.paper_figures.arms", "in": "one", "y": ["test_loss", "top_eigenvalue"]}}, studies={},
        experiments={"one": {"equal": "loss", "seeds": [100], "arms": {"a": lone, "b": arm(64, num_seeds=1)}}},
        claims=[primary("INCONCLUSIVE", "loss", math.nan, (math.nan, math.nan), seen="A single seed to judge by.", values=[2.0])],
    )  # fmt: skip
    text = text_of_page(write_paper(found, tmp_path)[0].read_text())
    assert "A single seed to judge by." in text and "nan" not in text.lower()
    assert "nan" not in gallery([found]).lower()


def test_what_did_not_finish_is_said():
    assert "did not finish" in paper_page(results(complete=False), {}, [], "")
    assert "did not finish" not in paper_page(results(complete=True), {}, [], "")


def test_the_command_and_seconds_are_told_as_far_as_they_are_known():
    assert command_of(results(command="lbgap x")) == "lbgap x"
    assert command_of(results(seeds=None)) == "lbgap reproduce keskar2017 --scale small"
    assert "| 12 min 34 s |" in gallery([results(seconds={"runs": 754.3, "wall": 400.0})])


def test_a_line_of_the_gallery_holds_the_verdict_under_each_rule():
    text = gallery([results()])
    (row,) = [line for line in text.splitlines() if line.startswith("| [keskar2017](#keskar2017) | At equal")]
    assert row.split(" | ")[2:] == ["**PASS**", "PASS", "INCONCLUSIVE", "FAIL", "NOT RUN", "12 min 34 s |"]
    assert gallery([results()]) == text


def test_the_gallery_has_every_number_and_sentence_of_the_claims():
    text = gallery([results()], [results(first_seed=200)])
    for each in results()["claims"]:
        if each["verdict"] not in ("PASS", "NOT RUN"):
            assert each["seen"] in text
            assert numbers.estimate(each).replace(" (", "<br>(") in text
    assert "verdict with seeds<br>200 to 209" in text
    assert "```\nlbgap reproduce keskar2017 --scale small --seeds 10\n```" in text


def test_images_of_the_gallery_are_those_it_links(tmp_path):
    found = results()
    written = write_images([found], tmp_path)
    links = re.findall(r"\]\(images/reproductions/([^)]*)\)", gallery([found]))
    assert links == [path.name for path in written] == ["keskar2017_threshold.svg"]
    assert written[0].read_text().startswith("<svg ")
    del found["figures"]["threshold"]["headline"]
    assert headline_figures(found) == ["threshold"]
    found["figures"]["line"]["headline"] = True
    assert headline_figures(found) == ["line"]
    assert headline_figures(results(figures={})) == ["claims"]


def test_the_matrix_says_what_the_file_says_or_what_experiments_tell():
    assert (
        "| [keskar2017](#keskar2017) | batch size | none, at equal loss | F1, C1 | digits | ε-sharpness |"
        in gallery([results()])
    )
    row = gallery([results(features={})]).splitlines()[-1]
    assert (
        "networks.mlp(widths=\\[128, 128\\])" in row and "| loss, epochs |" in row and row.endswith("| - |")
    )


# In a browser.


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists(CHROMIUM) and not os.environ.get("LBGAP_REQUIRE_BROWSER"), reason=f"no Chromium at {CHROMIUM}"
)  # fmt: skip
@pytest.mark.parametrize("make", [results, hostile], ids=["plain", "hostile"])
def test_the_page_fits_narrow_and_wide_screens_in_light_and_dark(tmp_path, make):
    """Nothing but tables and figures scrolls sideways, each in a box of its own, and nobody is asked for anything."""
    from playwright.sync_api import sync_playwright

    path = write_paper(make(), tmp_path)[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width in (400, 1400):
            for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(48, 48, 48)")):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                complaints, requests = [], []
                page.on("console", lambda message, own=complaints: own.append(message.text))
                page.on("request", lambda request, own=requests: own.append(request.url))
                page.goto(f"file://{path}")
                assert page.evaluate("document.documentElement.scrollWidth") == width
                assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
                assert page.locator("figure svg").count() == len(paper_figures.figures_of(make()))
                assert complaints == []
                assert [url for url in requests if not url.startswith("data:")] == [f"file://{path}"]
                page.close()
        browser.close()


def test_an_svg_is_short_and_keeps_its_text():
    figure = paper_figures.draw(results(), "claims")
    text = svg_of(figure, label="All <claims>")
    assert (
        "INCONCLUSIVE" in text and "3.92 (2.91 to 5.08)" in text and 'aria-label="All &lt;claims&gt;"' in text
    )
    assert "<metadata" not in text and "<style" not in text and "<g>" not in text and "<g id" not in text
    assert text == svg_of(paper_figures.draw(results(), "claims"), label="All <claims>")

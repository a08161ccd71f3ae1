"""Tables of a reproduction: every number is that of results.json, and no FAIL is hidden."""

import io
import math

import numpy as np
import pytest
from invented_results import SEEDS, arm, claim, floats, mean, only_claims, primary, results

from tf_lbgap.report import (
    arms_grid,
    claims_grid,
    power_grid,
    rich_table,
)
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.paper_grids import study_grid

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
        [{**base, "power": 0.834}, {**base, "name": "b", "power": 0.9999}, {**base, "name": "b", "expected": None, "deviation": None, "power": None}]
    )  # fmt: skip
    assert grid.rows == (
        ("A.", "loss", "above 1.5", "4.00", "0.500", "10", "83"),
        ("A.", "loss", "above 1.5", "4.00", "0.500", "10", "> 99"),
        ("the same claim", "loss", "above 1.5", "-", "-", "10", "not known"),
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

"""The table and the sentences of a search, from results as they are written."""

import pytest

from tf_lbgap.report.search_grids import edge, edge_sentences, ranked, short_name, trials_grid
from tf_lbgap.search import OBJECTIVES


def trial(name, score, deviation=0.01, status="finished", **values):
    return {
        "trial": name, "values": values, "status": status, "score": score, "score_deviation": deviation, "seconds": 1.25,
    }  # fmt: skip


BATCH = {"name": "batch_size", "values": [16, 64, 256], "low": 16, "high": 256, "scale": "log"}
RATE = {"name": "learning_rate.initial", "values": None, "low": 0.01, "high": 1.0, "scale": "log"}


def results(*trials, **changes):
    return {
        "name": "s", "tuner": "random", "direction": "max", "dimensions": [BATCH, RATE], "trials": list(trials), **changes,
    }  # fmt: skip


def test_the_best_stand_first_with_their_deviation_and_failures_are_counted():
    found = results(
        trial("0000", 0.5, batch_size=16, **{"learning_rate.initial": 0.1}),
        trial("0001", None, None, "diverged", batch_size=64, **{"learning_rate.initial": 0.9}),
        trial("0002", 0.75, None, batch_size=64, **{"learning_rate.initial": 0.2}),
    )
    grid = trials_grid(found, OBJECTIVES["validation_accuracy"])
    assert grid.columns == (
        "\ntrial",
        "\nbatch_size",
        "\nlearning_rate",
        "validation\naccuracy %",
        "\nseconds",
    )
    assert grid.rows == (("0002", "64", "0.2", "75.00", "1.2"), ("0000", "16", "0.1", "50.00±1.00", "1.2"))
    assert grid.caption == "1 of 3 trials diverged, missed the target or failed."


def test_of_hyperband_those_with_all_epochs_stand_first():
    found = results(
        trial("0000", 0.9, batch_size=16, epochs=1),
        trial("0001", 0.5, batch_size=64, epochs=4),
        tuner="hyperband",
    )
    assert [each["trial"] for each in ranked(found)] == ["0001", "0000"]
    assert "\nepochs" in trials_grid(found, OBJECTIVES["validation_accuracy"]).columns


@pytest.mark.parametrize(
    "dimension, value, expected",
    [
        (BATCH, 16, "low"),
        (BATCH, 64, None),
        (BATCH, 256, "high"),
        (RATE, 0.0125, "low"),  # log10: 1.903 of 2, a twentieth of the two decades is a tenth
        (RATE, 0.0127, None),
        (RATE, 0.8, "high"),
        (RATE, 0.78, None),
        ({**RATE, "scale": "linear"}, 0.05, "low"),
        (
            {"name": "a", "values": ["relu", "tanh"], "low": None, "high": None, "scale": "linear"},
            "relu",
            None,
        ),
    ],
)
def test_a_value_is_at_an_end_within_a_twentieth_of_a_range(dimension, value, expected):
    assert edge(dimension, value) == expected


def test_a_sentence_for_each_end_at_which_the_best_lies():
    found = results(
        trial("0000", 0.5, batch_size=16, **{"learning_rate.initial": 0.99}),
        trial("0001", 0.4, batch_size=64),
    )
    first, second = edge_sentences(found)
    assert (
        "batch_size 16, at the low end" in first and "learning_rate.initial 0.99, at the high end" in second
    )
    assert edge_sentences(results(trial("0000", None, batch_size=16))) == []


@pytest.mark.parametrize(
    "name, short",
    [
        ("batch_size", "batch_size"),
        ("optimizer.momentum", "momentum"),
        ("model.widths", "widths"),
        ("learning_rate.initial", "learning_rate"),
        ("batch_size.milestones.0", "batch_size.milestones.0"),
    ],
)
def test_headings_are_short(name, short):
    assert short_name(name) == short

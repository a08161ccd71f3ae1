"""Hovering at the edge of stability, against histories written by hand."""

import numpy as np
import pytest
import tiny_runs

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edges") / "run"
    tiny_runs.run({**tiny_runs.ONE_ARM, "epochs": 1, "output": str(folder)})
    return FinishedRun(folder)


@pytest.fixture
def hovering(run, monkeypatch):
    """Return the study of a history and of a number of updates, as if training had left them."""

    def study(history, updates, loss=0.5, **options):
        monkeypatch.setitem(run.row("small", 0), "updates", updates)
        monkeypatch.setitem(run.row("small", 0), "train_loss", loss)
        monkeypatch.setattr(run, "history", lambda arm, seed: history)
        return studies.hovering(run, **options)

    return study


def measured(update, value, edge, converged=True):
    row = {"update": update, "progress": update / 10, "values": [value], "converged": [converged]}
    return {**row, "edge_of_stability": edge}


def history():
    rows = [measured(10 * i, float(i), 10.0) for i in range(1, 9)]
    rows[6]["converged"] = [False]  # update 70 of 80: the last quarter is 70 and 80
    return rows


def test_hovering_is_read_from_what_converged_in_the_last_quarter(hovering):
    found = hovering(history(), 80, after=35)
    (row,) = found["rows"]
    assert row["top_over_edge"] == pytest.approx(0.8) and row["late_eigenvalue"] == 8
    assert row["early_eigenvalue"] == 4 and row["sharpening"] == 2
    assert found["curves"][0]["update"] == [10, 20, 30, 40, 50, 60, 80]
    (row,) = hovering(history(), 80, part=1.0, after=90)["rows"]
    assert row["late_eigenvalue"] == pytest.approx(29 / 7) and np.isnan(row["sharpening"])


def test_the_last_quarter_is_that_of_training_not_of_what_converged(hovering):
    """Of 100 updates it begins after 75; of 120 after 90, and nothing was measured there."""
    (row,) = hovering(history(), 100)["rows"]
    assert row["late_eigenvalue"] == 8
    (row,) = hovering(history(), 120)["rows"]
    assert np.isnan([row[key] for key in ("top_over_edge", "late_eigenvalue", "sharpening")]).all()
    assert row["early_eigenvalue"] == 1
    (row,) = hovering(history()[:7], 80, part=0.5)["rows"]  # 50 and 60 are in the last half
    assert row["late_eigenvalue"] == 5.5


def test_what_did_not_converge_or_diverged_is_nan(hovering):
    for found in (
        hovering([{"update": 3, "values": [None], "converged": [False]}], 3),
        hovering(history(), 80, loss=None),
    ):
        values = [value for key, value in found["rows"][0].items() if key not in ("arm", "seed")]
        assert len(values) == 4 and np.isnan(values).all()
    assert not found["curves"]


def test_a_part_above_the_whole_is_told(hovering):
    with pytest.raises(ConfigError, match="at most 1"):
        hovering(history(), 80, part=2)


def test_an_arm_without_a_monitor_is_told(run):
    with pytest.raises(ConfigError, match="curvature was not measured"):
        studies.hovering(run)

"""The events of a run: the tab shows the numbers of results.json, and what was measured stands in one directory."""

import numpy as np
import pytest
from event_files import events

from tf_lbgap import callbacks
from tf_lbgap.experiment import RunFailed, from_dict, run
from tf_lbgap.report.answers import answers
from tf_lbgap.report.runs import read_runs

CONFIG = {
    "data": {"call": "data.datasets.digits", "num_train": 100},
    "model": {"call": "networks.mlp", "widths": [8]},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.5},
    "equal": "epochs",
    "epochs": 2,
    "seeds": 1,
    "measure": {"top_eigenvalue_examples": 50, "monitor": {"k": 2, "every": {"updates": 3}}},
    "arms": {
        "grown": {
            "batch_size": {"call": "schedules.staircase", "initial": 20, "factor": 5, "milestones": [1]}
        }
    },
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (row,) = run(from_dict({**CONFIG, "output": str(folder)}))
    return folder, row


def test_one_directory_holds_what_we_write_beside_those_of_keras(ran):
    folder, _ = ran
    files = [path.relative_to(folder / "grown" / "0") for path in folder.rglob("*tfevents*")]
    assert sorted(str(path.parent) for path in files) == [".", "train", "validation"]
    (one,) = answers(read_runs([folder]))["runs"]["runs"]
    assert (one["run"], one["group"], one["seed"]) == ("grown/0", "grown", "0")
    assert one["members"] == ["grown/0", "grown/0/train", "grown/0/validation"]


def test_the_tabs_table_is_results_json(ran):
    folder, row = ran
    (cells,) = answers(read_runs([folder]))["table"]["rows"]
    for key in ("test_accuracy", "test_loss", "train_loss", "top_eigenvalue", "sharpness"):
        assert cells[key] == pytest.approx(row[key], rel=1e-6), key
    assert (cells["updates"], cells["batch_size"]) == (row["updates"], 100) == (6, 100)


def test_schedules_and_spectra_are_those_of_training(ran):
    """100 examples: five updates of 20, then one of 100. Monitored at updates 3 and 6, the last."""
    folder, row = ran
    found = events(folder / "grown" / "0")
    assert {step: float(v) for step, v in found["schedule/batch_size"].items()} == {1: 20, 5: 20, 6: 100}
    assert {step: float(v) for step, v in found["progress/epochs"].items()}[6] == 2
    # g = 0.1 / (1 - 0.5) (N / B - 1)
    assert {step: float(v) for step, v in found["schedule/noise_scale"].items()} == pytest.approx(
        {1: 0.8, 5: 0.8, 6: 0}
    )
    rows = found["curvature/eigenvalues"]
    assert list(rows) == [3, 6]
    assert rows[6][2] == pytest.approx(row["top_eigenvalue"], rel=2e-3)
    assert np.isfinite(rows[6][3])  # the monitor's second value was not overwritten


def test_without_a_monitor_the_last_step_has_the_eigenvalue_with_its_residual(tmp_path):
    config = {**CONFIG, "output": str(tmp_path), "measure": {"top_eigenvalue_examples": 50}}
    (row,) = run(from_dict(config))
    found = events(tmp_path / "grown" / "0")
    (last,) = found["curvature/eigenvalues"].values()
    assert last[[0, 2, 3, 4]].tolist() == [6, row["top_eigenvalue"], row["top_eigenvalue_residual"], 1]
    assert float(found["sharpness/epsilon_sharpness"][6]) == np.float32(row["sharpness"])


def test_an_arm_that_raised_is_trained_again_into_a_file_of_its_own(tmp_path, monkeypatch):
    """In one process: what the broken fit left open must not get the points of the next."""
    experiment = from_dict({**CONFIG, "output": str(tmp_path), "measure": {"top_eigenvalue_examples": 0}})

    def broken(callback, epoch, logs=None):
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.RunSummary, "on_epoch_end", broken)
        with pytest.raises(RunFailed, match="broken"):
            run(experiment)
    run(experiment)
    assert list(events(tmp_path / "grown" / "0")["progress/epochs"]) == [0, 1, 5, 6]

"""Measuring while an experiment trains, and its saved weights afterwards."""

import json

import keras
import numpy as np
import pytest
import yaml

import tf_lbgap as lb
from tf_lbgap import cli, experiment

TINY = {
    "data": {"call": "data.datasets.digits", "num_train": 103},
    "model": {"call": "networks.mlp", "widths": [8]},
    "equal": "epochs",
    "epochs": 3,
    "seeds": 2,
    "arms": {"small": {"batch_size": 10}, "large": {"batch_size": 50}},
}


def run(folder, **measure):
    settings = {"top_eigenvalue_examples": 50, "validation_examples": 0, **measure}
    content = {**TINY, "measure": settings, "output": str(folder)}
    return experiment.run(experiment.from_dict(content))


@pytest.fixture(scope="module")
def monitored(tmp_path_factory):
    """A finished run that was measured every 7 updates."""
    folder = tmp_path_factory.mktemp("measure") / "run"
    return folder, run(folder, monitor={"k": 2, "every": {"updates": 7}})


def history(folder, arm, seed):
    return json.loads((folder / arm / str(seed) / "curvature.json").read_text())


def without_seconds(rows):
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]


def test_a_monitor_measures_at_its_updates_and_changes_no_result(monitored, tmp_path):
    """103 examples in batches of 10 are 11 updates an epoch, 33 in all; of 50, 9."""
    folder, rows = monitored
    for seed in (0, 1):
        assert [row["update"] for row in history(folder, "small", seed)] == [7, 14, 21, 28]
        assert [row["update"] for row in history(folder, "large", seed)] == [7]
    assert without_seconds(rows) == without_seconds(run(tmp_path / "plain"))
    assert all(row["seconds_measure"] > 0 for row in rows)


@pytest.mark.slow
def test_a_cadence_found_within_a_budget_is_written_down_and_kept(tmp_path):
    rows = run(tmp_path, monitor={"max_overhead": 0.9})
    found = rows[0]["monitor_every"]
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["measure"]["monitor"]
    assert written == {"max_overhead": 0.9, "every": found} and "max_products" in found
    first = [row["update"] for row in history(tmp_path, "small", 0)]
    assert first == [row["update"] for row in history(tmp_path, "small", 1)]
    trained = (tmp_path / "small" / "0" / "result.json").stat().st_mtime_ns
    assert without_seconds(run(tmp_path, monitor={"max_overhead": 0.9})) == without_seconds(rows)
    assert (tmp_path / "small" / "0" / "result.json").stat().st_mtime_ns == trained
    assert experiment.load(tmp_path / "config.yaml").measure.monitor["every"] == found


def test_sharpness_of_a_row_is_that_of_its_saved_weights(monitored):
    folder, rows = monitored
    model = lb.networks.mlp((64,), 10, widths=(8,))
    model.load_weights(folder / "large" / "1" / "model.weights.h5")
    split = lb.data.datasets.digits(num_train=103, seed=1)
    loss = experiment.load(folder / "config.yaml").arms["large"]["loss"]
    assert loss["from_logits"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sample = split.x_train[:50], split.y_train[:50]
    assert rows[3]["sharpness"] == pytest.approx(
        lb.sharpness.epsilon_sharpness(model, loss, sample), rel=1e-3
    )


def test_measuring_a_run_gives_the_numbers_of_the_run_and_their_spread(monitored):
    folder, rows = monitored
    names = ("top_eigenvalue", "epsilon_sharpness")
    _, whole = experiment.measure(folder, names)
    for row, own in zip(rows, whole, strict=True):
        assert (row["arm"], row["seed"]) == (own["arm"], own["seed"]) and own["examples"] == 50
        assert own["top_eigenvalue"] == pytest.approx(row["top_eigenvalue"], rel=1e-5)
        assert own["epsilon_sharpness"] == pytest.approx(row["sharpness"], rel=1e-3)

    _, parts = experiment.measure(folder, names[:1], examples=0, subsets=4)
    assert parts == json.loads((folder / "measures.json").read_text())["runs"]
    model = lb.networks.mlp((64,), 10, widths=(8,))
    model.load_weights(folder / "small" / "0" / "model.weights.h5")
    split = lb.data.datasets.digits(num_train=103, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    values = [
        lb.sharpness.top_eigenvalue(model, loss, (split.x_train[i::4], split.y_train[i::4])) for i in range(4)
    ]
    assert parts[0]["examples"] == 103
    assert parts[0]["top_eigenvalue"] == pytest.approx(np.mean(values), rel=1e-4)
    assert parts[0]["top_eigenvalue_spread"] == pytest.approx(np.std(values, ddof=1), rel=1e-3)


def test_the_command_prints_a_table_and_refuses_what_is_not_there(monitored, tmp_path, capsys):
    folder, _ = monitored
    assert cli.main(["measure", str(folder), "top_eigenvalue", "--examples", "40"]) == 0
    printed = capsys.readouterr().out
    assert "top_eigenvalue" in printed and "On 40 training examples" in printed and "measures.json" in printed
    assert cli.main(["measure", str(folder), "top_eigen"]) == 2
    assert "Did you mean 'top_eigenvalue'?" in capsys.readouterr().err
    assert cli.main(["measure", str(tmp_path)]) == 2
    assert "no run directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ({"top": 3}, "'top' in measure: monitor is not a key"),
        ({}, "must hold keys"),
        (3, "must hold keys"),
        ({"every": "week"}, "week"),
        ({"k": 0}, "k"),
    ],
)
def test_a_monitor_that_cannot_be_is_refused(monitor, message, tmp_path):
    with pytest.raises(experiment.ConfigError, match=message):
        run(tmp_path, monitor=monitor)

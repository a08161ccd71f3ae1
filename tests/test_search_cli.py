"""`lbgap search` as it is typed: what it prints, and what it leaves."""

import json
import pathlib
import subprocess
import sys

import pytest
import yaml

SEARCH = """\
data: {call: data.datasets.digits, num_train: 100}
model: {call: networks.mlp, widths: [8]}
optimizer: {call: keras.optimizers.SGD, momentum: 0.9}
batch_size: {choice: [10, 20, 50]}
learning_rate: {range: [0.02, 0.1], num: 2}
equal: epochs
epochs: 2
measure: {top_eigenvalue_examples: 0, validation_examples: 0}
tuner: grid
seeds: 2
fresh_seeds: 3
margin: 90
arms:
  known: {batch_size: 25, learning_rate: 0.05}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Be in a folder with the file of a search."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SEARCH)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return the folder, and what a search printed that was typed in it; once on two jobs, then again."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "tiny.yaml").write_text(SEARCH)
    command = [sys.executable, "-m", "tf_lbgap", "search", "tiny.yaml", "max_trials=9"]
    first = subprocess.run([*command, "--jobs", "2"], cwd=folder, capture_output=True, text=True)
    again = subprocess.run([*command, "--quiet"], cwd=folder, capture_output=True, text=True)
    return folder, first, again


@pytest.mark.slow
def test_it_prints_each_trial_the_best_the_winners_and_the_paths(ran):
    folder, first, _ = ran
    assert first.returncode == 0 and first.stderr == "", first.stderr
    lines = first.stdout.splitlines()
    results = json.loads((folder / "runs/tiny/results.json").read_text())
    assert lines[0] == "tiny: 2 seeds a trial, 80 training examples, grid"
    ended = [line for line in lines if " trial 0" in line]
    assert len(ended) == 6 and ended[0].startswith("1/6 trial 000") and ": validation accuracy 0." in ended[0]
    (winner,) = results["winners"]
    best = max(results["trials"], key=lambda trial: trial["score"])
    assert winner == best["trial"]
    table = lines[next(i for i, line in enumerate(lines) if "the best 6 of 6 trials" in line) :]
    row = next(line.split() for line in table if line.strip().startswith(winner))
    assert row[1:4] == [
        str(best["batch_size"]),
        f"{best['learning_rate']:.4g}",
        f"{100 * best['score']:.2f}±{100 * best['score_deviation']:.2f}",
    ]
    assert any(line.split()[:1] == ["known"] for line in lines) and "PASS" in first.stdout
    told = [line for line in lines if line.startswith("The best trial has learning_rate")]
    assert told and "Widen the range" in told[0], "one of two rates is at an end"
    for line in lines:
        if line.startswith("runs/tiny/"):
            assert (folder / line).exists(), line
    assert {"runs/tiny/results.json", "runs/tiny/figures/accuracy_map.svg"} <= set(lines)


@pytest.mark.slow
def test_the_winners_are_an_experiment_that_can_be_run(ran):
    folder, first, _ = ran
    content = yaml.safe_load((folder / "runs/tiny/winners/config.yaml").read_text())
    assert next(iter(content["arms"])) == content["reference"] == "known" and content["margin"] == 90
    path = "runs/tiny/winners/config.yaml"
    assert f"the winners as an experiment: lbgap run {path}" in first.stdout.splitlines()
    from tf_lbgap import experiment

    loaded = experiment.load(folder / path)
    assert [*loaded.seed_numbers] == [1000, 1001, 1002]


@pytest.mark.slow
def test_a_second_time_it_trains_nothing_and_quiet_says_no_trial(ran):
    folder, _first, again = ran
    assert again.returncode == 0, again.stderr
    assert " trial 0" not in again.stdout and again.stdout.splitlines()[-1].startswith(
        "every trial: tensorboard"
    )
    assert "the best 6 of 6 trials" in again.stdout
    assert pathlib.Path(folder / "runs/tiny/trials.csv").read_text().count("\n") == 7


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["tiny.yaml", "objective=accuracy"], "objective: 'accuracy' is none of"),
        (["tiny.yaml", "tuner=hyperbad"], "tuner: 'hyperbad' is none of"),
        (["missing.yaml"], "There is no file 'missing.yaml'. Did you mean 'tiny.yaml'?"),
        (["tiny.yaml", "seeds"], "'seeds' is not of the form key=value"),
    ],
)
def test_a_mistake_is_one_line(tiny, arguments, told, capsys):
    from tf_lbgap import cli

    assert cli.main(["search", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("lbgap: ") and told in error and error.count("\n") == 1


def test_a_mistake_is_told_before_tensorflow_is_imported(tiny):
    code = "import sys; from tf_lbgap.cli import main; main(sys.argv[1:]); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code, "search", "tiny.yaml", "batch_size={choice: [0, 1]}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.stderr
        == "lbgap: batch_size: 0 must be a whole number of at least 1 or a schedule, {call: schedules.staircase, ...}.\n"
    )
    assert done.stdout == "False\n"


def test_run_says_that_a_search_is_one(tiny, capsys):
    from tf_lbgap import cli

    pathlib.Path("plain.yaml").write_text(SEARCH.partition("arms:")[0])
    assert cli.main(["run", "plain.yaml"]) == 2
    assert capsys.readouterr().err == "lbgap: plain.yaml is a search. Type  lbgap search plain.yaml\n"

"""`lbgap advise CONFIG`: what it prints and writes, and that the experiment it writes runs."""

import json
import math
import sys
import types

import pytest
import yaml

from tf_lbgap import cli, data, experiment
from tf_lbgap.advice import comparison, numbers
from tf_lbgap.experiment.calls import make
from tf_lbgap.experiment.making import load_split, make_model
from tf_lbgap.pilot.configured import branches_of_arm
from tf_lbgap.pilot.results import Advice, GrowthPlan, NoiseRow, RaceRow, SizeRow

TINY = """\
data: {call: data.datasets.digits, num_train: 101}
model: {call: networks.mlp, widths: [8]}
optimizer: {call: keras.optimizers.SGD, learning_rate: 0.1, momentum: 0.9}
equal: epochs
epochs: 3
seeds: 2
steps_per_execution: 1
measure: {top_eigenvalue_examples: 0}
reference: small
arms:
  other: {batch_size: 50, learning_rate: {call: schedules.cosine, initial: 0.1, epochs: 9}}
  small: {batch_size: 10}
"""

OWN_DATA = """\
import keras, numpy as np

def data(seed):
    x = np.random.default_rng(seed).normal(size=(60, 3)).astype("float32")
    return (x, x[:, :1]), (x, x[:, :1])

def model(seed):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
"""

OWN = """\
data: {call: "mine_to_advise:data"}
model: {call: "mine_to_advise:model"}
loss: {call: keras.losses.MeanSquaredError}
optimizer: {call: keras.optimizers.Adam, learning_rate: 0.01}
equal: loss
target_loss: 0.05
epochs: 50
arms: {mine: {batch_size: 6}}
"""

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def made(**changes):
    """An advice by hand: 40 instead of 10, and a batch that grows."""
    rows = (
        SizeRow(10, 0.001, 0.0009, 0.0012, 7, 1e4, 2**20, 500.0, 0.5, 500.0, 0.5, 1, 1.0),
        SizeRow(20, 0.002, 0.0018, 0.0021, 7, 1e4, 2**21, 260.0, 0.52, None, None, 0, None),
        SizeRow(40, 0.002, 0.0018, 0.0021, 7, 2e4, None, 150.0, 0.3, 120.0, 0.24, 3, 5.0),
    )
    fields = {
        "batch_size": 40,
        "learning_rate": 0.5,
        "rate_factor": 5.0,
        "rate_rule": "adascale",
        "plan": GrowthPlan((10, 40), (2.5,), (1.0, 5.0), 0.2, 0.1, 0.25, 3),
        "known_batch_size": 10,
        "known_learning_rate": 0.1,
        "goal_loss": 0.2,
        "target_loss": None,
        "start_loss": 2.3,
        "is_raced": True,
        "sizes": rows,
        "noise": (NoiseRow(0, 0.0, 2.3, 20.0, 10.0, 30.0), NoiseRow(500, 50.0, 0.2, 90.0, 40.0, math.inf)),
        "noise_pair": (20.0, 90.0),
        "races": (RaceRow(40, 5.0, (110, 130, 120), 0.24), RaceRow(10, 1.0, (500,), 0.5)),
        "num_examples": 101,
        "num_weights": 610,
        "stopped_growing": "the fence is there",
        "compile_seconds": 0.4,
        "seconds": 12.0,
        "sentences": ("Train with batches of 40.",),
        "unknowns": ("Generalization.",),
    }
    return Advice(**{**fields, **changes})


def loaded_from(text):
    return experiment.from_dict(yaml.safe_load(text), name="tiny")


def test_the_experiment_holds_what_was_known_and_what_is_advised():
    loaded = loaded_from(TINY)
    content = comparison.content_of(loaded, "small", made())
    assert content["arms"] == {
        "known": {"batch_size": 10},
        "advised": {"batch_size": 40, "learning_rate": 0.5},
        "grown": {
            "batch_size": {"call": "schedules.join", "schedules": [10, 40], "milestones": [2.5]},
            "learning_rate": {"call": "schedules.join", "schedules": [0.1, 0.5], "milestones": [2.5]},
        },
    }
    assert (content["equal"], content["target_loss"], content["reference"]) == ("loss", 0.2, "known")
    for key in ("data", "model", "optimizer"):
        assert content[key] == loaded.arms["small"][key]
    # 3 x the 500 updates of 10 of 101 examples that were seen to suffice, 49.5 epochs
    assert content["epochs"] == 149
    read = experiment.from_dict(yaml.safe_load(comparison.text_of(content, made())))
    assert list(read.arms) == ["known", "advised", "grown"] and read.output == "runs/tiny_advised"


def test_a_rate_that_is_a_schedule_is_scaled_in_the_experiment():
    unknown = made(learning_rate=None, known_learning_rate=None, plan=None)
    arms = comparison.content_of(loaded_from(TINY), "other", unknown)["arms"]
    cosine = {"call": "schedules.cosine", "initial": 0.1, "epochs": 9}
    assert arms["known"] == {"batch_size": 50, "learning_rate": cosine}
    rate = arms["advised"]["learning_rate"]
    assert rate == {"call": "schedules.scaled", "schedule": cosine, "factor": 5.0}


def test_on_several_devices_the_measured_numbers_are_used():
    """Two devices, a batch of 20: 10 each, 1 ms, and a ring that takes 2 x 1e-5 s and 4 x 610 bytes at 1 GB/s."""
    options = types.SimpleNamespace(
        devices=2, gradient_bytes=None, bandwidth=1e9, latency=1e-5, largest_share=None, largest=None
    )
    table, sentences = numbers.predicted_on_devices(made(), options)
    names = [str(cell) for cell in table.columns[0].cells]
    updates, seconds = ([str(cell) for cell in table.columns[i].cells] for i in (1, 3))
    at = next(i for i, name in enumerate(names) if name.split()[0] == "16")
    mean = 70 / math.log(4.5)
    expected = 120 / (1 + mean / 40) * (1 + mean / 16)
    assert updates[at] == f"{expected:,.0f}"
    assert float(seconds[at]) == pytest.approx(expected * (0.001 + 2e-5 + 2440 / 1e9), rel=1e-3)
    assert sentences[-1].endswith("a model, not a measurement.")
    assert numbers.predicted_on_devices(made(noise_pair=None), options) is None


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The command run once with five seconds, and what it printed and wrote."""
    folder = tmp_path_factory.mktemp("advised")
    (folder / "tiny.yaml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        import contextlib
        import io

        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            sys.exit(
                cli.main(
                    [
                        "advise",
                        "tiny.yaml",
                        "--budget",
                        "4",
                        "--target-loss",
                        "0.6",
                        "--devices",
                        "2",
                        "seeds=1",
                    ]
                )
            )
    return end.value.code, out.getvalue(), folder


def test_the_command_prints_tables_and_sentences_and_writes_two_files(told):
    code, out, folder = told
    assert code == 0
    lines = out.splitlines()
    assert lines[-3:] == [
        "runs/tiny/advice.yaml",
        "runs/tiny/advice.json",
        "the advice as an experiment: lbgap run runs/tiny/advice.yaml",
    ]
    assert (
        "What this does not know:" in lines and "- Generalization: it looks at the training loss only" in out
    )
    title = "On 2 devices, a prediction from one: none of it was run."
    assert any(line.startswith(title) for line in lines), "on a busy machine there is nothing to predict from"
    tables = lines[: next(i for i, line in enumerate(lines) if line.startswith("Train with"))]
    assert max(map(len, tables)) <= 80 and "…" not in out
    found = json.loads((folder / "runs/tiny/advice.json").read_text())
    assert found["known_batch_size"] == 10 and found["target_loss"] == 0.6
    assert found["batch_size"] in [row["batch_size"] for row in found["sizes"]]
    assert max(row["batch_size"] for row in found["sizes"]) <= 101


def test_the_experiment_that_it_writes_is_accepted_and_trains_two_updates(told, monkeypatch):
    _, _, folder = told
    monkeypatch.chdir(folder)
    read = experiment.load("runs/tiny/advice.yaml")
    assert read.equal == "loss" and read.reference == "known" and {"known", "advised"} <= set(read.arms)
    assert read.arms["known"]["target_loss"] == 0.6
    rows = experiment.run(experiment.load("runs/tiny/advice.yaml", ["equal=updates", "updates=2", "seeds=1"]))
    assert [(row["arm"], row["updates"]) for row in rows] == [(arm, 2) for arm in read.arms]


@pytest.mark.slow
def test_a_users_own_data_and_model_with_batch_normalization(tmp_path, capsys):
    (tmp_path / "mine_to_advise.py").write_text(OWN_DATA)
    (tmp_path / "own.yaml").write_text(OWN)
    assert cli.main(["advise", "own.yaml", "--budget", "6", "--output", "here/mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "square-root rule (for Adam)" in out and "batch normalization" in out
    read = experiment.load("here/mine.yaml")
    assert read.arms["known"]["target_loss"] == 0.05 and (tmp_path / "here/mine.json").stat().st_size


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["tini.yaml"], "There is no file 'tini.yaml'."),
        (["tiny.yaml", "batchsize=3"], "'batchsize' in the file is not a key. Did you mean 'batch_size'?"),
        (["tiny.yaml", "--arm", "smal"], "--arm: 'smal' is not an arm. Did you mean 'small'?"),
        (["tiny.yaml", "--output", "advice.txt"], "--output: 'advice.txt' should end in .yaml"),
        (["tiny.yaml", "--output", "tiny.yaml/a.yaml"], "cannot be written"),
        (
            ["tiny.yaml", "--largest", "64"],
            "With tiny.yaml, --largest is for --devices above 1. Leave it out.",
        ),
        (
            ["tiny.yaml", "--branched", "0", "--devices", "2"],
            "--branched measures on this device: leave out --devices.",
        ),
        (
            ["tiny.yaml", "--branched", "0", "--budget", "9"],
            "--branched measures, and advises nothing: leave out --budget",
        ),
        (
            ["tiny.yaml", "--branched", "0", "--arm", "smal"],
            "--arm: 'smal' is not an arm. Did you mean 'small'?",
        ),
        (["tiny.yaml", "--updates", "3"], "With tiny.yaml, --updates is measured. Leave it out."),
        (["--updates", "3"], "Without a file, advise needs --throughput, --noise-scale, --batch-size."),
        (
            ["--throughput=9", "--noise-scale=9", "--updates=9", "--batch-size=9", "--budget=9"],
            "--budget needs a file to measure",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_2(arguments, text, tiny, capsys):
    assert cli.main(["advise", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("lbgap: ") and text in err


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["strategy=parameter_server"], "advise trains in this process, not under parameter_server"),
        (["batch_size=500", "arms={small: {}}"], "500 is more than the 101 examples"),
        (["--target-loss", "1000"], "target_loss=1000 is reached"),
    ],
)
def test_what_the_data_tell_is_one_line_and_2(arguments, text, tiny, capsys):
    assert cli.main(["advise", "tiny.yaml", *arguments]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and text in err


@pytest.mark.slow
def test_branched_prints_what_branches_come_to_after_so_many_epochs_of_training(tiny, capsys):
    assert cli.main(["advise", "tiny.yaml", "--branched", "0,2"]) == 0
    rows = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] in (["0"], ["2"])
    ]
    arm = experiment.load("tiny.yaml").arms["small"]
    told = list(branches_of_arm(arm, [0, 2]))
    for row, (epochs, found, noise) in zip(rows, told, strict=True):
        assert row[0] == str(epochs) and row[2:6] == [
            *["10", "to"],
            str(found.batch_sizes[-1]),
            str(found.value),
        ]
        assert float(row[1]) == pytest.approx(found.start_loss, rel=0.01)
        assert f"({noise.low:,.0f} to {noise.high:,.0f})" in " ".join(row)
    model, losses = None, []
    for epochs in (0, 2):  # by hand: the arm is trained as `fit` would
        split = load_split(arm["data"], 0)
        model = make_model(arm["model"], split, 0)
        model.compile(make(arm["optimizer"]), make(arm["loss"]))
        batches = data.Batches(split.x_train, split.y_train, batch_size=10, seed=0)
        model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
        losses.append(model.evaluate(split.x_train, split.y_train, verbose=0))
    assert [found.start_loss for _, found, _ in told] == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("wrong", ["1,0", "1,1", "a", "-1"])
def test_epochs_that_do_not_ascend_are_refused(wrong, tiny, capsys):
    with pytest.raises(SystemExit):
        cli.main(["advise", "tiny.yaml", f"--branched={wrong}"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("lbgap advise: error: argument --branched:")


@pytest.mark.parametrize("wrong", ["--budget=0", "--budget=long", "--target-loss=-1"])
def test_numbers_out_of_range_are_refused(wrong, tiny, capsys):
    with pytest.raises(SystemExit):
        cli.main(["advise", "tiny.yaml", wrong])
    assert "is not a positive number" in capsys.readouterr().err.splitlines()[-1]

"""Searches as they run: what trials come to, who wins, and what is kept when a search is killed."""

import glob
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from tiny_runs import users
from tiny_searches import SEARCH, N, results, searched, timeless

from tf_lbgap import search
from tf_lbgap.experiment import ConfigError

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


def rows_of(trial):
    """Return the rows of a trial's seeds, as its folders hold them."""
    paths = sorted(glob.glob(f"runs/search/trials/{trial}/*/result.json"))
    return [json.loads(pathlib.Path(path).read_text())["result"] for path in paths]


def test_a_trial_is_the_mean_of_its_seeds_with_their_deviation_and_the_best_one_wins():
    found, heard = searched()
    assert heard.new == ["0000", "0001", "0002"] and heard.before == []
    assert heard.started_seeds == [(trial, seed) for trial in heard.new for seed in (0, 1)]
    for trial in found["trials"]:
        accuracies = [row["test_accuracy"] for row in rows_of(trial["trial"])]
        assert trial["score"] == pytest.approx(np.mean(accuracies))
        assert trial["score_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
        assert trial["status"] == "finished" and [row["seed"] for row in trial["seeds"]] == [0, 1]
        size, rate = trial["values"]["batch_size"], trial["values"]["learning_rate"]
        assert size in (10, 40) and 0.01 <= rate <= 0.5
        assert trial["noise_scale"] == pytest.approx(rate / 0.1 * (N / size - 1))
        assert [row["updates"] for row in trial["seeds"]] == [2 * N // size] * 2
    best = max(found["trials"], key=lambda trial: trial["score"])
    assert found["winners"] == [best["trial"]]
    assert [(row["arm"], row["seed"]) for row in found["runs"]] == [
        (best["trial"], 1000),
        (best["trial"], 1001),
    ]
    assert [row["examples"] for row in found["runs"]] == [200, 200], (
        "winners train on all of the training data"
    )


@pytest.mark.slow
def test_the_least_wins_where_less_is_better():
    found, _ = searched(
        {
            "equal": "loss",
            "target_loss": 1.5,
            "epochs": 40,
            "objective": "updates",
            "max_trials": 3,
            "winners": 2,
        }
    )
    scored = sorted((t for t in found["trials"] if t["score"] is not None), key=lambda trial: trial["score"])
    assert len(scored) >= 2 and found["winners"] == [trial["trial"] for trial in scored[:2]]
    for trial in scored:
        assert trial["score"] == np.mean([row["updates"] for row in rows_of(trial["trial"])])


def test_trials_that_diverge_or_raise_are_marked_and_the_search_goes_on():
    users(
        "moody",
        """
        import tf_lbgap
        def model(input_shape, num_classes, width, seed):
            if width == 13:
                raise RuntimeError("thirteen is not allowed")
            return tf_lbgap.networks.mlp(input_shape, num_classes, widths=(width,), seed=seed)
        """,
    )
    changes = {
        "tuner": "grid",
        "model": {"call": "moody:model", "width": {"choice": [13, 8]}},
        "learning_rate": {"choice": [0.1, 1e20]},
        "batch_size": 10,
        "max_trials": 9,
    }
    found, heard = searched(changes)
    told = [
        (t["values"]["model.width"], t["values"]["learning_rate"], t["status"], t["message"])
        for t in found["trials"]
    ]
    assert sorted(told, key=str) == sorted(
        [
            (13, 0.1, "failed", "RuntimeError: thirteen is not allowed"),
            (13, 1e20, "failed", "RuntimeError: thirteen is not allowed"),
            (8, 0.1, "finished", ""),
            (8, 1e20, "diverged", "seed 0"),
        ],
        key=str,
    )
    assert len(heard.started_seeds) == 5, "the seeds after one that failed are not trained"
    assert [trial["score"] is None for trial in found["trials"]].count(True) == 3
    (winner,) = found["winners"]
    assert found["trials"][int(winner)]["status"] == "finished"


def test_a_trial_that_misses_the_target_says_so():
    changes = {
        "equal": "loss",
        "target_loss": 1.5,
        "epochs": 30,
        "tuner": "grid",
        "learning_rate": {"choice": [1e-6, 0.1]},
    }
    found, _ = searched({**changes, "batch_size": 10, "objective": "examples"})
    assert [(t["status"], t["message"]) for t in found["trials"]] == [
        ("missed the target", "seed 0"),
        ("finished", ""),
    ]


def test_a_search_in_which_nothing_finishes_says_why():
    with pytest.raises(
        ConfigError, match=r"None of 2 trials finished, so there is no winner \(diverged: seed 0\)"
    ):
        searched({"tuner": "grid", "learning_rate": {"choice": [1e20, 1e21]}, "batch_size": 10})


def test_a_mistake_in_every_trial_ends_the_search_soon():
    users("broken", "def model(input_shape):\n    return 7\n")
    with pytest.raises(
        ConfigError, match="The first 3 trials failed, the last so: model: broken:model must return"
    ):
        searched({"model": {"call": "broken:model"}, "max_trials": 50})


@pytest.mark.parametrize(
    "changes, told",
    [
        (
            {"model": {"call": "networks.mlp", "activation": {"choice": ["relu", "tanh"]}, "width": 3}},
            "no argument 'width'",
        ),
        (
            {"learning_rate": {"call": "schedules.cosine", "initial": {"choice": [0.1, 0.2]}}},
            "missing .* 'epochs'",
        ),
        (
            {"arms": {"known": {"batch_size": 8, "learning_rate": {"call": "schedules.cosin"}}}},
            "Did you mean 'cosine'",
        ),
    ],
)
def test_what_can_be_told_before_a_trial_is_told_before(changes, told):
    with pytest.raises(ConfigError, match=told):
        searched(changes)
    assert not os.path.exists("runs/search/oracle.json")


def test_accuracy_of_what_has_no_classes_is_refused():
    code = """
    def data(seed):
        x = np.random.default_rng(seed).normal(size=(40, 3)).astype("float32")
        return (x[:30], x[:30, 0]), (x[30:], x[30:, 0])
    """
    users("regressed", code)
    with pytest.raises(ConfigError, match="the targets are no classes"):
        searched({"data": {"call": "regressed:data"}})


def test_finished_trials_are_not_trained_again_and_more_may_be_asked_for():
    first, _ = searched()
    again, heard = searched()
    assert heard.started_seeds == [] and heard.before == ["0000", "0001", "0002"]
    assert timeless(again) == timeless(first)
    more, heard = searched({"max_trials": 4})
    assert heard.new == ["0003"] and timeless(more["trials"][:3]) == timeless(first["trials"])
    with pytest.raises(
        ConfigError, match=r"another search is in 'runs/search'. Type output=DIRECTORY, or --again"
    ):
        searched({"epochs": 1})
    assert timeless(results()["trials"]) == timeless(more["trials"]), "and it is left alone"


def test_a_trial_whose_record_is_lost_is_trained_again():
    first, _ = searched()
    for path in ("trial.json", "1/result.json"):
        os.remove(f"runs/search/trials/0001/{path}")
    again, heard = searched()
    assert heard.new == ["0001"] and heard.started_seeds == [("0001", 1)]
    assert timeless(again) == timeless(first)


@pytest.mark.slow
def test_the_architecture_is_searched_with_the_batch():
    model = {
        "call": "networks.mlp",
        "widths": {"choice": [[8], [8, 8]]},
        "normalization": {"choice": [None, "batch", "layer"]},
        "activation": "tanh",
    }
    found, _ = searched(
        {"model": model, "learning_rate": 0.1, "batch_size": 40, "tuner": "grid", "max_trials": 9, "seeds": 1}
    )
    told = {(t["values"]["model.widths"], t["values"]["model.normalization"]): t for t in found["trials"]}
    assert {status for status in (t["status"] for t in found["trials"])} == {"finished"}
    assert set(told) == {(widths, kind) for widths in ("8", "8 x 8") for kind in ("none", "batch", "layer")}
    import h5py

    for (widths, kind), trial in told.items():
        with h5py.File(f"runs/search/trials/{trial['trial']}/0/model.weights.h5") as file:
            layers = [name.rstrip("_0123456789") for name in file["layers"]]
        hidden = widths.count("8")
        assert layers.count("dense") == hidden + 1
        assert layers.count(f"{kind}_normalization") == (0 if kind == "none" else hidden)


@pytest.mark.slow
def test_again_begins_anew():
    searched({"max_trials": 3})
    _, heard = searched({"max_trials": 2, "epochs": 1}, again=True)
    assert len(heard.started_seeds) == 4
    assert sorted(os.listdir("runs/search/trials")) == ["0000", "0001"], "nothing of the other search is left"


def test_a_batch_without_noise_is_told_before_a_trial():
    changes = {
        "batch_size": {"choice": [10, N]},
        "noise_scale": {"range": [0.1, 3.0], "scale": "log"},
        "learning_rate": None,
    }
    with pytest.raises(
        ConfigError,
        match=f"batch_size: {N}: noise_scale: a batch of {N} of {N} training examples has no noise",
    ):
        searched(changes)
    assert not os.path.exists("runs/search/oracle.json")


def test_the_table_keeps_which_schedule_a_trial_had():
    from tf_lbgap.search.room import _flat

    found = {
        "trial": "0",
        "values": {"batch_size": "staircase(initial=8)"},
        "batch_size": None,
        "score": 1.0,
        "seeds": [{}],
    }
    assert _flat(found) == {"trial": "0", "batch_size": "staircase(initial=8)", "score": 1.0, "seeds": 1}


@pytest.mark.slow
@pytest.mark.parametrize("tuner, max_trials", [("random", 5), ("bayesian", 5)])
def test_side_by_side_gives_what_one_after_the_other_gives(tuner, max_trials):
    one, _ = searched({"tuner": {"name": tuner}, "max_trials": max_trials, "output": "runs/search"})
    os.rename("runs/search", "runs/one")
    two, _ = searched({"tuner": {"name": tuner}, "max_trials": max_trials}, jobs=2)
    if tuner == "bayesian":  # draws its first six points at random
        assert max_trials <= 6
    assert timeless(two) == timeless(one)


@pytest.mark.slow
def test_hyperband_gives_large_batches_as_many_examples():
    found, _ = searched(
        {
            "tuner": {"name": "hyperband", "factor": 2},
            "max_trials": None,
            "epochs": 4,
            "seeds": 1,
            "fresh_seeds": 1,
        }
    )
    epochs = [trial["values"]["epochs"] for trial in found["trials"]]
    assert set(epochs) == {1, 2, 4} and len(epochs) > 4
    for trial, count in zip(found["trials"], epochs, strict=True):
        assert [row["examples"] for row in trial["seeds"]] == [count * N], "whatever the batch"
    assert {trial["batch_size"] for trial in found["trials"]} == {10, 40}
    (winner,) = found["winners"]
    most = [trial for trial, count in zip(found["trials"], epochs, strict=True) if count == 4]
    assert winner == max(most, key=lambda trial: trial["score"])["trial"], "of those that had all epochs"


@pytest.mark.slow
def test_winners_are_compared_with_what_is_known():
    arms = {"known": {"batch_size": 10, "learning_rate": 0.1}}
    found, _ = searched({"arms": arms, "margin": 5, "winners": 2, "max_trials": 3})
    assert [row["arm"] for row in found["runs"]] == [
        name for name in ("known", *found["winners"]) for _ in range(2)
    ]
    from tf_lbgap import experiment

    final = experiment.load("runs/search/winners/config.yaml")
    assert final.reference == "known" and final.margin == 5 and list(final.seed_numbers) == [1000, 1001]


SCRIPT = """if True:
    import sys
    sys.path.insert(0, {tests!r})
    import os
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    from tiny_searches import Heard, SEARCH
    from tf_lbgap import search
    class Told(Heard):
        def started(self, trial, seed):
            print("started", trial, seed, flush=True)
        def ended(self, found, is_new):
            print("ended", found["trial"], is_new, flush=True)
    if __name__ == "__main__":
        search.run(search.from_dict({{**SEARCH, **{changes!r}}}), jobs={jobs}, listen=Told())
"""


def script(changes, jobs=1):
    """Write the script of a search, and return what runs it."""
    code = SCRIPT.format(tests=os.path.dirname(__file__), changes=changes, jobs=jobs)
    pathlib.Path("searching.py").write_text(textwrap.dedent(code))
    return [sys.executable, "searching.py"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_that_is_killed_goes_on_and_repeats_no_finished_trial(jobs):
    changes = {"max_trials": 6, "seeds": 2}
    whole, _ = searched(changes)
    os.rename("runs/search", "runs/whole")
    command, ended, started = script(changes, jobs), [], []
    for kill_after in (2, 4):  # seeds that have been started since
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        seen = 0
        for line in process.stdout:
            what, trial, rest = line.split()
            if what == "ended" and rest == "True":
                ended.append(trial)
            if what == "started":
                assert trial not in ended, "a finished trial is not trained again"
                started.append((trial, rest))
                seen += 1
            if seen > kill_after:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # those of --jobs end with it
    last, heard = searched(changes, jobs=jobs)
    assert ended and not set(ended) & set(heard.new), "what ended before the kill is not trained again"
    assert not {trial for trial, _ in heard.started_seeds} & set(ended)
    assert len(last["trials"]) == 6
    by_values = {trial["trial"]: trial for trial in timeless(last["trials"])}
    assert by_values == {trial["trial"]: trial for trial in timeless(whole["trials"])}


def test_a_trial_that_was_saved_as_ended_is_not_run_again_and_one_that_was_not_is():
    from tf_lbgap.search.oracle import make_oracle

    one = search.from_dict(SEARCH)
    oracle = make_oracle(one)
    oracle.file = pathlib.Path("oracle.json").absolute()
    first, second, third = (oracle.create_trial(f"{i}") for i in range(3))
    oracle.update_trial(first.trial_id, {"validation_accuracy": 0.5})
    first.status = "COMPLETED"
    oracle.end_trial(first)  # saves before it strikes the trial off the list of those that run
    content = json.loads(oracle.file.read_text())
    assert first.trial_id in content["oracle"]["ongoing_trials"].values()
    again = make_oracle(one)
    again.file = oracle.file
    again.reload()
    assert [again.create_trial(f"x{i}").trial_id for i in range(3)] == [second.trial_id, third.trial_id, "3"]
    assert again.trials[first.trial_id].score == 0.5


def test_a_grid_that_is_reloaded_goes_on_where_it_was():
    from tf_lbgap.search.oracle import make_oracle

    content = {**SEARCH, "tuner": "grid", "learning_rate": {"choice": [0.1, 0.2, 0.3]}, "max_trials": 100}
    one, seen = search.from_dict(content), []
    file = pathlib.Path("oracle.json").absolute()
    while True:
        oracle = make_oracle(one)
        oracle.file = file
        if file.exists():
            oracle.reload()
        trial = oracle.create_trial("a")
        if trial.status == "STOPPED":
            break
        seen.append(
            (trial.hyperparameters.values["batch_size"], trial.hyperparameters.values["learning_rate"])
        )
        oracle.update_trial(trial.trial_id, {"validation_accuracy": 0.5})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert seen == [(size, rate) for size in (10, 40) for rate in (0.1, 0.2, 0.3)]


def fed(scores, errors=None, failed=()):
    """Return a Bayesian oracle that knows the scores at batch sizes 0, 1, ... of a line."""
    from tf_lbgap.search.oracle import make_oracle
    from tf_lbgap.tuning.oracles import ERROR

    one = search.from_dict(
        {**SEARCH, "batch_size": 10, "tuner": {"name": "bayesian", "num_initial_points": 2}, "max_trials": 50}
    )
    oracle = make_oracle(one)
    oracle.file = pathlib.Path("oracle.json").absolute()
    for i, score in enumerate(scores):
        trial = oracle.create_trial(f"{i}")
        trial.hyperparameters.values["learning_rate"] = 0.01 * 50 ** (i / (len(scores) - 1))
        told = {"validation_accuracy": score}
        if errors is not None:
            told["validation_accuracy" + ERROR] = errors[i]
        trial.status = "FAILED" if i in failed else "COMPLETED"
        if i not in failed:
            oracle.update_trial(trial.trial_id, told)
        oracle.end_trial(trial)
    return oracle


def test_bayesian_search_knows_how_noisy_its_scores_are():
    scores, errors = [0.1, 0.5, 0.9], [0.1, 0.1, 0.2]
    oracle = fed(scores, errors)
    oracle.create_trial("next")
    assert oracle.gpr.get_params()["alpha"] == pytest.approx(np.mean(np.square(errors)) / np.var(scores))
    oracle = fed(scores)
    oracle.create_trial("next")
    assert oracle.gpr.get_params()["alpha"] == 1e-4, "Keras Tuner's own, where nothing is known"


def test_bayesian_search_does_not_come_back_to_where_trials_fail():
    """At the high end all failed. Keras Tuner leaves them out, is unsure there, and goes there again."""
    scores = [0.80, 0.85, 0.90, 0.85, 0.8, 0.0, 0.0, 0.0]
    values = fed(scores, failed=(5, 6, 7)).create_trial("next").hyperparameters.values
    assert values["learning_rate"] < 0.15


def test_every_trial_is_a_session_in_the_tab_hparams():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    found, _ = searched({"max_trials": 2})
    searched({"max_trials": 2})  # says nothing twice
    for trial in found["trials"]:
        for seed in (0, 1):
            folder = f"runs/search/trials/{trial['trial']}/{seed}"
            files = glob.glob(f"{folder}/*tfevents*")
            events = EventAccumulator(folder)
            events.Reload()
            content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
            start = metadata.parse_session_start_info_plugin_data(content)
            assert start.group_name == trial["trial"]
            assert {key: value.number_value for key, value in start.hparams.items()} == trial["values"]
            assert len(files) == 2
            content = events.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
            assert metadata.parse_session_end_info_plugin_data(content).status == 1, "SUCCESS"
            assert "lbgap/test_accuracy" in events.Tags()["tensors"]
    content = events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert [info.name for info in experiment.hparam_infos] == ["batch_size", "learning_rate"]
    assert [value.number_value for value in experiment.hparam_infos[0].domain_discrete.values] == [10, 40]


@pytest.mark.slow
def test_two_workers_and_a_chief_share_one_search_and_find_what_one_process_finds():
    changes = {"max_trials": 6, "learning_rate": {"choice": [0.02, 0.1, 0.5, 1e20]}}
    alone, _ = searched(changes)
    os.rename("runs/search", "runs/alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, processes = script(changes), {}
    for name in ("chief", "first", "second"):
        variables = {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(port),
        }
        processes[name] = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **variables},
        )
    said = {name: process.communicate(timeout=240)[0] for name, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0, 0], said
    trained = {
        name: {line.split()[1] for line in text.splitlines() if line.startswith("started")}
        for name, text in said.items()
    }
    assert trained["first"] and trained["second"] and not trained["first"] & trained["second"]
    names = [trial["trial"] for trial in alone["trials"]]
    assert sorted(trained["first"] | trained["second"]) == names
    together = results()
    assert (
        timeless(together["trials"]) == timeless(alone["trials"]) and together["winners"] == alone["winners"]
    )
    assert {trial["status"] for trial in together["trials"]} == {"finished", "diverged"}


@pytest.mark.parametrize(
    "name, options, told",
    [("chief", {"jobs": 2}, "--jobs: is for one"), ("first", {"again": True}, "to the chief alone")],
)
def test_what_does_nothing_among_several_processes_is_refused(name, options, told, monkeypatch):
    variables = {
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": "1",
    }
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=told):
        searched(**options)


def test_a_variable_of_keras_tuner_that_is_not_set_is_named(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(ConfigError, match="KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT: not set"):
        searched()

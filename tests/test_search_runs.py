"""Searches as they run: what trials come to, who wins, and what is kept."""

import glob
import json
import os
import pathlib

import numpy as np
import pytest
from tiny_runs import users
from tiny_searches import N, results, searched, timeless

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

"""Keras Tuner's oracles as a search keeps them: what they remember, and what they know of noise and failures."""

import json
import pathlib

import numpy as np
import pytest
from tiny_searches import SEARCH

from tf_lbgap import search

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


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

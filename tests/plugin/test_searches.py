"""A search in TensorBoard: every trial is in the tab SHARPNESS and in HParams, through both loaders."""

import pytest
from serving import LOAD_FAST, served
from tiny_searches import searched

HPARAMS = "/data/plugin/hparams/"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Search in a folder of its own; return the folder and results.json."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        results, _ = searched(
            {"measure": {"top_eigenvalue_examples": 20, "validation_examples": 20}, "max_trials": 2}
        )
    return folder, results


@pytest.mark.parametrize("load_fast", LOAD_FAST)
def test_every_trial_is_in_the_tab_and_in_hparams(found, load_fast):
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin

    folder, results = found
    trials = {trial["trial"]: trial for trial in results["trials"]}
    with served(folder / "runs/search/trials", load_fast=load_fast, plugins=[HParamsPlugin]) as tensorboard:
        runs = tensorboard.get("runs")["runs"]
        assert sorted(run["run"] for run in runs) == [f"{name}/{seed}" for name in trials for seed in (0, 1)]
        for run in runs:
            tags = {tag["tag"] for tag in run["tags"]}
            assert {
                "sharpness/top_eigenvalue",
                "curvature/eigenvalues",
                "generalization/test_accuracy",
            } <= tags
            row = trials[run["group"]]["seeds"][int(run["seed"])]
            accuracy = tensorboard.series(run["run"], "generalization/test_accuracy")["values"][0][-1]
            assert accuracy == pytest.approx(row["validation_accuracy"])
        asked = {"allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10}
        average = {
            "aggregationType": "AGGREGATION_AVG",
            "aggregationMetric": {"group": "", "tag": "lbgap/test_accuracy"},
        }
        groups = tensorboard.post(HPARAMS + "session_groups", **asked, **average)["sessionGroups"]
        assert sorted(group["name"] for group in groups) == list(trials)
        for group in groups:
            trial = trials[group["name"]]
            assert group["hparams"] == trial["values"] and len(group["sessions"]) == 2
            told = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
            scores = [
                metric["value"]
                for session in group["sessions"]
                for metric in session["metricValues"]
                if metric["name"]["tag"] == "lbgap/test_accuracy"
            ]
            assert sum(scores) / 2 == pytest.approx(trial["score"]) and "lbgap/top_eigenvalue" in told

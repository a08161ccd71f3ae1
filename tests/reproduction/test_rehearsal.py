"""Rehearsals and sabotage: papers whose every arm fits two updates at each scale, and papers that are broken on purpose."""

import copy
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import yaml
from tiny_papers import TINY

from tf_lbgap import cli, data, reproduction
from tf_lbgap.experiment import ConfigError
from tf_lbgap.reproduction import paper as papers
from tf_lbgap.reproduction.rehearsal import rehearse
from tf_lbgap.reproduction.sabotage import KINDS, sabotaged

PATHS = [path.resolve() for path in reproduction.known_papers()]
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
TEXTS = all(shutil.which(command) for command in ("bible", "diatheke"))
needs_fashion = pytest.mark.skipif(not FASHION.is_dir(), reason="no fashion-mnist: apt-get install dataset-fashion-mnist")  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def arms_with_3_updates(papers):
    """Conservative training makes three updates of a batch, so it stops after the first."""
    return {
        (f"{paper.name} {name}", arm)
        for paper in papers
        for name, experiment in paper.experiments.items()
        for arm, config in experiment.arms.items()
        if "Conservative" in str(config["update"])
    }


# Data of the right shape.


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn_cropped"])
def test_synthetic_data_have_the_shapes_and_classes_that_tfds_itself_makes_up(name, tmp_path):
    with tfds.testing.mock_data(num_examples=3):
        x, _ = next(iter(tfds.load(name, split="train", as_supervised=True, data_dir=tmp_path)))
        num_classes = tfds.builder(name, data_dir=tmp_path).info.features["label"].num_classes
    made = data.datasets.synthetic(name, num_train=7, num_test=2, seed=3)
    assert made.x_train.shape == (7, *x.shape) and made.x_test.shape == (2, *x.shape)
    assert made.x_train.dtype == np.float32 and made.x_train.min() >= 0 and made.x_train.max() < 1
    assert made.num_classes == num_classes and made.y_train.dtype == np.int64
    again, other = (data.datasets.synthetic(name, num_train=7, num_test=2, seed=seed) for seed in (3, 4))
    assert np.array_equal(again.x_train, made.x_train) and not np.array_equal(other.x_train, made.x_train)


def test_synthetic_data_that_cannot_be_made_are_refused():
    for count in (0, 2.5, True):
        with pytest.raises(ValueError, match=r"num_test=.* must be a whole number, 1 or more"):
            data.datasets.synthetic("cifar10", num_test=count)
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        data.datasets.synthetic("cifar1")


# A rehearsal.


def with_arms(arms, **more):
    content = {**TINY, **more, "studies": {}, "claims": {"sharper": TINY["claims"]["sharper"]}}
    content["rules"] = {
        **dict.fromkeys(TINY["rules"], "NOT RUN: no time"),
        "own": "epochs",
        "epochs": {"epochs": 2},
    }
    base = TINY["experiments"]["minima"]["arms"]
    return papers.from_dict({**content, "experiments": {"minima": {"arms": {**base, **arms}}}}, "tiny")


def test_a_rehearsal_makes_two_updates_of_each_kind_of_arm_and_goes_on_after_a_failure():
    growing = {"call": "schedules.staircase", "initial": 30, "factor": 2, "milestones": [1]}
    paper = with_arms(
        {
            "faster": {"batch_size": 10, "learning_rate": 0.3},  # is `small`, for a rehearsal
            "grown": {"batch_size": growing},
            "broken": {"batch_size": 10, "model": {"call": "networks.c1"}},  # takes no 64 features
        }
    )
    rows = {row["arm"]: row for row in rehearse([paper])}
    assert {arm: row["batch_size"] for arm, row in rows.items() if row["failure"] is None} == {
        "small": 10, "large": 25, "grown": 30,
    }  # fmt: skip
    assert [row["updates"] for row in rows.values()] == [2, 2, 2, 0]
    assert "min_ndim=4" in rows["broken"]["failure"] and rows["small"]["experiments"] == [
        "tiny minima-epochs"
    ]

    capped = {row["arm"]: row["batch_size"] for row in rehearse([paper], batch_size=4)}
    assert capped == {"small": 4, "grown": 4, "broken": None}


def test_a_rehearsal_draws_no_more_examples_than_its_two_updates_need(monkeypatch):
    """Two batches and one: of 10, 25, and (capped) 4, whatever the file asks for; also of data within data."""
    asked = []

    def noted(*, num_train=1000, num_test=None, vocabulary=None, seed=0):
        asked.append((num_train, num_test))
        return data.datasets.digits(num_train=num_train, seed=seed)

    monkeypatch.setattr(data.datasets, "noted", noted, raising=False)
    call = {"call": "data.datasets.noted", "num_train": 1700, "num_test": 90}
    noisy = {"call": "data.corruption.noisy_labels", "data": call, "fraction": 0.1}
    for given, cap, most in (
        (call, None, {(21, 21), (51, 51)}),
        (call, 4, {(9, 9)}),
        (noisy, None, {(21, 21), (51, 51)}),
        ({**call, "num_train": 30, "num_test": 5}, None, {(21, 5), (30, 5)}),
        ({**call, "vocabulary": 1000}, 4, {(1700, 9)}),  # made of the examples that train
        ({"call": "data.datasets.noted"}, 4, {(1000, None)}),
    ):
        rows = list(rehearse([with_arms({}, data=given)], batch_size=cap))
        assert all(row["failure"] is None and row["updates"] == 2 for row in rows)
        assert set(asked) == most, given
        asked.clear()


def test_a_rehearsal_in_the_terminal_says_what_failed_and_writes_nothing(capsys):
    content = {**TINY, "studies": {}, "claims": {"sharper": TINY["claims"]["sharper"]}}
    pathlib.Path("tiny.yaml").write_text(yaml.safe_dump(content))
    assert cli.main(["reproduce", "tiny.yaml", "--rehearse"]) == 0
    told = capsys.readouterr().out
    assert "small (tiny minima-loss, tiny minima-epochs" in told and "2 updates, batch 25" in told
    assert told.rstrip().endswith("none failed")
    content["experiments"]["sweep"]["arms"]["a"]["model"] = {"call": "networks.c1"}
    pathlib.Path("tiny.yaml").write_text(yaml.safe_dump(content))
    assert cli.main(["reproduce", "tiny.yaml", "--rehearse", "5"]) == 1
    told = capsys.readouterr().out
    assert (
        "batch 5," in told
        and "a (tiny sweep): " in told
        and "min_ndim=4" in told
        and told.rstrip().endswith("1 failed")
    )
    assert [path.name for path in pathlib.Path().iterdir()] == ["tiny.yaml"]


def is_asynchronous(paper):
    """Its workers are processes that TensorFlow connects to first of all: not in a process that ran other tests."""
    arms = [arm for experiment in paper.experiments.values() for arm in experiment.arms.values()]
    return any(arm["strategy"] == "parameter_server" for arm in arms)


@pytest.mark.slow
@needs_fashion
@pytest.mark.skipif(
    not TEXTS, reason="no texts: apt-get install bible-kjv diatheke sword-text-web sword-text-sparv"
)
@pytest.mark.parametrize("scales", [("small",), ("gpu", "full")], ids=" and ".join)
def test_each_arm_of_the_papers_fits_two_updates(scales):
    loaded = [
        reproduction.load(path, scale)
        for path in PATHS
        for scale in scales
        if reproduction.has_scale(path, scale)
    ]
    loaded = [paper for paper in loaded if paper.experiments and not is_asynchronous(paper)]
    rows = list(rehearse(loaded, batch_size=16 if scales == ("small",) else 8))
    assert [row for row in rows if row["failure"]] == []
    assert {place.split()[0] for row in rows for place in row["experiments"]} == {
        paper.name for paper in loaded
    }
    thrice = arms_with_3_updates(loaded)
    for row in rows:
        assert row["updates"] == (3 if (row["experiments"][0], row["arm"]) in thrice else 2), row


@pytest.mark.slow
@needs_fashion
def test_workers_that_do_not_wait_for_each_other_fit_two_updates():
    command = [
        sys.executable,
        "-m",
        "tf_lbgap",
        "reproduce",
        str(PATHS[0].parent / "dean2012.yaml"),
        "--rehearse",
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    told = [line for line in found.stdout.splitlines() if "2 updates, batch" in line]
    assert len(told) == 5 and "none failed" in found.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="no GPU")
@pytest.mark.parametrize(
    "path", [path for path in PATHS if reproduction.has_scale(path, "gpu")], ids=lambda path: path.stem
)
def test_each_arm_of_the_gpu_scale_fits_two_updates_of_its_own_batch(path):
    assert [row for row in rehearse([reproduction.load(path, "gpu")]) if row["failure"]] == []


# Sabotage.


def arm_settings(paper, arm):
    (experiment,) = paper.experiments.values()
    return experiment.arms[arm]


def test_sabotage_changes_what_it_says_and_nothing_else():
    plain = papers.from_dict(TINY, "tiny").experiments["minima-loss"].arms
    made = {kind: papers.from_dict(sabotaged(TINY, kind), kind) for kind in KINDS if kind != "bare"}
    for paper in made.values():
        assert list(paper.experiments) == ["minima-loss"]
        assert [claim.claim.name for claim in paper.claims if not claim.not_run] == ["sharper"]
    assert arm_settings(made["rate"], "small") == plain["small"]
    faster = arm_settings(made["rate"], "large")
    assert faster["optimizer"]["learning_rate"] == pytest.approx(1.0) and faster["batch_size"] == 25
    assert [arm_settings(made["swapped"], arm) for arm in ("small", "large")] == [
        plain["large"],
        plain["small"],
    ]
    for arm in ("small", "large"):
        told = arm_settings(made["labels"], arm)
        assert told["data"] == {
            "call": "data.corruption.noisy_labels",
            "data": plain[arm]["data"],
            "fraction": 1,
        }
        assert {**told, "data": None} == {**plain[arm], "data": None}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"learning_rate": 0.3}, {"learning_rate": 3.0}),
        (
            {"learning_rate": {"call": "schedules.constant", "value": 0.3}},
            {"learning_rate": {"call": "schedules.scaled", "schedule": {"call": "schedules.constant", "value": 0.3}, "factor": 10}},
        ),
        ({"optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 2}}, {"optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 20}}),
    ],
)  # fmt: skip
def test_the_rate_is_raised_wherever_it_stands(own, expected):
    content = {**TINY, "experiments": {**TINY["experiments"], "minima": {"arms": {"small": {"batch_size": 10}, "large": {"batch_size": 25, **own}}}}}  # fmt: skip
    arm = arm_settings(papers.from_dict(sabotaged(content, "rate"), "tiny"), "large")
    assert {key: arm[key] for key in expected} == expected
    tuned = {**content, "rules": {**TINY["rules"], "own": "tuned"}}
    arm = arm_settings(papers.from_dict(sabotaged(tuned, "rate"), "tiny"), "large")
    assert arm["learning_rates"] == [0.1, 0.5]


def test_what_a_study_of_the_claim_measures_is_sabotaged_with_it():
    claim = {**TINY["claims"]["sharper"], "in": ["minima", "between"]}
    between = {**TINY["studies"]["between"], "in": "sweep", "arms": ["a", "b"]}
    content = {**TINY, "claims": {"sharper": claim}, "studies": {"between": between}}
    made = {kind: papers.from_dict(sabotaged(content, kind), kind).experiments for kind in ("rate", "labels")}
    assert set(made["labels"]) == {"minima-loss", "sweep"}
    shuffled = [arm["data"]["call"] for arm in made["labels"]["sweep"].arms.values()]
    assert shuffled == ["data.corruption.noisy_labels"] * 2
    rates = [arm["optimizer"]["learning_rate"] for arm in made["rate"]["sweep"].arms.values()]
    assert rates == [0.1, 0.1]  # the claim is about an arm of minima


def test_an_arm_laid_bare_keeps_its_batch_size_and_loses_what_was_prescribed_for_it():
    small = {"batch_size": 10, "learning_rate": 0.1}
    large = {"batch_size": 25, "learning_rate": 0.25, "ghost_batch_size": 5}
    content = {
        **TINY,
        "experiments": {**TINY["experiments"], "minima": {"arms": {"small": small, "large": large}}},
    }
    made = papers.from_dict(sabotaged(content, "bare"), "tiny")
    arm = arm_settings(made, "large")
    assert (arm["batch_size"], arm["learning_rate"], arm["ghost_batch_size"]) == (25, 0.1, None)
    assert arm_settings(made, "small")["batch_size"] == 10
    with pytest.raises(ConfigError, match="prescribes nothing but batch sizes"):
        sabotaged(TINY, "bare")


def test_what_cannot_be_sabotaged_is_refused():
    with pytest.raises(ConfigError, match=r"'rat' is no way to break a paper. Did you mean 'rate'"):
        sabotaged(TINY, "rat")
    lone = {
        **TINY["claims"]["sharper"],
        "statistic": {"call": "claims.slope", "of": "updates", "against": "batch_size"},
    }
    content = {**TINY, "claims": {"sharper": lone}}
    with pytest.raises(ConfigError, match="compares no two arms"):
        sabotaged(content, "swapped")
    with pytest.raises(ConfigError, match="compares no two arms"):
        sabotaged(content, "bare")
    arms = papers.from_dict(sabotaged(content, "rate"), "tiny").experiments["minima-loss"].arms
    assert [arm["optimizer"]["learning_rate"] for arm in arms.values()] == pytest.approx([1.0, 1.0])


def test_a_paper_without_rules_is_sabotaged_as_its_experiment_says_and_a_simulation_is_refused():
    content = {**TINY, "primary": "fewer"}
    del content["rules"]
    content["experiments"] = copy.deepcopy(content["experiments"])
    content["experiments"]["minima"] |= {"equal": "epochs", "epochs": 1}
    broken = papers.from_dict(sabotaged(content, "swapped"), "tiny")
    assert list(broken.experiments) == ["sweep"] and [c.claim.rule for c in broken.claims] == ["epochs"]
    assert {name: arm["batch_size"] for name, arm in broken.experiments["sweep"].arms.items()} == {
        "a": 60,
        "b": 20,
    }
    measured = {**content, "primary": "barrier"}
    broken = papers.from_dict(sabotaged(measured, "rate"), "tiny")
    rates = [arm["optimizer"]["learning_rate"] for arm in broken.experiments["minima"].arms.values()]
    assert list(broken.studies) == ["between"] and rates == pytest.approx([1.0, 1.0])
    simulated = {**content, "studies": {"sim": {"call": "x:y"}}, "claims": {"fewer": {**TINY["claims"]["fewer"], "in": "sim"}}}  # fmt: skip
    with pytest.raises(ConfigError, match="is about no arm that is trained"):
        sabotaged(simulated, "rate")


@pytest.mark.slow
@needs_fashion
@pytest.mark.parametrize("kind", ["rate", "labels"])
def test_a_paper_that_is_broken_does_not_pass(kind):
    content = sabotaged(
        papers.at_scale(yaml.safe_load((PATHS[0].parent / "smith2018.yaml").read_text()), "small"), kind
    )
    paper = papers.from_dict(content, "broken", seeds=3)
    ((_, results),) = reproduction.reproduce([paper])
    verdicts = {claim["rule"]: claim["verdict"] for claim in results["claims"]}
    assert verdicts["epochs"] in ("FAIL", "INCONCLUSIVE")

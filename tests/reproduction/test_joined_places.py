"""Claims whose rows come from several experiments and studies: which seeds, and whose test examples."""

import copy
import pathlib

import numpy as np
import pytest
from tiny_papers import TINY

from tf_lbgap.experiment.judged_on import FILE, write_examples
from tf_lbgap.reproduction import paper as papers
from tf_lbgap.reproduction.summary import verdicts


def paper(folder, *claimed, seeds=3, **changes):
    content = copy.deepcopy(TINY)
    content["experiments"]["sweep"]["seeds"] = seeds
    content["seeds"] = 6
    for place in claimed:
        content["claims"]["same"] = {**content["claims"]["same"], **place}
    content["claims"] = {name: content["claims"][name] for name in ("sharper", "same")}
    return papers.from_dict(
        {**content, **changes, "studies": changes.get("studies", {})}, "tiny", output=str(folder)
    )


def rows(arms, seeds, key="test_accuracy", **more):
    draw = np.random.default_rng(len(arms))
    return [
        {"arm": arm, "seed": seed, key: 0.8 + 0.01 * draw.normal(), **more} for arm in arms for seed in seeds
    ]


def verdict(made, own, studies=None):
    everything = {name: own.get(name, []) for name in made.experiments}
    return next(v for v in verdicts(made, everything, studies or {}) if v.claim.name == "same")


ACROSS = {
    "in": ["minima", "sweep"],
    "statistic": {"call": "claims.difference", "of": "test_accuracy", "arm": "b", "to": "small"},
}


def test_a_claim_over_experiments_with_different_seeds_is_about_those_that_both_have(tmp_path):
    own = {"minima-loss": rows(["small"], range(100, 106)), "sweep": rows(["b"], range(100, 103))}
    for row in own["minima-loss"] + own["sweep"]:
        row["test_accuracy"] = 0.8 + row["test_accuracy"] / 1000  # the same to within a tenth of a point
    found = verdict(paper(tmp_path, ACROSS), own)
    assert list(found.seeds) == [100, 101, 102] and found.verdict == "PASS"
    expected = [
        b["test_accuracy"] - s["test_accuracy"]
        for s, b in zip(own["minima-loss"][:3], own["sweep"], strict=True)
    ]
    np.testing.assert_allclose(found.values, expected)


def test_a_seed_in_which_an_arm_is_no_result_is_still_missed(tmp_path):
    own = {"minima-loss": rows(["small"], range(100, 106)), "sweep": rows(["b"], range(100, 103))}
    own["sweep"][1]["why_not"] = "missed the target"
    found = verdict(paper(tmp_path, ACROSS), own)
    assert list(found.seeds) == [100, 102] and "seed 101: b missed the target" in found.seen
    assert found.verdict != "PASS"


def test_the_luck_of_one_test_set_is_allowed_for_in_a_claim_over_two_experiments(tmp_path):
    made = paper(tmp_path, ACROSS)
    own = {
        "minima-loss": rows(["small"], range(100, 103), test_set="one"),
        "sweep": rows(["b"], range(100, 103), test_set="one"),
    }
    without = verdict(made, own)
    draw = np.random.default_rng(0)
    for name, arm in (("minima-loss", "small"), ("sweep", "b")):
        for row in own[name]:
            right = (draw.random(400) < row["test_accuracy"]).astype(float)
            folder = pathlib.Path(made.experiments[name].output) / arm / str(row["seed"])
            folder.mkdir(parents=True)
            write_examples(folder / FILE, right, right)
    allowed = verdict(made, own)
    width = [np.ptp(each.interval) for each in (without, allowed)]
    assert width[1] > 1.2 * width[0] and "bootstrapped" in allowed.note and "bootstrapped" not in without.note


def test_rows_of_a_study_are_joined_to_those_of_its_experiment(tmp_path):
    statistic = {
        "call": "claims.slope",
        "of": "noise_scale",
        "against": "batch_size",
        "arms": ["small", "large"],
    }
    study = {"noise": {"call": "reproduction.studies.noise_scale", "in": "minima", "seeds": 2}}
    made = paper(tmp_path, {"in": ["minima", "noise"], "statistic": statistic}, studies=study)
    arms = {
        arm: rows([arm], range(100, 106), batch_size=size) for arm, size in (("small", 10), ("large", 25))
    }
    own = {"minima-loss": arms["small"] + arms["large"]}
    measured = [
        {"arm": arm, "seed": seed, "noise_scale": size**0.5}
        for seed in (100, 101)
        for arm, size in (("small", 10), ("large", 25))
    ]
    found = verdict(made, own, {"noise": {"rows": measured}})
    assert list(found.seeds) == [100, 101]
    np.testing.assert_allclose(found.values, 0.5)


@pytest.mark.parametrize("key", ["seeds", "first_seed"])
def test_seeds_that_are_asked_for_hold_for_every_rule(key):
    content = copy.deepcopy(TINY)
    content["rules"]["tuned"][key] = 7
    made = papers.from_dict(content, "tiny", **{key: 4})
    assert {getattr(each, key) for each in made.experiments.values()} == {4}
    assert getattr(papers.from_dict(content, "tiny").experiments["minima-tuned"], key) == 7

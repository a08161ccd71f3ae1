"""A paper's file: what it stands for, at which scale, and what is said of a mistake in it."""

import copy

import pytest
import yaml
from tiny_papers import TINY

from tf_lbgap import claims, experiment, reproduction
from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.run import check_calls
from tf_lbgap.reproduction.code import code_digest
from tf_lbgap.reproduction.paper import from_dict

CONFIGS = sorted(reproduction.known_papers())


def paper(changes=None, **options):
    content = copy.deepcopy(TINY)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = content
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return from_dict(content, "tiny", **options)


def test_the_experiment_of_the_primary_claim_is_run_under_each_rule():
    made = paper()
    assert list(made.experiments) == [
        "minima-loss",
        "minima-epochs",
        "minima-updates",
        "minima-tuned",
        "sweep",
    ]
    assert {name: e.equal for name, e in made.experiments.items()} == {
        "minima-loss": "loss",
        "minima-epochs": "epochs",
        "minima-updates": "updates",
        "minima-tuned": "tuned",
        "sweep": "epochs",
    }
    assert made.experiments["minima-updates"].arms["large"]["updates"] == 12
    assert made.experiments["minima-tuned"].arms["small"]["learning_rates"] == [0.01, 0.05]
    assert all(
        e.measure.test_examples and list(e.seed_numbers) == [100, 101] for e in made.experiments.values()
    )


def test_a_claim_of_that_experiment_means_the_papers_own_rule_and_the_primary_one_all():
    tested = [(t.claim.name, t.claim.rule, t.claim.own, t.places, t.not_run) for t in paper().claims]
    assert tested == [
        ("sharper", "loss", True, ("minima-loss",), ""),
        ("sharper", "epochs", False, ("minima-epochs",), ""),
        ("sharper", "updates", False, ("minima-updates",), ""),
        ("sharper", "seconds", False, ("minima-seconds",), "two cores are too noisy"),
        ("sharper", "tuned", False, ("minima-tuned",), ""),
        ("same", "loss", True, ("minima-loss",), ""),
        ("fewer", "epochs", True, ("sweep",), ""),
        ("barrier", "loss", True, ("between",), ""),
    ]
    changes = {"claims.fewer.in": ["sweep", "between"], "studies.between.in": "minima"}
    rules = {t.claim.name: t.claim.rule for t in paper(changes).claims}
    assert rules["fewer"] == "loss, epochs", "of all places, and through studies"


def test_a_rule_may_set_keys_of_single_arms():
    made = paper({"rules.epochs": {"epochs": 2, "arms": {"large": {"learning_rate": 0.2}}}})
    arms = made.experiments["minima-epochs"].arms
    assert (arms["large"]["learning_rate"], arms["small"]["learning_rate"]) == (0.2, None)
    assert made.experiments["minima-loss"].arms["large"]["learning_rate"] is None


def test_a_scale_lies_over_the_rest_and_what_is_not_part_of_it_is_not_run():
    gpu = {"only": ["minima"], "data": {"num_train": 50}, "model": {"call": "networks.small_cnn"}}
    made = paper({"scales": {"gpu": gpu}}, scale="gpu")
    arm = made.experiments["minima-loss"].arms["small"]
    assert arm["data"] == {"call": "data.datasets.digits", "num_train": 50}
    assert arm["model"] == {"call": "networks.small_cnn"}, "another call takes none of the old arguments"
    assert "sweep" not in made.experiments
    assert {t.claim.name: t.not_run for t in made.claims}["fewer"] == "not part of this scale"
    assert made.output.endswith("tiny-gpu")


def test_what_is_expected_counts_the_seeds_of_the_places_that_have_fewest_and_all_claims():
    made = paper({"experiments.sweep.seeds": 5, "claims.same.in": ["sweep", "minima"]}, output="out")
    told = {(each["name"], each["rule"]): each for each in reproduction.expected(made)}
    assert len(told) == 7, "not the one that is not run"
    assert [
        told[key]["num_seeds"] for key in (("fewer", "epochs"), ("same", "loss, epochs"), ("barrier", "loss"))
    ] == [5, 2, 2]
    sharper = next(t.claim for t in made.claims if t.claim.name == "sharper")
    assert told["sharper", "loss"]["power"] == claims.power_of(sharper, 2, num_claims=7) > 0
    assert told["sharper", "epochs"]["power"] is None, "expected under the paper's own rule"
    assert told["fewer", "epochs"]["power"] is None


def test_seeds_of_the_command_line_replace_all_others():
    made = paper({"experiments.sweep.seeds": 3}, seeds=5, first_seed=7)
    assert {tuple(e.seed_numbers) for e in made.experiments.values()} == {(7, 8, 9, 10, 11)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claim": {}}, "'claim' in the file is not a key. Did you mean 'claims'"),
        ({"primary": "sharp"}, "primary: 'sharp' is not a claim. Did you mean 'sharper'"),
        ({"rules.own": "los"}, "rules: own: 'los' is none of loss"),
        ({"rules.epochs": None}, "rules: epochs: None must hold its keys"),
        ({"rules.epochs": {"epoch": 3}}, "experiments: minima-epochs: 'epoch' in the file is not a key"),
        ({"claims.fewer.in": "sweeps"}, "claims: fewer: in: there is no 'sweeps'. Did you mean 'sweep'"),
        ({"claims.fewer.below": 3}, "claims: fewer: needs one of above, below and within, not 2"),
        ({"claims.fewer.within": [2, 1]}, "claims: fewer: within: .* must rise"),
        ({"claims.fewer.within": 3}, "claims: fewer: within: 3 must be two numbers"),
        ({"claims.fewer.expected": "many"}, "claims: fewer: expected: 'many' must be a number"),
        ({"claims.fewer.statistic": "ratio"}, "claims: fewer: statistic: must be a call"),
        ({"claims.fewer.statistic": {"call": "claims.ratoi"}}, "has no 'ratoi'. Did you mean 'ratio'"),
        ({"claims.fewer.statistic": {"call": "claims.holm", "p_values": [1]}}, "holm gave no Statistic"),
        ({"studies.between.in": "minim"}, "studies: between: in: there is no 'minim'"),
        ({"studies.between": 3}, "studies: between: 3 must be a call"),
        ({"experiments.sweep": []}, r"experiments: sweep: must hold arms, not \[\]"),
        ({"experiments": 3}, "experiments: 3 must hold names"),
    ],
)
def test_a_mistake_is_told_in_one_line_that_names_its_place(changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        paper(changes)
    assert "\n" not in str(raised.value)


def test_names_of_papers_scales_and_files_that_are_none():
    with pytest.raises(ConfigError, match=r"There is no paper 'keskar2018'\. Did you mean 'keskar2017'"):
        reproduction.load("keskar2018")
    with pytest.raises(ConfigError, match="--scale tiny: is none of small, gpu, full"):
        paper(scale="tiny")
    with pytest.raises(ConfigError, match=r"scales: there is no gpu\. Known: small"):
        paper(scale="gpu")
    with pytest.raises(ConfigError, match=r"is an experiment, not a paper's. Type {2}lbgap run"):
        reproduction.load(CONFIGS[0].parent / "quickstart.yaml")
    with pytest.raises(ConfigError, match=r"is a paper's\. Type {2}lbgap reproduce"):
        experiment.load(CONFIGS[0])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_call_of_a_papers_file_can_be_made_at_every_scale(path):
    content = yaml.safe_load(path.read_text())
    verdicts = 5 if "rules" in content else 1
    for scale in ("small", *content.get("scales", {})):
        made = reproduction.load(path, scale)
        assert sum(t.claim.primary for t in made.claims) == verdicts, "one verdict under each rule"
        for each in made.experiments.values():
            check_calls(each)


def test_only_code_that_trains_measures_or_judges_changes_the_digest(tmp_path):
    for folder in ("reproduction", "report"):
        (tmp_path / folder).mkdir()

    def digest(files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        code_digest.cache_clear()
        return code_digest(tmp_path)

    first = digest(
        {"claims": '"""What."""\nx = 1\n', "cli": "x = 1\n", "reproduction/running": "x = 1\n"},
    )
    assert digest({"claims": '"""Other."""\n\n# because\nx = (1)\n'}) == first
    assert digest({"cli": "x = 2\n", "report/pages": "x = 1\n", "reproduction/sabotage": "x = 1\n"}) == first
    assert digest({"reproduction/running": "x = 2\n"}) != first
    assert digest({"reproduction/running": "x = 1\n", "claims": "x = 2\n"}) != first

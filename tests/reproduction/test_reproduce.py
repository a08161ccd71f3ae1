"""Reproducing a tiny paper: what is run, what is kept, what is judged anew, and what is said of failures."""

import copy
import json
import pathlib

import numpy as np
import pytest
import yaml
from tiny_papers import TINY

from tf_lbgap import cli, reproduction
from tf_lbgap.experiment import ConfigError
from tf_lbgap.reproduction import paper as papers
from tf_lbgap.reproduction import running


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Listener:
    def __init__(self):
        self.pieces, self.failures = [], []

    def began(self, paper, num_pieces):
        self.num_pieces = num_pieces

    def started(self, paper, piece):
        self.pieces.append(piece)

    def advanced(self, paper, piece, fraction, text):
        assert 0 <= fraction <= 1

    def ended(self, paper, piece, failure):
        self.failures += [failure] if failure else []


def reproduced(content=TINY, **options):
    """Reproduce a dict; return its results and the pieces that were done."""
    listener = Listener()
    made = papers.from_dict(content, "tiny")
    ((_, results),) = reproduction.reproduce([made], listen=listener, **options)
    return results, listener.pieces


def changed(**changes):
    content = copy.deepcopy(TINY)
    for key, value in changes.items():
        place, _, name = key.rpartition("__")
        target = content
        for part in place.split("__") if place else ():
            target = target[part]
        target[name] = value
    return content


def small(**changes):
    """Without what takes long: two arms of a single experiment."""
    content = changed(**changes)
    for rule in ("loss", "updates", "tuned"):
        content["rules"][rule] = "NOT RUN: for a test"
    content["rules"]["own"] = "epochs"
    content["experiments"].pop("sweep")
    content["claims"].pop("fewer")
    return content


@pytest.mark.slow
def test_a_paper_is_reproduced_then_kept_and_a_changed_claim_is_judged_without_training():
    results, pieces = reproduced()
    assert sorted(pieces) == [
        *(
            f"minima-{rule}/{arm}"
            for rule in ("epochs", "loss", "tuned", "updates")
            for arm in ("large", "small")
        ),
        "study between",
        "sweep/a",
        "sweep/b",
    ]
    verdicts = {(c["name"], c["rule"]): c["verdict"] for c in results["claims"]}
    assert verdicts["fewer", "epochs"] == "PASS" and verdicts["sharper", "seconds"] == "NOT RUN"
    assert verdicts["sharper", "updates"] == "PASS" and results["complete"]
    fewer = next(c for c in results["claims"] if c["name"] == "fewer")
    np.testing.assert_allclose(fewer["values"], [1 / 3, 1 / 3])
    run = json.loads(pathlib.Path("runs/reproduce/tiny-small/minima-updates/results.json").read_text())[
        "runs"
    ]
    assert [row["updates"] for row in run] == [12] * 4
    of_arm = results["experiments"]["minima-updates"]["arms"]["large"]["test_loss"]
    own = [row["test_loss"] for row in run if row["arm"] == "large"]
    np.testing.assert_allclose(
        [of_arm["mean"], of_arm["standard_error"]], [np.mean(own), np.std(own, ddof=1) / np.sqrt(2)]
    )
    barrier = next(c for c in results["claims"] if c["name"] == "barrier")
    assert barrier["num_seeds"] == 2 and "60 of 1797 training examples" in barrier["note"]

    again, pieces = reproduced()
    assert (again, pieces) == (results, [])

    study = pathlib.Path("runs/reproduce/tiny-small/study-between.json")
    written = study.stat().st_mtime_ns
    other, pieces = reproduced(changed(claims__fewer__within=[0.5, 0.6]))
    assert pieces == ["study between"] and study.stat().st_mtime_ns == written, "it is read"
    assert {c["name"]: c["verdict"] for c in other["claims"]}["fewer"] == "FAIL"
    assert other["hash"]["claims"] != results["hash"]["claims"]
    assert other["experiments"] == results["experiments"]


@pytest.mark.slow
def test_it_goes_on_after_an_interruption_and_gives_the_numbers_of_one_that_was_not_interrupted(monkeypatch):
    whole, _ = reproduced(small(output="whole"))
    work, done = running.work, []

    def dies(key, piece, news):
        if done:
            raise KeyboardInterrupt
        done.append(key)
        return work(key, piece, news)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(running, "work", dies)
        reproduced(small(output="parts"))
    parts, pieces = reproduced(small(output="parts"))
    assert pieces == ["minima-epochs/large", "study between"]

    def numbers(results):
        claims = [(c["name"], c["values"], c["interval"], c["verdict"]) for c in results["claims"]]
        return claims, {name: {**study, "seconds": None} for name, study in results["studies"].items()}

    assert numbers(parts) == numbers(whole)


@pytest.mark.slow
def test_what_other_code_trained_is_moved_aside_and_trained_anew(monkeypatch):
    reproduced(small())
    monkeypatch.setattr(running, "code_digest", lambda: "other")
    monkeypatch.setattr("tf_lbgap.reproduction.summary.code_digest", lambda: "other")
    results, pieces = reproduced(small())
    assert "minima-epochs/small" in pieces and results["hash"]["code"] == "other"
    assert pathlib.Path("runs/reproduce/tiny-small.before/minima-epochs/small/100/result.json").exists()


@pytest.mark.slow
def test_an_arm_that_raises_is_told_and_the_others_are_judged():
    content = small(output="failing")
    content["experiments"]["minima"]["arms"]["large"]["model"] = {"call": "networks.small_cnn"}
    listener, found = Listener(), []
    with pytest.raises(ConfigError, match=r"tiny minima-epochs/large: .*error.txt"):
        found += reproduction.reproduce([papers.from_dict(content, "tiny")], listen=listener)
    results = json.loads(pathlib.Path("failing/results.json").read_text())
    assert not results["complete"] and listener.failures
    assert {c["verdict"] for c in results["claims"]} == {"NOT RUN", "INCONCLUSIVE"}
    assert "large has no result" in next(c["seen"] for c in results["claims"] if c["rule"] == "epochs")
    assert "Traceback" in pathlib.Path("failing/error.txt").read_text()


def test_a_study_that_means_nothing_is_told_before_anything_is_trained():
    content = small(studies__between__poinst=7)
    with pytest.raises(
        ConfigError, match=r"tiny: studies: between: .* no argument 'poinst'. Did you mean 'points'"
    ):
        reproduced(content)
    assert not list(pathlib.Path("runs").rglob("result.json"))


@pytest.mark.slow
def test_an_arm_that_did_not_learn_is_no_result_in_its_studies_either():
    results, _ = reproduced(small(learned=1.01))
    assert "did not learn" in results["experiments"]["minima-epochs"]["arms"]["large"]["failed"][0]
    assert {c["verdict"] for c in results["claims"]} == {"NOT RUN", "INCONCLUSIVE"}
    assert "did not learn" in next(c for c in results["claims"] if c["name"] == "barrier")["seen"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_prints_power_before_and_verdicts_after_and_writes_the_page(jobs, capsys):
    pathlib.Path("tiny.yaml").write_text(yaml.safe_dump(small(), sort_keys=False))
    assert cli.main(["reproduce", "tiny.yaml", "--seeds", "3", "--jobs", jobs, "--output", "out"]) == 0
    told = capsys.readouterr().out
    before, _, after = told.partition("minima-epochs/")
    assert "before the run" in before and "PASS" in after
    assert "tiny 1/3" in told and told.rstrip().endswith("out/tiny-small/report.html")
    page = pathlib.Path("out/tiny-small/report.html").read_text()
    assert "Large batches train to another loss." in page and "A paper, 2026" in page
    assert "lbgap reproduce tiny --scale small --seeds 3" in page
    assert [
        c["num_seeds"] for c in json.loads(pathlib.Path("out/tiny-small/results.json").read_text())["claims"]
    ][:2] == [0, 3]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name papers, such as"),
        (["keskar2017", "--all"], "not both"),
        (["keskar2016"], "There is no paper 'keskar2016'. Did you mean 'keskar2017'?"),
        (["nowhere.yaml"], "There is no file 'nowhere.yaml'"),
        (["smith2018", "--scale", "large"], "--scale large: is none of small, gpu, full"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(arguments, told, capsys):
    assert cli.main(["reproduce", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


def test_a_number_of_seeds_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "smith2018", "--seeds", "many"])
    assert "'many' is not a whole number" in capsys.readouterr().err

"""Papers' files without rules, studies without training, claims that nobody can test here."""

import json
import pathlib

import numpy as np
import pytest

from tf_lbgap import cli, reproduction
from tf_lbgap.reproduction import running
from tf_lbgap.reproduction.paper import from_dict

MODULE = """
import pathlib

def walk(*, seeds, size=3.0):
    with open("calls.txt", "a") as file:
        file.write(f"{seeds}\\n")
    return {"rows": [{"arm": "a", "seed": seed, "spread": size + seed / 1000} for seed in seeds], "curves": []}
"""
WALK = {
    "paper": "A paper, 2026",
    "seeds": 4,
    "first_seed": 100,
    "primary": "spreads",
    "studies": {"walk": {"call": "walking_nowhere:walk", "size": 2.0}},
    "claims": {
        "spreads": {
            "says": "It spreads.",
            "in": "walk",
            "statistic": {"call": "claims.value", "of": "spread", "arm": "a"},
            "within": [1.5, 2.5],
        },
        "cluster": {"says": "An hour is enough.", "paper": "Another, 2027", "source": "Table 1", "not_run": "no cluster"},
    },
}  # fmt: skip
TRAINED = {
    "paper": "A paper, 2026",
    "data": {"call": "data.datasets.digits", "num_train": 60},
    "model": {"call": "networks.mlp", "widths": [8]},
    "measure": {"top_eigenvalue_examples": 0, "validation_examples": 0},
    "seeds": 2,
    "primary": "fewer",
    "experiments": {
        "sweep": {"equal": "epochs", "epochs": 1, "arms": {"a": {"batch_size": 20}, "b": {"batch_size": 60}}}
    },
    "claims": {
        "fewer": {
            "says": "A batch three times as large takes a third of the updates.",
            "in": "sweep",
            "statistic": {"call": "claims.ratio", "of": "updates", "arm": "b", "to": "a"},
            "within": [0.3, 0.4],
        }
    },
}


@pytest.fixture(autouse=True)
def _beside_a_module_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "walking_nowhere.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def reproduced(content, **options):
    ((_, results),) = reproduction.reproduce([from_dict(content, "tiny", **options)])
    return results


def of(results, name):
    (claim,) = [claim for claim in results["claims"] if claim["name"] == name]
    return claim


def test_a_study_without_a_place_is_called_once_with_the_seeds_of_the_file_and_judged():
    results = reproduced(WALK)
    assert pathlib.Path("calls.txt").read_text() == "[100, 101, 102, 103]\n"
    claim = of(results, "spreads")
    assert claim["verdict"] == "PASS" and claim["rule"] == "" and claim["primary"] and claim["own"]
    np.testing.assert_allclose(claim["values"], [2.1, 2.101, 2.102, 2.103])
    assert claim["seeds"] == [100, 101, 102, 103]
    study = results["studies"]["walk"]
    assert study["in"] is None and study["seconds"] > 0 and results["seconds"]["wall"] > 0

    assert reproduced(WALK) == results
    assert pathlib.Path("calls.txt").read_text().count("\n") == 1


def test_seeds_of_the_command_and_of_the_study_hold_for_a_simulation():
    assert of(reproduced(WALK, seeds=2, first_seed=7), "spreads")["seeds"] == [7, 8]
    fewer = {**WALK, "studies": {"walk": {**WALK["studies"]["walk"], "seeds": 3}}}
    assert of(reproduced(fewer), "spreads")["seeds"] == [100, 101, 102]


def test_a_claim_that_cannot_be_tested_here_is_not_run_for_the_reason_given_and_told_as_that_papers():
    claim = of(reproduced(WALK), "cluster")
    assert (
        claim["verdict"] == "NOT RUN" and claim["seen"] == "no cluster" and claim["paper"] == "Another, 2027"
    )
    assert claim["claimed"] == "" and claim["estimate"] is None and not claim["primary"]


def test_a_claim_may_be_testable_at_one_scale_only():
    spreads = {**WALK["claims"]["spreads"], "not_run": "too small"}
    content = {
        **WALK,
        "claims": {"spreads": spreads},
        "scales": {"gpu": {"claims": {"spreads": {"not_run": None}}}},
    }
    (small,), (gpu,) = (from_dict(content, "tiny", scale).claims for scale in ("small", "gpu"))
    assert small.not_run == "too small" and small.claim.primary
    assert gpu.not_run == "" and gpu.claim.statistic is not None


def test_the_power_is_for_the_seeds_that_a_study_has():
    fewer = {**WALK, "studies": {"walk": {**WALK["studies"]["walk"], "seeds": 3}}}
    assert [
        row["num_seeds"]
        for content in (WALK, fewer)
        for row in reproduction.expected(from_dict(content, "tiny"))
    ] == [4, 3]


def test_what_other_code_made_is_not_lost_or_taken_for_this_codes_if_moving_it_aside_is_interrupted(
    monkeypatch,
):
    reproduced(WALK)
    folder = pathlib.Path(from_dict(WALK, "tiny").output)
    made_by = json.loads((folder / "made_by.json").read_text())
    (folder / "made_by.json").write_text(json.dumps({**made_by, "code": "another"}))
    names = {path.name for path in folder.iterdir()} - {running.LOCK}
    rename, moved = pathlib.Path.rename, []

    def rename_twice(self, target):
        if self.parent.name == folder.name and len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(self.name)
        return rename(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pathlib.Path, "rename", rename_twice)
        running._set_aside(folder, again=False)
    assert (folder / "made_by.json").exists()
    running._set_aside(folder, again=False)
    before = folder.with_name(folder.name + ".before")
    assert {path.name for path in before.iterdir()} == names


def test_without_rules_the_primary_claim_is_tested_once_as_its_experiment_says():
    made = from_dict(TRAINED, "tiny")
    assert list(made.experiments) == ["sweep"]
    assert [(each.claim.rule, each.claim.own) for each in made.claims] == [("epochs", True)]
    results = reproduced(TRAINED)
    assert of(results, "fewer")["verdict"] == "PASS" and of(results, "fewer")["estimate"] == pytest.approx(
        1 / 3
    )


def test_time_is_kept_where_a_claim_is_only_judged_anew_and_added_up_over_interruptions():
    before = reproduced(TRAINED)["seconds"]["wall"]
    claim = {**TRAINED["claims"]["fewer"], "within": [0.5, 0.6]}
    judged = reproduced({**TRAINED, "claims": {"fewer": claim}})
    assert of(judged, "fewer")["verdict"] == "FAIL" and judged["seconds"]["wall"] == before
    more = reproduced({**TRAINED, "seeds": 3})
    assert more["seconds"]["wall"] > before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"studies": {"walk": {"call": "walking_nowhere:walk", "in": ["walk", "walk"]}}}, "in"),
        ({"studies": {"walk": {"call": "walking_nowhere:walk", "sise": 1}}}, "sise"),
        ({"claims": {"spreads": {k: v for k, v in WALK["claims"]["spreads"].items() if k != "in"}}}, "in: must name"),
        ({"seeds": 0}, "seeds"),
        ({"primary": "spread"}, "'spreads'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_line(change, told, capsys):
    import yaml

    pathlib.Path("tiny.yaml").write_text(yaml.safe_dump({**WALK, **change}))
    assert cli.main(["reproduce", "tiny.yaml", "--quiet"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1] and lines[-1].startswith("lbgap: ")


def test_a_scale_that_leaves_a_simulation_out_says_so():
    content = {**WALK, "scales": {"gpu": {"only": []}}}
    made = from_dict(content, "tiny", "gpu")
    assert not made.studies
    assert [each.not_run for each in made.claims] == ["not part of this scale", "no cluster"]


def test_the_gallery_and_the_page_of_papers_show_them(tmp_path):
    made = from_dict(WALK, "tiny")
    reproduced(WALK)
    assert cli.main(["gallery"]) == 0
    kept = json.loads(pathlib.Path("docs/results/tiny.json").read_text())
    assert kept["name"] == made.name
    gallery, papers = (pathlib.Path(f"docs/{name}.md").read_text() for name in ("gallery", "papers"))
    assert "| [tiny](#tiny) | It spreads. | - | PASS |" in gallery
    assert "Seeds 100 to 103, scale small." in gallery
    rows = [line.split(" | ") for line in papers.splitlines() if "(gallery.md#tiny)" in line]
    assert [row[0] for row in rows] == ["| A paper, 2026", "| Another, 2027", "| [tiny](gallery.md#tiny)"]
    assert (
        rows[0][5] == "PASS" and rows[1][5] == "NOT RUN" and "An hour is enough.<br>no cluster" in rows[1][1]
    )


def test_all_papers_of_a_scale_are_those_that_have_it(tmp_path, capsys):
    import yaml

    pathlib.Path("configs").mkdir()
    pathlib.Path("configs/walk.yaml").write_text(yaml.safe_dump(WALK))
    pathlib.Path("configs/long.yaml").write_text(yaml.safe_dump({**WALK, "scales": {"gpu": {"seeds": 3}}}))
    assert cli.main(["reproduce", "--all", "--scale", "gpu", "--quiet"]) == 0
    assert "without scale gpu: walk" in capsys.readouterr().out
    assert sorted(path.name for path in pathlib.Path("runs/reproduce").iterdir()) == ["long-gpu"]
    assert cli.main(["reproduce", "--all", "--scale", "gpus"]) == 2
    assert "--scale gpus: is none of small, gpu, full" in capsys.readouterr().err


def test_a_simulation_that_failed_is_told_and_its_figures_are_left_out(capsys):
    """The page has nothing to draw then; what is told is the mistake, not that an arm is missing."""
    import yaml

    figures = {
        "walk": {
            "call": "report.paper_figures.against",
            "in": "walk",
            "x": "size",
            "y": "spread",
            "series": {"": ["a"]},
        }
    }
    broken = {"call": "walking_nowhere:walk", "size": "large"}
    pathlib.Path("tiny.yaml").write_text(
        yaml.safe_dump({**WALK, "figures": figures, "studies": {"walk": broken}})
    )
    assert cli.main(["reproduce", "tiny.yaml", "--quiet"]) == 2
    told = capsys.readouterr()
    assert (
        "study walk" in told.err
        and "arm" not in told.err
        and "No seed to judge by" in told.out.replace("\n", " ")
    )

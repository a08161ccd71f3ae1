"""What is kept of reproductions: files, a page made from them, and whether two seed sets agree."""

import json
import pathlib

import pytest
from invented_results import claim, results

from tf_lbgap import cli
from tf_lbgap.report.agreement import agreement
from tf_lbgap.report.gallery import gallery
from tf_lbgap.report.gallery_files import kept_results, write_gallery


def write(folder, name, content):
    path = pathlib.Path(folder) / f"{name}-small" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def with_claims(name, *claims):
    return {"name": name, "claims": list(claims)}


def test_results_are_kept_with_six_digits_and_the_page_is_made_from_what_is_kept(tmp_path):
    first, second = results(), results()
    first["claims"][0]["estimate"] = 3.14159265
    write(tmp_path / "runs", "keskar2017", first)
    write(tmp_path / "runs", "another", {"name": "another", "claims": []})
    write(tmp_path / "other", "keskar2017", second)
    written = write_gallery(tmp_path / "runs", tmp_path / "docs", second=tmp_path / "other")
    names = {str(path.relative_to(tmp_path / "docs")) for path in written}
    assert {
        "results/keskar2017.json",
        "results/another.json",
        "results/second/keskar2017.json",
        "gallery.md",
    } < names
    assert all(path.exists() for path in written) and any(name.endswith(".svg") for name in names)
    kept, others = kept_results(tmp_path / "docs")
    assert [each["name"] for each in kept] == ["another", "keskar2017"] and len(others) == 1
    assert kept[1]["claims"][0]["estimate"] == 3.14159
    page = (tmp_path / "docs" / "gallery.md").read_text()
    assert page == gallery(kept, others) and "## With other seeds" in page

    write_gallery(tmp_path / "runs", tmp_path / "docs")  # what was kept of other seeds stays
    assert (tmp_path / "docs" / "gallery.md").read_text() == page


def test_scales_that_were_not_run_are_named():
    assert "Scales gpu and full: NOT RUN." in gallery([results()])
    assert "scale gpu. Scales small and full: NOT RUN." in gallery([results(scale="gpu")])


def test_the_command_writes_the_page_and_says_in_a_line_that_there_is_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["gallery"]) == 2
    assert "runs/reproduce holds no results of scale small" in capsys.readouterr().err
    write("runs/reproduce", "keskar2017", results())
    assert cli.main(["gallery"]) == 0
    assert "docs/gallery.md" in capsys.readouterr().out.splitlines()
    assert "With other seeds" not in pathlib.Path("docs/gallery.md").read_text()


def test_verdicts_of_two_seed_sets_are_compared_claim_by_claim_and_rule_by_rule():
    one = with_claims(
        "a",
        claim("x", "PASS", rule="loss", estimate=2.0, interval=[1.5, 2.5]),
        claim("x", "PASS", rule="epochs", estimate=2.0, interval=[1.5, 2.5]),
        claim("y", "FAIL", rule="loss", estimate=1.0, interval=[0.9, 1.1]),
        claim("z", "NOT RUN", rule="loss", estimate=None, interval=[None, None]),
        claim("w", "INCONCLUSIVE", rule="loss", estimate=None, interval=[None, None]),
    )
    other = with_claims(
        "a",
        claim("x", "PASS", rule="loss", estimate=2.1, interval=[1.6, 2.6]),
        claim("x", "INCONCLUSIVE", rule="epochs", estimate=2.1, interval=[1.6, 2.6]),
        claim("y", "PASS", rule="loss", estimate=3.0, interval=[2.9, 3.1]),
        claim("z", "PASS", rule="loss", estimate=1.0, interval=[0.9, 1.1]),
        claim("w", "INCONCLUSIVE", rule="loss", estimate=1.0, interval=[0.9, 1.1]),
    )
    told, differ = agreement([one], [other])
    assert (  # w had no seed
        "Of 3 tests, each of a claim under a rule, made with both seed sets 1 have the same verdict" in told
    )
    assert "1 are INCONCLUSIVE in one of them, and 1 PASS in one and FAIL in the other" in told
    assert "overlap for 2 of 3" in told
    assert differ == [("a", "x", "epochs", "PASS", "INCONCLUSIVE"), ("a", "y", "loss", "FAIL", "PASS")]
    text = gallery([one], [other])
    assert "| a | x | epochs | PASS | INCONCLUSIVE |" in text and "| a | y | loss | FAIL | PASS |" in text


@pytest.mark.parametrize("others", [[], [with_claims("b", claim("x", "PASS", rule="loss"))]])
def test_papers_without_other_seeds_are_not_compared(others):
    one = with_claims("a", claim("x", "PASS", rule="loss"))
    assert agreement([one], others) == ("No claim was tested with two seed sets.", [])

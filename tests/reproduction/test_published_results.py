"""What docs/ says of the papers is what docs/results/ holds, and that is of the claims as they stand in configs/."""

import functools
import pathlib
import re

import pytest

from tf_lbgap import reproduction
from tf_lbgap.experiment.files import digest
from tf_lbgap.report.gallery import gallery
from tf_lbgap.report.gallery_files import IMAGES, kept_results
from tf_lbgap.report.papers import papers

ROOT = pathlib.Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
RESULTS, OTHERS = kept_results(DOCS)
NAMES = [path.stem for path in reproduction.known_papers()]


@functools.cache  # it draws each figure
def page_of_results():
    return gallery(RESULTS, OTHERS)


def test_each_paper_has_results_at_small_scale_and_other_seeds_are_others():
    assert [results["name"] for results in RESULTS] == NAMES
    ruled = {r["name"] for r in RESULTS if is_tested_under_each_rule(r)}
    assert ruled <= {results["name"] for results in OTHERS} <= set(NAMES)
    first = {results["name"]: results for results in RESULTS}
    for results in RESULTS + OTHERS:
        assert results["scale"] == "small" and results["complete"]
    for results in OTHERS:
        assert not seeds_of(results) & seeds_of(first[results["name"]])


def seeds_of(results):
    return {seed for claim in results["claims"] for seed in claim["seeds"]}


@pytest.mark.parametrize("results", RESULTS + OTHERS, ids=lambda results: results["name"])
def test_results_are_of_the_configuration_and_claims_as_they_stand(results):
    """Of the code they are where `lbgap reproduce` finds nothing to do; whoever changes it runs the papers again."""
    name = results["name"]
    paper = reproduction.load(ROOT / "configs" / f"{name}.yaml")
    assert results["hash"]["claims"] == digest(paper.claims_block)
    assert [(c["name"], c["rule"]) for c in results["claims"]] == [
        (each.claim.name, each.claim.rule) for each in paper.claims
    ]
    assert not set(results["experiments"]) ^ set(paper.experiments)
    chosen_on = range(5)
    for experiment in results["experiments"].values():
        assert not set(experiment["seeds"]) & set(chosen_on)


@pytest.mark.parametrize("results", RESULTS, ids=lambda results: results["name"])
def test_no_verdict_stands_without_what_was_seen(results):
    for claim in results["claims"]:
        assert claim["verdict"] in ("PASS", "FAIL", "INCONCLUSIVE", "NOT RUN")
        assert len(claim["seen"]) > 15, claim["name"]


def test_the_gallery_is_that_of_the_results_and_shows_all_of_them():
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert page == page_of_results()
    shown = set(re.findall(rf"\]\({IMAGES}/([^)]+)\)", page))
    kept = {path.name for path in (DOCS / IMAGES).iterdir()}
    assert shown == kept and len(shown) >= len(RESULTS)


def test_the_page_of_papers_is_that_of_the_results():
    assert (DOCS / "papers.md").read_text(encoding="utf-8") == papers(RESULTS)


def test_the_opening_of_the_readme_has_the_headline_figure_and_the_verdicts_of_the_results():
    opening = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Two commands")[0]
    (image,) = re.findall(r"!\[[^\]]+\]\(docs/([^)]+)\)", opening)
    assert (DOCS / image).exists()
    rows = [line for line in page_of_results().splitlines() if line.startswith("| [")]
    told = [line for line in opening.splitlines() if line.startswith("| [")]
    of_readme = [re.sub(r"docs/gallery\.md", "", line) for line in told]
    ruled = [results["name"] for results in RESULTS if is_tested_under_each_rule(results)]
    assert of_readme == rows[: len(ruled)]


def is_tested_under_each_rule(results):
    return sum(claim["primary"] for claim in results["claims"]) > 1


def test_the_opening_of_the_readme_counts_the_verdicts_of_the_results():
    opening = " ".join(
        (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Two commands")[0].split()
    )
    verdicts = [claim["verdict"] for results in RESULTS for claim in results["claims"]]
    num = {verdict: verdicts.count(verdict) for verdict in ("PASS", "FAIL", "INCONCLUSIVE")}
    claims = {(r["name"], c["name"]) for r in RESULTS for c in r["claims"] if c["verdict"] != "NOT RUN"}
    assert f"{len(claims)} claims make {sum(num.values())} tests" in opening
    assert f"{num['PASS']} PASS, {num['FAIL']} FAIL and {num['INCONCLUSIVE']} are INCONCLUSIVE" in opening
    here, there = ({key: v for r in all_of for key, v in verdicts_of(r)} for all_of in (RESULTS, OTHERS))
    assert set(there) <= set(here)
    same = sum(here[key] == there[key] for key in there)
    assert f"Of {len(there)} that were made again with other seeds {same} have the same verdict" in opening
    assert not [key for key in there if {here[key], there[key]} == {"PASS", "FAIL"}]


def verdicts_of(results):
    for claim in results["claims"]:
        if claim["verdict"] != "NOT RUN" and claim["num_seeds"]:
            yield (results["name"], claim["name"], claim["rule"]), claim["verdict"]

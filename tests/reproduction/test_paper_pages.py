"""Captions, the page and the gallery of reproductions: nothing is hidden, and nothing is markup."""

import json
import math
import os
import re

import pytest
from invented_results import CHROMIUM, HOSTILE, PAPER, arm, claim, mean, primary, results

from tf_lbgap.report import (
    paper_figures,
    write_paper,
)
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.gallery import gallery, headline_figures, write_images
from tf_lbgap.report.paper_captions import caption_of
from tf_lbgap.report.paper_page import paper_page
from tf_lbgap.report.paper_results import command_of
from tf_lbgap.report.paper_svg import svg_of
from tf_lbgap.report.papers import papers

# Captions, page, gallery.


def test_a_caption_says_of_what_it_is():
    text = caption_of(results(), "threshold")
    assert text.startswith("Accuracy and curvature over the batch.")
    for part in (
        "Model: networks.mlp(widths=[128, 128])", "data: data.datasets.digits(num_train=1000)", "seeds: 100 to 109", "arms: 5",
        "device: CPU (Some & Co, 2 cores)", "scale: small", "95 % intervals by Student's t", "optimizer: keras.optimizers.Adam",
    ):  # fmt: skip
        assert part in text, part
    assert "arms: 2;" in caption_of(results(), "line")  # small to large
    assert "not" in caption_of(results(), "claims") and "95 % interval" in caption_of(results(), "claims")


def test_a_caption_counts_the_arms_that_are_drawn_and_tells_seeds_of_experiments_apart():
    found = results()
    series = {"one line": ["b16", "b64"]}
    found["figures"]["threshold"]["series"] = series
    assert "arms: 2 of 5;" in caption_of(found, "threshold")
    del found["figures"]["threshold"]["series"]
    found["figures"]["threshold"]["arms"] = ["b16", "b64", "b256"]
    assert "arms: 3 of 5;" in caption_of(found, "threshold")
    found["figures"]["threshold"]["in"] = ["threshold", "minima-loss"]
    found["experiments"]["threshold"]["seeds"] = [100, 101, 102]
    assert "seeds: 100 to 102 / 100 to 109;" in caption_of(found, "threshold")


def test_a_caption_says_if_models_differ_and_which_seeds_a_study_had():
    found = results()
    found["experiments"]["threshold"]["arms"]["b16"]["settings"]["model"] = {"call": "networks.f1"}
    assert "Model: differs" in caption_of(found, "threshold")
    found["studies"]["line"]["rows"] = found["studies"]["line"]["rows"][:2]
    assert "seeds: 100, 101;" in caption_of(found, "line")


def text_of_page(html):
    """Return what a reader of the page sees, without figures."""
    import html as escapes

    body = re.sub(r"<svg.*?</svg>|<style>.*?</style>", " ", html, flags=re.DOTALL)
    return escapes.unescape(re.sub(r"<[^>]*>", "\n", body))


def test_the_page_shows_all_and_files_lie_beside_it(tmp_path):
    (tmp_path / "paper.yaml").write_text("paper: <b>x</b>\n")
    found = results()
    written = write_paper(found, tmp_path)
    assert written[0] == tmp_path / "report.html" and all(path.is_file() for path in written)
    assert (
        json.loads((tmp_path / "results.json").read_text())["figures"] == found["figures"]
    )  # what the gallery draws
    page = written[0].read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places
    text = text_of_page(page)
    for part in (
        PAPER, "12 min 34 s", "00aa11bb22cc33dd", "1234567890abcdef", "fedcba0987654321", "CPU (Some & Co, 2 cores)",
        "lbgap reproduce keskar2017 --scale small --seeds 10", "paper: <b>x</b>", "97.19±0.46", "needs a GPU and ImageNet", "no time for it",
        "minima-loss: mean ± standard error", "threshold: mean ± standard error", "manifold: mean",
    ):  # fmt: skip
        assert part in text, part
    for each in found["claims"]:
        if each["verdict"] != "PASS":
            assert each["seen"] in text
    names = {path.name for path in written}
    assert {f"{name}.{kind}" for name in paper_figures.figures_of(found) for kind in ("svg", "pdf")} < names
    assert {"captions.md", "claims.tex", "arms_minima-loss.tex", "study_manifold.tex"} < names
    assert "**threshold.** Accuracy and curvature" in (tmp_path / "figures" / "captions.md").read_text()
    assert max(path.stat().st_size for path in written if path.suffix == ".svg") < 60_000


def test_equal_results_give_equal_files(tmp_path):
    first, second = (write_paper(results(), tmp_path / name) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def hostile():
    found = results(name=HOSTILE, paper=HOSTILE, scale=HOSTILE, command=HOSTILE)
    found["environment"]["processor"] = HOSTILE
    found["features"]["scales"] = HOSTILE
    for each in found["claims"]:
        each.update(
            says=HOSTILE, seen=HOSTILE, note=HOSTILE + "2", source=HOSTILE, statistic=HOSTILE, claimed=HOSTILE
        )
    arms = found["experiments"]["threshold"]["arms"]
    arms[HOSTILE] = {**arms.pop("b16"), "failed": [HOSTILE]}
    arms[HOSTILE]["settings"]["model"] = {"call": HOSTILE}
    found["experiments"][HOSTILE] = found["experiments"].pop("schedules")
    found["studies"]["line"]["curves"][0]["arm"] = HOSTILE
    found["studies"]["evolution"]["curves"][0]["arm"] = HOSTILE
    found["figures"]["schedules"] = {
        "call": "report.paper_figures.arms",
        "in": HOSTILE,
        "y": "test_loss",
        "caption": HOSTILE,
    }
    found["figures"][HOSTILE] = {**found["figures"]["threshold"], "series": {HOSTILE: [HOSTILE, "b64"]}}
    return found


def test_markup_in_results_is_text_everywhere(tmp_path):
    (tmp_path / "paper.yaml").write_text(f"paper: {HOSTILE}</pre></details></main>\n")
    written = write_paper(hostile(), tmp_path)
    page = written[0].read_text()
    assert "<script" not in page and page.count("</main>") == 1
    assert HOSTILE in text_of_page(page)
    assert "default-src 'none'".replace("'", "&#x27;") in page
    assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in written)
    text = gallery([hostile()], [hostile()])
    text = re.sub("```.*?```", "", text, flags=re.DOTALL)  # where all is text
    assert "<script" not in text and not re.search(r"(?<!\\)\]\(javascript", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for row in tables:
        assert len(re.findall(r"(?<!\\)\|", row)) in (9, 8, 7), row  # a bar in a cell ends none


def test_parts_that_are_empty_are_left_out(tmp_path):
    bare = {"name": "bare", "scale": "small", "paper": "A paper", "claims": [claim("a", "NOT RUN", estimate=None, seen="no data")],
            "experiments": {}, "studies": {}}  # fmt: skip
    text = text_of_page(write_paper(bare, tmp_path)[0].read_text())
    assert "no data" in text and "lbgap reproduce bare --scale small" in text
    assert "no data" in gallery([bare]) and "NOT RUN" in gallery([bare])
    nothing = {"name": "nothing", "claims": []}
    assert "nothing" in text_of_page(write_paper(nothing, tmp_path / "b")[0].read_text())
    assert "nothing" in gallery([nothing]) and headline_figures(nothing) == []


def test_one_seed_and_values_that_are_not_finite_work_throughout(tmp_path):
    lone = arm(
        32,
        num_seeds=1,
        top_eigenvalue={"mean": None, "standard_error": None, "num_seeds": 0},
        sharpness=mean(math.nan),
    )
    found = results(
        seeds=1, figures={"a": {"call": "report.paper_figures.arms", "in": "one", "y": ["test_loss", "top_eigenvalue"]}}, studies={},
        experiments={"one": {"equal": "loss", "seeds": [100], "arms": {"a": lone, "b": arm(64, num_seeds=1)}}},
        claims=[primary("INCONCLUSIVE", "loss", math.nan, (math.nan, math.nan), seen="A single seed to judge by.", values=[2.0])],
    )  # fmt: skip
    text = text_of_page(write_paper(found, tmp_path)[0].read_text())
    assert "A single seed to judge by." in text and "nan" not in text.lower()
    assert "nan" not in gallery([found]).lower()


def test_what_did_not_finish_is_said():
    assert "did not finish" in paper_page(results(complete=False), {}, [], "")
    assert "did not finish" not in paper_page(results(complete=True), {}, [], "")


def test_the_command_and_seconds_are_told_as_far_as_they_are_known():
    assert command_of(results(command="lbgap x")) == "lbgap x"
    assert command_of(results(seeds=None)) == "lbgap reproduce keskar2017 --scale small"
    assert "| 12 min 34 s |" in gallery([results(seconds={"runs": 754.3, "wall": 400.0})])


def test_a_line_of_the_gallery_holds_the_verdict_under_each_rule():
    text = gallery([results()])
    (row,) = [line for line in text.splitlines() if line.startswith("| [keskar2017](#keskar2017) | At equal")]
    assert row.split(" | ")[2:] == ["**PASS**", "PASS", "INCONCLUSIVE", "FAIL", "NOT RUN", "12 min 34 s |"]
    assert gallery([results()]) == text


def test_the_gallery_has_every_number_and_sentence_of_the_claims():
    text = gallery([results()], [results(first_seed=200)])
    for each in results()["claims"]:
        if each["verdict"] not in ("PASS", "NOT RUN"):
            assert each["seen"] in text
            assert numbers.estimate(each).replace(" (", "<br>(") in text
    assert "verdict with seeds<br>200 to 209" in text
    assert "```\nlbgap reproduce keskar2017 --scale small --seeds 10\n```" in text


def test_images_of_the_gallery_are_those_it_links(tmp_path):
    found = results()
    written = write_images([found], tmp_path)
    links = re.findall(r"\]\(images/reproductions/([^)]*)\)", gallery([found]))
    assert links == [path.name for path in written] == ["keskar2017_threshold.svg"]
    assert written[0].read_text().startswith("<svg ")
    del found["figures"]["threshold"]["headline"]
    assert headline_figures(found) == ["threshold"]
    found["figures"]["line"]["headline"] = True
    assert headline_figures(found) == ["line"]
    assert headline_figures(results(figures={})) == ["claims"]


def test_the_matrix_says_what_the_file_says_or_what_experiments_tell():
    assert (
        "| [keskar2017](gallery.md#keskar2017) | batch size | none, at equal loss | F1, C1 | digits | ε-sharpness |"
        in papers([results()])
    )
    row = papers([results(features={})]).splitlines()[-1]
    assert (
        "networks.mlp(widths=\\[128, 128\\])" in row and "| loss, epochs |" in row and row.endswith("| - |")
    )


# In a browser.


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists(CHROMIUM) and not os.environ.get("LBGAP_REQUIRE_BROWSER"), reason=f"no Chromium at {CHROMIUM}"
)  # fmt: skip
@pytest.mark.parametrize("make", [results, hostile], ids=["plain", "hostile"])
def test_the_page_fits_narrow_and_wide_screens_in_light_and_dark(tmp_path, make):
    """Nothing but tables and figures scrolls sideways, each in a box of its own, and nobody is asked for anything."""
    from playwright.sync_api import sync_playwright

    path = write_paper(make(), tmp_path)[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width in (400, 1400):
            for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(48, 48, 48)")):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                complaints, requests = [], []
                page.on("console", lambda message, own=complaints: own.append(message.text))
                page.on("request", lambda request, own=requests: own.append(request.url))
                page.goto(f"file://{path}")
                assert page.evaluate("document.documentElement.scrollWidth") == width
                assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
                assert page.locator("figure svg").count() == len(paper_figures.figures_of(make()))
                assert complaints == []
                assert [url for url in requests if not url.startswith("data:")] == [f"file://{path}"]
                page.close()
        browser.close()


def test_an_svg_is_short_and_keeps_its_text():
    figure = paper_figures.draw(results(), "claims")
    text = svg_of(figure, label="All <claims>")
    assert (
        "INCONCLUSIVE" in text and "3.92 (2.91 to 5.08)" in text and 'aria-label="All &lt;claims&gt;"' in text
    )
    assert "<metadata" not in text and "<style" not in text and "<g>" not in text and "<g id" not in text
    assert text == svg_of(paper_figures.draw(results(), "claims"), label="All <claims>")

"""The report's page in a real browser, from file://: all panels draw, and it asks nobody for anything."""

import os

import pytest
from test_report import make_run

from tb_plugin import demo
from tf_lbgap.report import write

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PANELS = ("sharpness", "eigenvalues", "density", "schedules", "gap", "landscape", "compare")

pytestmark = pytest.mark.slow

if not os.path.exists(CHROMIUM) and not os.environ.get("LBGAP_REQUIRE_BROWSER"):
    pytest.skip(f"needs a Chromium: there is none at {CHROMIUM}, nor in $CHROMIUM", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield running
        running.close()


@pytest.fixture
def opened(browser):
    """Open a page; at the end there was no complaint, and no request but the page itself."""
    complaints, requests = [], []
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))

    def open_(path):
        page.goto(f"file://{path}")
        return page

    yield open_
    context.close()
    assert complaints == []
    own = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert len(own) == 1, own
    assert own[0].startswith("file:///")


def draw(page, panel):
    page.locator(f"#panel-{panel}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#panel-{panel}.drawn:not(.busy)", timeout=20_000)
    return page.evaluate("(id) => document.getElementById(id).data.map((t) => [t.x, t.y])", f"plot-{panel}")


def test_all_panels_draw_from_a_file_and_ask_nobody(tmp_path, opened):
    demo.write(str(tmp_path / "demo"), runs=3, steps=200, points=50)
    (target, *_) = write([tmp_path / "demo"])
    page = opened(target)
    for panel in PANELS:
        assert draw(page, panel), panel
    assert page.locator(".errors li").count() == 0


def test_panels_show_the_numbers_of_the_run_and_tables_stand_below_them(tmp_path, opened):
    (target, *_) = write([make_run(tmp_path / "one")])
    page = opened(target)
    lines = draw(page, "sharpness")
    # Of each seed the top eigenvalue at updates 50 and 100, the last of which is in results.json.
    assert sorted(tuple(y) for x, y in lines if x == [50, 100]) == [(5, 10), (5.5, 11), (10, 20), (10.5, 21)]
    findings = page.locator("main #findings")
    assert findings.locator("h2:has(+ .wide)").all_inner_texts() == [
        "one: mean ± standard error over 2 seeds",
        "difference from small, paired by seed (95 % interval)",
        "What differs",
        "noise scale against small, over examples seen",
    ]
    assert findings.locator("table").count() == 4
    text = findings.inner_text()
    assert "Clean training loss reached: small 0.1000, large 0.1000." in text
    assert "Some & Co" in text
    assert findings.bounding_box()["y"] > page.locator("#panel-compare").bounding_box()["y"]


def test_the_filter_of_runs_works_without_a_server(tmp_path, opened):
    (target, *_) = write([make_run(tmp_path / "one")])
    page = opened(target)
    draw(page, "sharpness")
    page.locator("input[type=search]").fill("small/1")
    for _ in range(100):  # the page's policy forbids wait_for_function, which evaluates text
        page.wait_for_timeout(50)
        lines = [y for x, y in draw(page, "sharpness") if x == [50, 100]]
        if len(lines) == 1:
            break
    assert lines == [[5.5, 11]]

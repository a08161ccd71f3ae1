"""The page in a real browser: every panel draws the numbers that were written, and stays alive whatever comes.

Numbers are read back from the figures that Plotly draws. Each page also has to end without an error on the console
and without a request to another host.
"""

import html
import json
import os
import re
import time
import urllib.request
from urllib.parse import quote

import browser
import numpy as np
import pytest
import written

from tb_plugin import demo
from tb_plugin.writer import Writer

pytestmark = pytest.mark.slow

if not os.path.exists(browser.CHROMIUM) and not os.environ.get("LBGAP_REQUIRE_BROWSER"):
    pytest.skip(
        f"needs a Chromium: there is none at {browser.CHROMIUM}, nor in $CHROMIUM", allow_module_level=True
    )


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    for write in (written.write_mine, written.write_broken, written.write_seeds, written.write_long):
        write(path)
    demo.write(str(path / "demo"), runs=3, steps=300, points=60)
    return path


@pytest.fixture(scope="module")
def server(log_dir):
    with browser.tensorboard(log_dir) as address:
        yield address


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile")
    written.write_hostile(path)
    with browser.tensorboard(path, "--path_prefix", "/tb/x") as address:
        yield address


@pytest.fixture(scope="module")
def context():
    with browser.chromium() as chromium:
        yield chromium.new_context(accept_downloads=True)  # one for all: it keeps Plotly once it has read it


@pytest.fixture
def open_page(context):
    """Open a page; at the end look at what its console said and whom it asked."""
    pages, complaints, hosts = [], [], set()

    def hear(message):
        source = message.location.get("url", "")
        # Not ours: the bare page has no icon, and TensorBoard asks for its fonts without the path prefix.
        if message.type == "error" and not re.search(r"/favicon\.ico|/font-roboto/", source):
            complaints.append(f"{message.text} ({source})")

    def open_(url, width=1600):
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.set_default_timeout(20_000)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: hosts.add(re.match(r"\w+:(//[^/]*)?", request.url)[0]))
        page.goto(url)
        return page

    yield open_
    for page in pages:
        page.close()
    assert complaints == []
    assert len(hosts - {"data:", "blob:"}) == 1  # TensorBoard's own


def alone(server, **view):
    """The address of the page without TensorBoard around it."""
    return f"{server}/data/plugin_entry.html?name=lbgap#{address_of(view)}"


def address_of(view):
    return "&".join(f"p.lbgap.{key.replace('__', '.')}={quote(value)}" for key, value in view.items())


def only(run):
    """The view that shows one run."""
    return {"filter": f"^{re.escape(run)}$"}


def drawn(page, panel):
    """Scroll to a panel and wait until it is drawn."""
    page.locator(f"#panel-{panel}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#panel-{panel}.drawn:not(.busy)", timeout=20_000)
    return page.locator(f"#panel-{panel}")


def traces(page, panel, **meta):
    """The drawn traces of a panel whose meta data are these."""
    drawn(page, panel)
    found = page.evaluate(
        """(id) => document.getElementById(id).data.map((t) => ({
            x: t.x, y: t.y, z: t.z, type: t.type, xaxis: t.xaxis, line: t.line, fill: t.fill, error_y: t.error_y,
            meta: {part: t.meta.part, run: t.meta.run, column: t.meta.column, colour: t.meta.colour}}))""",
        f"plot-{panel}",
    )
    return [trace for trace in found if meta.items() <= trace["meta"].items()]


def trace(page, panel, **meta):
    found = traces(page, panel, **meta)
    assert len(found) == 1, f"{len(found)} traces with {meta}"
    return found[0]


def layout(page, panel):
    return page.evaluate(
        "(id) => JSON.parse(JSON.stringify(document.getElementById(id).layout))", f"plot-{panel}"
    )


def notes(page, panel):
    return page.locator(f"#panel-{panel} .notes").inner_text()


def wait_for_step(server, name, step):
    """Wait until the server has read as far."""
    for _ in range(100):
        with urllib.request.urlopen(f"{server}/data/plugin/lbgap/runs") as answer:
            run = next(run for run in json.load(answer)["runs"] if run["run"] == name)
        if run["tags"][0]["max_step"] >= step:
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} did not come to step {step}: {run['tags'][0]}")


def box(page, name):
    return page.get_by_role("combobox", name=name, exact=True)


def choose(page, name, value):
    box(page, name).select_option(value)


def drag(page, panel, start, end):
    """Drag over a part of the first pane, in shares of its width."""
    box = page.evaluate(
        """(id) => { const g = document.getElementById(id), b = g.getBoundingClientRect(), x = g._fullLayout.xaxis,
            y = g._fullLayout.yaxis; return [b.left + x._offset, b.top + y._offset, x._length, y._length]; }""",
        f"plot-{panel}",
    )
    middle = box[1] + box[3] / 2
    page.mouse.move(box[0] + start * box[2], middle)
    page.mouse.down()
    page.mouse.move(box[0] + (start + end) / 2 * box[2], middle, steps=3)
    page.mouse.move(box[0] + end * box[2], middle, steps=3)
    page.mouse.up()


def test_sharpness_draws_what_was_written(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    line = trace(page, "sharpness", part="value")
    assert (line["x"], line["y"]) == (written.STEPS, written.TOP)
    choose(page, "Against, Sharpness evolution", "train_loss")
    page.wait_for_function(
        "document.getElementById('plot-sharpness').layout.xaxis.title.text === 'training loss'"
    )
    assert trace(page, "sharpness", part="value")["x"] == written.TRAIN


def test_uncertainty_is_a_band_and_no_measure_of_its_own(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    assert trace(page, "sharpness", part="low")["y"] == [3.5, 7.0, 15.0, 10.0]
    assert trace(page, "sharpness", part="high")["y"] == [4.5, 9.0, 17.0, 14.0]
    measures = box(page, "Measure, Sharpness evolution").locator("option").all_inner_texts()
    assert sorted(measures) == ["Edge of stability", "Eigenvalues: first", "Top eigenvalue"]


def test_eigenvalues_have_their_ranks_edge_and_hollow_marks(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    for rank in (1, 2):
        line = trace(page, "eigenvalues", part="value", column=f"λ {rank}")
        assert line["y"] == [row[rank - 1] for row in written.EIGENVALUES]
    assert trace(page, "eigenvalues", part="value", column="2 / rate")["y"] == written.EDGE
    marks = trace(page, "eigenvalues", part="unconverged")
    assert (marks["x"], marks["y"]) == ([20, 40], [3.0, 6.0])


def test_density_shows_history_and_one_moment(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    heat = trace(page, "density", part="heat")
    shares = [[0 if z is None else 10**z for z in column] for column in zip(*heat["z"], strict=True)]
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, rtol=0.01)  # a floor hides the smallest shares
    moment = trace(page, "density", part="value")
    assert [y or 0 for y in moment["y"]] == written.DENSITY
    assert page.evaluate("document.getElementById('plot-density').data[1].meta.x") == written.GRID
    slider = page.get_by_label("Moment, Spectral density")
    slider.focus()
    slider.press("ArrowLeft")
    page.wait_for_function("document.getElementById('plot-density').layout.shapes[0].x0 === 30")


def test_schedules_have_steps_and_an_interval(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    batch = trace(page, "schedules", part="value", column="Batch size")
    assert (batch["y"], batch["line"]["shape"]) == (written.BATCH, "hv")
    assert trace(page, "schedules", part="value", column="Gradient noise scale")["y"] == written.NOISE
    assert trace(page, "schedules", part="low")["y"] == written.NOISE_LOW
    assert trace(page, "schedules", part="high")["y"] == written.NOISE_HIGH


def test_gap_is_the_difference(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    assert trace(page, "gap", part="value", column="train")["y"] == written.TRAIN
    assert trace(page, "gap", part="value", column="test")["y"] == written.TEST
    assert trace(page, "gap", part="value", column="gap")["y"] == [0.25, 0.5, 0.5, 0.75]


def test_landscape_draws_line_plane_and_way(open_page, server):
    page = open_page(alone(server, landscape__scale="linear", **only("mine/0")))
    assert trace(page, "landscape", part="value", column="train")["y"] == written.LINE_TRAIN
    assert trace(page, "landscape", part="value", column="test")["y"] == written.LINE_TEST
    plane = trace(page, "landscape", part="plane")
    assert (plane["x"], plane["y"], plane["z"]) == (written.A, written.B, written.LOSS)
    way = trace(page, "landscape", part="trajectory")
    assert list(map(list, zip(way["x"], way["y"], strict=True))) == written.PATH
    assert "75 %" in layout(page, "landscape")["xaxis2"]["title"]["text"]


def test_compare_sorts_and_groups_seeds(open_page, server):
    page = open_page(alone(server, seeds="deviation", filter="^(arm|mine)/"))
    panel = drawn(page, "compare")
    names = panel.locator("tbody th")
    assert names.all_inner_texts()[0].startswith("arm") or names.all_inner_texts()[1].startswith("arm")
    row = panel.locator("tbody tr", has_text="3 seeds").inner_text()
    assert "4 ± 2" in row  # of 2, 4, 6
    heading = panel.get_by_role("button", name="Top eigenvalue", exact=True)
    heading.click()
    page.wait_for_function("document.querySelector('#panel-compare [aria-sort=ascending]')")
    assert names.first.inner_text().startswith("arm")
    panel.get_by_role("button", name="Top eigenvalue ↑").click()
    page.wait_for_function("document.querySelector('#panel-compare [aria-sort=descending]')")
    assert names.first.inner_text().startswith("mine")


def test_seeds_become_a_mean_and_a_band(open_page, server):
    page = open_page(alone(server, seeds="range", filter="^arm/"))
    assert trace(page, "sharpness", part="value")["y"] == [2.0, 4.0]
    assert (trace(page, "sharpness", part="low")["y"], trace(page, "sharpness", part="high")["y"]) == (
        [1.0, 2.0],
        [3.0, 6.0],
    )
    choose(page, "Seeds", "deviation")
    page.wait_for_function(
        "document.getElementById('plot-sharpness').data[0].y[1] === 2 && document.getElementById('plot-sharpness').data[1].y[0] === 3"
    )


def test_smoothing_is_tensorboards(open_page, server):
    """Debiased: with weight w the second value is (w(1 - w)a + (1 - w)b) / (1 - w²)."""
    page = open_page(alone(server, smoothing="0.5", **only("mine/0")))
    smooth = trace(page, "sharpness", part="value")["y"]
    np.testing.assert_allclose(smooth[:2], [4.0, (0.25 * 4 + 0.5 * 8) / 0.75])
    assert trace(page, "sharpness", part="raw")["y"] == written.TOP


def test_what_cannot_be_shown_is_said(open_page, server):
    page = open_page(alone(server, **only("broken/0")))
    assert trace(page, "sharpness", part="value")["y"] == [1.0, None, None, None, 3.0]
    assert "3 points not shown (2 NaN or infinite, 1 not above 0 on a log axis)" in notes(page, "sharpness")
    choose(page, "Scale, Sharpness evolution", "linear")
    page.wait_for_function("document.getElementById('plot-sharpness').layout.yaxis.type === 'linear'")
    assert trace(page, "sharpness", part="value")["y"] == [1.0, None, None, -2.0, 3.0]
    assert len(trace(page, "sharpness", part="lost")["x"]) == 2


def test_zoom_asks_for_more_points_and_survives_a_reload(open_page, server, log_dir):
    page = open_page(alone(server, **only("long/0")))
    whole = trace(page, "sharpness", part="value")
    assert len(whole["x"]) <= 1002 and max(whole["y"]) == 500.0  # thinned, and the spike kept
    assert "of 10,000 points" in notes(page, "sharpness")

    with page.expect_request(
        lambda request: request.url.endswith("/series") and '"steps":[' in request.post_data
    ) as asked:
        drag(page, "sharpness", 0.50, 0.52)
    first, last = json.loads(asked.value.post_data)["steps"]
    assert first < 5000 < last < 6000
    page.wait_for_function(
        "document.getElementById('plot-sharpness').data[0].x.filter((x) => x > 5010 && x < 5190).length > 170"
    )
    zoomed = layout(page, "sharpness")["xaxis"]["range"]

    before = page.evaluate("document.getElementById('plot-sharpness').data[0].x.length")
    with Writer(str(log_dir / "long" / "0")) as writer:
        for step in range(written.LONG, written.LONG + 50):
            writer.scalar("sharpness/top_eigenvalue", 7.0, step)
    wait_for_step(server, "long/0", written.LONG + 49)
    page.get_by_role("button", name="Reload").click()
    page.wait_for_function("Math.max(...document.getElementById('plot-sharpness').data[0].x) >= 10049")
    drawn(page, "sharpness")
    assert layout(page, "sharpness")["xaxis"]["range"] == zoomed
    assert page.evaluate("document.getElementById('plot-sharpness').data[0].x.length") > before - 50
    page.get_by_role("button", name="Reset zoom").first.click()
    page.wait_for_function("document.getElementById('plot-sharpness').layout.xaxis.range[0] < 0")


def test_a_link_opens_the_same_view(open_page, server):
    page = open_page(alone(server))
    drawn(page, "sharpness")
    choose(page, "X axis", "epochs")
    page.get_by_label("Smoothing weight").fill("0.25")
    choose(page, "Scale, Sharpness evolution", "linear")
    page.get_by_label("Filter runs by regular expression").fill("^mine|^arm")
    page.get_by_role("checkbox", name="arm/1").uncheck()
    page.wait_for_function(
        "['off', 'epochs', 'filter', '0.25', 'linear'].every((part) => location.hash.includes(part))"
    )
    again = open_page(page.url)
    drawn(again, "sharpness")
    assert box(again, "X axis").input_value() == "epochs"
    assert again.get_by_label("Smoothing weight").input_value() == "0.25"
    assert layout(again, "sharpness")["yaxis"]["type"] == "linear"
    assert {one["meta"]["run"] for one in traces(again, "sharpness", part="value")} == {
        "mine/0"
    }  # arm has no epochs
    assert "No epochs known for arm/0, arm/2" in notes(again, "sharpness")
    assert not again.get_by_role("checkbox", name="arm/1").is_checked()


def test_inside_tensorboard_theme_address_and_colours_are_its_own(open_page, server):
    page = open_page(f"{server}/?darkMode=false#lbgap")
    frame = page.wait_for_selector("iframe").content_frame()
    frame.wait_for_selector("#panel-sharpness.drawn:not(.busy)")
    order = page.evaluate("fetch('data/runs').then((answer) => answer.json())")
    palette = ["#425066", "#12b5cb", "#e52592", "#f9ab00", "#9334e6", "#7cb342", "#e8710a"]
    lines = traces(frame, "sharpness", part="value")
    assert len(lines) >= 5
    for line in lines:
        assert line["meta"]["colour"] == palette[order.index(line["meta"]["run"]) % 7]

    paper = "document.getElementById('plot-sharpness').layout.paper_bgcolor"
    assert frame.evaluate(paper) == "#ffffff"
    page.evaluate("document.body.classList.add('dark-mode')")
    frame.wait_for_function(f"{paper} === '#303030'")
    assert frame.evaluate("getComputedStyle(document.body).color") == "rgb(238, 238, 238)"
    page.evaluate("document.body.classList.remove('dark-mode')")
    frame.wait_for_function(f"{paper} === '#ffffff'")

    choose(frame, "X axis", "seconds")
    page.wait_for_function("location.hash.includes('p.lbgap.x=seconds')")
    again = open_page(page.url)
    inner = again.wait_for_selector("iframe").content_frame()
    inner.wait_for_selector("#panel-sharpness.drawn:not(.busy)")
    assert box(inner, "X axis").input_value() == "seconds"


def test_exports_hold_the_numbers(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    panel = drawn(page, "sharpness")
    files = {}
    for kind in ("CSV", "JSON", "SVG", "PNG"):
        with page.expect_download() as download:
            panel.get_by_role("button", name=f"Save Sharpness evolution as {kind}").click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        with open(download.value.path(), "rb") as file:
            files[kind] = file.read()
    rows = [line.split(",") for line in files["CSV"].decode().splitlines()]
    numbers = {
        tag: [float(row[5]) for row in rows[1:] if row[:2] == ["mine/0", tag]]
        for tag in {row[1] for row in rows[1:]}
    }
    assert numbers == {
        "sharpness/top_eigenvalue": written.TOP,
        "sharpness/top_eigenvalue_spread": written.TOP_SPREAD,
    }
    rows = json.loads(files["JSON"])
    assert [row["value"] for row in rows if row["tag"] == "sharpness/top_eigenvalue"] == written.TOP
    assert (
        files["SVG"].startswith(b"<svg") and b"mine/0" in files["SVG"] and b"Top eigenvalue" in files["SVG"]
    )
    assert files["PNG"].startswith(b"\x89PNG") and len(files["PNG"]) > 5000

    panel = drawn(page, "compare")
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save Compare as CSV").click()
    with open(download.value.path()) as file:
        head, row = file.read().splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["top_eigenvalue"] == "12"


def test_tooltip_has_all_runs_by_mouse_and_by_keyboard(open_page, server):
    page = open_page(alone(server, filter="^(arm|mine)/"))
    panel = drawn(page, "sharpness")
    tooltip = page.locator(".tooltip")
    box = page.locator("#plot-sharpness").bounding_box()
    for i in range(100):  # a mouse moves on; a redrawing hides what a single move has shown
        page.mouse.move(box["x"] + box["width"] / 2 + i % 2, box["y"] + box["height"] / 2)
        if tooltip.is_visible() and tooltip.locator("tbody tr").count() == 4:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("The tooltip with four runs did not show in ten seconds.")
    page.mouse.move(5, 890)
    tooltip.wait_for(state="hidden")
    panel.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    tooltip.wait_for(state="visible")
    assert "mine/0" in tooltip.inner_text()
    page.keyboard.press("+")
    page.wait_for_function("location.hash.includes('zoom.sharpness')")
    page.keyboard.press("0")
    page.wait_for_function("!location.hash.includes('zoom.sharpness')")


def test_page_can_be_used_with_a_keyboard_and_a_screen_reader(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    drawn(page, "sharpness")
    skip = page.get_by_role("button", name="Skip to Eigenvalue histories")
    skip.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel-eigenvalues"
    regions = page.get_by_role("region")
    assert regions.count() == 7
    assert "mine/0 ends at 12" in page.locator("#panel-sharpness [role=img]").get_attribute("aria-label")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, a')].filter((node) =>
            !(node.getAttribute('aria-label') || node.textContent.trim() || node.closest('label')?.textContent.trim())).length"""
    )
    assert nameless == 0


@pytest.mark.parametrize("width", [900, 1600])
def test_nothing_is_cut_off(open_page, server, width):
    page = open_page(alone(server), width=width)
    for panel in ("sharpness", "eigenvalues", "density", "schedules", "gap", "landscape", "compare"):
        drawn(page, panel)
        inner = page.evaluate(
            """(id) => { const card = document.getElementById('panel-' + id), plot = document.querySelector('#plot-' + id + ' .main-svg');
                return [card.getBoundingClientRect().right, plot.getBoundingClientRect().right]; }""",
            panel,
        )
        assert inner[1] <= inner[0] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_regular_expressions_filter_and_never_hang(open_page, hostile_server):
    page = open_page(alone(hostile_server))
    drawn(page, "sharpness")
    field, message = page.get_by_label("Filter runs by regular expression"), page.locator(".filter-message")
    field.fill("bold")
    page.wait_for_function("document.querySelectorAll('.runs li').length === 1")
    field.fill("(a+)+$")
    message.get_by_text("took longer than 200 ms").wait_for()
    assert page.locator(".runs li").count() == len(written.HOSTILE)
    field.fill("(")
    message.get_by_text("Invalid regular expression").wait_for()
    field.fill("quote")
    page.wait_for_function("document.querySelectorAll('.runs li').length === 1")
    assert not message.is_visible()


def test_hostile_names_are_text_under_a_path_prefix(open_page, hostile_server):
    page = open_page(f"{hostile_server}/#lbgap")
    frame = page.wait_for_selector("iframe").content_frame()
    frame.wait_for_selector("#panel-sharpness.drawn:not(.busy)")
    assert sorted(
        frame.locator(".runs .name").evaluate_all("(all) => all.map((one) => one.title)")
    ) == sorted(written.HOSTILE)
    assert len(traces(frame, "sharpness", part="value")) == len(written.HOSTILE)
    frame.locator("#plot-sharpness").hover()
    frame.locator(".tooltip").wait_for(state="visible")
    assert "<img src=x onerror=alert(1)>" in frame.locator(".tooltip").inner_text()
    assert frame.evaluate("document.querySelectorAll('img, script:not([src]), b').length") == 0
    with page.expect_download() as download:
        frame.get_by_role("button", name="Save Sharpness evolution as SVG").click()
    with open(download.value.path()) as file:
        svg = file.read()
    assert "img src=x onerror" in svg and "<img" not in svg and "<script" not in svg
    assert "<b>bold</b>" in html.unescape(re.sub("<[^>]*>", "", svg))  # not in bold type


def test_a_panel_without_data_says_what_to_type(open_page, hostile_server):
    page = open_page(alone(hostile_server))
    panel = page.locator("#panel-eigenvalues")
    panel.get_by_text("tb_plugin.summary.eigenvalues").wait_for()
    assert "lb.callbacks.CurvatureMonitor" in panel.inner_text()


def test_a_failed_fetch_names_run_and_tag_and_the_rest_still_shows(open_page, server):
    page = open_page(alone(server, **only("mine/0")))
    drawn(page, "sharpness")
    problem = {"run": "mine/0", "tag": "curvature/eigenvalues", "message": "it is broken"}

    def spoil(route):
        answer = route.fetch().json()
        route.fulfill(
            json={"series": [], "errors": [problem]}
            if "curvature/eigenvalues" in route.request.post_data
            else answer
        )

    page.route("**/series", spoil)
    page.reload()
    page.locator("#panel-eigenvalues .errors").get_by_text(
        "mine/0, curvature/eigenvalues: it is broken"
    ).wait_for()
    assert trace(page, "sharpness", part="value")["y"] == written.TOP

"""What the routes answer, asked through TensorBoard's own application on both of its load paths."""

import csv
import io
import json
import time

import numpy as np
import pytest
from serving import LOAD_FAST, served

from tb_plugin import demo
from tb_plugin.writer import Writer

pytestmark = pytest.mark.parametrize(
    "load_fast", LOAD_FAST, ids=lambda value: f"load_fast={value}", scope="module"
)


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo")
    demo.write(str(path), runs=3, steps=400, points=40)
    return path


@pytest.fixture(scope="module")
def client(demo_dir, load_fast):
    with served(demo_dir, load_fast=load_fast) as client:
        yield client


def test_all_of_5000_points_are_served(tmp_path, load_fast):
    """TensorBoard would keep 100 or 10 records of a tag, chosen at random."""
    values = np.random.default_rng(0).normal(size=(5000, 2))
    with Writer(tmp_path / "a", rows_per_block=1) as writer:
        for step, row in enumerate(values, 1):
            writer.eigenvalues("curvature/eigenvalues", row, step=step, mirror=False)
            writer.scalar("my/scalar", row[0], step=step)

    with served(tmp_path, load_fast=load_fast) as client:
        rows = client.series("a", "curvature/eigenvalues", points=20_000)
        scalars = client.series("a", "my/scalar", points=20_000)

    assert rows["num_points"] == 5000 and rows["hidden"] == 0
    assert rows["x"]["updates"] == list(range(1, 5001))
    np.testing.assert_array_equal(np.transpose(rows["values"][:2]), values)
    assert scalars["x"]["updates"] == list(range(1, 5001))
    np.testing.assert_array_equal(np.float32(scalars["values"][0]), values[:, 0].astype("float32"))


@pytest.mark.parametrize("end", [110, 180])
@pytest.mark.parametrize("rows_per_block", [1, 64])
def test_a_resumed_run_shows_each_step_once_and_as_written_last(tmp_path, load_fast, rows_per_block, end):
    """Steps 1..250, a crash, then again from 101 to 110 or 180: a run of so many steps.

    The data server drops whole blocks at a restart; those that hold steps up to 100 must stay.
    """
    for first, last, value in ((1, 250, 1.0), (101, end, 2.0)):
        with Writer(tmp_path / "a", rows_per_block=rows_per_block) as writer:
            for step in range(first, last + 1):
                writer.eigenvalues("curvature/eigenvalues", [value], step=step)
                writer.scalar("my/scalar", value, step=step)

    with served(tmp_path, load_fast=load_fast, flags=["--reload_multifile=true"]) as client:
        for tag in ("curvature/eigenvalues", "my/scalar"):
            found = client.series("a", tag)
            assert found["x"]["updates"] == list(range(1, end + 1))
            assert found["values"][0] == [1.0] * 100 + [2.0] * (end - 100)


@pytest.mark.parametrize("rows_per_block", [1, 64])
def test_a_repeated_step_shows_its_last_value_once(tmp_path, load_fast, rows_per_block):
    with Writer(tmp_path / "a", rows_per_block=rows_per_block) as writer:
        for step, value in ((0, 1.0), (0, 2.0), (0, 3.0), (5, 4.0), (5, 5.0)):
            writer.eigenvalues("curvature/eigenvalues", [value], step=step)
            writer.scalar("my/scalar", value, step=step)

    with served(tmp_path, load_fast=load_fast) as client:
        for tag in ("curvature/eigenvalues", "my/scalar"):
            found = client.series("a", tag)
            assert (found["x"]["updates"], found["values"][0]) == ([0, 5], [3.0, 5.0])


def test_what_is_written_later_is_seen_at_the_next_reload(tmp_path, load_fast):
    """The cache must not answer for a tag that has grown, nor for one that was restarted at the same step."""
    live = ["--reload_interval=1", "--reload_task=thread"]
    with Writer(tmp_path / "a") as writer, served(tmp_path, load_fast=load_fast, flags=live) as client:
        for step, value, expected in ((1, 1.0, [1.0]), (2, 2.0, [1.0, 2.0]), (2, 3.0, [1.0, 3.0])):
            writer.eigenvalues("curvature/eigenvalues", [value], step=step)
            writer.scalar("my/scalar", value, step=step)
            writer.flush()
            shown, end = None, time.monotonic() + 20
            while shown != [expected, expected] and time.monotonic() < end:
                time.sleep(0.1)
                answer = client.post("series", runs=["a"], tags=["curvature/eigenvalues", "my/scalar"])
                shown = [series["values"][0] for series in answer["series"]]
            assert shown == [expected, expected]


def test_the_number_of_eigenvalues_may_change(tmp_path, load_fast):
    with Writer(tmp_path / "a") as writer:
        writer.eigenvalues("curvature/eigenvalues", [3.0], step=1, residuals=[0.1], converged=[True])
        writer.eigenvalues("curvature/eigenvalues", [4.0, 2.0], step=2, residuals=[0.3, 0.4])
    with served(tmp_path, load_fast=load_fast) as client:
        found = client.series("a", "curvature/eigenvalues")
    columns = dict(zip(found["columns"], found["values"], strict=True))
    assert columns == {
        "value_1": [3.0, 4.0],
        "value_2": ["NaN", 2.0],
        "residual_1": [0.1, 0.3],
        "residual_2": ["NaN", 0.4],
        "converged_1": [1.0, "NaN"],
        "converged_2": ["NaN", "NaN"],
    }


def test_x_axes_are_joined_by_step(tmp_path, load_fast):
    """A batch of 100 for 10 updates, then of 300: by hand, update 12 is example 1,600 of 1,000 an epoch."""
    clock = iter(np.arange(1000.0, 2000.0))
    with Writer(tmp_path / "a", clock=lambda: next(clock)) as writer:
        for step, examples in ((10, 1000), (20, 4000)):
            writer.scalar("progress/examples", examples, step=step)
            writer.scalar("progress/epochs", examples / 1000, step=step)
        writer.scalar("generalization/train_loss", 2.0, step=10)
        writer.scalar("generalization/train_loss", 1.0, step=20)
        writer.scalar("my/scalar", 7.0, step=12)
        writer.scalar("my/scalar", 8.0, step=25)
    with served(tmp_path, load_fast=load_fast) as client:
        x = client.series("a", "my/scalar")["x"]
    assert x["updates"] == [12, 25]
    assert x["examples"] == [1600.0, 5500.0]
    np.testing.assert_allclose(x["epochs"], [1.6, 5.5], rtol=1e-6)
    assert x["train_loss"] == [1.8, "NaN"]  # not guessed beyond what was measured
    assert x["seconds"] == [7.0, 8.0]  # the clock was read once on opening and once for each scalar


def test_directories_of_keras_are_one_run_and_stand_in_for_losses(tmp_path, load_fast):
    """Keras' callback counts epochs from 0; with progress known, they are put at the right updates."""
    for part, losses in (("train", [2.0, 1.0]), ("validation", [2.5, 1.5])):
        with Writer(tmp_path / "a" / part) as writer:
            for epoch, loss in enumerate(losses):
                for name, value in (("epoch_loss", loss), ("epoch_sparse_categorical_accuracy", 1 / loss)):
                    _stock_scalar(writer, name, value, epoch)
    with Writer(tmp_path / "a") as writer:
        writer.scalar("progress/epochs", 1.0, step=10)
        writer.scalar("progress/epochs", 2.0, step=14)
    with served(tmp_path, load_fast=load_fast) as client:
        (run,) = client.get("runs")["runs"]
        test_loss = client.series("a", "generalization/test_loss")
        accuracy = client.series("a", "generalization/train_accuracy")
    assert (run["run"], run["members"]) == ("a", ["a", "a/train", "a/validation"])
    assert test_loss["values"] == [[2.5, 1.5]] and accuracy["values"] == [[0.5, 1.0]]
    assert test_loss["x"]["epochs"] == [1, 2] and test_loss["x"]["updates"] == [10, 14]


def test_own_losses_come_before_those_of_keras(tmp_path, load_fast):
    with Writer(tmp_path / "a" / "train") as writer:
        _stock_scalar(writer, "epoch_loss", 9.0, 0)
        _stock_scalar(writer, "epoch_accuracy", 0.9, 0)
    with Writer(tmp_path / "a") as writer:
        writer.scalar("generalization/train_loss", 1.0, step=5)
    with served(tmp_path, load_fast=load_fast) as client:
        (run,) = client.get("runs")["runs"]
        found = client.series("a", "generalization/train_loss")
    assert [tag["tag"] for tag in run["tags"]] == ["generalization/train_loss"]
    assert (found["x"]["updates"], found["values"]) == ([5], [[1.0]])


def _stock_scalar(writer, tag, value, step):
    writer._write_stock_scalar(tag, step, 1000.0 + step, value)


def test_runs_describe_every_tag(client, load_fast):
    answer = client.get("runs")
    assert [run["run"] for run in answer["runs"]] == json.loads(client.text("/data/runs"))
    small = answer["runs"][0]
    assert (small["group"], small["seed"], small["note"], answer["errors"]) == ("small", "0", None, [])
    tags = {tag["tag"]: tag for tag in small["tags"]}
    assert tags["curvature/smallest_eigenvalues"]["which"] == "smallest"
    assert tags["curvature/eigenvalues"]["unit"] == "loss / weight²"
    assert tags["sharpness/trace"]["measured"] == demo.MEASURED
    assert tags["sharpness/trace"]["max_step"] == 400


@pytest.mark.parametrize("kind", ["density", "line", "plane", "trajectory"])
def test_moments_come_as_they_were_written(tmp_path, load_fast, kind):
    rng = np.random.default_rng(0)
    grid, loss = np.sort(rng.normal(size=6)), rng.normal(size=(2, 3))
    with Writer(tmp_path / "a") as writer:
        for step in (1, 5):
            if kind == "density":
                writer.density("x/it", grid, grid**2, step=step)
            elif kind == "line":
                writer.line("x/it", grid, test_loss=grid + step, train_accuracy=grid, step=step)
            elif kind == "plane":
                writer.plane("x/it", [0.0, 1, 2], [5.0, 6], loss, 0.25, step=step)
            else:
                writer.trajectory("x/it", [1, 2], [[3, 4], [5, 6]], [0.5, 0.25], step=step)
    expected = {
        "density": {"grid": grid.tolist(), "density": (grid**2).tolist()},
        "line": {
            "columns": ["alpha", "test_loss", "train_accuracy"],
            "alpha": grid.tolist(),
            "test_loss": (grid + 5).tolist(),
            "train_accuracy": grid.tolist(),
        },
        "plane": {"a": [0.0, 1.0, 2.0], "b": [5.0, 6.0], "loss": loss.tolist(), "center": 0.25},
        "trajectory": {"steps": [1, 2], "points": [[3.0, 4.0], [5.0, 6.0]], "explained": [0.5, 0.25]},
    }[kind]
    with served(tmp_path, load_fast=load_fast) as client:
        (listed,) = client.post("frames", runs=["a"], tags=["x/it"])["frames"]
        frame = client.get("frame", run="a", tag="x/it", step=5)
        assert client.get("frame", run="a", tag="x/it") == frame
        missing = client.request("GET", "frame", query_string={"run": "a", "tag": "x/it", "step": 3})
    assert (listed["kind"], listed["steps"]) == (kind, [1, 5])
    assert frame == {"run": "a", "tag": "x/it", "kind": kind, "step": 5} | expected
    assert missing.status_code == 404 and "step 3" in missing.text


def test_zoom_shows_what_thinning_hid(tmp_path, load_fast):
    values = np.random.default_rng(0).normal(size=3000)
    with Writer(tmp_path / "a") as writer:
        for step, value in enumerate(values):
            writer.scalar("my/scalar", value, step=step)
    with served(tmp_path, load_fast=load_fast) as client:
        whole = client.series("a", "my/scalar", points=100)
        zoomed = client.series("a", "my/scalar", points=100, steps=[1000, 1040])
    assert whole["num_points"] == 3000 and whole["hidden"] >= 2900
    assert np.float32(np.max(whole["values"])) == np.float32(values.max())
    assert zoomed["x"]["updates"] == list(range(999, 1042))  # a neighbour at each side
    np.testing.assert_array_equal(np.float32(zoomed["values"][0]), values[999:1042].astype("float32"))


def test_heat_map_holds_the_whole_spectrum_of_each_moment(client, load_fast):
    answer = client.post("heatmap", run="large/0", tag="curvature/density", bins=50)
    assert len(answer["steps"]) == len(answer["mass"]) >= demo.MOMENTS
    np.testing.assert_allclose(np.sum(answer["mass"], axis=1), 1, rtol=1e-9)
    assert len(answer["edges"]) == 51 and np.all(np.diff(answer["edges"]) > 0)


def test_table_holds_the_last_finite_values(tmp_path, load_fast):
    with Writer(tmp_path / "wide-seed3") as writer:
        for step, value in ((1, 0.25), (2, 0.5), (3, np.nan)):
            writer.scalar("generalization/test_accuracy", value, step=step)
        writer.scalar("schedule/batch_size", 128, step=7)
        writer.eigenvalues("curvature/eigenvalues", [9.0, 4.0], step=4)
        writer.scalar("sharpness/epsilon_sharpness_0.001", 0.1, step=4)
    with served(tmp_path, load_fast=load_fast) as client:
        answer = client.post("table", runs=["wide-seed3", "unknown"])
    (row,) = answer["rows"]
    assert set(row) == set(answer["columns"])
    assert (row["group"], row["seed"], row["updates"]) == ("wide", "3", 7)
    assert (row["test_accuracy"], row["batch_size"], row["top_eigenvalue"]) == (0.5, 128, 9)
    assert (row["sharpness"], row["train_loss"]) == (0.1, None)  # as it was written, not 0.10000000149


def test_export_holds_every_row_of_every_run(client, load_fast):
    """Against the rows that the demo wrote: 40 a tag, the same in both formats."""
    lines = list(csv.DictReader(io.StringIO(client.text("export.csv"), newline="")))
    objects = json.loads(client.text("export.json"))
    assert len(lines) == len(objects)
    for run in ("small/0", "large/0", "grown/0"):
        of_csv = [line for line in lines if line["run"] == run and line["tag"] == "curvature/eigenvalues"]
        of_json = [row for row in objects if row["run"] == run and row["tag"] == "curvature/eigenvalues"]
        served_rows = client.series(run, "curvature/eigenvalues", points=20_000)
        assert [int(line["step"]) for line in of_csv] == served_rows["x"]["updates"]
        assert [float(line["value_1"]) for line in of_csv] == served_rows["values"][0]
        assert [row["value_1"] for row in of_json] == served_rows["values"][0]
    assert {line["tag"] for line in lines} == {tag["tag"] for tag in client.get("runs")["runs"][0]["tags"]}
    plane = [row for row in objects if row["run"] == "small/0" and row["kind"] == "plane"]
    frame = client.get("frame", run="small/0", tag="landscape/plane")
    last = {(row["a"], row["b"]): row["loss"] for row in plane if row["step"] == frame["step"]}
    assert last[frame["a"][3], frame["b"][2]] == frame["loss"][2][3]


def test_export_can_be_limited(client, load_fast):
    lines = client.text("export.csv", run=["small/0", "large/0"], tag="sharpness/trace").splitlines()
    rows = list(csv.reader(lines))
    assert rows[0] == ["run", "tag", "kind", "step", "wall_time", "value_1"]
    assert {tuple(row[:3]) for row in rows[1:]} == {
        ("small/0", "sharpness/trace", "scalar"),
        ("large/0", "sharpness/trace", "scalar"),
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "GET"])
def test_no_route_takes_another_method(client, load_fast, method):
    for route in ("runs", "frame", "export.csv", "export.json", "plotly.min.js"):
        if method != "GET":
            response = client.request(method, route)
            assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD"), route
    for route in ("series", "frames", "heatmap", "table"):
        if method != "POST":
            response = client.request(method, route)
            assert (response.status_code, response.headers["Allow"]) == (405, "POST"), route


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"runs": "a", "tags": ["b"]}',
        b'{"runs": [1], "tags": ["b"]}',
        b'{"runs": ["a"], "tags": ["b"], "points": 0}',
        b'{"runs": ["a"], "tags": ["b"], "points": 1e9}',
        b'{"runs": ["a"], "tags": ["b"], "points": true}',
        b'{"runs": ["a"], "tags": ["b"], "points": null}',
        b'{"runs": ["a"], "tags": ["b"], "steps": [5, 1]}',
        b'{"runs": ["a"], "tags": ["b"], "steps": [NaN, 1]}',
        b'{"runs": ["a"], "tags": ["b"], "steps": "all"}',
        b'{"runs": [' + b'"a",' * 300_000 + b'"a"], "tags": ["b"]}',
        json.dumps({"runs": [str(i) for i in range(1001)], "tags": ["b"]}).encode(),
    ],
    ids=lambda body: repr(body[:50]),
)
def test_wrong_parameters_are_answered_by_400_and_a_sentence(client, load_fast, body):
    response = client.request("POST", "series", data=body)
    assert response.status_code == 400 and response.text.endswith((".", "null."))
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_what_does_not_exist_is_left_out(client, load_fast):
    answer = client.post(
        "series", runs=["small/0", "none"], tags=["sharpness/trace", "none", "landscape/plane"]
    )
    assert [(s["run"], s["tag"]) for s in answer["series"]] == [("small/0", "sharpness/trace")]
    assert [(e["run"], e["tag"]) for e in answer["errors"]] == [("small/0", "landscape/plane")]


def test_page_and_plotly_are_served_with_their_types(client, load_fast):
    for path, content_type in (("static/index.js", "text/javascript"), ("plotly.min.js", "text/javascript")):
        response = client.request("GET", path)
        assert response.status_code == 200 and response.content_type.startswith(content_type)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert b"plotly.js" in response.data[:200]


@pytest.mark.parametrize(
    "path",
    [
        "static/../plugin.py",
        "static/%2e%2e/plugin.py",
        "static/..%2fplugin.py",
        "static/..%5cplugin.py",
        "static//etc/passwd",
        "static/",
        "static",
        "static/panels",
        "static/panels/../../plugin.py",
        "static/index.js/../../plugin.py",
        "static/index.js%00.css",
        "static/INDEX.JS",
        "../lbgap/static/../loader.py",
        "plotly.min.js/../../../../etc/passwd",
        "",
        "nothing",
    ],
)
def test_no_request_becomes_a_path(client, load_fast, path):
    assert client.request("GET", path).status_code == 404

"""Broken, foreign and malicious data: what is wrong is named, and everything else still comes."""

import csv
import io
import json
import struct
import time

import numpy as np
import pytest
from serving import LOAD_FAST, served
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.util.tensor_util import make_tensor_proto

from tb_plugin import metadata, records
from tb_plugin.writer import Writer

pytestmark = pytest.mark.parametrize("load_fast", LOAD_FAST, ids=lambda value: f"load_fast={value}")
GOOD = "good/0"


@pytest.fixture
def log_dir(tmp_path):
    """A directory with one good run, of which every test asks in the end."""
    with Writer(tmp_path / GOOD) as writer:
        for step in (1, 2):
            writer.eigenvalues("curvature/eigenvalues", [1.0, step], step=step)
            writer.scalar("my/scalar", step, step=step)
            writer.plane("landscape/plane", [0.0, 1], [0.0, 1], np.eye(2), step=step)
    return tmp_path


def assert_alive(client, runs):
    """Ask for everything of all runs; return the errors by (run, tag) after looking at the good run."""
    listed = client.get("runs")
    kinds = {tag["tag"]: tag["kind"] for run in listed["runs"] if run["run"] in runs for tag in run["tags"]}
    rows = {"scalar", "eigenvalues", "unknown"}
    answer = client.post("series", runs=runs, tags=[tag for tag, kind in kinds.items() if kind in rows])
    good = {s["tag"]: s["values"] for s in answer["series"] if s["run"] == GOOD}
    assert good["curvature/eigenvalues"][:2] == [[1.0, 1.0], [1.0, 2.0]] and good["my/scalar"] == [[1.0, 2.0]]
    framed = client.post("frames", runs=runs, tags=[tag for tag, kind in kinds.items() if kind not in rows])
    assert [f["steps"] for f in framed["frames"] if f["run"] == GOOD] == [[1, 2]]
    assert client.get("frame", run=GOOD, tag="landscape/plane")["loss"] == [[1.0, 0.0], [0.0, 1.0]]
    assert len(client.post("table", runs=runs)["rows"]) == len(
        [r for r in listed["runs"] if r["run"] in runs]
    )
    lines = list(csv.reader(io.StringIO(client.text("export.csv"), newline="")))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines) - 1 == len(json.loads(client.text("export.json")))
    return {(e["run"], e["tag"]): e["message"] for e in answer["errors"] + framed["errors"]}


def write_events(path, *values, steps=None):
    """Write summary values, one event each, with TensorBoard's checksums."""
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "events.out.tfevents.0000000001.host.1.0", "wb") as file:
        for i, value in enumerate((None, *values)):
            event = event_pb2.Event(
                wall_time=1000.0 + i, step=0 if value is None else (steps or range(1, 99))[i - 1]
            )
            if value is None:
                event.file_version = "brain.Event:2"
            else:
                event.summary.value.append(value)
            data = event.SerializeToString()
            header = struct.pack("<Q", len(data))
            file.write(
                header
                + struct.pack("<I", masked_crc32c(header))
                + data
                + struct.pack("<I", masked_crc32c(data))
            )


def value(tag, tensor, described=None):
    """Return a summary value; the tensor is an array or a proto."""
    proto = tensor if isinstance(tensor, tensor_pb2.TensorProto) else make_tensor_proto(tensor)
    return summary_pb2.Summary.Value(tag=tag, tensor=proto, metadata=described)


def eigenvalues(tag, *rows, step=1):
    record = records.eigenvalues(rows, np.arange(len(rows)) + step, 0.0)
    return value(tag, record.tensor, record.summary_metadata())


NAMES = [
    "<img src=x onerror=alert(1)>",
    "\"quotes\" and 'these' & </script>",
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@sum",
    "a,b;c\td",
    "naïve-λ-名前-🙂",
    "%2e%2e%2fetc",
    "..hidden..",
    "with space ",
    "{{constructor}}",
    "x" * 240,
]


def test_names_are_passed_on_as_they_are(log_dir, load_fast):
    deep = "/".join(["d" * 199] * 5)
    for name in [*NAMES, deep]:
        with Writer(log_dir / name) as writer:
            writer.scalar(name, 1.0, step=1)
            writer.scalar("../../etc/passwd", 2.0, step=1)
            writer.scalar("t" * 1000, 3.0, step=1)
    with served(log_dir, load_fast=load_fast) as client:
        assert {run["run"] for run in client.get("runs")["runs"]} == {GOOD, deep, *NAMES}
        errors = assert_alive(client, [GOOD, deep, *NAMES])
        assert not errors
        for name in [*NAMES, deep]:
            assert client.series(name, name)["values"] == [[1.0]]
            assert client.series(name, "../../etc/passwd")["values"] == [[2.0]]
            assert client.series(name, "t" * 1000)["values"] == [[3.0]]
            missing = client.request("GET", "frame", query_string={"run": name, "tag": name + "?"})
            # A sentence may hold the name, and is no HTML then.
            assert missing.status_code == 404 and missing.content_type.startswith("text/plain")


def test_no_cell_of_a_csv_file_is_a_formula(log_dir, load_fast):
    for name in NAMES:
        with Writer(log_dir / name) as writer:
            writer.scalar(name, -1.0, step=1)
    with served(log_dir, load_fast=load_fast) as client:
        lines = list(csv.reader(io.StringIO(client.text("export.csv"), newline="")))
    assert not [cell for line in lines for cell in line[:2] if cell.startswith(("=", "+", "-", "@"))]
    (formula,) = [line for line in lines if "HYPERLINK" in line[0]]
    assert formula[:2] == ["'=HYPERLINK(1)"] * 2 and formula[5] == "-1.0"


def test_numbers_that_are_not_finite_are_strings_in_json_and_words_in_csv(log_dir, load_fast):
    with Writer(log_dir / "a") as writer:
        for step, number in enumerate([np.nan, np.inf, -np.inf, 1.0]):
            writer.scalar("my/scalar", number, step=step)
            writer.eigenvalues("curvature/eigenvalues", [number, 0.0], step=step)
        writer.plane("landscape/plane", [0.0, 1], [0.0, 1], [[np.nan, np.inf], [-np.inf, 1]], step=1)
        writer.density("curvature/density", [0.0, 1], [np.nan, np.inf], step=1)
    words = ["NaN", "Infinity", "-Infinity", 1.0]
    with served(log_dir, load_fast=load_fast) as client:
        assert assert_alive(client, [GOOD, "a"]) == {}
        assert client.series("a", "my/scalar")["values"] == [words]
        assert client.series("a", "curvature/eigenvalues")["values"][0] == words
        frame = client.get("frame", run="a", tag="landscape/plane")
        assert frame["loss"] == [words[:2], words[2:]] and frame["center"] == "NaN"
        assert set(np.ravel(client.post("heatmap", run="a", tag="curvature/density", bins=3)["mass"])) == {
            "NaN"
        }
        rows = csv.DictReader(io.StringIO(client.text("export.csv", run="a", tag="my/scalar"), newline=""))
        assert [row["value_1"] for row in rows] == ["nan", "inf", "-inf", "1.0"]


def test_a_truncated_file_shows_what_is_whole(log_dir, load_fast):
    with Writer(log_dir / "a") as writer:
        for step in range(1, 101):
            writer.scalar("my/scalar", step, step=step)
    (file,) = (log_dir / "a").iterdir()
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 3])
    with served(log_dir, load_fast=load_fast) as client:
        assert assert_alive(client, [GOOD, "a"]) == {}
        shown = client.series("a", "my/scalar")["x"]["updates"]
    assert shown == list(range(1, len(shown) + 1)) and 50 < len(shown) < 100


@pytest.mark.parametrize("where", ["length", "payload", "everything"])
def test_a_corrupted_file_harms_no_other(log_dir, load_fast, where):
    with Writer(log_dir / "a") as writer:
        for step in range(1, 101):
            writer.eigenvalues("curvature/eigenvalues", [1.0], step=step, mirror=False)
            writer.flush()
    (file,) = (log_dir / "a").iterdir()
    data = bytearray(file.read_bytes())
    if where == "everything":
        data = bytearray(np.random.default_rng(0).bytes(5000))
    else:
        data[0 if where == "length" else len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with served(log_dir, load_fast=load_fast) as client:
        assert_alive(client, [GOOD, "a"])
        known = {run["run"]: run for run in client.get("runs")["runs"]}
    if "a" in known and not known["a"]["tags"]:
        assert known["a"]["note"] == "no data that this tab can show"


def test_a_record_that_cannot_be_decoded_is_named(log_dir, load_fast):
    """A tensor proto that claims 5 numbers and holds 1 makes TensorBoard raise for every run in the call."""
    lying = make_tensor_proto(np.zeros((1, 5)))
    lying.tensor_content = lying.tensor_content[:8]
    described = records.eigenvalues([1.0], 1, 0.0).summary_metadata()
    write_events(
        log_dir / "a",
        value("curvature/eigenvalues", lying, described),
        eigenvalues("other/eigenvalues", [5.0], step=7),
    )
    with served(log_dir, load_fast=load_fast) as client:
        errors = assert_alive(client, [GOOD, "a"])
        assert client.series("a", "other/eigenvalues")["values"][0] == [5.0]
        exported = client.text("export.csv", run="a").splitlines()
    assert errors.keys() == {("a", "curvature/eigenvalues")}
    assert "ValueError" in errors["a", "curvature/eigenvalues"]
    assert any(line.startswith("a,curvature/eigenvalues,error,") for line in exported)


def test_records_of_another_shape_are_counted_and_the_others_shown(log_dir, load_fast):
    good = eigenvalues("curvature/eigenvalues", [5.0], step=9)
    strange = [
        np.zeros((2, 2, 2)),
        np.zeros(3),
        np.array([["text"] * 5]),
        np.zeros((1, 5), "int32"),
        np.zeros((0, 5)),
    ]
    planes = [records.plane([0.0, 1], [0.0, 1], np.eye(2)).tensor, np.zeros(3)]
    lines = [records.line([0.0, 1], train_loss=[1, 2]), records.line([0.0], train_loss=[1], test_loss=[3])]
    described = records.plane([0.0, 1], [0.0, 1], np.eye(2)).summary_metadata()
    spectral = records.density([0.0, 1], [1.0, 1]).summary_metadata()
    write_events(
        log_dir / "a",
        good,
        *(value("curvature/eigenvalues", array) for array in strange),
        *(value("landscape/plane", array, described) for array in planes),
        *(
            value("curvature/density", np.array([grid, [1.0, 1.0]]), spectral)
            for grid in ([0, 1], [1, 0], [0, np.nan])
        ),
        *(value("landscape/line", line.tensor, lines[1].summary_metadata()) for line in lines),
        steps=range(9, 30),
    )
    with served(log_dir, load_fast=load_fast) as client:
        errors = assert_alive(client, [GOOD, "a"])
        assert client.series("a", "curvature/eigenvalues")["values"][0] == [5.0]
        assert client.get("frame", run="a", tag="landscape/plane")["loss"] == [[1.0, 0.0], [0.0, 1.0]]
        rows = list(
            csv.reader(io.StringIO(client.text("export.csv", run="a", tag="landscape/line"), newline=""))
        )
        mass = client.post("heatmap", run="a", tag="curvature/density", bins=2)["mass"]
    assert [row[5:] for row in rows[1:]] == [["0.0", "1.0", ""], ["1.0", "2.0", ""], ["0.0", "1.0", "3.0"]]
    assert errors["a", "curvature/eigenvalues"].startswith("5 of 6 records are left out")
    np.testing.assert_allclose(np.sum(mass, axis=1), [1])
    assert errors["a", "landscape/plane"].startswith("1 of 2 records are left out")
    assert errors["a", "curvature/density"].startswith("2 of 3 records are left out")


CONTENTS = {
    b'{"version": 2, "kind": "eigenvalues"}': "written by a newer version",
    b'{"version": 1, "kind": "hologram"}': "written by a newer version",
    b"\xff\xfe": "its content is not readable",
    b"": "its content is not readable",
    b'{"version": 1, "kind": "scalar"}': "says it is of kind scalar, but holds tensors",
}


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
def test_content_that_is_not_understood_is_noted(log_dir, load_fast, content):
    tensor = records.eigenvalues([5.0], 1, 0.0).tensor
    write_events(log_dir / "a", value("curvature/eigenvalues", tensor, metadata.summary_metadata(content)))
    with served(log_dir, load_fast=load_fast) as client:
        errors = assert_alive(client, [GOOD, "a"])
        (tag,) = next(run["tags"] for run in client.get("runs")["runs"] if run["run"] == "a")
    assert (tag["note"], tag["kind"]) == (CONTENTS[content], "unknown")
    assert errors["a", "curvature/eigenvalues"] == CONTENTS[content]


def test_content_with_numbers_that_json_has_not_is_served_as_text(log_dir, load_fast):
    content = rb'{"version": 1, "kind": "eigenvalues", "unit": "\ud800", "measured": {"a": NaN, "b": 1e999}}'
    tensor = records.eigenvalues([5.0], 1, 0.0).tensor
    write_events(log_dir / "a", value("curvature/eigenvalues", tensor, metadata.summary_metadata(content)))
    with served(log_dir, load_fast=load_fast) as client:
        assert assert_alive(client, [GOOD, "a"]) == {}
        (tag,) = next(run["tags"] for run in client.get("runs")["runs"] if run["run"] == "a")
    assert tag["measured"] == {"a": "NaN", "b": "1e999"} and tag["unit"] == "\ud800"


def test_values_that_another_plugin_writes_under_a_tag_do_no_harm(log_dir, load_fast):
    other = summary_pb2.SummaryMetadata(data_class=summary_pb2.DATA_CLASS_TENSOR)
    other.plugin_data.plugin_name = "other"
    write_events(
        log_dir / "a",
        eigenvalues("curvature/eigenvalues", [5.0], step=1),
        value("curvature/eigenvalues", np.zeros((3, 3)), other),
        value("other/tag", np.zeros((3, 3)), other),
    )
    with served(log_dir, load_fast=load_fast) as client:
        assert_alive(client, [GOOD, "a"])
        assert client.series("a", "curvature/eigenvalues")["values"][0] == [5.0]
        assert [t["tag"] for r in client.get("runs")["runs"] if r["run"] == "a" for t in r["tags"]] == [
            "curvature/eigenvalues"
        ]


def test_steps_and_walls_at_the_ends_of_their_types_are_served(log_dir, load_fast):
    scalar = records.scalar(1.0)
    block = np.array([[-(2.0**52), np.nan, 1.0, 0.0, 1.0], [2.0**52, np.inf, 2.0, 0.0, 1.0]])
    described = records.eigenvalues([1.0], 1, 0.0).summary_metadata()
    write_events(
        log_dir / "a",
        value("my/scalar", scalar.tensor, scalar.summary_metadata()),
        value("my/scalar", scalar.tensor),
        value("curvature/eigenvalues", block, described),
        steps=[-(2**63), 2**63 - 1, 5],
    )
    with served(log_dir, load_fast=load_fast) as client:
        assert_alive(client, [GOOD, "a"])
        assert client.series("a", "my/scalar", points=2)["x"]["updates"] == [-(2**63), 2**63 - 1]
        assert client.series("a", "curvature/eigenvalues")["x"]["updates"] == [-(2**52), 2**52]


def test_an_empty_directory_is_no_error(tmp_path, load_fast):
    with served(tmp_path, load_fast=load_fast) as client:
        assert client.get("runs") == {"version": 1, "runs": [], "errors": []}
        assert client.post("series", runs=["a"], tags=["b"]) == {"series": [], "errors": []}
        assert client.text("export.csv").splitlines() == ["run,tag,kind,step,wall_time,value_1"]
        assert client.text("export.json") == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 4])
def test_300_megabytes_of_landscapes_are_served_moment_by_moment(log_dir, load_fast, runs):
    """The data server's answer to all of them would be above the 256 MB that TensorBoard accepts."""
    record = records.plane(
        np.arange(627.0), np.arange(627.0), np.random.default_rng(0).normal(size=(627, 627))
    )
    for run in range(runs):
        values = [
            value("landscape/plane", record.tensor, record.summary_metadata() if i == 0 else None)
            for i in range(100 // runs)
        ]
        write_large(log_dir / f"a{run}", values)
    names = [f"a{run}" for run in range(runs)]
    with served(log_dir, load_fast=load_fast) as client:
        wait_until_loaded(client, names, 100 // runs)
        answer = client.post("frames", runs=[GOOD, *names], tags=["landscape/plane"])
        assert [f["run"] for f in answer["frames"]] == [GOOD, *names]
        for listed in answer["frames"][1:]:
            assert listed["steps"][-1] == 100 // runs and len(listed["steps"]) >= 20
            for step in (listed["steps"][0], listed["steps"][-1]):
                frame = client.get("frame", run=listed["run"], tag="landscape/plane", step=step)
                assert frame["loss"][3][5] == record.tensor[4, 6]
        assert client.series(GOOD, "my/scalar")["values"] == [[1.0, 2.0]]
        export = client.request("GET", "export.csv", query_string={"run": names, "tag": "landscape/plane"})
        assert next(export.iter_encoded()).startswith(
            b"run,tag,kind,step"
        )  # streamed: most of it is never made
    assert all("moments are served" in error["message"] for error in answer["errors"])
    assert len(answer["errors"]) == runs


def wait_until_loaded(client, names, step, seconds=120):
    """The data server reads on while it answers, and 300 MB take it a while on a busy machine."""
    for _ in range(seconds):
        listed = {run["run"]: run["tags"] for run in client.get("runs")["runs"]}
        if all(name in listed and listed[name][0]["max_step"] == step for name in names):
            return
        time.sleep(1)
    raise AssertionError(f"After {seconds} s the data server has no step {step} of each of {names}.")


def write_large(path, values):
    """Write events through TensorFlow's file writer, whose checksums are fast."""
    import tensorflow as tf

    path.mkdir()
    with tf.io.TFRecordWriter(str(path / "events.out.tfevents.0000000001.host.1.0")) as file:
        file.write(event_pb2.Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for step, each in enumerate(values, 1):
            event = event_pb2.Event(wall_time=1.0 + step, step=step)
            event.summary.value.append(each)
            file.write(event.SerializeToString())

"""What the two ways of writing put on disk, read back by TensorFlow's own reader of event files."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tb_plugin import summary
from tb_plugin.writer import Writer


def events(path):
    """Return (step, tag, array, metadata) of each value in a directory, in the order they were written."""
    found = []
    for file in sorted(path.glob("**/events*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found.append((event.step, value.tag, tf.make_ndarray(value.tensor), value.metadata))
    return found


def arrays(path, tag):
    return [(step, array) for step, found, array, _ in events(path) if found == tag]


WAYS = {
    "scalar": (("sharpness/trace", 2.5), {"unit": "m", "description": "long", "measured": {"model": "f1"}}),
    "eigenvalues": (
        ("curvature/eigenvalues", [3.0, 1.0]),
        {"residuals": [0.1, 0.2], "converged": [True, False]},
    ),
    "density": (("curvature/density", [0.0, 1.0], [0.5, 1.5]), {}),
    "line": (("landscape/line", [0.0, 1.0]), {"train_loss": [1, 2], "test_accuracy": [0.5, 1]}),
    "plane": (("landscape/plane", [0.0, 1, 2], [5.0, 6], np.arange(6.0).reshape(2, 3), 9.0), {}),
    "trajectory": (("landscape/trajectory", [1, 2], [[3, 4], [5, 6]], [0.5, 0.25]), {}),
}
LAYOUTS = {
    "scalar": 2.5,
    "eigenvalues": [[7.0, np.nan, 3.0, 1.0, 0.1, 0.2, 1.0, 0.0]],  # the wall time is not compared
    "density": [[0.0, 1.0], [0.5, 1.5]],
    "line": [[0.0, 1.0, 0.5], [1.0, 2.0, 1.0]],
    "plane": [[9.0, 0.0, 1.0, 2.0], [5.0, 0.0, 1.0, 2.0], [6.0, 3.0, 4.0, 5.0]],
    "trajectory": [[1.0, 3.0, 4.0, 0.5, 0.25], [2.0, 5.0, 6.0, 0.5, 0.25]],
}


@pytest.mark.parametrize("kind", WAYS)
def test_both_ways_write_the_same_layout(tmp_path, kind):
    arguments, options = WAYS[kind]
    with tf.summary.create_file_writer(str(tmp_path / "tf")).as_default():
        assert getattr(summary, kind)(*arguments, step=7, **options)
    with Writer(tmp_path / "plain") as writer:
        getattr(writer, kind)(*arguments, step=7, **options)

    ours = [
        [e for e in events(tmp_path / way) if e[3].plugin_data.plugin_name == "lbgap"]
        for way in ("tf", "plain")
    ]
    for ((step, tag, array, described),) in ours:
        assert (step, tag) == (7, arguments[0])
        assert array.dtype == (np.float32 if kind == "scalar" else np.float64)
        expected = np.array(LAYOUTS[kind])
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(array[known], expected[known])
        assert described.data_class == (1 if kind == "scalar" else 2)
        assert described.summary_description == options.get("description", "")
    assert ours[0][0][3].plugin_data.content == ours[1][0][3].plugin_data.content


def test_without_a_default_writer_nothing_is_written_and_nothing_is_wrong():
    for kind, (arguments, options) in WAYS.items():
        assert not getattr(summary, kind)(*arguments, **options)


def test_recording_and_steps_follow_tf_summary(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        with pytest.raises(ValueError, match=r"no step.*Pass step="):
            summary.density("curvature/density", [0.0, 1], [1, 1])
        tf.summary.experimental.set_step(5)
        try:
            assert summary.density("curvature/density", [0.0, 1], [1, 1])
            assert summary.eigenvalues("curvature/eigenvalues", tf.constant([1.0]), step=tf.Variable(6))
        finally:
            tf.summary.experimental.set_step(None)
        with tf.summary.record_if(False):
            assert not summary.density("curvature/density", [0.0, 1], [1, 1], step=8)
    assert [step for step, _ in arrays(tmp_path, "curvature/density")] == [5]
    ((step, block),) = arrays(tmp_path, "curvature/eigenvalues")
    assert step == block[0, 0] == 6


def test_a_scalar_can_be_written_inside_a_tf_function_and_an_array_says_why_not(tmp_path):
    @tf.function
    def train_step(x):
        summary.scalar("my/scalar", x, step=3)

    @tf.function
    def wrong(x):
        summary.density("curvature/density", x, x, step=3)

    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        train_step(tf.constant(2.0))
        with pytest.raises(RuntimeError, match=r"inside a tf\.function.*write them outside"):
            wrong(tf.constant([0.0, 1.0]))
    assert arrays(tmp_path, "my/scalar") == [(3, np.float32(2.0))]


@pytest.mark.parametrize("way", ["tf", "plain"])
def test_top_values_are_mirrored_as_stock_scalars(tmp_path, way):
    def write(to, at):
        to.scalar("sharpness/trace", 2.0, **at)
        to.scalar("my/own", 3.0, **at)
        to.scalar("my/other", 4.0, mirror=True, **at)
        to.eigenvalues("curvature/eigenvalues", [5.0, 9.0, np.nan], **at)
        to.eigenvalues("curvature/smallest_eigenvalues", [-5.0, -9.0], which="smallest", **at)
        to.eigenvalues("other/eigenvalues", [-7.0, 6.0], which="magnitude", converged=[0, 1], **at)
        to.eigenvalues("silent/eigenvalues", [1.0], mirror=False, **at)

    if way == "tf":
        with tf.summary.create_file_writer(str(tmp_path)).as_default():
            write(summary, {"step": 4})
    else:
        with Writer(tmp_path) as writer:
            write(writer, {"step": 4})
    stock = {tag: array for step, tag, array, m in events(tmp_path) if m.plugin_data.plugin_name == "scalars"}
    assert stock.keys() == {
        "lbgap/trace",
        "lbgap/other",
        "lbgap/top_eigenvalue",
        "lbgap/smallest_eigenvalue",
        "lbgap/dominant_eigenvalue",
    }
    assert (stock["lbgap/top_eigenvalue"], stock["lbgap/smallest_eigenvalue"]) == (9.0, -9.0)
    assert np.isnan(stock["lbgap/dominant_eigenvalue"])  # the outermost value did not converge
    assert all(array.dtype == np.float32 for array in stock.values())


def test_rows_are_gathered_to_blocks_of_64(tmp_path):
    with Writer(tmp_path) as writer:
        for step in range(1, 151):
            writer.eigenvalues("curvature/eigenvalues", [float(step)], step=step, mirror=False)
            if step == 100:
                writer.flush()
                on_disk = [len(block) for _, block in arrays(tmp_path, "curvature/eigenvalues")]
    blocks = arrays(tmp_path, "curvature/eigenvalues")
    assert on_disk == [64, 36]
    assert [(step, len(block)) for step, block in blocks] == [(1, 64), (65, 36), (101, 50)]
    np.testing.assert_array_equal(np.concatenate([b for _, b in blocks])[:, 2], np.arange(1, 151))


def test_nothing_is_lost_when_training_breaks_off(tmp_path):
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path) as writer:
        writer.eigenvalues("curvature/eigenvalues", [1.0], step=1)
        raise KeyboardInterrupt
    assert len(arrays(tmp_path, "curvature/eigenvalues")) == 1
    writer.close()  # a second time does nothing


def test_a_block_ends_where_k_changes_or_a_step_goes_back(tmp_path):
    with Writer(tmp_path) as writer:
        for step, values in (
            (1, [1.0]),
            (2, [1.0]),
            (3, [2.0, 1.0]),
            (4, [2.0, 1.0]),
            (4, [3.0, 1.0]),
            (2, [4.0, 1.0]),
        ):
            writer.eigenvalues("curvature/eigenvalues", values, step=step, mirror=False)
    blocks = [(step, block.shape) for step, block in arrays(tmp_path, "curvature/eigenvalues")]
    assert blocks == [(1, (2, 5)), (3, (2, 8)), (4, (1, 8)), (2, (1, 8))]


def test_a_block_may_be_written_at_once(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        summary.eigenvalues("curvature/eigenvalues", values, step=[5, 6, 7])
    ((step, block),) = arrays(tmp_path, "curvature/eigenvalues")
    assert step == 5
    np.testing.assert_array_equal(block[:, [0, 2, 3]], np.column_stack([[5, 6, 7], values]))
    assert [step for step, _ in arrays(tmp_path, "lbgap/top_eigenvalue")] == [5, 6, 7]


def test_writers_of_one_process_use_files_of_their_own_in_order(tmp_path):
    for _ in range(3):
        Writer(tmp_path).close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 3 and all(re.match(r"events\.out\.tfevents\.\d{10}\..*\.lbgap$", n) for n in names)


def test_a_path_with_a_scheme_goes_through_the_file_systems_of_tensorflow(tmp_path):
    with Writer(f"file://{tmp_path}/remote") as writer:
        writer.scalar("my/scalar", 1.0, step=1)
    assert arrays(tmp_path, "my/scalar") == [(1, np.float32(1.0))]


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda writer: writer.scalar("a", "high", step=0), "A scalar"),
        (lambda writer: writer.eigenvalues("a", ["x"], step=0), "values="),
        (lambda writer: writer.eigenvalues("a", [1.0], step="one"), "step="),
        (lambda writer: writer.eigenvalues("a", [1.0], step=0, residuals={}), "residuals="),
        (lambda writer: writer.density("a", "grid", [1.0], step=0), "grid"),
    ],
    ids=["scalar", "values", "step", "residuals", "grid"],
)
def test_what_is_no_number_is_named_and_shown(tmp_path, write, name):
    with (
        Writer(tmp_path) as writer,
        pytest.raises(ValueError, match=f"^{name} should be numbers, but .* is not"),
    ):
        write(writer)


def test_a_file_where_a_directory_should_be_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken", tmp_path / "taken" / "run"):
        with pytest.raises(NotADirectoryError, match=r"log_dir=.*taken.* is a file, or lies in one"):
            Writer(path)

"""Summaries of the tab through `tf.summary`: one function a kind, used like `tf.summary.scalar`.

They write to the default writer at once, with `tf.summary`'s own notion of step and of whether to record. TensorFlow
is imported when one is called. Without TensorFlow, or to gather rows into blocks, see `writer.Writer`.

Example:
    ```python
    from tb_plugin import summary

    with tf.summary.create_file_writer("runs/a/0").as_default():
        summary.scalar("sharpness/trace", 12.5, step=10, unit="loss / weight²")
        summary.eigenvalues("curvature/eigenvalues", [9.0, 4.0], step=10, residuals=[1e-4, 2e-3])
    ```
"""

import time

import numpy as np

from tb_plugin import metadata, mirrors, records


def scalar(name, value, step=None, *, unit="", description="", measured=None, mirror=None):
    """Write one number: a measure of sharpness, a batch size, a learning rate, ... Works inside `tf.function` too.

    Args:
        name: Tag, such as "sharpness/trace"; the part before the slash chooses the panel.
        value: A number or a tensor of rank 0.
        step: Number of updates; by default that of `tf.summary.experimental.set_step`.
        unit: Unit, shown on the axis.
        description: Longer text.
        measured: Dict of what was measured, see `metadata.content`.
        mirror: Whether to write it as a stock scalar `lbgap/...`, too. By default those under `sharpness/`,
            `schedule/` and `generalization/` are.

    Returns:
        Whether it was written, as `tf.summary.write` does; False without a default writer.

    Raises:
        ValueError: If the value is not one number, or no step is known.
    """
    import tensorflow as tf

    described = metadata.summary_metadata(
        metadata.content("scalar", columns=["value"], unit=unit, measured=measured),
        description=description,
        scalar=True,
    )
    value = tf.cast(value, tf.float32)
    if value.shape.rank != 0:
        raise ValueError(
            f"A scalar is one number, but {name!r} has shape {value.shape}. "
            "Write its mean, or one scalar for each entry under a name of its own."
        )
    with tf.summary.experimental.summary_scope(name, "scalar", values=[value, step]) as (tag, _):
        written = tf.summary.write(tag, value, step, metadata=described)
    tag = mirrors.of_scalar(name, mirror)
    if tag:
        tf.summary.scalar(tag, value, step)
    return written


def eigenvalues(
    name,
    values,
    step=None,
    *,
    residuals=None,
    converged=None,
    which="largest",
    unit=records.EIGENVALUE_UNIT,
    mirror=True,
    description="",
    measured=None,
):
    """Write eigenvalues of one moment, or a block of several moments.

    Many moments are read faster as blocks of some 64 rows than one by one; the number of values may change.

    Args:
        name: Tag, such as "curvature/eigenvalues".
        values: Shape (k,), the outermost first; or (R, k) with steps of shape (R,).
        step: Number of updates, an int or shape (R,).
        residuals: ‖Av - λv‖ of each value, in the shape of the values.
        converged: Whether each value is what it claims to be, in the shape of the values. Others are drawn hollow.
        which: Which end of the spectrum: "largest", "smallest" or "magnitude".
        unit: Unit of the values.
        mirror: Whether to write the outermost value as a stock scalar, too: `lbgap/top_eigenvalue`. One that did
            not converge is NaN there. Pass False if a scalar `sharpness/top_eigenvalue` is written anyway.
        description: Longer text.
        measured: Dict of what was measured.

    Returns:
        Whether it was written; False without a default writer.

    Raises:
        ValueError: If shapes do not fit, the block is larger than 4 MB, or no step is known.
    """
    step, recording = _place(step)
    if not recording:
        return False
    record = records.eigenvalues(
        values, step, time.time(), residuals=residuals, converged=converged, which=which, unit=unit,
        description=description, measured=measured,
    )  # fmt: skip
    # The step of the first row: see writer.Writer.
    written = _write(name, record, int(record.tensor[0, 0]))
    if mirror:
        import tensorflow as tf

        tops = mirrors.top_values(values, converged, which)
        for row, top in zip(record.tensor, tops, strict=True):
            tf.summary.scalar(mirrors.of_eigenvalues(name, which), np.float32(top), int(row[0]))
    return written


def density(name, grid, density, step=None, **options):
    """Write a spectral density: grid and density of shape (G,).

    Options are `unit`, `description` and `measured`, see `records.density`. Returns whether it was written.
    """
    return _write_at(step, name, lambda: records.density(grid, density, **options))


def line(name, alpha, step=None, **options):
    """Write losses and accuracies on a line through weight space, at positions alpha of shape (N,).

    Options are `train_loss`, `test_loss`, `train_accuracy`, `test_accuracy`, each of shape (N,) and one of them
    required, and `unit`, `description`, `measured`, see `records.line`. Returns whether it was written.
    """
    return _write_at(step, name, lambda: records.line(alpha, **options))


def plane(name, a, b, loss, center=None, step=None, **options):
    """Write the loss on a plane: a of shape (W,) to the right, b (H,) upwards, loss (H, W), center its loss at 0.

    Options are `unit`, `description` and `measured`, see `records.plane`. Returns whether it was written.
    """
    return _write_at(step, name, lambda: records.plane(a, b, loss, center, **options))


def trajectory(name, steps, points, explained=None, step=None, **options):
    """Write a path through a plane: steps (N,), points (N, 2), explained the shares of variance along its two axes.

    Options are `unit`, `description` and `measured`, see `records.trajectory`. Returns whether it was written.
    """
    return _write_at(step, name, lambda: records.trajectory(steps, points, explained, **options))


def _write_at(step, name, make):
    step, recording = _place(step)
    return _write(name, make(), step) if recording else False


def _place(step):
    """Return the step, and whether summaries are recorded at all."""
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise RuntimeError(
            "Arrays of the tab are written eagerly, but this is inside a tf.function. "
            "Return the numbers from it and write them outside; only summary.scalar works inside."
        )
    if not tf.summary.should_record_summaries():
        return step, False
    if step is None:
        step = tf.summary.experimental.get_step()
    if step is None:
        raise ValueError(
            "There is no step to write at. Pass step= (the number of updates), or call tf.summary.experimental.set_step."
        )
    return np.asarray(step), True


def _write(name, record, step):
    import tensorflow as tf

    with tf.summary.experimental.summary_scope(name, "lbgap") as (tag, _):
        return tf.summary.write(tag, record.tensor, step, metadata=record.summary_metadata())

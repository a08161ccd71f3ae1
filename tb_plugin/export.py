"""Export: everything as CSV or JSON, unthinned, a line for each row, made while it is sent.

A row of a scalar or of eigenvalues is a step. Of a density it is a grid point, of a line or a trajectory a point, of
a plane a pair (a, b).
"""

import csv
import io
import json

from tb_plugin.encode import as_written, number
from tb_plugin.frames import line_columns
from tb_plugin.reader import Unreadable

_HEADER = ("run", "tag", "kind", "step", "wall_time")
_FRAME_NAMES = {
    "density": ("grid", "density"),
    "plane": ("a", "b", "loss"),
    "trajectory": ("point_step", "a", "b", "explained_a", "explained_b"),
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def tables(reader, ctx, experiment, chosen):
    """Yield series, names of the columns, and an iterable of (step, wall time, values) or None.

    Args:
        reader: A `Reader`.
        ctx: Context of the request.
        experiment: Its experiment id.
        chosen: Series, in the order they are written.

    Yields:
        `(series, names, rows)`; where something cannot be read `names` is None and `rows` the sentence that says why.
    """
    for series in chosen:
        try:
            if series.kind in ("scalar", "eigenvalues"):
                columns = reader.columns(ctx, experiment, series)
                yield series, columns.names, _rows_of_columns(columns, single=series.data_class == "scalar")
                problem = columns.problem
            else:
                frames = reader.all_frames(ctx, experiment, series)
                yield series, _frame_names(series, frames.arrays), _rows_of_frames(series.kind, frames)
                problem = frames.problem
            if problem:
                yield series, None, problem
        except Unreadable as problem:
            yield series, None, str(problem)


def num_value_columns(reader, ctx, experiment, chosen):
    """Return how many columns the widest series has: a CSV file says so in its first line."""
    widest = 1
    for series in chosen:
        try:
            if series.kind == "eigenvalues":
                widest = max(widest, len(reader.columns(ctx, experiment, series).names))
            elif series.kind == "line":
                arrays = reader.frames(ctx, experiment, series).arrays
                widest = max(widest, len(_frame_names(series, arrays)))
            else:
                widest = max(widest, len(_FRAME_NAMES.get(series.kind, ())))
        except Unreadable:
            continue
    return widest


def as_csv(read, width):
    """Yield the lines of a CSV file.

    Args:
        read: What `tables` yields.
        width: Number of value columns.
    """
    yield ",".join([*_HEADER, *(f"value_{i}" for i in range(1, width + 1))]) + "\r\n"
    for series, names, rows in read:
        if names is None:
            yield _csv_line(
                [_cell(series.run), _cell(series.tag), "error", "", "", _cell(rows), *[""] * (width - 1)]
            )
            continue
        head = _csv_line([_cell(series.run), _cell(series.tag), series.kind]).rstrip("\r\n")
        for step, wall, values in rows:
            padding = "," * (width - len(values))
            yield f"{head},{step},{wall!r},{','.join(map(repr, values))}{padding}\r\n"


def as_json(read):
    """Yield the lines of a JSON array, one object a line."""
    opening = "["
    for series, names, rows in read:
        head = {"run": series.run, "tag": series.tag, "kind": series.kind}
        if names is None:
            yield opening + json.dumps(head | {"error": rows})
            opening = ",\n"
            continue
        for step, wall, values in rows:
            row = head | {"step": step, "wall_time": number(wall)}
            row |= zip(names, map(number, values), strict=False)
            yield opening + json.dumps(row, allow_nan=False)
            opening = ",\n"
    yield "[]\n" if opening == "[" else "]\n"


def _rows_of_columns(columns, *, single):
    """Return step, wall time and values of each row."""
    values = as_written(columns.values) if single else columns.values
    return zip(columns.steps.tolist(), columns.walls.tolist(), values.tolist(), strict=True)


def _rows_of_frames(kind, frames):
    for step, wall, array in zip(frames.steps.tolist(), frames.walls.tolist(), frames.arrays, strict=True):
        for row in _points(kind, array):
            yield step, wall, row


def _points(kind, array):
    """Yield the points of one moment."""
    if kind == "density":
        yield from array.T.tolist()
    elif kind == "plane":
        a = array[0, 1:].tolist()
        for b, *losses in array[1:].tolist():
            yield from ((at, b, loss) for at, loss in zip(a, losses, strict=True))
    else:
        yield from array.tolist()


def _frame_names(series, arrays):
    """Return the names of what a point of each moment holds; a line may hold fewer at times."""
    if series.kind in _FRAME_NAMES:
        return _FRAME_NAMES[series.kind]
    width = max((array.shape[1] for array in arrays), default=1)
    return tuple(line_columns(width, series.content.columns))


def _cell(text):
    """Return a text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def _csv_line(cells):
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()

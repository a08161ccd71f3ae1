"""The wire format: what a summary of this plugin says about itself, and how large it may be.

Each summary carries the plugin's name, a data class and a content: UTF-8 JSON with sorted keys, such as
`{"columns": ["value"], "kind": "scalar", "unit": "loss", "version": 1}`. Writers and the server import this file and
never each other. TensorBoard keeps only the first content of a tag, so whatever changes from step to step is in the
tensor. A reader knows every version up to `VERSION`; fields are added to a version, never changed in it.

| kind        | tensor                                                                               |
|-------------|--------------------------------------------------------------------------------------|
| scalar      | float32, rank 0 (the data server drops scalars of any other dtype)                   |
| eigenvalues | float64 [R, 2 + 3k]: step, wall time, value_1..k, residual_1..k, converged_1..k      |
| density     | float64 [2, G]: grid, density                                                        |
| line        | float64 [N, C]: alpha, then the measured columns                                     |
| plane       | float64 [H + 1, W + 1]: a in the first row, b in the first column, centre in the corner |
| trajectory  | float64 [N, 5]: step, a, b, explained_a, explained_b                                 |
"""

import functools
import json
from dataclasses import dataclass, field

PLUGIN_NAME = "lbgap"
VERSION = 1
KINDS = ("scalar", "eigenvalues", "density", "line", "plane", "trajectory")
WHICH = ("largest", "smallest", "magnitude")
LINE_COLUMNS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
MAX_TENSOR_BYTES = 4 * 2**20  # one reply of TensorBoard's data server holds at most 256 MB
MAX_CONTENT_BYTES = 4000
NEWER = "written by a newer version"
UNREADABLE = "its content is not readable"


@dataclass(frozen=True)
class Content:
    """What a tag says about itself.

    `note` is None, or why its data cannot be read; then `kind` is "unknown".
    """

    kind: str
    columns: tuple = ()
    unit: str = ""
    which: str | None = None
    measured: dict = field(default_factory=dict)
    note: str | None = None


def content(kind, *, columns=(), unit="", which=None, measured=None):
    """Return the content bytes of a tag.

    Args:
        kind: One of `KINDS`.
        columns: Names of the columns of its tensor.
        unit: Unit of its values, as shown on an axis.
        which: Of eigenvalues: which end of the spectrum, one of `WHICH`.
        measured: Optional dict of what was measured (model, data, examples, matrix, ...), JSON values only.

    Raises:
        ValueError: If `kind` or `which` is unknown, or if the content is longer than 4,000 bytes.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no kind {kind!r} of summary. Use one of {', '.join(KINDS)}.")
    if which is not None and which not in WHICH:
        raise ValueError(f"which={which!r} is no end of a spectrum. Use one of {', '.join(WHICH)}.")
    fields = {"version": VERSION, "kind": kind, "columns": list(columns), "unit": unit}
    if which is not None:
        fields["which"] = which
    if measured:
        fields["measured"] = dict(measured)
    encoded = json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()
    if len(encoded) > MAX_CONTENT_BYTES:
        raise ValueError(
            f"The description of what was measured takes {len(encoded):,} bytes, but TensorBoard reads it with every "
            f"list of tags, so the cap is {MAX_CONTENT_BYTES:,}. Pass less in measured=."
        )
    return encoded


@functools.lru_cache(4096)
def parse(encoded):
    """Return the `Content` of a tag; never raises, whatever the bytes are."""
    try:
        fields = json.loads(bytes(encoded).decode(), parse_constant=str, parse_float=_finite)
        json.dumps(fields)  # what is nested too deeply to be passed on fails here
        version, kind = fields["version"], fields["kind"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return Content("unknown", note=UNREADABLE)
    if type(version) is not int or version < 1:
        return Content("unknown", note=UNREADABLE)
    if version > VERSION or kind not in KINDS:
        return Content("unknown", note=NEWER)
    columns, measured, which = fields.get("columns"), fields.get("measured"), fields.get("which")
    return Content(
        kind,
        columns=tuple(map(str, columns)) if isinstance(columns, list) else (),
        unit=str(fields.get("unit", "")),
        which=which if which in WHICH else None,
        measured=measured if isinstance(measured, dict) else {},
    )


def _finite(text):
    """Return a number, or its text if it overflows: no infinity gets into an answer."""
    return float(text) if abs(float(text)) < float("inf") else text


def summary_metadata(encoded, *, description="", scalar=False):
    """Return the `SummaryMetadata` proto of a tag with the given content bytes."""
    from tensorboard.compat.proto import summary_pb2

    return summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=encoded),
        summary_description=description,
        # A tag without a data class is listed by TensorBoard, but can never be read.
        data_class=summary_pb2.DATA_CLASS_SCALAR if scalar else summary_pb2.DATA_CLASS_TENSOR,
    )

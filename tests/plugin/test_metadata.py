"""The wire format, byte for byte: other versions of the package read it."""

import json

import numpy as np
import pytest

from tb_plugin import metadata, records


def test_content_is_json_with_sorted_keys():
    encoded = metadata.content(
        "eigenvalues", columns=["step", "wall"], unit="m²", which="largest", measured={"model": "f1"}
    )
    assert encoded.decode() == (
        '{"columns": ["step", "wall"], "kind": "eigenvalues", "measured": {"model": "f1"}, "unit": "m²", '
        '"version": 1, "which": "largest"}'
    )


def test_content_says_to_the_reader_what_the_writer_said():
    content = metadata.parse(
        metadata.content("line", columns=["alpha", "test_loss"], unit="nats", measured={"examples": 512})
    )
    assert content == metadata.Content("line", ("alpha", "test_loss"), "nats", None, {"examples": 512}, None)


@pytest.mark.parametrize(
    "fields",
    [{"version": 2, "kind": "scalar"}, {"version": 1, "kind": "hologram"}, {"version": 99, "kind": "?"}],
)
def test_a_newer_version_is_noted(fields):
    assert metadata.parse(json.dumps(fields).encode()).note == "written by a newer version"


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"version": 1, "kind": "scalar", "measured": ' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
        b'{"version": "1", "kind": "scalar"}',
        b'{"version": 0, "kind": "scalar"}',
        b'{"version": 1}',
        b'{"version": {}, "kind": []}',
        b'{"version": 1, "kind": ["scalar"]}',
        b'{"version": true, "kind": "scalar"}',
        *(np.random.default_rng(i).bytes(40) for i in range(50)),
    ],
    ids=lambda encoded: repr(encoded[:20]),
)
def test_unreadable_content_is_noted_and_never_raises(encoded):
    assert metadata.parse(encoded).kind == "unknown" and metadata.parse(encoded).note


def test_fields_of_a_wrong_type_are_ignored():
    content = metadata.parse(
        b'{"version": 1, "kind": "line", "columns": 5, "measured": [1], "unit": 3, "which": {"a": 1}}'
    )
    assert content == metadata.Content("line", (), "3", None, {}, None)


def test_long_descriptions_and_unknown_words_are_refused():
    with pytest.raises(ValueError, match=r"5,0.. bytes.*cap is 4,000"):
        metadata.content("scalar", measured={"model": "x" * 5000})
    with pytest.raises(ValueError, match=r"'scaler'.*Use one of scalar, eigenvalues"):
        metadata.content("scaler")
    with pytest.raises(ValueError, match=r"which='top'.*largest, smallest, magnitude"):
        metadata.content("eigenvalues", which="top")


def test_a_plane_of_512_fits_and_one_of_1024_is_refused_with_its_size():
    axis = np.arange(512.0)
    assert records.plane(axis, axis, np.zeros((512, 512))).tensor.nbytes < 4 * 2**20
    axis = np.arange(1024.0)
    with pytest.raises(ValueError, match=r"8\.0 MB.*cap is 4 MB.*coarser grid; 512 x 512 fits"):
        records.plane(axis, axis, np.zeros((1024, 1024)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: records.scalar([1.0, 2.0]), r"shape \(2,\)"),
        (lambda: records.eigenvalues([], 1, 0), "k"),
        (lambda: records.eigenvalues([[1.0], [2.0]], 1, 0), "2 rows.*Pass step= as 2 numbers"),
        (lambda: records.eigenvalues([1.0, 2.0], [1, 2], 0), "1 rows.*Pass step= as one number"),
        (lambda: records.eigenvalues([1.0, 2.0], 1, 0, residuals=[1.0]), "residuals= has shape"),
        (lambda: records.density([1.0, 2.0], [1.0]), "2 points and the density 1"),
        (lambda: records.density([2.0, 1.0], [1.0, 1.0]), "grid must increase"),
        (lambda: records.line([0.0, 1.0]), "Nothing is given.*train_loss"),
        (lambda: records.line([0.0, 1.0], test_loss=[1.0]), "alpha has 2 points and test_loss 1"),
        (lambda: records.plane([0.0, 1], [0.0, 1, 2], np.zeros((2, 3))), r"shape \(3, 2\).*Pass loss\.T"),
        (lambda: records.trajectory([1, 2], [[0, 0]]), r"shape \(2, 2\), not \(1, 2\)"),
        (lambda: records.trajectory([1], [[0, 0]], [1.0]), "two shares"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()

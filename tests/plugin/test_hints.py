"""What an empty panel tells one to type can be typed."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tb_plugin.summary
import tf_lbgap as lb

PANELS = sorted((pathlib.Path(tb_plugin.__file__).parent / "static" / "panels").glob("*.js"))
TYPED = re.compile(r"""(['"`])((?:lb|tb_plugin|keras)\.\w+\.\w+\(.*?\))\1""")
HINTS = sorted({code for panel in PANELS for _, code in TYPED.findall(panel.read_text(encoding="utf-8"))})


def test_every_panel_has_a_hint():
    assert all(TYPED.search(panel.read_text(encoding="utf-8")) for panel in PANELS) and len(PANELS) == 7


@pytest.mark.parametrize("code", HINTS)
def test_a_hint_runs(tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    axis = np.linspace(0.0, 1.0, 3)
    names = {"lb": lb, "keras": keras, "tb_plugin": tb_plugin, "sample": (np.ones((2, 1)), np.ones((2, 1)))}
    names["batches"] = lb.data.Batches(np.ones((2, 1)), np.ones((2, 1)), batch_size=2)
    names |= {"step": 1, "value": 0.5, "values": axis, "batch_size": 8}
    names |= {"alpha": axis, "losses": axis, "a": axis, "b": axis, "grid": axis, "density": axis}
    names["loss"] = np.ones((3, 3))
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        assert eval(code, names)  # a callback, or True: it was written

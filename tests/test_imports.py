"""Imports between the parts of the package go one way, and TensorFlow comes only where it is needed."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "tf_lbgap"

# Who may import whom. A part that is new needs a line here.
_CURVATURE = {"strategy", "batch_normalization"}
_MEASURES = {"curvature", "sharpness", "landscape"}
_CALLBACKS = {
    "attacks",
    "layers",
    "losses",
    "optimizers",
    "schedules",
    "scaling",
    "growth",
    "networks",
    "data",
    "gradient_noise",
    "training",
    "tb_plugin",
    "aside",
    "tf_config",
    "checkpoints",
    *_MEASURES,
    *_CURVATURE,
}
ARROWS = {
    "schedules": set(),
    "scaling": set(),
    "growth": set(),
    "tf_config": set(),
    "strategy": {"tf_config"},
    "aside": set(),
    "checkpoints": {"aside", "strategy"},
    "batch_normalization": set(),
    "networks": set(),
    "layers": set(),
    "losses": set(),
    "optimizers": set(),
    "attacks": {"curvature", *_CURVATURE},
    "curvature": _CURVATURE,
    "sharpness": {"curvature", *_CURVATURE},
    "landscape": {"curvature", *_CURVATURE},
    "gradient_noise": {"curvature", *_CURVATURE},
    "data": {"aside", *_CURVATURE},
    "training": {"attacks", "curvature", "data", "checkpoints", *_CURVATURE},
    "callbacks": _CALLBACKS,
    "experiment": {"callbacks", "interrupts", "tf_config", *_CALLBACKS},
    "claims": {"critical_batch_size"},
    "reproduction": {"experiment", "claims", "pilot", *_CALLBACKS},
    "report": {"experiment", "claims", "tb_plugin", "critical_batch_size"},
    "bars": set(),
    "interrupts": set(),
    "advisor": set(),
    "critical_batch_size": set(),
    "pilot": {"callbacks", "experiment", "advisor", *_CALLBACKS},
    "advice": {"advisor", "pilot", "experiment", "aside"},
    "tuning": {"experiment", "callbacks", *_CALLBACKS},
    "search": {"experiment", "tuning", "claims", "tb_plugin", "interrupts", *_CALLBACKS},
    "commands": {"experiment", "report", "bars", "advice", "search", "reproduction"},
    "cli": {"commands", "experiment", "interrupts"},
    "__main__": {"cli"},
    "__init__": set(),
}
WITHOUT_TENSORFLOW = (
    "aside",
    "tf_config",
    "advisor",
    "critical_batch_size",
    "advice",
    "schedules",
    "scaling",
    "growth",
    "claims",
    "report",
    "bars",
    "interrupts",
    "commands",
    "cli",
    "__init__",
    "__main__",
)


def parts():
    return sorted(
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    )


def imports(part):
    """Yield the dotted name of everything a part imports, inside functions too."""
    path = PACKAGE / part
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    for file in files:
        yield from imports_of(file)


def imports_of(file):
    """Yield the dotted name of everything a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(part):
    """Return the parts that a part imports; of the package itself only what is a part counts (`__version__` is none)."""
    names = [name.split(".") for name in imports(part)]
    found = {path[1] for path in names if path[0] == "tf_lbgap" and len(path) > 1} & set(parts()) - {part}
    return found | {"tb_plugin" for path in names if path[0] == "tb_plugin"}


@pytest.mark.parametrize("part", parts())
def test_a_part_imports_only_what_stands_below_it(part):
    assert part in ARROWS, f"{part} is new: say in ARROWS what it may import"
    assert ours(part) <= ARROWS[part]


def test_arrows_have_no_circle():
    for part, below in ARROWS.items():
        assert all(part not in ARROWS.get(other, ()) for other in below), part


PLUGIN = PACKAGE.parent / "tb_plugin"
WRITES = {"tb_plugin.summary", "tb_plugin.writer"}


def test_the_plugin_never_imports_the_package():
    for file in PLUGIN.rglob("*.py"):
        assert not [name for name in imports_of(file) if name.split(".")[0] == "tf_lbgap"], file


@pytest.mark.parametrize(
    "name", ["metadata", "plugin", "loader", "series", "writer", "records", "runs", "reader"]
)
def test_what_serves_and_what_writes_without_tensorflow_never_names_it(name):
    found = {name.split(".")[0] for name in imports_of(PLUGIN / f"{name}.py")}
    assert not found & {"tensorflow", "keras"}


@pytest.mark.parametrize("part", ["callbacks", "experiment"])
def test_who_measures_imports_of_the_plugin_only_what_writes(part):
    modules = {".".join(name.split(".")[:2]) for name in imports(part) if name.startswith("tb_plugin")}
    assert modules <= WRITES


def test_the_server_side_of_the_plugin_is_imported_without_tensorflow():
    code = "import sys, tb_plugin.plugin, tb_plugin.writer; print('tensorflow' in sys.modules, 'tf_lbgap' in sys.modules)"
    assert in_a_new_process(code).strip() == "False False"


@pytest.mark.parametrize("part", WITHOUT_TENSORFLOW)
def test_rules_and_reports_import_neither_tensorflow_nor_keras(part):
    assert not {name.split(".")[0] for name in imports(part)} & {"tensorflow", "keras", "tensorflow_datasets"}


def in_a_new_process(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_the_package_imports_neither_tensorflow_nor_numpy():
    code = "import sys, tf_lbgap; print([m for m in ('tensorflow', 'keras', 'numpy', 'scipy') if m in sys.modules])"
    assert in_a_new_process(code).strip() == "[]"


def test_rules_claims_configurations_and_papers_are_read_without_tensorflow():
    code = (
        "import sys, tf_lbgap; tf_lbgap.schedules.constant(1); tf_lbgap.scaling; tf_lbgap.experiment.from_dict;"
        "import tf_lbgap.claims, tf_lbgap.report; [tf_lbgap.reproduction.load('keskar2017', s) for s in ('small', 'full')];"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    assert in_a_new_process(code).strip() == "False False"


def test_every_subpackage_is_an_attribute_of_the_package():
    import tf_lbgap

    for name in (
        "callbacks",
        "curvature",
        "data",
        "experiment",
        "landscape",
        "networks",
        "scaling",
        "schedules",
        "sharpness",
    ):
        assert getattr(tf_lbgap, name).__name__ == f"tf_lbgap.{name}"
        assert name in dir(tf_lbgap)
    with pytest.raises(AttributeError, match="it has advisor, attacks, batch_normalization, callbacks"):
        tf_lbgap.schedule  # noqa: B018

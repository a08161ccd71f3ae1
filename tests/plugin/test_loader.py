"""The entry point, in processes of its own: what it imports, how long that takes, and that it stops nothing."""

import importlib.metadata
import subprocess
import sys
import textwrap
import types

import pytest

from tb_plugin import loader

HEAVY = ("tensorflow", "keras", "jax", "torch", "tf_lbgap", "pandas", "plotly")


def run(code, **options):
    """Run code in a fresh interpreter and return what it prints."""
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, **options
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_tensorboard_finds_the_entry_point():
    (entry,) = [e for e in importlib.metadata.entry_points(group="tensorboard_plugins") if e.name == "lbgap"]
    assert entry.load() is loader.LbgapLoader


def test_the_name_in_the_loader_is_that_of_the_wire_format():
    from tb_plugin import metadata

    assert loader.PLUGIN_NAME == metadata.PLUGIN_NAME == "lbgap"


def test_the_entry_point_takes_less_than_a_third_of_a_second():
    """CPU time, the least of three, beyond the interpreter's own start."""
    code = """
        import time
        start = time.process_time()
        import tb_plugin.loader
        print(time.process_time() - start)
    """
    assert min(float(run(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    "modules",
    [
        "tb_plugin.loader",
        "tb_plugin.plugin, tb_plugin.demo, tb_plugin.summary, tb_plugin.writer, tb_plugin.reader",
    ],
)
def test_nothing_heavy_is_imported(modules):
    assert run(f"import sys, {modules}; print(*sorted(set(sys.modules) & set({HEAVY})))") == ""


def test_the_writer_writes_without_tensorflow(tmp_path):
    """Where TensorFlow is not installed, and where it is: it is never imported."""
    code = f"""
        import sys
        for name in {HEAVY}:
            sys.modules[name] = None  # importing one is an error
        from tb_plugin import demo
        demo.write({str(tmp_path)!r}, runs=1, steps=20, points=5)
    """
    run(code)
    assert len(list(tmp_path.glob("small/0/events*"))) == 1


def test_all_points_are_kept_unless_the_user_wants_fewer():
    flags = types.SimpleNamespace(samples_per_plugin={"images": 3})
    loader.LbgapLoader().fix_flags(flags)
    assert flags.samples_per_plugin == {"images": 3, "lbgap": 0}
    loader.LbgapLoader().fix_flags(flags := types.SimpleNamespace(samples_per_plugin={"lbgap": 50}))
    assert flags.samples_per_plugin == {"lbgap": 50}
    loader.LbgapLoader().fix_flags(flags := types.SimpleNamespace(samples_per_plugin=None))
    assert flags.samples_per_plugin == {"lbgap": 0}


@pytest.mark.parametrize(
    "error", ["ImportError('no such library')", "SyntaxError('half a file')", "RuntimeError('any')"]
)
def test_tensorboard_starts_with_the_plugin_broken_and_says_so_in_one_line(tmp_path, error):
    """An import error inside the plugin, met by TensorBoard's own discovery of plugins and its own application."""
    code = f"""
        import importlib.abc, importlib.machinery, sys

        class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def find_spec(self, name, path, target=None):
                if name == "tb_plugin.plugin":
                    return importlib.machinery.ModuleSpec(name, self)

            def exec_module(self, module):
                raise {error}

        sys.meta_path.insert(0, Broken())
        sys.modules["tensorflow"] = None  # to start sooner
        from tensorboard import default, program
        from tensorboard.backend import application
        from werkzeug.test import Client

        plugins = [p for p in default.get_dynamic_plugins() if p.__module__.startswith("tb_plugin")]
        assert len(plugins) == 1
        tensorboard = program.TensorBoard([*default.get_static_plugins(), *plugins])
        tensorboard.configure(["", "--logdir={tmp_path}", "--load_fast=false", "--reload_interval=0"])
        provider, multiplexer = tensorboard._make_data_provider()
        app = application.TensorBoardWSGIApp(
            tensorboard.flags, tensorboard.plugin_loaders, provider, None, multiplexer
        )
        listing = Client(app).get("/data/plugins_listing").json
        assert "scalars" in listing and "lbgap" not in listing
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    ours = [line for line in finished.stderr.splitlines() if "SHARPNESS" in line]
    assert len(ours) == 1 and error.split("(")[0] in ours[0]
    assert "Traceback" not in finished.stderr


def test_static_files_are_an_allow_list_with_a_page():
    from tb_plugin import assets

    routes = assets.routes()
    assert "/static/index.js" in routes and "/plotly.min.js" in routes
    assert not [route for route in routes if "*" in route or ".." in route or route.endswith((".py", ".map"))]

"""Reports: what they read, the tables they write, what they say differs; and refusals."""

import json
import re
import types

import numpy as np
import pytest
import yaml

from tb_plugin.writer import Writer
from tf_lbgap.experiment import ConfigError, from_dict
from tf_lbgap.report import write
from tf_lbgap.report.answers import MOMENTS, answers
from tf_lbgap.report.audit import audit_grid
from tf_lbgap.report.bundle import bundle
from tf_lbgap.report.captions import caption
from tf_lbgap.report.curves import Curves, mean_curve
from tf_lbgap.report.grids import Grid, margin_grid
from tf_lbgap.report.latex import escaped, latex_table
from tf_lbgap.report.page import grid_html, page
from tf_lbgap.report.runs import read_runs

CONFIG = {
    "equal": "epochs",
    "epochs": 2,
    "seeds": 2,
    "arms": {
        "small": {"batch_size": 20},
        "large": {
            "batch_size": {"call": "schedules.staircase", "initial": 20, "factor": 5, "milestones": [3]},
            "jit_compile": True,
        },
    },
}
ENVIRONMENT = {"tensorflow": "2.21.0", "devices": ["CPU"], "processor": "Some & Co"}


def make_run(folder, *, seeds=2, config=None, **environment):
    """Write a run directory as `lbgap run` does, without training."""
    folder.mkdir(parents=True, exist_ok=True)
    experiment = from_dict({**CONFIG, **(config or {}), "output": str(folder)}, name=folder.name)
    (folder / "config.yaml").write_text(yaml.safe_dump(experiment.to_dict(), sort_keys=False))
    rows = []
    for i, arm in enumerate(experiment.arms):
        for seed in range(seeds):
            top = 10.0 * (i + 1) + seed
            rows.append(
                {
                    "arm": arm, "seed": seed, "test_accuracy": 0.9 - 0.1 * i + 0.01 * seed, "test_loss": 0.3 + i,
                    "train_loss": 0.1, "top_eigenvalue": top, "top_eigenvalue_converged": True, "sharpness": 1.0,
                    "updates": 100, "examples": 2000, "seconds": 1.5,
                }
            )  # fmt: skip
            with Writer(folder / arm / str(seed)) as writer:
                for step in (0, 50, 100):
                    writer.scalar("progress/epochs", step / 50, step)
                for step in (50, 100):
                    writer.scalar("sharpness/top_eigenvalue", top * step / 100, step, unit="loss / weight²")
                    writer.scalar("generalization/train_loss", 0.2, step)
                    writer.scalar("generalization/test_loss", 0.3 + i, step)
                    writer.scalar("schedule/batch_size", 20, step)
    content = {"name": folder.name, "environment": {**ENVIRONMENT, **environment}, "runs": rows}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


# What is read.


def test_the_page_has_the_tabs_answers_and_unfinished_arms_are_left_out(tmp_path):
    run = make_run(tmp_path / "one")
    with Writer(run / "small" / ".2.unfinished") as writer:
        writer.scalar("sharpness/trace", 1.0, 1)

    found = answers(read_runs([run]))

    assert sorted(each["run"] for each in found["runs"]["runs"]) == [
        "large/0",
        "large/1",
        "small/0",
        "small/1",
    ]
    series = {(each["run"], each["tag"]): each for each in found["series"]["series"]}
    top = series["large/1", "sharpness/top_eigenvalue"]
    assert (top["x"]["updates"], top["x"]["epochs"], top["values"]) == ([50, 100], [1.0, 2.0], [[10.5, 21.0]])
    rows = {row["run"]: row["top_eigenvalue"] for row in found["table"]["rows"]}
    assert rows == {"small/0": 10.0, "small/1": 11.0, "large/0": 20.0, "large/1": 21.0}


def test_several_runs_stand_under_their_names(tmp_path):
    paths = [make_run(tmp_path / "a" / "same"), make_run(tmp_path / "b" / "same")]
    runs = read_runs(paths)
    assert [run.name for run in runs] == ["a/same", "b/same"]
    groups = {run["group"] for run in answers(runs)["runs"]["runs"]}
    assert groups == {"a/same/small", "a/same/large", "b/same/small", "b/same/large"}


def test_moments_are_thinned_evenly_and_the_last_stays(tmp_path):
    with Writer(tmp_path / "a") as writer:
        for step in range(100):
            writer.density("curvature/density", np.arange(5.0), np.ones(5) / 4, step)
    found = answers(read_runs([tmp_path]))
    (frame,) = found["frames"]["frames"]
    assert (frame["steps"][0], frame["steps"][-1], len(frame["steps"])) == (0, 99, MOMENTS)
    assert [one["step"] for one in found["frame"]] == frame["steps"]
    assert len(found["heatmap"][0]["mass"]) == 100


@pytest.mark.slow
def test_what_cannot_be_read_is_named_and_the_rest_is_reported(tmp_path):
    run = make_run(tmp_path / "one")
    with Writer(run / "small" / "0") as writer:
        writer.density("curvature/density", np.arange(5.0), np.ones(5) / 4, 1)
        writer._write("curvature/density", 2, 0.0, np.ones((3, 3, 3)), None)  # no density
    with open(run / "large" / "0" / "events.out.tfevents.9999999999.broken", "wb") as file:
        file.write(b"rubbish" * 100)
    found = answers(read_runs([run]))
    (complaint,) = found["runs"]["errors"]
    assert (complaint["run"], complaint["tag"]) == ("small/0", "curvature/density")
    assert "1 of 2 records are left out" in complaint["message"]
    assert len(found["heatmap"]) == 1
    assert write([run])


def test_more_tags_than_one_request_may_have(tmp_path):
    with Writer(tmp_path / "a") as writer:
        for i in range(130):
            writer.scalar(f"sharpness/of_layer_{i}", 1.0, 1)
    found = answers(read_runs([tmp_path]))
    assert len({each["tag"] for each in found["series"]["series"]}) == 130


# Curves.


def test_a_mean_is_over_the_seeds_that_were_measured_on_both_sides_and_ends_with_half_of_them():
    """At 0: 0 and 2; at 1: 1 and 3; at 2 and 3 the first alone, half of two; of three seeds one is too few."""
    lines = [([0, 2, 3], [0.0, 2.0, 7.0]), ([0, 1], [2.0, 3.0])]
    curve = mean_curve(lines)
    np.testing.assert_allclose(curve.x, [0, 1, 2, 3])
    np.testing.assert_allclose(curve.mean, [1, 2, 2, 7])
    np.testing.assert_allclose(curve.high - curve.mean, [2**0.5, 2**0.5, 0, 0])
    assert mean_curve([*lines, ([0, 1], [2.0, 3.0])]).x.tolist() == [0, 1]
    assert mean_curve([([0.0], [np.nan])]) is None


def test_curves_leave_out_what_did_not_converge(tmp_path):
    with Writer(tmp_path / "a") as writer:
        for step, converged in ((1, True), (2, False), (3, True)):
            writer.eigenvalues("curvature/eigenvalues", [3.0 * step, 1.0], step, converged=[converged, True])
    curves = Curves(answers(read_runs([tmp_path])))
    assert curves.axis == "updates"
    assert curves.curve("a", "curvature/eigenvalues").x.tolist() == [1, 3]
    assert curves.curve("a", "curvature/eigenvalues", 1).mean.tolist() == [1, 1, 1]


# Tables and words.


def test_latex_prints_text_as_it_is():
    assert escaped("a_b & 5 % of #1 {x} ~ ^ \\ $") == (
        r"a\_b \& 5 \% of \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$"
    )
    assert escaped("-0.5±0.1 (-1 to +2), 10-5, a-1, p < 0.05") == (
        r"$-$0.5$\pm$0.1 ($-$1 to +2), 10-5, a-1, p $<$ 0.05"
    )


def test_a_latex_table_is_of_booktabs_and_breaks_lines_in_cells():
    grid = Grid("results", "all_of_it", ("\narm", "test\nloss"), (("[x]", "1\n(2)"), ("y", "3")), "So.")
    lines = [line.strip() for line in latex_table(grid, "a b").splitlines()]
    assert r"\caption{All\_of\_it. So.}" in lines
    assert r"\label{tab:a-b}" in lines
    assert r"\begin{tabular}{lr}" in lines
    table = lines[lines.index(r"\toprule") : lines.index(r"\bottomrule")]
    assert table == [
        r"\toprule",
        r"arm & \shortstack[r]{test \\ loss} \\",
        r"\midrule",
        r"{}[x] & \shortstack[r]{1 \\ (2)} \\",
        r"y & 3 \\",
    ]


def test_the_audit_lists_what_differs_between_arms_and_nothing_else(tmp_path):
    grid = audit_grid(read_runs([make_run(tmp_path / "one")]))
    assert grid.columns == ("setting", "small", "large")
    assert grid.rows == (
        ("batch_size", "20", "schedules.staircase(initial=20, factor=5, milestones=[3])"),
        ("jit_compile", "false", "true"),
    )


def test_the_audit_of_runs_has_machines_and_what_was_held_equal(tmp_path):
    one = make_run(tmp_path / "one")
    other = make_run(tmp_path / "other", config={"equal": "updates", "updates": 9}, tensorflow="2.22.0")
    rows = {row[0]: row[1:] for row in audit_grid(read_runs([one, other])).rows}
    assert rows["environment.tensorflow"] == ("2.21.0", "2.21.0", "2.22.0", "2.22.0")
    assert rows["equal"] == ("epochs", "epochs", "updates", "updates")
    assert rows["updates"] == ("-", "-", "9", "9")
    assert "environment.processor" not in rows


def margin_rows(arm, accuracies, updates, **more):
    made = enumerate(zip(accuracies, updates, strict=True))
    return [
        {"arm": arm, "seed": seed, "test_accuracy": accuracy, "updates": count, "seconds": count / 10, **more}
        for seed, (accuracy, count) in made
    ]


def test_against_a_margin_every_arm_has_bound_verdict_and_costs():
    """`same` loses 0.1 ± 0.1 points, of which the 95 % bound (n = 5) is 0.1 + 2.132 * 0.1 / sqrt(5) = 0.195."""
    experiment = types.SimpleNamespace(reference="a", margin=0.5)
    losses = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * 0.1 / np.sqrt(0.625) + 0.1
    rows = [
        *margin_rows("a", [0.9] * 5, [100] * 5),
        *margin_rows("same", 0.9 - losses / 100, [50] * 5),
        *margin_rows("worse", 0.88 - losses / 100, [25, 100, 25, 100, 50]),
        *margin_rows("missed", [0.9] * 5, [50] * 5, reached=False),
        *margin_rows("loose", 0.9 + 0.01 * np.array([-1, 1, 0, 1, -1]), [200] * 5),
    ]
    grid = margin_grid(experiment, rows)
    found = {row[0]: row[1:] for row in grid.rows}
    assert found["same"] == ("-0.10", "-0.20", "PASS", "x 0.5", "x 0.5")
    assert found["worse"][:3] == ("-2.10", "-2.20", "FAIL")
    assert found["worse"][3].startswith(
        "x 0.5\n("
    )  # of a quarter, one and a half the geometric mean is a half
    assert found["missed"] == ("-", "-", "INCONCLUSIVE", "-", "-")
    assert re.fullmatch(r"INCONCLUSIVE\n\(\d\d seeds for 80 % power\)", found["loose"][2])
    assert "with a margin of 0.5 points" in grid.title
    assert "missed: no pair of seeds" in grid.caption


@pytest.mark.parametrize("experiment", [{"margin": None}, {}], ids=["none", "older"])
def test_without_a_margin_there_is_no_such_table(experiment):
    rows = margin_rows("a", [0.9] * 5, [1] * 5) + margin_rows("b", [0.9] * 5, [1] * 5)
    assert margin_grid(types.SimpleNamespace(reference="a", **experiment), rows) is None
    assert margin_grid(types.SimpleNamespace(reference="a", margin=1.0), rows[:5]) is None


def test_a_report_has_the_table_against_the_margin(tmp_path):
    run = make_run(tmp_path / "one", config={"margin": 0.5})
    assert run / "tables" / "margin.tex" in write([run])


def test_a_caption_names_model_data_seeds_device_batch_normalization_and_examples(tmp_path):
    runs = read_runs([make_run(tmp_path / "one")])
    text = caption("sharpness", runs, answers(runs)["runs"])
    for part in (
        "Model: networks.mlp",
        "data: data.datasets.digits",
        "seeds: 0 to 1",
        "device: CPU (Some & Co)",
        "batch normalization when measured: inference mode on recalibrated statistics",
        "the first 1000 training examples",
    ):
        assert part in text


def test_a_caption_without_a_configuration_says_what_the_writers_said(tmp_path):
    with Writer(tmp_path / "a" / "0") as writer:
        measured = {"model": "mine", "examples": 12, "batch_normalization": "recalibrated"}
        writer.scalar("sharpness/trace", 1.0, 1, measured=measured)
    runs = read_runs([tmp_path])
    text = caption("sharpness", runs, answers(runs)["runs"])
    assert "Model: mine; examples: 12; batch normalization when measured: recalibrated; seeds: 1." in text


# Files.


def test_a_report_is_a_page_figures_captions_and_tables(tmp_path):
    run = make_run(tmp_path / "one")
    paths = write([run])
    assert {str(path.relative_to(run)) for path in paths} == {
        "report.html",
        *(
            f"figures/{name}.{kind}"
            for name in ("sharpness", "schedules", "gap", "compare")
            for kind in ("svg", "pdf")
        ),
        "figures/captions.md",
        *(f"tables/{name}.tex" for name in ("results", "differences", "audit", "equivalence")),
    }
    svg = (run / "figures" / "sharpness.svg").read_text()
    assert re.search(r"<text[^>]*>training \(epochs\)</text>", svg)  # text, not outlines
    pdf = (run / "figures" / "sharpness.pdf").read_bytes()
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf  # type 42
    assert b"/Type3" not in pdf
    html = (run / "report.html").read_text()
    assert "90.50±0.50" in html  # of 0.90 and 0.91
    assert "jit_compile" in html


@pytest.mark.slow
def test_equal_runs_give_equal_files(tmp_path):
    run = make_run(tmp_path / "one")
    first = {path: path.read_bytes() for path in write([run])}
    assert {path: path.read_bytes() for path in write([run])} == first


def test_several_runs_are_compared_by_arm_in_one_page(tmp_path):
    paths = [make_run(tmp_path / name) for name in ("one", "two")]
    written = write(paths)
    assert written[0] == tmp_path / "report.html"
    assert tmp_path / "tables" / "differences_two.tex" in written
    results = (tmp_path / "tables" / "results.tex").read_text()
    assert re.findall(r"^ +(\w+/\w+) &", results, re.MULTILINE) == [
        "one/small",
        "one/large",
        "two/small",
        "two/large",
    ]
    svg = (tmp_path / "figures" / "compare.svg").read_text()
    assert ">one/small<" in svg
    assert ">two/large<" in svg


@pytest.mark.parametrize("what", ["results.json", "events"])
def test_half_a_run_is_reported_as_far_as_it_goes(tmp_path, what):
    run = make_run(tmp_path / "one")
    if what == "events":
        for path in run.rglob("*tfevents*"):
            path.unlink()
    else:
        (run / "results.json").write_text("{broken")
    names = {path.name for path in write([run])}
    assert ("results.tex" in names) == (what == "events")
    assert ("sharpness.svg" in names) == (what == "results.json")


def test_names_from_files_are_text_in_the_page(tmp_path):
    evil = "</script><script>alert(1)</script>"
    with Writer(tmp_path / "a") as writer:
        writer.scalar(f"sharpness/{evil}", 1.0, 1, description=evil, measured={"model": evil})
    write([tmp_path], tmp_path / "page.html")
    assert evil not in (tmp_path / "page.html").read_text()
    assert evil not in page(evil, {"runs": evil}, grid_html(Grid(evil, evil, (evil,), ((evil,),), evil)))


# The bundle.


def source(files):
    return types.SimpleNamespace(read=files.__getitem__)


def test_modules_are_inlined_in_the_order_of_their_needs_each_in_a_scope_of_its_own():
    files = {
        "page.js": 'import {a, b as c} from "./panels/p.js";\nimport {x} from "./x.js";\nexport function render() {}\n',
        "panels/p.js": 'import {x} from "../x.js";\nconst own = x;\nexport const a = own;\nexport async function b() {}\n',
        "x.js": "const own = 1;\nexport class x {}\n",
    }
    script = bundle(read=files.__getitem__)
    assert [line for line in script.splitlines() if line.startswith("//")] == [
        "// x.js",
        "// panels/p.js",
        "// page.js",
    ]
    assert "const {a, b: c} = module_1;" in script
    assert "return {a, b};" in script
    assert script.endswith("const lbgap = module_2;")
    assert not re.search(r"^(import|export)", script, re.MULTILINE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"page.js": "export default 3;"}, "page.js cannot be inlined: 'export default 3;'"),
        ({"page.js": 'import * as x from "./x.js";'}, "page.js cannot be inlined"),
        (
            {"page.js": 'import {a} from "./x.js";', "x.js": 'import {b} from "./page.js";'},
            "in a circle: page.js -> x.js -> page.js",
        ),
    ],
    ids=["default export", "namespace", "circle"],
)
def test_modules_that_break_the_convention_are_named(files, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bundle(read=files.__getitem__)


# Refusals.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no run"),
        (lambda path: path.write_text(""), "is a file"),
        (lambda path: path.mkdir(), "is no run directory"),
        (
            lambda path: make_run(path, seeds=0),
            "holds no finished arm. Train first: lbgap run CONFIG output=",
        ),
    ],
    ids=["missing", "file", "empty", "unfinished"],
)
def test_what_is_no_run_is_refused(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(ConfigError, match=message):
        write([tmp_path / "x"])


def test_a_run_twice_and_a_place_that_cannot_be_written_are_refused(tmp_path):
    run = make_run(tmp_path / "one")
    with pytest.raises(ConfigError, match="a run is named twice"):
        write([run, run])
    with pytest.raises(ConfigError, match="The report cannot be written"):
        write([run], run / "results.json" / "x.html")

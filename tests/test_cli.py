"""The command line, as it is typed: exit codes, one line for a mistake, what a run prints."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tf_lbgap import cli

TINY = """\
data: {call: data.datasets.digits, num_train: 100}
model: {call: networks.mlp, widths: [8]}
optimizer: {call: keras.optimizers.SGD, learning_rate: 0.1, momentum: 0.9}
equal: epochs
epochs: 1
seeds: 2
measure: {top_eigenvalue_examples: 20}
arms:
  small: {batch_size: 20}
  large_with_a_name_of_some_length: {batch_size: 100}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # the test session sets it, a user does not
    (tmp_path / "tiny.yaml").write_text(TINY)


def lbgap(*arguments):
    """Run the command; return its exit code, its output and its errors."""
    done = subprocess.run([sys.executable, "-m", "tf_lbgap", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


REFUSE = """if True:
    import contextlib, io, json, sys
    from tf_lbgap.cli import main
    for arguments in json.loads(sys.argv[1]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        print(json.dumps([code, out.getvalue(), err.getvalue(), "tensorflow" in sys.modules]))
"""


def refused(*commands):
    """Run commands, one after another in one process, which takes seconds to start; return the line of each."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(code, out, imported) for code, out, _, imported in answers] == [(2, "", False)] * len(commands)
    lines = [err.splitlines() for _, _, err, _ in answers]
    assert all(len(one) == 1 and one[0].startswith("lbgap: ") for one in lines), lines
    return [line for (line,) in lines]


def test_help_and_version_answer_without_tensorflow_numpy_or_rich():
    code = """if True:
        import sys
        from tf_lbgap.cli import main
        try:
            main(sys.argv[1:])
        except SystemExit as end:
            print(end.code, [m for m in ("tensorflow", "keras", "numpy", "rich", "yaml") if m in sys.modules])
    """
    for arguments, text in (
        ("--help", "train the arms"),
        ("--version", "0.1"),
        ("run --help", "key=value"),
        ("report --help", "LaTeX"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True
        )
        assert text in done.stdout
        assert done.stdout.splitlines()[-1] == "0 []", done.stderr


@pytest.mark.parametrize(
    "arguments",
    ["", "walk", "run", "run tiny.yaml --jobs 0", "run tiny.yaml --job=x", "run tiny.yaml --quick"],
)
def test_what_argparse_refuses_ends_with_2(arguments):
    code, out, err = lbgap(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("usage: lbgap")


MISTAKES = [
    (["run", "tini.yaml"], "There is no file 'tini.yaml'. Did you mean 'tiny.yaml'?"),
    (
        ["run", "tiny.yaml", "batchsize=3"],
        "'batchsize' in the file is not a key. Did you mean 'batch_size'?",
    ),
    (
        ["run", "tiny.yaml", "--quiet", "arms.small.epoch=3"],
        "'epoch' in arm small is not a key. Did you mean 'epochs'?",
    ),
    (["run", "tiny.yaml", "seeds"], "'seeds' is not of the form key=value, such as seeds=10."),
    (["run", "tiny.yaml", "--jobs", "2", "seeds=0"], "seeds: 0 must be a whole number of at least 1."),
    (["run", "."], "cannot be read as YAML"),
    (["run", "tiny.yaml", "output=tiny.yaml"], "output: 'tiny.yaml' cannot be written: File exists."),
    (["report", "runs/tinny"], "There is no run 'runs/tinny'. Pass the directory that lbgap run printed"),
    (["report", "tiny.yaml"], "'tiny.yaml' is a file. Pass the run directory that it is in."),
    (["report", "."], "'.' is no run directory: it holds neither config.yaml nor TensorBoard events."),
]


def test_a_mistake_is_told_in_one_line_before_tensorflow_is_imported():
    lines = refused(*(arguments for arguments, _ in MISTAKES))
    for line, (arguments, message) in zip(lines, MISTAKES, strict=True):
        assert message in line, arguments


def test_bad_yaml_is_told_in_one_line(tmp_path):
    (tmp_path / "tiny.yaml").write_text("arms: {small: [}\n")
    (line,) = refused(["run", "tiny.yaml"])
    assert "tiny.yaml cannot be read as YAML" in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.call=networks.mpl",
            "call: networks.mpl: tf_lbgap.networks has no 'mpl'. Did you mean 'mlp'?",
        ),
        (
            "data={call: data.datasets.from_tfds, name: mnits}",
            "TFDS knows no data set 'mnits'. Did you mean 'mnist'",
        ),
    ],
    ids=["call", "data set"],
)
def test_a_name_that_only_an_import_can_refuse_is_told_in_one_line(override, message, capfd):
    assert cli.main(["run", "tiny.yaml", override, "--quiet"]) == 2
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith("lbgap: arms: small: ")
    assert message in line


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run, the same again with --quiet and an override behind it, in a folder of their own."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.yaml").write_text(TINY)
    environment = {**os.environ, "COLUMNS": "80"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tf_lbgap", "run", "tiny.yaml", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
        )

    return folder, command(), command("--quiet", "seeds=1")


def test_a_run_prints_a_line_per_seed_the_tables_the_sentence_and_the_paths(ran):
    folder, done, _ = ran
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("small seed 0: 5 updates, train loss ")
    assert [line.split(":")[0] for line in lines[1:4]][-1] == "large_with_a_name_of_some_length seed 1"
    assert any("tiny: mean ± standard error over 2 seeds" in line for line in lines)
    assert any("difference from small, paired by seed" in line for line in lines)
    assert any(line.startswith("After equal epochs, against small: test accuracy: ") for line in lines)
    paths = [f"runs/tiny/{name}" for name in ("results.json", "results.csv", "config.yaml", "report.html")]
    more = [
        "curves: tensorboard --logdir runs/tiny",
        "figures and tables for a paper: lbgap report runs/tiny",
    ]
    assert lines[-6:] == [*paths, *more]
    assert all((folder / path).stat().st_size for path in paths)


def test_a_run_prints_nothing_on_stderr_not_even_tensorflows_greetings(ran):
    for done in ran[1:]:
        assert done.stderr == ""


def test_tables_fit_80_columns_uncut(ran):
    _, done, _ = ran
    table = [
        line
        for line in done.stdout.splitlines()
        if not line.startswith(("After equal", "large", "small seed"))
    ]
    assert max(map(len, table)) <= 80
    assert "…" not in done.stdout


def test_the_table_holds_the_means_of_results_json(ran):
    folder, done, _ = ran
    runs = (
        json.loads((folder / "runs/tiny/small/0/result.json").read_text())["result"],
        json.loads((folder / "runs/tiny/small/1/result.json").read_text())["result"],
    )
    first, second = (100 * run["test_accuracy"] for run in runs)
    # the standard error of two numbers is half their distance
    cell = f"{(first + second) / 2:.2f}±{abs(first - second) / 2:.2f}"
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(" small  ") and "±" in line)
    assert line.split()[1] == cell


@pytest.mark.slow
def test_a_report_prints_what_it_wrote_and_does_without_tensorflow(ran):
    folder, _, _ = ran
    code = (
        "import sys; from tf_lbgap.cli import main; code = main(sys.argv[1:]);"
        "assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "report", "runs/tiny"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    paths = done.stdout.splitlines()
    assert paths[0] == "runs/tiny/report.html"
    assert {"runs/tiny/figures/compare.pdf", "runs/tiny/tables/results.tex"} <= set(paths)
    assert all((folder / path).stat().st_size for path in paths)

    command += ["--quiet", "--output", "elsewhere/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "elsewhere/page.html\n", "")


def test_quiet_prints_no_progress_and_overrides_may_follow_options(ran):
    _, _, done = ran
    assert done.returncode == 0
    assert "seed 0:" not in done.stdout
    assert "tiny: mean ± standard error over 1 seed" in done.stdout
    assert "Too few seeds finished in both arms to compare anything; run at least two." in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_with_130_and_one_line_and_keeps_what_finished(jobs):
    # The process group is what a terminal sends Ctrl-C to, the processes of --jobs included.
    arguments = [
        "run",
        "tiny.yaml",
        "seeds=1",
        "arms.large_with_a_name_of_some_length.epochs=100000",
        f"--jobs={jobs}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tf_lbgap", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A job in the background of a script, as these tests may be, ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline().startswith("small seed 0: 5 updates")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    told = "lbgap: stopped; what finished is kept, and the same command goes on from there."
    assert err.split("\n") == ["", told, ""]
    with open("runs/tiny/results.json") as file:
        assert [run["arm"] for run in json.load(file)["runs"]] == ["small"]

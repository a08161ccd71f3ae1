"""Searches in several processes, and searches that are killed."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from tiny_searches import results, searched, timeless

from tf_lbgap.experiment import ConfigError

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


@pytest.mark.slow
@pytest.mark.parametrize("tuner, max_trials", [("random", 5), ("bayesian", 5)])
def test_side_by_side_gives_what_one_after_the_other_gives(tuner, max_trials):
    one, _ = searched({"tuner": {"name": tuner}, "max_trials": max_trials, "output": "runs/search"})
    os.rename("runs/search", "runs/one")
    two, _ = searched({"tuner": {"name": tuner}, "max_trials": max_trials}, jobs=2)
    if tuner == "bayesian":  # draws its first six points at random
        assert max_trials <= 6
    assert timeless(two) == timeless(one)


SCRIPT = """if True:
    import sys
    sys.path.insert(0, {tests!r})
    import os
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    from tiny_searches import Heard, SEARCH
    from tf_lbgap import search
    class Told(Heard):
        def started(self, trial, seed):
            print("started", trial, seed, flush=True)
        def ended(self, found, is_new):
            print("ended", found["trial"], is_new, flush=True)
    if __name__ == "__main__":
        search.run(search.from_dict({{**SEARCH, **{changes!r}}}), jobs={jobs}, listen=Told())
"""


def script(changes, jobs=1):
    """Write the script of a search, and return what runs it."""
    code = SCRIPT.format(tests=os.path.dirname(__file__), changes=changes, jobs=jobs)
    pathlib.Path("searching.py").write_text(textwrap.dedent(code))
    return [sys.executable, "searching.py"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_that_is_killed_goes_on_and_repeats_no_finished_trial(jobs):
    changes = {"max_trials": 6, "seeds": 2}
    whole, _ = searched(changes)
    os.rename("runs/search", "runs/whole")
    command, ended, started = script(changes, jobs), [], []
    for kill_after in (2, 4):  # seeds that have been started since
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        seen = 0
        for line in process.stdout:
            what, trial, rest = line.split()
            if what == "ended" and rest == "True":
                ended.append(trial)
            if what == "started":
                assert trial not in ended, "a finished trial is not trained again"
                started.append((trial, rest))
                seen += 1
            if seen > kill_after:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # those of --jobs end with it
    last, heard = searched(changes, jobs=jobs)
    assert ended and not set(ended) & set(heard.new), "what ended before the kill is not trained again"
    assert not {trial for trial, _ in heard.started_seeds} & set(ended)
    assert len(last["trials"]) == 6
    by_values = {trial["trial"]: trial for trial in timeless(last["trials"])}
    assert by_values == {trial["trial"]: trial for trial in timeless(whole["trials"])}


@pytest.mark.slow
def test_two_workers_and_a_chief_share_one_search_and_find_what_one_process_finds():
    changes = {"max_trials": 6, "learning_rate": {"choice": [0.02, 0.1, 0.5, 1e20]}}
    alone, _ = searched(changes)
    os.rename("runs/search", "runs/alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, processes = script(changes), {}
    for name in ("chief", "first", "second"):
        variables = {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(port),
        }
        processes[name] = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **variables},
        )
    said = {name: process.communicate(timeout=240)[0] for name, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0, 0], said
    trained = {
        name: {line.split()[1] for line in text.splitlines() if line.startswith("started")}
        for name, text in said.items()
    }
    assert trained["first"] and trained["second"] and not trained["first"] & trained["second"]
    names = [trial["trial"] for trial in alone["trials"]]
    assert sorted(trained["first"] | trained["second"]) == names
    together = results()
    assert (
        timeless(together["trials"]) == timeless(alone["trials"]) and together["winners"] == alone["winners"]
    )
    assert {trial["status"] for trial in together["trials"]} == {"finished", "diverged"}


@pytest.mark.parametrize(
    "name, options, told",
    [("chief", {"jobs": 2}, "--jobs: is for one"), ("first", {"again": True}, "to the chief alone")],
)
def test_what_does_nothing_among_several_processes_is_refused(name, options, told, monkeypatch):
    variables = {
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": "1",
    }
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=told):
        searched(**options)


def test_a_variable_of_keras_tuner_that_is_not_set_is_named(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(ConfigError, match="KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT: not set"):
        searched()

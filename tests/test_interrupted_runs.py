"""What finished is kept: runs that are interrupted, killed, repeated, or out of room."""

import json
import pathlib
import subprocess
import sys
import time

import pytest
from slow import slow, slow_but
from tiny_runs import ONE_ARM, TINY, Listener, read_json, run, timeless, trained, users, written

from tf_lbgap.experiment import ConfigError, RunFailed

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


def test_finished_arms_are_not_trained_again_unless_asked():
    assert trained(TINY) == [("small", 0), ("large", 0)]
    assert trained(TINY) == []
    assert trained({**TINY, "seeds": 2}) == [("small", 1), ("large", 1)]
    assert trained(ONE_ARM, again=True) == [("small", 0)]


@pytest.mark.slow
def test_an_arm_is_trained_again_when_its_configuration_changes_and_no_other_is():
    trained(TINY)
    changed = {**TINY, "arms": {"small": {"batch_size": 50}, "large": {"batch_size": 100}}}
    assert trained(changed) == [("small", 0)]
    assert trained({**changed, "arms": {**changed["arms"], "new": {"batch_size": 20}}}) == [("new", 0)]
    assert trained({**TINY, "measure": {**TINY["measure"], "check_examples": 50}}) == [
        ("small", 0),
        ("large", 0),
    ]


@pytest.mark.parametrize(
    "content",
    slow_but(['{"identity'], ["", '{"identity', "[]", "cut"]),
    ids=["empty", "truncated", "a list", "no result"],
)
def test_a_broken_result_is_trained_again(content):
    (row,) = run(ONE_ARM)
    path = "runs/experiment/small/0/result.json"
    if content == "cut":
        with open(path) as file:
            content = json.dumps({"identity": json.load(file)["identity"]})
    with open(path, "w") as file:
        file.write(content)
    listener = Listener()
    (again,) = run(ONE_ARM, listen=listener)
    assert listener.trained == [("small", 0)]
    assert timeless([again]) == timeless([row])


def test_two_runs_do_not_write_one_directory_at_the_same_time():
    class Second(Listener):
        def started(self, arm, seed):
            with pytest.raises(
                ConfigError, match=r"another run is writing 'runs/experiment'. Wait for it, or type output="
            ):
                run(ONE_ARM)

    run(ONE_ARM, listen=Second())
    assert trained(ONE_ARM) == []


def test_an_interrupted_run_leaves_what_finished_and_goes_on_from_there():
    class Impatient(Listener):
        def started(self, arm, seed):
            if arm == "large":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(TINY, listen=Impatient())
    assert [row["arm"] for row in read_json("runs/experiment")["runs"]] == ["small"]
    assert trained(TINY) == [("large", 0)]


class Interrupting(Listener):
    """Breaks off within training, when it is told of an epoch; remembers what it is told."""

    def __init__(self, epoch=None):
        super().__init__()
        self.text, self.told = f"epoch {epoch} ", []

    def advanced(self, arm, seed, fraction, text):
        self.told.append(text)
        if text.startswith(self.text):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "arm",
    [
        {"batch_size": 30},
        slow({"batch_size": 30, "strategy": "mirrored"}),
        slow(
            {
                "batch_size": 10,
                "adaptive": {"criterion": {"call": "growth.NormTest"}, "every": 2, "window": 2},
            }
        ),
    ],
    ids=["schedule", "mirrored", "adaptive"],
)
def test_an_arm_that_was_interrupted_goes_on_within_an_epoch(arm, monkeypatch):
    monkeypatch.setattr("tf_lbgap.experiment.arm_callbacks.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    content = {**TINY, "epochs": 4, "arms": {"a": arm}}
    whole = run({**content, "output": "whole"})
    with pytest.raises(KeyboardInterrupt):
        run(content, listen=Interrupting(2))
    unfinished = pathlib.Path("runs/experiment/a/.0.unfinished")
    assert len(list((unfinished / "checkpoints").iterdir())) == 2
    listener = Interrupting()
    assert timeless(run(content, listen=listener)) == timeless(whole)
    assert listener.told[0].startswith("going on from update ")
    assert [text[:7] for text in listener.told[1:]] == ["epoch 2", "epoch 3", "epoch 4"]
    assert not unfinished.exists()
    folders = [pathlib.Path(output, "a", "0") for output in ("whole", "runs/experiment")]
    names, again = (
        sorted(p.name for p in folder.iterdir() if "tfevents" not in p.name) for folder in folders
    )
    assert names == again


def test_an_interrupted_arm_of_another_configuration_begins_anew():
    content = {**TINY, "epochs": 3, "arms": {"a": {"batch_size": 30}}}
    with pytest.raises(KeyboardInterrupt):
        run(content, listen=Interrupting(2))
    listener = Interrupting()
    run({**content, "arms": {"a": {"batch_size": 20}}}, listen=listener)
    assert [text[:7] for text in listener.told] == ["epoch 1", "epoch 2", "epoch 3"]


DIES = """
    import os, pathlib, signal
    from tf_lbgap import networks

    def model(input_shape, num_classes, seed, times):
        deaths = pathlib.Path(f"deaths_{times}_{seed}")
        count = int(deaths.read_text()) if deaths.exists() else 0
        if count < times:
            deaths.write_text(str(count + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return networks.mlp(input_shape=input_shape, num_classes=num_classes, seed=seed, widths=[8])
"""


@pytest.mark.slow
def test_no_arm_is_lost_when_a_process_is_killed():
    """One arm kills its process once, and trains in the next; one kills each, and is given up after three."""
    users("user_dies", DIES)
    call = {"call": "user_dies:model"}
    arms = {
        "never": {"batch_size": 30},
        "once": {"batch_size": 30, "model": {**call, "times": 1}},
        "always": {"batch_size": 30, "model": {**call, "times": 9}},
        "last": {"batch_size": 50},
    }
    with pytest.raises(
        RunFailed, match=r"^1 of 4 did not finish; the first was always, seed 0: .*3 processes died of it"
    ):
        run({**TINY, "arms": arms, "output": "out"}, jobs=2)
    rows = {row["arm"]: row for row in read_json("out")["runs"]}
    assert sorted(rows) == ["last", "never", "once"]
    assert rows["once"]["train_loss"] == pytest.approx(rows["never"]["train_loss"], rel=1e-4)
    assert pathlib.Path("deaths_9_0").read_text() == "3"


@pytest.mark.slow
def test_processes_end_with_the_one_they_work_for():
    """`lbgap run --jobs 2` is killed; nothing goes on in the background, and the same command finishes the work."""
    content = {**TINY, "epochs": 400, "seeds": 2, "output": "out"}
    written(content, "many.yaml")
    command = [sys.executable, "-m", "tf_lbgap", "run", "many.yaml", "--jobs=2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(pathlib.Path("out").glob("*/.*.unfinished/checkpoints/*.npz"))) >= 2)
    children = children_of(process.pid)
    process.kill()
    process.wait()
    assert len(children) >= 2
    wait_for(lambda: not any(is_running(child) for child in children))
    written({**content, "epochs": 2}, "many.yaml")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read_json("out")["runs"]) == 4


@pytest.mark.slow
def test_a_full_disk_ends_a_run_in_one_line_and_the_same_command_goes_on(tmp_path):
    """A disk of 600 kB holds four of six trainings."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        model = {"call": "networks.mlp", "widths": [128]}
        written({**TINY, "model": model, "seeds": 3, "output": str(disk / "out")}, "full.yaml")
        command = [sys.executable, "-m", "tf_lbgap", "run", "full.yaml", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if line.startswith("lbgap")]
        assert done.returncode == 2 and len(lines) == 1
        assert "No space left on device. What finished is kept: make room" in lines[0]
        finished = len(read_json(str(disk / "out"))["runs"])
        assert 1 <= finished < 6
        subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
        listener = Listener()
        run({**TINY, "model": model, "seeds": 3, "output": str(disk / "out")}, listen=listener)
        assert (len(listener.before), len(listener.trained)) == (finished, 6 - finished)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def children_of(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(line) for line in found.stdout.split()]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)

"""Trainings on several devices and in several processes are the training on one device, on the same batches.

The reference is a loop by hand over the examples: its own cuts, momentum and rates. Each training is a program of its
own, for TensorFlow takes devices and clusters once per process.
"""

import contextlib
import functools
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import distributed
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from tf_lbgap import experiment

PROGRAM = pathlib.Path(__file__).with_name("distributed.py")
SECONDS = 120


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def start(folder, *arguments, config=None):
    """Start the program; its output goes to a file in the folder."""
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    task = 0
    if config is not None:
        environment["TF_CONFIG"], task = json.dumps(config), config["task"]["index"]
    with open(folder / f"out-{task}.txt", "ab") as output:
        command = [sys.executable, str(PROGRAM), str(folder), *arguments]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)


def start_workers(folder, *arguments, count=2):
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    return [
        start(
            folder,
            "--strategy=multiworker",
            *arguments,
            config={"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}},
        )
        for index in range(count)
    ]


def results(folder, processes):
    """Wait for the processes, and return what each has left."""
    try:
        codes = [process.wait(SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * len(codes), said(folder)
    return [
        dict(np.load(folder / f"result-{task}.npz", allow_pickle=False)) for task in range(len(processes))
    ]


def said(folder):
    return "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("out-*.txt")))


@functools.cache
def trained(*arguments, workers=0):
    folder = pathlib.Path(tempfile.mkdtemp())
    processes = start_workers(folder, *arguments, count=workers) if workers else [start(folder, *arguments)]
    return results(folder, processes), said(folder)


def weights(result, name="weight"):
    return [result[f"{name}_{i}"] for i in range(4)]


def by_hand(result, replicas):
    """Train on one device, by hand, from the weights and in the order of a result; return weights and the rows of sizes and rates."""
    x, y = distributed.data()
    model = distributed.network()
    model.set_weights(weights(result, "first"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    velocity = [np.zeros_like(w) for w in weights(result)]
    stop = distributed.N - distributed.N % replicas
    rows, losses = [], []
    for epoch in range(distributed.EPOCHS):
        order, at, total = result["order"][epoch], 0, 0.0
        while at < stop:
            progress = epoch + at / distributed.N
            asked = distributed.size_at(progress)
            asked -= asked % replicas
            index = order[at : min(at + asked, stop)]
            rate = distributed.rate_at(progress)
            with tf.GradientTape() as tape:
                value = loss(y[index], model(x[index], training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            for i, (variable, gradient) in enumerate(zip(model.trainable_variables, gradients, strict=True)):
                velocity[i] = distributed.MOMENTUM * velocity[i] - rate * gradient.numpy()
                variable.assign_add(velocity[i])
            rows.append((asked, rate))
            total += float(value) * len(index)
            at += len(index)
        losses.append(total / stop)
    validation = float(loss(y[:101], model(x[:101])))
    return model.get_weights(), rows, losses, validation


def check(result, replicas):
    expected, rows, losses, validation = by_hand(result, replicas)
    for ours, theirs in zip(weights(result), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result["rows"], rows, rtol=1e-6)
    np.testing.assert_allclose(result["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(result["val_loss"][-1], validation, rtol=1e-5)  # each example once


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("more", [(), ("--micro-batch-size=5",)], ids=["plain", "micro-batches"])
def test_several_devices_train_as_one(devices, more):
    (result,), output = trained("--strategy=mirrored", f"--devices={devices}", *more)
    check(result, devices)
    left_out = distributed.N % devices
    assert f"{devices} replicas share each batch equally" in output
    assert f"{left_out} of {distributed.N} examples are left out of each epoch" in output


@pytest.mark.slow
def test_two_processes_train_as_one_device():
    found, output = trained(workers=2)
    for result in found:
        check(result, 2)
    assert found[0]["event_files"] == 1  # the chief's
    for ours, theirs in zip(weights(found[0]), weights(found[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert output.count("share each batch equally") == 1  # the chief says it


@pytest.mark.slow
def test_two_processes_accumulate():
    for result in trained("--micro-batch-size=7", workers=2)[0]:
        check(result, 2)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_measures_do_not_depend_on_the_devices(devices):
    """The batch of 32 is probed in 4 parts: 4, 2 or 1 of them on each device."""
    (one,), _ = trained("--measure")
    (several,), _ = trained("--measure", "--strategy=mirrored", f"--devices={devices}")
    assert one.keys() == several.keys() and len(one["noise_trace"]) == len(one["separate_noise_trace"]) > 0
    for key, value in one.items():
        np.testing.assert_allclose(several[key], value, rtol=1e-5, atol=1e-7, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cure, symptom",
    [
        ("_cure_symbolic_build", "PerReplica"),
        ("_cure_reduction", "Invalid reduction dimension"),
        ("_share_streams", None),
    ],
)
def test_each_cure_of_keras_is_still_needed(cure, symptom, tmp_path):
    """Remove the cure that this test fails for: Keras, or TensorFlow, does the right thing by itself by now."""
    processes = start_workers(tmp_path, f"--without={cure}")
    try:
        codes = [process.wait(SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    if symptom is not None:
        assert any(codes) and symptom in said(tmp_path)
    else:
        with pytest.raises(AssertionError):
            check(np.load(tmp_path / "result-0.npz"), 2)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1], ids=["the chief", "a worker"])
def test_a_killed_worker_ends_the_others_and_all_go_on_after_a_restart(lost, tmp_path):
    processes = start_workers(tmp_path, "--checkpoint", "--seconds=0.05")
    output = tmp_path / f"out-{lost}.txt"
    try:
        wait_for(lambda: "update 14\n" in output.read_text())
        processes[lost].kill()
        assert processes[1 - lost].wait(60)
    finally:
        for process in processes:
            process.kill()
    other = (tmp_path / f"out-{1 - lost}.txt").read_text()
    assert "fit ended because another worker is gone" in other and "Start all workers again" in other

    for result in results(tmp_path, start_workers(tmp_path, "--checkpoint")):
        expected, rows, *_ = by_hand(result, 2)
        for ours, theirs in zip(weights(result), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        rest = len(result["rows"])
        assert 0 < rest < len(rows) - 10
        np.testing.assert_allclose(result["rows"], rows[-rest:], rtol=1e-6)
    assert said(tmp_path).count("Checkpoint: going on from") == 1  # the chief says it
    assert not (tmp_path / "checkpoints").exists()


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


CONFIG = {
    "data": {"call": "data.datasets.digits", "num_train": 301},
    "model": {"call": "networks.mlp", "widths": [8]},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.9},
    "equal": "epochs",
    "epochs": 3,
    "seeds": 2,
    "measure": {"top_eigenvalue_examples": 50},
    "output": "out",
    "arms": {
        "small": {"batch_size": 20},
        "grown": {
            "batch_size": {"call": "schedules.staircase", "initial": 10, "factor": 3, "milestones": [1.5]}
        },
    },
}


@pytest.mark.slow
def test_one_experiment_on_two_machines_writes_the_rows_of_mirrored_devices(tmp_path):
    """The same command on both; the second writes nothing, and the first what two devices of one machine would."""
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    command = [sys.executable, "-m", "tf_lbgap", "run", "file.yaml", "--strategy=multiworker"]
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                ),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert "results.json" in outputs[0] and "results" not in outputs[1]
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (arm, seed) for arm in CONFIG["arms"] for seed in (0, 1)
    ]
    expected = experiment.run(
        experiment.from_dict({**CONFIG, "strategy": "mirrored", "output": str(tmp_path / "mirrored")})
    )
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["updates"] == theirs["updates"] and ours["examples"] == theirs["examples"]
        for key in ("train_loss", "test_loss", "test_accuracy", "top_eigenvalue"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key
    assert not list((tmp_path / "out").rglob(".*unfinished"))


@pytest.mark.parametrize(
    "change, jobs, text",
    [
        ({}, 2, "--jobs is for one machine"),
        ({"equal": "seconds", "seconds": 1}, 1, "would end on each machine at another update"),
        (
            {"arms": {"a": {"batch_size": 8}, "b": {"batch_size": 8, "strategy": "default"}}},
            1,
            "one strategy",
        ),
        ({"measure": {"monitor": {"k": 1, "max_overhead": 0.1}}}, 1, "at other updates"),
    ],
)
def test_what_machines_would_not_agree_on_is_refused(change, jobs, text):
    content = {**CONFIG, "strategy": "multiworker", **change}
    with pytest.raises(experiment.ConfigError, match=text):
        experiment.run(experiment.from_dict(content), jobs=jobs)

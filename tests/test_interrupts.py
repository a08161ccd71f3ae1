"""Ctrl-C is not lost where Python would drop it."""

import json
import signal
import subprocess
import sys

import pytest

SCRIPT = """
    import contextlib, os, signal, sys, time
    from tf_lbgap import interrupts

    class Freed:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # a signal is handled between two instructions: here

    class Faulty:
        def __del__(self):
            raise ValueError("of another kind")

    with interrupts.kept() if sys.argv[1] == "kept" else contextlib.nullcontext():
        try:
            Faulty()
            Freed()
            time.sleep(0.5)
            print("went on")
        except KeyboardInterrupt:
            print("stopped")
    assert sys.unraisablehook is sys.__unraisablehook__
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not interrupts.pressed()
"""


@pytest.mark.parametrize(("how", "told"), [("lost", "went on\n"), ("kept", "stopped\n")])
def test_an_interrupt_within_a_finalizer_is_raised_again(how, told):
    """Without it the script goes on, which is what this is a remedy for; other exceptions are printed as ever."""
    done = subprocess.run(
        [sys.executable, "-c", "if True:" + SCRIPT, how],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.stdout == told
    assert "ValueError: of another kind" in done.stderr
    assert ("KeyboardInterrupt" in done.stderr) == (how == "lost")


def test_an_arm_that_fails_when_ctrl_c_was_pressed_is_no_failure(tmp_path):
    """C code that a `KeyboardInterrupt` passes may make another exception of it; the arms that are left are not begun."""
    (tmp_path / "user_breaks.py").write_text(
        "import contextlib, os, signal\n"
        "def model(input_shape, num_classes):\n"
        "    with contextlib.suppress(KeyboardInterrupt):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        import time; time.sleep(0.01)\n"
        "    raise SystemError('bad argument to internal function')\n"
    )
    arms = {"first": {"batch_size": 10}, "second": {"batch_size": 10}}
    content = {
        "model": {"call": "user_breaks:model"},
        "equal": "epochs",
        "epochs": 1,
        "seeds": 1,
        "arms": arms,
    }
    (tmp_path / "breaks.yaml").write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-m", "tf_lbgap", "run", "breaks.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip().startswith("lbgap: stopped; what finished is kept")
    assert not (tmp_path / "runs/breaks/error.txt").exists()

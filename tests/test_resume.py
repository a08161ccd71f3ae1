"""Training that is killed, again and again, by the system."""

import pathlib
import subprocess
import sys

import pytest

RESUME = pathlib.Path(__file__).parent.parent / "benchmarks" / "resume.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["--kills=5"], ["--kills=2", "--adaptive"], ["--kills=2", "--strategy=mirrored"]], ids=str
)
def test_a_killed_training_ends_as_if_it_had_not_been(arguments):
    """Two sizes change within epochs; moments are others each time, and the script prints the seed they come from."""
    done = subprocess.run(
        [sys.executable, str(RESUME), *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "as without interruption" in done.stdout

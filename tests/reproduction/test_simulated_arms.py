"""Arms of simulations draw by their names, wherever they stand."""

import subprocess
import sys

import numpy as np
import pytest

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction.studies import escape, stationary_variance
from tf_lbgap.reproduction.studies.simulated_arms import stream

ARM = {"batch_size": 4, "learning_rate": 0.01}
STUDIES = {
    stationary_variance: {"curvatures": [1.0], "walkers": 3, "updates": 5},
    escape: {"walkers": 3, "time": 1.0, "times": 5, "noise": 3000.0},
}


def found(study, seeds, *names):
    rows = study(seeds, arms={name: ARM for name in names}, **STUDIES[study])["rows"]
    assert [(row["arm"], row["seed"]) for row in rows] == [(name, seed) for seed in seeds for name in names]
    key = "excess_loss" if study is stationary_variance else "updates_to_escape"
    return {(row["arm"], row["seed"]): row[key] for row in rows}


@pytest.mark.parametrize("study", STUDIES)
def test_an_arm_put_in_front_leaves_the_others_draws(study):
    alone, behind = found(study, [0, 1], "b"), found(study, [0, 1], "a", "b")
    assert alone["b", 0] == behind["b", 0] and alone["b", 1] == behind["b", 1]
    assert len(set(behind.values())) == 4  # each arm and seed has draws of its own


def test_a_stream_is_of_a_seed_and_a_name_in_each_process():
    code = (
        "from tf_lbgap.reproduction.studies.simulated_arms import stream; print(stream(3, 'arm a').random())"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    first = stream(3, "arm a").random()
    assert float(told) == first
    others = [stream(3, "a"), stream(4, "arm a"), stream(3, "arm b"), np.random.default_rng(3)]
    assert first not in [other.random() for other in others]


@pytest.mark.parametrize("study", STUDIES)
def test_arms_that_are_none_are_told(study):
    with pytest.raises(ConfigError, match="arms: a: must hold keys such as batch_size, not 3"):
        study([0], arms={"a": 3})
    with pytest.raises(ConfigError, match=r"'batch' in arms: a is not a key\. Did you mean 'batch_size'"):
        study([0], arms={"a": {"batch": 3, "learning_rate": 0.1}})

"""Laws of growth, from distances that follow one exactly."""

import numpy as np
import pytest

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction.studies.walks import fitted, growth_of_distance

TIMES = np.array([12.0, 24.0, 48.0, 96.0, 192.0])


def test_a_law_is_found_in_what_follows_it():
    log = fitted(TIMES, 0.3 + 0.7 * np.log(TIMES))
    assert log["log_residual"] == pytest.approx(0, abs=1e-12) and log["log_slope"] == pytest.approx(0.7)
    assert log["log_over_power"] < 1e-6 and log["log_over_root"] < 1e-6
    power = fitted(TIMES, 0.5 * TIMES**0.31)
    assert power["exponent"] == pytest.approx(0.31) and power["power_residual"] < 1e-9 < power["log_residual"]
    root = fitted(TIMES, 1.5 + 0.2 * np.sqrt(TIMES))
    assert root["root_residual"] < 1e-12 and root["log_over_root"] > 1e3


def test_residuals_are_the_root_mean_square_over_the_mean():
    """Of a line through 0, 0, 3, 0, 0 against -2 .. 2: the mean 0.6, and left over are four times -0.6 and 2.4, on top of 5."""
    times = np.exp([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = fitted(times, np.array([5.0, 5.0, 8.0, 5.0, 5.0]))
    assert found["log_slope"] == pytest.approx(0, abs=1e-12)
    assert found["log_residual"] == pytest.approx(np.sqrt((4 * 0.36 + 5.76) / 5) / 5.6)


class Rows:
    """Two seeds; in the second an arm diverged."""

    experiment = None

    def arms(self, wanted):
        return list(wanted)

    def finished(self, seeds=None):
        return [(arm, seed) for seed in (0, 1) for arm in "abcd"]

    def is_finite(self, arm, seed):
        return (arm, seed) != ("c", 1)

    def row(self, arm, seed):
        updates = {"a": 40, "b": 5, "c": 10, "d": 20}[arm]
        return {"updates": updates, "distance": np.log(updates)}


def test_arms_are_put_in_the_order_of_their_updates_and_a_walk_that_lacks_one_is_none():
    found = growth_of_distance(Rows(), walks=[list("abcd")])
    assert found["curves"][0]["update"] == [5, 10, 20, 40]
    first, second = found["rows"]
    assert first["arm"] == "a to d"
    assert first["log_slope"] == pytest.approx(1) and np.isnan(second["log_slope"])
    with pytest.raises(ConfigError, match="four arms or more"):
        growth_of_distance(Rows(), walks=[["a", "b", "c"]])

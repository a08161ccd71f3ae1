"""The double well, against finite differences and SciPy's quadrature."""

import numpy as np
import pytest
import scipy.integrate

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction.studies import escape
from tf_lbgap.reproduction.studies.double_well import DoubleWell, escape_time
from tf_lbgap.reproduction.studies.two_basins import _slopes

WELL = DoubleWell(1.5, 0.4, 1.0)


def test_minima_have_the_depth_and_the_curvature_that_is_told():
    for w in (-0.6, -0.4, -0.1, 0.3, 1.0, 1.4):
        numeric = (WELL.loss(w + 1e-6) - WELL.loss(w - 1e-6)) / 2e-6
        assert WELL.slope(w) == pytest.approx(numeric, abs=1e-7)
    for minimum, width in ((-0.4, 0.4), (1.0, 1.0)):
        curvature = (WELL.slope(minimum + 1e-6) - WELL.slope(minimum - 1e-6)) / 2e-6
        assert WELL.loss(minimum) == 0 and curvature == pytest.approx(8 * 1.5 / width**2, rel=1e-5)
    assert WELL.loss(0.0) == 1.5 and WELL.slope(0.0) == 0


@pytest.mark.parametrize("temperature", [0.3, 0.6, 1.5])
def test_escape_time_is_the_integral_of_the_diffusion(temperature):
    def inner(y):
        return scipy.integrate.quad(lambda z: np.exp(-WELL.loss(z) / temperature), -2, y, points=[-0.4])[0]

    time, _ = scipy.integrate.quad(
        lambda y: np.exp(WELL.loss(y) / temperature) * inner(y), -0.4, 1.0, points=[0.0]
    )
    assert escape_time(WELL, temperature) == pytest.approx(time / temperature, rel=1e-3)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_boltzmanns_law_gives_the_root_of_the_ratio_of_curvatures(temperature):
    """Of whole basins, at any temperature: what `flat_over_exact` divides by."""
    sharp, flat = (
        scipy.integrate.quad(lambda w: np.exp(-WELL.loss(w) / temperature), *ends, points=[middle])[0]
        for ends, middle in (((-2, 0), -0.4), ((0, 5), 1.0))
    )
    assert flat / sharp == pytest.approx(np.sqrt((1 / 0.4**2) / (1 / 1.0**2)), rel=1e-6)


def test_noise_has_no_mean_and_its_variance_and_strength_follows_curvature_if_asked():
    slopes = _slopes(np.random.default_rng(0), 7, 3.0)
    assert slopes.mean() == pytest.approx(0, abs=1e-15) and np.mean(slopes**2) == pytest.approx(3)
    sharp, flat = WELL.strength(np.array([-0.1, 0.1]), "curvature") ** 2
    assert sharp / flat == pytest.approx(1 / 0.4**2) and (sharp + flat) / 2 == pytest.approx(1)


def test_without_noise_walkers_stay_in_the_sharp_minimum():
    still = escape(
        [0], arms={"a": {"batch_size": 3, "learning_rate": 0.01}}, noise=1e-12, time=1.0, walkers=3
    )
    (row,) = still["rows"]
    assert row["reached"] == row["flat"] == 0 and np.isnan(row["time_to_escape"])
    assert still["curves"][0]["flat"] == [0.0] * 13


@pytest.mark.parametrize("batch_size", [3, 4])
def test_walkers_leave_and_are_found_as_theory_says(batch_size):
    """400 walkers over 15 mean times or more: 5 % for the time; its excess is the size of a step, some 5 % more."""
    found = escape(
        [1],
        arms={"a": {"batch_size": batch_size, "learning_rate": 0.002}},
        noise=2000.0,
        walkers=400,
        time=50.0,
        times=24,
    )
    (row,) = found["rows"]
    assert row["escape_over_exact"] == pytest.approx(1, abs=0.2)
    assert row["flat_over_exact"] == pytest.approx(1, abs=0.2)
    assert row["reached"] > 0.99 and row["boltzmann"] == pytest.approx(np.exp(batch_size / 2))
    assert row["updates_to_escape"] * 0.002 == pytest.approx(row["time_to_escape"])


def test_walkers_are_counted_as_often_as_there_are_times_or_it_is_told():
    def counted(times):
        own = {"batch_size": 3, "learning_rate": 0.01}
        (curve,) = escape([0], arms={"a": own}, time=0.1, times=times, walkers=3)["curves"]
        return len(curve["flat"]), len(curve["time"])

    assert counted(10) == (11, 11) and counted(7) == (8, 8)
    with pytest.raises(ConfigError, match="makes 10 updates in the time, too few to count walkers 11 times"):
        counted(11)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"batch_size": 8, "learning_rate": 0.5}, "too large for the sharp basin"),
        ({"batch_size": 0, "learning_rate": 0.01}, "batch_size: 0 must be a whole number"),
        ({"batch_size": 8, "learning_rate": 0.01, "noise": "white"}, "is none of isotropic"),
    ],
)
def test_settings_that_make_no_sense_are_told(own, told):
    with pytest.raises(ConfigError, match=told):
        escape([0], arms={"a": own})

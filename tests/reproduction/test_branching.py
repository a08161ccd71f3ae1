"""The study of branches: the arm's own training, stopped at the moments, and arithmetic by hand."""

import keras
import numpy as np
import pytest
import tiny_runs

from tf_lbgap import data, gradient_noise, pilot
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun
from tf_lbgap.reproduction.studies import branching

OPTIONS = {"factors": (1, 2, 4), "examples": 160, "check_examples": 100, "tolerance": 0.02}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branching") / "run"
    arms = {"small": {"batch_size": 15}, "lost": {"batch_size": 15, "learning_rate": 1e30}}
    tiny_runs.run({**tiny_runs.TINY, "arms": arms, "first_seed": 3, "seeds": 2, "output": str(folder)})
    return FinishedRun(folder)


@pytest.fixture(scope="module")
def found(run):
    return studies.branched(run, epochs=[0, 2], **OPTIONS)


def trained(split, seed, epochs):
    """The arm's training by Keras alone: batches of 15 of 100 examples, the last of 10."""
    from tf_lbgap import networks

    model = networks.mlp((64,), 10, widths=[8], seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, 0.9), loss)
    batches = data.Batches(split.x_train, split.y_train, batch_size=15, seed=seed)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    return model, loss, batches


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_a_moment_is_that_of_the_arms_own_training(run, found, seed):
    split = run.split("small", seed)
    model, loss, batches = trained(split, seed, 2)
    row = next(row for row in found["rows"] if (row["arm"], row["seed"]) == ("small", seed))
    direct = pilot.branched_training(model, batches, seeds=1, **OPTIONS)
    noise = gradient_noise.measure(
        model, loss, (split.x_train, split.y_train), micro_batch_size=3, num_examples=100
    )
    assert row["critical_batch_at_2"] == direct.value
    assert row["noise_scale_at_2"] == pytest.approx(noise.value, rel=1e-4)
    curve = next(c for c in found["curves"] if (c["arm"], c["seed"]) == ("small", seed))
    predicted = keras.ops.convert_to_numpy(model(split.x_train))
    assert curve["loss"][1] == pytest.approx(float(loss(split.y_train, predicted)), rel=1e-5)
    assert (curve["critical_low"][1], curve["critical_high"][1]) == direct.interval


def test_a_row_is_made_of_the_first_and_the_last_moment():
    curve = {"epochs": [0.0, 1.0, 4.0], "critical": [4.0, 8.0, 32.0], "noise_scale": [2.0, np.nan, 3.2]}
    curve["critical_high"] = [8.0, 16.0, 64.0]
    row = branching._row(curve)
    assert (row["doublings"], row["last_doublings"]) == (3, 2) and row["decades_over_noise"] == pytest.approx(
        1
    )
    assert (row["critical_batch_at_1"], row["noise_scale_at_4"]) == (8, 3.2)
    for noise in (0.0, np.inf, np.nan):
        assert np.isnan(branching._row({**curve, "noise_scale": [2.0, 2.0, noise]})["decades_over_noise"])


@pytest.mark.parametrize(
    ("high", "known"), [([8, 16, np.inf], (False, False)), ([8, np.inf, 64], (False, True))]
)
def test_a_ladder_that_ended_tells_no_critical_batch(high, known):
    """Where batches of all factors did as well, the critical batch is that or larger: two such moments are not 'flat'."""
    curve = {"epochs": [0.0, 1.0, 4.0], "critical": [4.0, 32.0, 32.0], "noise_scale": [2.0, 2.0, 3.2]}
    row = branching._row({**curve, "critical_high": high})
    assert row["doublings"] == 3
    assert (np.isfinite(row["last_doublings"]), np.isfinite(row["decades_over_noise"])) == known


@pytest.mark.slow
def test_an_arm_that_diverged_has_no_numbers_and_no_curve(found):
    lost = [row for row in found["rows"] if row["arm"] == "lost"]
    assert len(lost) == 2 and all(
        np.isnan(row[key]) for row in lost for key in ("doublings", "noise_scale_at_0")
    )
    assert {curve["arm"] for curve in found["curves"]} == {"small"}


@pytest.mark.parametrize("epochs", [[2], [2, 1], [1, 1], 0])
def test_moments_are_two_or_more_and_ascend(run, epochs):
    with pytest.raises(ConfigError, match="two or more, ascending"):
        studies.branched(run, epochs=epochs)

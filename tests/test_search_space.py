"""Ranges in the place of values, and what a search's YAML file may say."""

import collections

import pytest

from tf_lbgap import scaling, search
from tf_lbgap.experiment import ConfigError
from tf_lbgap.search import space

SEARCH = {
    "batch_size": {"choice": [16, 64]},
    "learning_rate": {"range": [0.01, 1.0], "scale": "log"},
    "epochs": 4,
}
NOISE = {k: v for k, v in SEARCH.items() if k != "learning_rate"} | {
    "noise_scale": {"range": [0.1, 10.0], "scale": "log"}
}


def loaded(**changes):
    content = {**SEARCH, **changes}
    return search.from_dict({key: value for key, value in content.items() if value is not None})


def test_dimensions_are_called_by_where_their_ranges_stand():
    content = {
        "batch_size": {
            "call": "schedules.staircase",
            "initial": {"choice": [8, 16]},
            "factor": 2,
            "milestones": [1],
        },
        "optimizer": {"call": "keras.optimizers.SGD", "momentum": {"range": [0.0, 0.9], "num": 4}},
        "model": {"call": "networks.mlp", "widths": {"choice": [[64], [64, 64]]}},
    }
    found = space.find(content)
    assert [d.name for d in found] == ["batch_size.initial", "optimizer.momentum", "model.widths"]
    assert found[1].values == (0.0, 0.3, 0.6, 0.9) and found[2].labels == ("64", "64 x 64")
    filled = space.fill(
        content, {"batch_size.initial": 8, "optimizer.momentum": 0.6, "model.widths": "64 x 64"}
    )
    assert filled["batch_size"] == {**content["batch_size"], "initial": 8}
    assert filled["optimizer"]["momentum"] == 0.6 and filled["model"]["widths"] == [64, 64]
    assert content["model"]["widths"] == {"choice": [[64], [64, 64]]}, "the configuration itself stays"


@pytest.mark.parametrize(
    "content, values",
    [
        ({"range": [16, 512], "scale": "log", "num": 6}, (16, 32, 64, 128, 256, 512)),
        ({"range": [1, 10], "num": 4}, (1, 4, 7, 10)),
        ({"range": [0.001, 1.0], "scale": "log", "num": 4}, (0.001, 0.01, 0.1, 1.0)),
    ],
)
def test_steps_of_a_range_are_equally_far_apart_on_its_scale(content, values):
    (dimension,) = space.find(content, "a")
    assert dimension.values == pytest.approx(values) and type(dimension.values[0]) is type(values[0])


def test_a_value_that_went_through_float32_is_the_value():
    import numpy as np

    for content in (SEARCH["learning_rate"], {"choice": [0.1, 0.3]}):
        (dimension,) = space.find(content, "rate")
        for value in (0.1, 0.3):
            assert dimension.value(float(np.float32(value))) == value


@pytest.mark.parametrize("scale, size, momentum", [(0.5, 16, 0.9), (3.0, 64, 0.0)])
def test_a_noise_scale_gives_the_rate_whose_noise_scale_it_is(scale, size, momentum):
    optimizer = {"call": "keras.optimizers.SGD", "learning_rate": 9.0, "momentum": momentum}
    found = search.from_dict({**NOISE, "optimizer": optimizer})
    arm = found.values({"batch_size": size, "noise_scale": scale}, num_train=797)
    assert "noise_scale" not in arm
    assert scaling.noise_scale(arm["learning_rate"], size, 797, momentum) == pytest.approx(scale, rel=1e-5)


def test_a_schedule_of_the_rate_is_multiplied_by_what_the_noise_scale_gives():
    from tf_lbgap.experiment.calls import make
    from tf_lbgap.search.rates import rate_of

    shape = {"call": "schedules.cosine", "initial": 1.0, "epochs": 4}
    found = search.from_dict({**NOISE, "noise_scale": 2.0, "learning_rate": shape})
    arm = found.values({"batch_size": 16}, 800)
    rate = make(arm["learning_rate"])
    assert scaling.noise_scale(rate(0.0), 16, 800, 0.9) == pytest.approx(2, rel=1e-5)
    assert rate(2.0) == pytest.approx(rate(0.0) / 2) and rate_of(arm) == pytest.approx(rate(0.0))


def test_a_line_of_equal_noise_scale_is_a_search_over_batches_alone():
    found = search.from_dict({**NOISE, "noise_scale": 2.0})
    assert [d.name for d in found.dimensions] == ["batch_size"]
    rates = [found.values({"batch_size": size}, 800)["learning_rate"] for size in (16, 64)]
    assert [
        scaling.noise_scale(r, b, 800, 0.9) for r, b in zip(rates, (16, 64), strict=True)
    ] == pytest.approx([2, 2])


def test_schedules_are_values_and_hold_values():
    found = loaded(
        learning_rate={"call": "schedules.cosine", "initial": {"choice": [0.1, 0.2]}, "epochs": 4},
        batch_size={
            "choice": [32, {"call": "schedules.staircase", "initial": 8, "factor": 4, "milestones": [2]}]
        },
    )
    labels = found.dimensions[0].labels
    assert labels == ("32", "staircase(initial=8, factor=4, milestones=2)")
    arm = found.values({"batch_size": labels[1], "learning_rate.initial": 0.2}, 800)
    assert arm["batch_size"]["milestones"] == [2] and arm["learning_rate"]["initial"] == 0.2


def test_trials_are_judged_on_what_is_held_out_and_winners_on_a_test_set_no_trial_sees():
    from tf_lbgap.experiment.making import load_split

    found = loaded(data={"call": "data.datasets.digits", "num_train": 1000}, held_out=0.25)
    trial = found.trial("0000", found.values({"batch_size": 16, "learning_rate": 0.1}, 750))
    final = found.final({"0000": found.values({"batch_size": 16, "learning_rate": 0.1}, 750)})
    test = load_split(final.arms["0000"]["data"], 1000)
    rows = collections.Counter(map(bytes, test.x_test))
    for seed in trial.seed_numbers:
        split = load_split(trial.arms["0000"]["data"], seed)
        seen = collections.Counter(map(bytes, split.x_train)) + collections.Counter(map(bytes, split.x_test))
        assert seen == collections.Counter(map(bytes, test.x_train)), "all training data, and nothing else"
        assert not seen.keys() & rows.keys() and (len(split.x_train), len(split.x_test)) == (750, 250)
    other = load_split(final.arms["0000"]["data"], 1001)
    assert (other.x_test == test.x_test).all(), "the same for all seeds"
    assert set(final.seed_numbers).isdisjoint(trial.seed_numbers)


def test_seeds_hold_out_other_examples():
    from tf_lbgap import data
    from tf_lbgap.data import datasets

    pool = datasets.digits(num_train=100)
    first, second = (data.held_out(pool, share=0.25, seed=seed) for seed in (0, 1))
    assert len(first.x_test) == 25 and not (first.x_test == second.x_test).all()


def test_hyperband_counts_epochs_which_are_examples():
    found = loaded(tuner={"name": "hyperband", "factor": 2}, max_trials=None)
    arm = found.values({"batch_size": 16, "learning_rate": 0.1, "tuner/epochs": 3}, 800)
    assert arm["epochs"] == 3 and found.max_trials is None


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"batch_size": 16, "learning_rate": 0.1}, "Nothing varies. Write a range"),
        ({"batch_size": {"choice": [16]}}, "batch_size: choice: [16] must be a list of at least two"),
        ({"batch_size": {"choice": [16, 16]}}, "names a value twice"),
        ({"batch_size": {"choice": [16, 0]}}, "batch_size: 0 must be a whole number of at least 1"),
        ({"batch_size": {"range": [16, 64]}}, "needs num, how many of them"),
        ({"batch_size": {"choice": [16, 32], "num": 3}}, "'num' in batch_size is not a key"),
        ({"learning_rate": {"range": [1.0, 0.1]}}, "must begin with the smaller end"),
        ({"learning_rate": {"range": [0.1]}}, "must be the two ends"),
        ({"learning_rate": {"range": [0.0, 1.0], "scale": "log"}}, "has to begin above 0"),
        ({"learning_rate": {"range": [0.1, 1.0], "scale": "lin"}}, "'lin' is none of linear, log"),
        ({"learning_rate": {"range": [0.1, 1.0], "num": 1}}, "num: 1 must be at least 2"),
        ({"optimzer": {}}, "Did you mean 'optimizer'?"),
        ({"model": {"call": "networks.mlp", "widths": {"choise": [1]}}, "learning_rate": 0.1, "batch_size": 8}, "Nothing varies"),
        ({"tuner": "randm"}, "tuner: 'randm' is none of random, grid, bayesian, hyperband"),
        ({"tuner": {"name": "random", "factor": 3}}, "'factor' in tuner: random is not a key"),
        ({"tuner": "grid"}, "tuner: grid: learning_rate: a range needs num"),
        ({"tuner": "hyperband", "equal": "updates", "updates": 5}, "needs equal: epochs, not updates"),
        ({"objective": "test_accuracy"}, "objective: 'test_accuracy' is none of validation_accuracy"),
        ({"objective": "updates"}, "needs equal: loss and target_loss"),
        ({"objective": "sharpness", "measure": {"top_eigenvalue_examples": 0}}, "top_eigenvalue_examples above 0"),
        ({"objective": "sharpness", "measure": {"epsilon": 0}}, "needs measure: epsilon above 0"),
        ({"equal": "tuned", "learning_rates": [0.1, 0.2]}, "equal: tuned"),
        ({"data": {"call": "data.datasets.digits", "num_train": {"choice": [100, 200]}}}, "data: cannot vary"),
        ({"data": {"choice": [{"call": "data.datasets.digits"}, {"call": "a:b"}]}}, "data"),
        ({"arms": "known"}, "arms: 'known' must name what winners are compared with"),
        ({"arms": {"known": 3}}, "arms: known: must hold keys such as batch_size, not 3"),
        ({"arms": {"known": {"batch_size": 8, "learning_rate": 0.1, "data": {}}}}, "have the same data. Leave it out"),
        ({"arms": {"known": {"batch_size": "8", "learning_rate": 0.1}}}, "arms: known: batch_size: '8' must be a whole number"),
        ({"reference": "known"}, "reference: 'known' is not one of arms"),
        ({"margin": "half"}, "margin: 'half' must be a positive number"),
        ({"output": ""}, "output: '' must be a text"),
        ({"tuner": {"name": "hyperband", "factor": "x"}}, "tuner: hyperband: factor: 'x' must be a whole number"),
        ({"tuner": {"name": "hyperband", "factor": 1}}, "factor: 1 must be at least 2"),
        ({"tuner": {"name": "hyperband", "max_epochs": 9}}, "'max_epochs' in tuner: hyperband is not a key"),
        ({"tuner": {"name": "bayesian", "alpha": "x"}}, "tuner: bayesian: alpha: 'x' must be a positive number"),
        ({"tuner": "hyperband", "max_trials": 7}, "max_trials: tuner: hyperband: chooses how many"),
        ({"strategy": "multiworker"}, "a trial trains on one machine"),
        ({"held_out": 1.5}, "held_out: 1.5"),
        ({"max_trials": 0}, "max_trials: 0 must be a whole number"),
        ({"arms": {"known": {"batch_size": 32}}}, "arms: known: learning_rate is searched: give learning_rate a value"),
        ({"epochs": None}, "needs epochs"),
        ({"noise_scale": 2.0}, "noise_scale: gives the learning rate. Leave out learning_rate, or give a schedule"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_one_line_that_says_what_to_type(changes, told):
    with pytest.raises(ConfigError) as caught:
        loaded(**changes)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, told",
    [
        (
            {"arms": {"known": {"batch_size": 8}}},
            "arms: known: noise_scale is searched: give learning_rate a value",
        ),
        ({"arms": {"known": {"batch_size": 8}}, "noise_scale": 2.0}, "give learning_rate a value"),
        (
            {"learning_rate": {"call": "schedules.cosine", "initial": 0.1, "epochs": 4}},
            "a schedule is a shape whose largest value is 1, but it is 0.1",
        ),
        ({"optimizer": "sgd"}, "optimizer: 'sgd' must be a call"),
        ({"optimizer": {"call": "keras.optimizers.Adam"}}, "is one of SGD, not of keras.optimizers.Adam"),
        ({"noise_scale": -1.0}, "noise_scale: -1.0 must be a positive number or a range"),
    ],
)
def test_a_noise_scale_that_means_nothing_is_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        search.from_dict({**NOISE, **changes})


def test_a_grid_is_all_combinations_unless_fewer_are_asked_for():
    grid = {"tuner": "grid", "learning_rate": {"range": [0.01, 1.0], "scale": "log", "num": 40}}
    assert loaded(**grid).num_trials == 80 and loaded(**grid, max_trials=7).num_trials == 7
    assert loaded().num_trials == 30


def test_only_sgd_has_the_noise_scale():
    from tf_lbgap.search.trials import settings

    sgd = {
        "batch_size": 16,
        "learning_rate": 0.1,
        "optimizer": {"call": "keras.optimizers.SGD", "momentum": 0.9},
    }
    assert settings(sgd, 800)["noise_scale"] == pytest.approx(0.1 / 0.1 * (800 / 16 - 1))
    assert settings({**sgd, "optimizer": {"call": "keras.optimizers.Adam"}}, 800)["noise_scale"] is None


def test_a_batch_that_is_all_the_data_has_no_noise():
    found = search.from_dict({**NOISE, "noise_scale": 2.0})
    with pytest.raises(ConfigError, match="a batch of 64 of 64 training examples has no noise"):
        found.values({"batch_size": 64}, num_train=64)


def test_what_is_written_into_the_run_directory_can_be_read_again():
    first = loaded(
        tuner={"name": "bayesian", "beta": 2.0},
        margin=0.5,
        arms={"known": {"batch_size": 8, "learning_rate": 0.1}},
    )
    assert search.from_dict(first.to_dict()) == first

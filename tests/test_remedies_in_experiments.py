"""Remedies by a key of a configuration: what is trained, how often, and what mistakes are told."""

import numpy as np
import pytest
from tiny_runs import DIGITS, ONE_ARM, TINY, run

from tf_lbgap import experiment
from tf_lbgap.experiment.calls import ConfigError

BATCHES = 4  # of 30 among 100 examples, the last of 10


def arm(**keys):
    """An experiment of one arm with more keys."""
    return {**ONE_ARM, "arms": {"small": {"batch_size": 30, **keys}}}


@pytest.mark.parametrize(
    ("update", "updates"),
    [
        ({"call": "training.SharpnessAware"}, 2 * BATCHES),
        ({"call": "training.Conservative", "steps": 3}, 6 * BATCHES),
        (
            [{"call": "training.SharpnessAware"}, {"call": "training.Adversarial", "attack": "fgsm"}],
            2 * BATCHES,
        ),
    ],
)
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_an_arm_trains_with_changed_updates(update, updates):
    plain = run(ONE_ARM)
    changed = run({**arm(update=update), "output": "runs/changed"})
    assert changed[0]["updates"] == updates
    assert changed[0]["train_loss"] != plain[0]["train_loss"]
    assert np.isfinite(changed[0]["test_loss"])


@pytest.mark.parametrize(
    "keys",
    [
        {"update": {"call": "training.NoisyGradient", "reference_batch_size": 10}},
        {
            "update": {"call": "training.Backtracking"},
            "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.01},
            "batch_size": {"call": "schedules.staircase", "initial": 15, "factor": 2, "milestones": [1]},
        },
    ],
    ids=["draws", "searches"],
)
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_a_seed_draws_its_own_numbers_and_remembers_nothing_of_another(keys):
    both = run({**arm(**keys), "seeds": 2})
    alone = run({**arm(**keys), "first_seed": 1, "output": "runs/alone"})
    assert both[1]["train_loss"] == alone[0]["train_loss"]
    fixed = {**keys["update"], "seed": 0}
    if "Noisy" in keys["update"]["call"]:  # a seed in the file is that of all
        assert (
            run({**arm(update=fixed), "first_seed": 1, "output": "runs/fixed"})[0]["train_loss"]
            != (alone[0]["train_loss"])
        )


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_the_loss_that_stops_an_arm_is_that_of_the_averaged_weights():
    """With a half-life of 20 epochs the average is far behind the weights, which reach it first."""
    averaged = {"call": "callbacks.WeightAveraging", "half_life": 20}
    [row] = run({**arm(callbacks=averaged), "equal": "loss", "target_loss": 0.5, "epochs": 400})
    assert row["reached"] and row["train_loss"] <= 0.5


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_a_callback_sees_the_validation_of_its_epoch():
    """Nothing is below a loss of -1, so it stops after the second epoch."""
    stopping = {
        "call": "keras.callbacks.EarlyStopping",
        "monitor": "val_loss",
        "min_delta": 1e9,
        "patience": 1,
    }
    measure = {**TINY["measure"], "validation_examples": 50}
    [row] = run({**arm(callbacks=stopping), "epochs": 9, "measure": measure})
    assert row["updates"] == 2 * BATCHES


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_absa_trains_and_halves_its_share_by_the_epochs_of_the_arm():
    absa = {
        "adaptive": {"criterion": {"call": "growth.Absa", "duration": 2}},
        "maximum": 60,
        "update": {"call": "training.Adversarial", "epsilon": 0.1, "ratio": 0.5},
        "callbacks": {"call": "callbacks.AdversarialShare"},
    }
    rows = run({**arm(**absa), "epochs": 6, "seeds": 2})
    assert [row["batch_size"] for row in rows] == [60, 60]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_a_model_within_a_model_gets_shape_classes_and_seed():
    """The ghost network of a seed begins as the plain one does."""
    inner = {"call": "networks.mlp", "widths": [8], "normalization": "batch"}
    ghost = {"call": "layers.with_ghost_batch_normalization", "model": inner, "ghost_batch_size": 100}
    optimizer = {"call": "keras.optimizers.SGD", "learning_rate": 0.1}
    rows = [
        run({**arm(model=model, optimizer=optimizer), "output": f"runs/{i}"})[0]["train_loss"]
        for i, model in enumerate((inner, ghost))
    ]
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4)  # ghosts of 100 hold all of a batch of 30


def test_copies_of_an_image_are_not_held_out_from_itself():
    """alpha noisy copies of each example, made after the cut."""
    from tf_lbgap.experiment.making import load_held_out

    config = {"call": "data.corruption.noisy_labels", "data": DIGITS, "alpha": 3}
    split = load_held_out(config, 0, 0.2)
    assert len(split.x_train) == 80 * 4 and len(split.x_test) == 20
    kept = {image.tobytes() for image in split.x_train}
    assert not any(image.tobytes() in kept for image in split.x_test)


def test_a_search_gives_data_within_data_the_one_split():
    from tf_lbgap import search

    noisy = {"call": "data.corruption.noisy_labels", "data": dict(DIGITS), "fraction": 0.2}
    content = {"data": noisy, "epochs": 1, "batch_size": {"choice": [10, 20]}, "learning_rate": 0.1}
    made = search.from_dict({**content, "tuner": "grid"})
    assert made.data["seed"] == made.data["data"]["seed"]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_variance_reduction_gets_the_stream_of_each_seed():
    keys = {"update": {"call": "training.VarianceReduced"}, "optimizer": {"call": "keras.optimizers.SGD"}}
    both = run({**arm(**keys), "seeds": 2})
    alone = run({**arm(**keys), "first_seed": 1, "output": "runs/alone"})
    assert both[1]["train_loss"] == alone[0]["train_loss"]
    assert [row["updates"] for row in both] == [2 * BATCHES] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_data_within_data_are_those_of_the_seed():
    """Labels are noisy, and the split beneath them is redrawn."""
    noisy = {"call": "data.corruption.noisy_labels", "data": DIGITS, "fraction": 0.3}
    rows = run({**arm(data=noisy), "seeds": 2})
    clean = run({**ONE_ARM, "seeds": 2, "output": "runs/clean"})
    for seed in (0, 1):
        assert rows[seed]["train_loss"] > clean[seed]["train_loss"]
    assert rows[0]["test_loss"] != rows[1]["test_loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_seeds_of_an_arm_with_changed_updates_do_not_depend_on_each_other():
    """The second seed trains with what was traced for the first, and as it would alone."""
    content = arm(update={"call": "training.SharpnessAware"}, micro_batch_size=20)
    both = run({**content, "seeds": 2})
    alone = run({**content, "first_seed": 1, "output": "runs/alone"})
    for key in ("train_loss", "test_accuracy", "updates"):
        assert both[1][key] == alone[0][key]


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_a_callback_of_keras_or_of_a_user_trains_along():
    stopped = run(
        arm(callbacks=[{"call": "keras.callbacks.EarlyStopping", "monitor": "loss", "min_delta": 1e9}])
    )
    assert stopped[0]["updates"] == 2 * BATCHES  # one epoch to compare with, one without an improvement


@pytest.mark.parametrize("method", ["l-bfgs", "gradient_descent"])
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_an_arm_may_have_all_data_in_one_batch(method):
    content = {**ONE_ARM, "epochs": 9, "arms": {"all": {"full_batch": {"method": method}}}}
    [row] = run(content)
    assert (
        1 <= row["passes"] <= 9 and row["epochs"] == row["passes"] and row["examples"] == 100 * row["passes"]
    )
    assert 1 <= row["updates"] <= row["passes"] and row["batch_size"] == 100
    assert row["train_loss"] < 2.3 and row["ended"] == "passes"


@pytest.mark.slow
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_an_arm_with_all_data_in_one_batch_stops_at_the_loss():
    content = {
        **ONE_ARM,
        "equal": "loss",
        "target_loss": 0.5,
        "epochs": 200,
        "arms": {"all": {"full_batch": "l-bfgs"}},
    }
    [row] = run(content)
    assert row["reached"] and row["train_loss"] <= 0.5 and row["ended"] == "callback"


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_accuracy_under_attack_is_in_the_rows():
    settings = {"attacks": ["fgsm", "random_sign"], "epsilons": [0.5, 1.0], "examples": 50}
    [row] = run({**ONE_ARM, "measure": {**TINY["measure"], "robustness": settings}})
    names = [
        f"robust_accuracy_{attack}_{size}" for attack in ("fgsm", "random_sign") for size in ("0.5", "1")
    ]
    assert all(0 <= row[name] <= 1 for name in names)
    assert row["robust_accuracy_fgsm_1"] <= row["robust_accuracy_fgsm_0.5"] < row["test_accuracy"]


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_each_attack_can_have_sizes_of_its_own():
    settings = {"attacks": {"fgsm": 0.5, "l2grad": [1.0, 2.0]}, "examples": 50}
    [row] = run({**ONE_ARM, "measure": {**TINY["measure"], "robustness": settings}})
    measured = {key for key in row if key.startswith("robust_accuracy")}
    assert measured == {
        "robust_accuracy_fgsm_0.5",
        "robust_accuracy_l2grad_1",
        "robust_accuracy_l2grad_2",
    }


def test_what_is_written_into_a_run_directory_is_read_as_the_same_experiment():
    arms = {
        "all": {"full_batch": "l-bfgs"},
        "sam": {"batch_size": 30, "update": {"call": "training.SharpnessAware"}},
        "swa": {"batch_size": 30, "callbacks": {"call": "callbacks.WeightAveraging"}},
    }
    robustness = {"attacks": {"fgsm": 0.1, "l2grad": [0.5]}}
    made = experiment.from_dict({**ONE_ARM, "arms": arms, "measure": {"robustness": robustness}})
    assert experiment.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"update": "sam"}, "update: 'sam' must be a call"),
        ({"update": {"call": "training.SharpnesAware"}}, "SharpnessAware"),
        ({"update": {"call": "networks.mlp"}}, "no change of the update"),
        ({"update": {"call": "training.SharpnessAware", "rho": -1}}, "rho must be a number"),
        ({"callbacks": [1]}, r"callbacks: \[1\] must be a call"),
        ({"full_batch": "l-bfgs"}, "takes no batch_size"),
        ({"full_batch": {"metod": "l-bfgs"}}, "must hold a method"),
        ({"batch_size": None, "full_batch": {"method": "l-bfsg"}}, "Did you mean 'l-bfgs'"),
        ({"batch_size": None, "full_batch": {"method": "l-bfgs", "memry": 1}}, "Did you mean 'memory'"),
        ({"batch_size": None, "full_batch": "l-bfgs", "strategy": "mirrored"}, "runs on one device"),
        (
            {"update": [{"call": "training.SharpnessAware"}, {"call": "training.Conservative"}]},
            "Name Conservative first",
        ),
        (
            {"batch_size": None, "full_batch": "l-bfgs", "steps_per_execution": 8},
            "takes no steps_per_execution",
        ),
        ({"batch_size": None, "full_batch": "l-bfgs", "last_batch": "drop"}, "takes no last_batch"),
        ({"strategy": "parameter_server", "update": {"call": "training.SharpnessAware"}}, "take no update"),
    ],
)
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_mistakes_are_told_in_one_line(keys, words):
    with pytest.raises((ConfigError, experiment.RunFailed), match=words):
        run(arm(**keys))


@pytest.mark.parametrize(
    ("robustness", "words"),
    [
        ({"attacks": "fgsm"}, "must hold sizes"),
        ({"attacks": {"fgsm": -1}}, "attacks: -1 must be a positive number"),
        ({"attacks": {"fgsm": 0.1}, "epsilons": [0.1]}, "Leave epsilons out"),
        ({"attacks": {}}, "must hold sizes"),
        ({"attacks": {"fgsm": []}}, "must hold sizes"),
        ({"attacks": {"fgsm": None, "l2grad": 0.5}}, "must hold sizes"),
        ({"epsilons": []}, "must hold sizes"),
        ({"attacks": [], "epsilons": 0.1}, "must hold sizes"),
        ([0.1], "must hold sizes"),
        ({"attacks": [["fgsm"]], "epsilons": 0.1}, r"\['fgsm'\] must be the name of an attack"),
        ({"attacks": {1: 0.1}}, "1 must be the name of an attack"),
        ({"epsilons": [-1]}, "epsilons: -1 must be a positive number"),
        ({"epsilons": [0.1], "atacks": "fgsm"}, "Did you mean 'attacks'"),
        ({"epsilons": [0.1], "data_range": 1}, "must be two numbers"),
        ({"epsilons": [0.1], "attacks": "fgms"}, "There is no attack"),
        ({"epsilons": [0.1], "data_range": [1, 0]}, "must rise"),
    ],
)
@pytest.mark.usefixtures("_in_an_empty_folder")
def test_mistakes_about_attacks_are_told(robustness, words):
    with pytest.raises((ConfigError, experiment.RunFailed), match=words):
        run({**ONE_ARM, "data": DIGITS, "measure": {**TINY["measure"], "robustness": robustness}})

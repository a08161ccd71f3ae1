"""Experiments: the run directory, what is held equal, and what is trained again."""

import csv
import json
import math
import pathlib
import sys
import textwrap

import keras
import numpy as np
import pytest
from slow import slow
from tiny_runs import ONE_ARM, TINY, Listener, read_json, run, timeless, trained, users

import tf_lbgap as lb
from tf_lbgap import curvature, experiment
from tf_lbgap.experiment import RunFailed
from tf_lbgap.experiment.arm import Arm

PARTS = ["seconds_compile", "seconds_input", "seconds_train", "seconds_evaluate", "seconds_measure"]


pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


# The run directory.


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A finished run of two arms and two seeds: its directory, its configuration, its rows."""
    folder = tmp_path_factory.mktemp("quick")
    content = {**TINY, "seeds": 2, "measure": {"top_eigenvalue_examples": 50}, "output": str(folder / "run")}
    return folder / "run", content, run(content)


def test_config_yaml_loads_again_to_an_equal_experiment(quick):
    folder, content, _ = quick
    assert experiment.load(folder / "config.yaml") == experiment.from_dict(content)


def test_results_json_and_csv_hold_a_row_per_arm_and_seed(quick):
    folder, _, rows = quick
    content = json.loads((folder / "results.json").read_text())
    assert content["runs"] == rows
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("small", 0),
        ("small", 1),
        ("large", 0),
        ("large", 1),
    ]
    keys = {
        "test_accuracy",
        "test_loss",
        "train_loss",
        "updates",
        "examples",
        "seconds",
        "top_eigenvalue",
        "sharpness",
    }
    assert all(keys <= row.keys() for row in rows)
    assert content["environment"]["keras"] == keras.__version__
    with open(folder / "results.csv") as file:
        read = list(csv.DictReader(file))
    assert [list(row) for row in read] == [list(row) for row in rows]
    assert [float(row["test_loss"]) for row in read] == [row["test_loss"] for row in rows]


def test_updates_examples_and_epochs_are_counted_exactly(quick):
    """100 examples in batches of 30 are 4 updates an epoch, the last of 10; two epochs are 8."""
    _, _, rows = quick
    counts = [(row["updates"], row["examples"], row["epochs"], row["reached"]) for row in rows]
    assert counts == [(8, 200, 2.0, True)] * 2 + [(2, 200, 2.0, True)] * 2


def test_seconds_are_the_sum_of_their_parts(quick):
    for row in quick[2]:
        assert row["seconds"] == pytest.approx(sum(row[part] for part in PARTS), rel=1e-12)
        assert all(row[part] > 0 for part in PARTS)


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_reproduce_the_results_when_numpy_runs_the_network(quick, seed):
    folder, _, rows = quick
    split = lb.data.datasets.digits(num_train=100, seed=seed)
    model = lb.networks.mlp((64,), 10, widths=(8,), seed=99)

    model.load_weights(folder / "small" / str(seed) / "model.weights.h5")

    kernel1, bias1, kernel2, bias2 = (np.float64(w) for w in model.get_weights())
    for part, x, y in (("train", split.x_train, split.y_train), ("test", split.x_test, split.y_test)):
        logits = np.maximum(x @ kernel1 + bias1, 0) @ kernel2 + bias2
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
        # float32 logits of size 10 are good to 1e-6; means of 1e3 of them in float32 to about as much
        assert rows[seed][f"{part}_loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert rows[seed][f"{part}_accuracy"] == pytest.approx((logits.argmax(1) == y).mean(), abs=1e-6)


def test_top_eigenvalue_is_that_of_the_hessian_written_out(quick):
    """The Hessian of the 50 first examples, one column per weight by finite differences of Keras' gradient."""
    import tensorflow as tf

    folder, _, rows = quick
    split = lb.data.datasets.digits(num_train=100, seed=0)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = lb.networks.mlp((64,), 10, widths=(8,))
    model.load_weights(folder / "large" / "0" / "model.weights.h5")
    x, y = tf.constant(split.x_train[:50], "float64"), split.y_train[:50]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights, shapes = model.get_weights(), [w.shape for w in model.get_weights()]

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            value = loss(y, model(x))
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(value, model.trainable_variables)], 0)

    def at(flat):
        cuts = np.split(flat, np.cumsum([np.prod(s) for s in shapes])[:-1])
        model.set_weights([cut.reshape(s) for cut, s in zip(cuts, shapes, strict=True)])
        return gradient().numpy()

    flat = np.concatenate([w.ravel() for w in weights])
    steps = 1e-6 * np.eye(len(flat))
    hessian = np.array([(at(flat + step) - at(flat - step)) / 2e-6 for step in steps])

    assert rows[2]["top_eigenvalue_converged"]
    # the residual bound is 1e-3 of the eigenvalue
    assert rows[2]["top_eigenvalue"] == pytest.approx(
        np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1], rel=1e-3
    )


def test_tensorboard_reads_batch_size_rate_and_validation_loss_of_each_epoch(quick):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, rows = quick

    def scalars(part, tag):
        events = EventAccumulator(str(folder / "small" / "1" / part), size_guidance={"tensors": 0}).Reload()
        return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]

    assert scalars("train", "epoch_batch_size") == [(0, 30.0), (1, 30.0)]
    assert scalars("train", "epoch_learning_rate") == [(0, pytest.approx(0.1)), (1, pytest.approx(0.1))]
    validation = scalars("validation", "epoch_loss")
    assert [step for step, _ in validation] == [0, 1]
    # the first 1,000 test examples of 1,697 after the last update, against all of them
    assert validation[1][1] == pytest.approx(rows[1]["test_loss"], rel=0.1)


# Runs repeat.


def test_a_run_into_another_directory_is_bit_identical_but_for_seconds(quick):
    _, content, rows = quick
    assert timeless(run({**content, "output": "elsewhere"})) == timeless(rows)


RAISES = """
    class Strange(Exception):  # it cannot be unpickled
        def __init__(self, one, two):
            super().__init__("it\\nwent wrong")

    def model(input_shape):
        raise Strange(1, 2)
"""


@pytest.mark.slow
def test_processes_give_the_numbers_of_one_process_and_outlive_an_exception(quick):
    """Each trains with fewer threads, which may change the order of sums: hence float32's rounding, grown a
    little over eight updates. (Numbers as small as these have come out bit-identical.)"""
    users("user_raises_in_process", RAISES)
    _, content, rows = quick
    listener = Listener()
    bad = {"batch_size": 10, "model": {"call": "user_raises_in_process:model"}}
    with pytest.raises(
        RunFailed, match=r"^2 of 6 did not finish; the first was bad, seed [01]: Strange: it went wrong"
    ):
        run({**content, "arms": {"bad": bad, **content["arms"]}, "output": "out"}, jobs=2, listen=listener)
    assert sorted(listener.trained) == [("large", 0), ("large", 1), ("small", 0), ("small", 1)]
    for ours, theirs in zip(timeless(read_json("out")["runs"]), timeless(rows), strict=True):
        assert ours == {
            key: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            for key, value in theirs.items()
        }


DROPOUT = """
    def model(input_shape, num_classes, seed=0):  # the seed is not used: Keras' global one decides
        inputs = keras.Input(input_shape)
        x = keras.layers.Dropout(0.3)(keras.layers.Dense(8, "relu")(inputs))
        return keras.Model(inputs, keras.layers.Dense(num_classes)(x))
"""


@pytest.mark.parametrize(
    "model",
    [slow(TINY["model"]), {"call": "user_dropout:model"}],
    ids=["mlp", "user's dropout"],
)
def test_a_seed_gives_the_same_row_whichever_seeds_ran_before(model):
    if "user" in model["call"]:
        users("user_dropout", DROPOUT)
    made = experiment.from_dict({**ONE_ARM, "model": model})
    arm = Arm(made.arms["small"], made.equal, made.measure)

    first, second, third = (timeless([arm.run(seed)]) for seed in (1, 0, 1))

    assert first == third != second
    assert timeless([Arm(made.arms["small"], made.equal, made.measure).run(0)]) == second


def test_tuning_measures_no_curvature_and_the_row_has_it(monkeypatch):
    measured = []
    top = curvature.top_eigenpairs
    monkeypatch.setattr(curvature, "top_eigenpairs", lambda *a, **k: measured.append(1) or top(*a, **k))
    content = {**ONE_ARM, "equal": "tuned", "learning_rates": [0.1, 0.01], "seeds": 1}
    (row,) = run({**content, "measure": {"top_eigenvalue_examples": 20, "epsilon": 0}})
    assert len(measured) == 1 and row["top_eigenvalue"] > 0


@pytest.mark.slow
def test_tuning_keeps_the_rate_that_does_best_on_held_out_training_data():
    """Rates so small that nothing is learnt, or so large that training diverges, cannot be the best."""
    content = {**ONE_ARM, "equal": "tuned", "epochs": 4, "learning_rates": [1000.0, 0.1, 1e-6], "seeds": 2}
    rows = run(content)
    assert [row["learning_rate"] for row in rows] == [0.1, 0.1]
    assert [row["learning_rate_at_edge"] for row in rows] == [False, False]
    assert [row["epochs"] for row in rows] == [4, 4]

    by_hand = run({**ONE_ARM, "epochs": 4, "learning_rate": 0.1, "seeds": 2, "output": "by_hand"})
    for tuned, plain in zip(timeless(rows), timeless(by_hand), strict=True):
        assert {key: tuned[key] for key in plain} == plain

    (edge,) = run({**content, "learning_rates": [0.1, 1e-6], "seeds": 1, "output": "edge"})
    assert edge["learning_rate"] == 0.1 and edge["learning_rate_at_edge"]


# What is held equal.


def test_equal_updates_stops_within_an_epoch():
    """7 updates of 30, 30, 30, 10 | 30, 30, 30 are 190 examples."""
    (row,) = run({**ONE_ARM, "equal": "updates", "updates": 7})
    assert (row["updates"], row["examples"], row["epochs"]) == (7, 190, 1.9)


def test_equal_seconds_stops_after_the_first_update_beyond_them():
    (row,) = run({**ONE_ARM, "equal": "seconds", "seconds": 1.0})
    # an update takes about a millisecond; a second is a wide margin on a busy machine
    assert 1.0 <= row["seconds_train"] < 2.0
    assert row["updates"] > 2


def test_equal_loss_stops_at_the_target_and_flags_the_arm_that_misses_it():
    arms = {"fast": {"batch_size": 10}, "never": {"batch_size": 100, "learning_rate": 1e-6}}
    fast, never = run({**TINY, "equal": "loss", "target_loss": 0.7, "epochs": 20, "arms": arms})
    assert fast["reached"]
    assert fast["epochs"] < 20
    assert fast["train_loss"] <= 0.7
    assert not never["reached"]
    assert (never["epochs"], never["updates"]) == (20.0, 20)


def test_sharpness_is_left_out_where_no_box_is_given():
    measure = {"top_eigenvalue_examples": 50}
    (both,) = run({**ONE_ARM, "measure": measure})
    (eigenvalue,) = run({**ONE_ARM, "measure": {**measure, "epsilon": 0}, "output": "runs/eigenvalue"})
    assert set(both) - set(eigenvalue) == {"sharpness"}
    assert eigenvalue["top_eigenvalue"] == both["top_eigenvalue"] and both["sharpness"] > 0


def test_a_model_that_diverged_has_the_columns_of_one_that_did_not():
    optimizer = {"call": "keras.optimizers.SGD", "learning_rate": 1e30}
    for epsilon in (0, 1e-3):
        measure = {"top_eigenvalue_examples": 50, "epsilon": epsilon}
        about = {**ONE_ARM, "measure": measure, "output": f"runs/{epsilon}"}
        (good,), (diverged,) = (
            run(about),
            run({**about, "optimizer": optimizer, "output": f"runs/not_{epsilon}"}),
        )
        assert set(diverged) == set(good)
        assert diverged["top_eigenvalue"] is diverged.get("sharpness") is None
        assert diverged["top_eigenvalue_converged"] is False


def test_equal_loss_is_looked_at_as_often_as_asked():
    arms = {"small": {"batch_size": 10}}  # 10 updates per epoch
    content = {**TINY, "equal": "loss", "target_loss": 2.0, "epochs": 20, "arms": arms, "seeds": 1}
    (often,) = run(content)
    (seldom,) = run({**content, "measure": {**TINY["measure"], "check_every": 2}})
    assert seldom["updates"] % 20 == 0 and seldom["updates"] >= 40
    assert often["updates"] < seldom["updates"]


def test_an_arm_that_diverges_ends_early_and_is_not_compared(capfd):
    users("user_bn_diverges", BATCH_NORMALIZATION)
    model = {"call": "user_bn_diverges:model"}
    arms = {"a": {"batch_size": 10, "model": model}, "b": {"batch_size": 50}}
    optimizer = {"call": "keras.optimizers.SGD", "learning_rate": 1e30}
    rows = run({**TINY, "optimizer": optimizer, "arms": arms, "epochs": 5})
    for row in rows:
        assert row["train_loss"] is None
        assert not row["reached"]
        assert row["epochs"] < 5
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("batch_size", "losses", "examples"),
    [
        (1, [1.0, 0.1, 1.0, 0.5, 0.1, 0.0], 50),  # a check every 10; the second in a row at or below 0.5
        (
            7,
            [1.0, 0.1, 0.1, 0.1],
            35,
        ),  # updates end at 7, 14, 21, 28, 35: past 10 at 14, past 20 at 21, past 30 at 35
        (60, [0.1, 1.0, 0.1, 0.1], 240),  # two checks an epoch
        (120, [0.1, 0.1], 240),  # one
    ],
)
def test_target_loss_is_checked_every_twelfth_of_an_epoch_and_met_twice_in_a_row(
    batch_size, losses, examples
):
    """With 120 examples a twelfth is 10."""
    x, y = np.ones((120, 1), "float32"), np.ones((120, 1), "float32")
    script, seen = list(losses), []
    batches = lb.data.Batches(x, y, batch_size=batch_size)

    def scripted():
        seen.append(round(batches.progress * 120))
        return script.pop(0)

    stop = lb.callbacks.TargetLoss(batches, 0.5, scripted)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for _ in range(2):  # a second fit begins anew
        script[:], seen[:] = losses, []
        model.fit(
            batches,
            epochs=5,
            verbose=0,
            shuffle=False,
            callbacks=[lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(batch_size)), stop],
        )
        assert (seen[-1], stop.reached, stop.last_loss) == (examples, True, losses[len(seen) - 1])
        first_update_past = [math.ceil(k * 10 / batch_size) * batch_size for k in range(1, 100)]
        assert seen == [n for n in dict.fromkeys(first_update_past) if n <= examples]


def test_target_loss_that_is_missed_or_not_a_number_is_not_reached():
    for losses, checks in (([1.0] * 24, 24), ([1.0, math.nan], 2)):
        script = list(losses)
        batches = lb.data.Batches(np.ones((24, 1)), np.ones((24, 1)), batch_size=2)
        stop = lb.callbacks.TargetLoss(batches, 0.5, lambda script=script: script.pop(0))
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        schedule = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(2))
        history = model.fit(batches, epochs=2, verbose=0, shuffle=False, callbacks=[schedule, stop])
        assert (stop.reached, len(losses) - len(script)) == (False, checks)
        assert history.history["target_reached"][-1] == 0


# A user's own functions.

BATCH_NORMALIZATION = """
    def model(input_shape, num_classes, seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(input_shape)
        x = keras.layers.BatchNormalization(name="statistics")(keras.layers.Dense(4, name="before")(inputs))
        return keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.ReLU()(x)))
"""


def test_data_model_and_schedules_may_be_a_users_own():
    users(
        "user_all",
        """
        def data(size, seed):
            x = np.random.default_rng(seed).normal(size=(size, 3)).astype("float32")
            return (x[:40], x[:40].sum(1, keepdims=True)), (x[40:], x[40:].sum(1, keepdims=True))

        def model(input_shape):
            return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(1)])

        def grow(progress):
            return 10 if progress < 1 else 20

        def rate(start):
            return lambda progress: start / (1 + progress)
        """,
    )
    rows = run(
        {
            **TINY,
            "data": {"call": "user_all:data", "size": 60},
            "model": {"call": "user_all:model"},
            "loss": {"call": "keras.losses.MeanSquaredError"},
            "learning_rate": {"call": "user_all:rate", "start": 0.1},
            "arms": {"grown": {"batch_size": {"call": "user_all:grow"}}},
        }
    )
    assert (rows[0]["updates"], rows[0]["examples"]) == (4 + 2, 80)
    assert rows[0]["test_accuracy"] is None  # nothing to classify
    assert 0 < rows[0]["test_loss"] < 3  # the variance of the targets is 3


def test_batch_normalization_ends_with_the_exact_statistics_of_the_training_set():
    users("user_bn", BATCH_NORMALIZATION)
    (row,) = run({**ONE_ARM, "model": {"call": "user_bn:model"}, "epochs": 1})

    split = lb.data.datasets.digits(num_train=100, seed=0)
    model = sys.modules["user_bn"].model((64,), 10, 5)
    model.load_weights("runs/experiment/small/0/model.weights.h5")
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    kernel, bias = (np.float64(w) for w in model.get_layer("before").get_weights())
    inputs = split.x_train @ kernel + bias
    statistics = model.get_layer("statistics")
    np.testing.assert_allclose(statistics.moving_mean, inputs.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics.moving_variance, inputs.var(0), rtol=1e-5)
    assert model.evaluate(split.x_test, split.y_test, verbose=0) == pytest.approx(row["test_loss"], rel=1e-5)


def test_an_exception_in_one_arm_leaves_the_results_of_the_others():
    users("user_raises", RAISES)
    arms = {"bad": {"batch_size": 10, "model": {"call": "user_raises:model"}}, "good": {"batch_size": 50}}
    with pytest.raises(RunFailed) as raised:
        run({**TINY, "arms": arms, "output": "out"})
    assert str(raised.value) == (
        "1 of 2 did not finish; the first was bad, seed 0: Strange: it went wrong (in full: out/error.txt)"
    )
    assert "in model\n    raise Strange(1, 2)" in pathlib.Path("out/error.txt").read_text()
    assert [row["arm"] for row in read_json("out")["runs"]] == ["good"]
    arms["bad"]["model"] = TINY["model"]
    assert trained({**TINY, "arms": arms, "output": "out"}) == [("bad", 0)]
    assert not pathlib.Path("out/error.txt").exists()


# How an arm is trained.


def test_an_arm_whose_criterion_chooses_the_batch():
    """It tells its decisions, and the row the last size; equal seeds decide equally."""
    criterion = {"call": "growth.GradientNoiseScale", "bound": "value"}
    adaptive = {"criterion": criterion, "every": 1, "window": 6}
    content = {
        **ONE_ARM,
        "arms": {"grown": {"batch_size": 8, "maximum": 64, "adaptive": adaptive}},
        "epochs": 3,
        "margin": 0.5,
    }
    (row,) = run(content)
    (again,) = run(content, again=True)
    decisions = json.loads(pathlib.Path("runs/experiment/grown/0/decisions.json").read_text())
    assert row["batch_size"] == decisions[-1]["new_batch_size"] > 8
    assert row["updates"] < 3 * 13 and all(each["reason"] for each in decisions)
    assert timeless([row]) == timeless([again])


@pytest.mark.slow
def test_arms_with_micro_and_ghost_batches_make_the_same_updates():
    arms = {
        "plain": {"batch_size": 50},
        "micro": {"batch_size": 50, "micro_batch_size": 16},
        "ghost": {"batch_size": 50, "ghost_batch_size": 25},
    }
    pathlib.Path("with_normalization.py").write_text(
        textwrap.dedent(
            """
            import keras

            def network(input_shape, num_classes, seed):
                layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(num_classes)]
                return keras.Sequential([keras.Input(input_shape), *layers])
            """
        )
    )
    model = {"call": "with_normalization:network"}
    rows = {row["arm"]: row for row in run({**TINY, "arms": arms, "model": model})}
    assert {row["updates"] for row in rows.values()} == {4}
    assert (
        len({row["test_loss"] for row in rows.values()}) == 3
    )  # batch normalization sees parts of other sizes
    rows = {row["arm"]: row for row in run({**TINY, "arms": {k: arms[k] for k in ("plain", "micro")}})}
    assert rows["micro"]["train_loss"] == pytest.approx(rows["plain"]["train_loss"], rel=1e-4)

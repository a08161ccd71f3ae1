"""Keras Tuner in a script: what a trial trains, with which seeds, and what is kept of it."""

import json
import math
import pathlib
import typing

import keras
import keras_tuner
import numpy as np
import pytest

from tf_lbgap import data, networks, schedules, tuning

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")

SPLIT = data.datasets.digits(num_train=100)
X, Y = SPLIT.x_train, SPLIT.y_train
VALIDATION = (SPLIT.x_test[:60], SPLIT.y_test[:60])


def build(hp):
    model = networks.mlp(widths=(8,))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


class Spy(keras.callbacks.Callback):
    """Notes what each `fit` did; a copy of it notes in the same place."""

    fits: typing.ClassVar = []

    def on_train_begin(self, logs=None):
        self.rates = []
        Spy.fits.append(self)

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))

    def on_train_end(self, logs=None):
        self.updates = int(self.model.optimizer.iterations.numpy())
        self.momentum = self.model.optimizer.momentum


@pytest.fixture(autouse=True)
def _no_fits():
    Spy.fits = []


def searched(hypermodel, tuner=tuning.RandomSearch, objective="val_accuracy", epochs=2, seeds=1, **options):
    made = tuner(hypermodel, objective, seeds=seeds, seed=1, directory="tuned", project_name="a", **options)
    made.search(X, Y, epochs=epochs, validation_data=VALIDATION, callbacks=[Spy()], verbose=0)
    return made


def values_of(tuner):
    return [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]


def test_each_trial_trains_with_its_batch_and_rate_and_a_copied_callback_harms_nobody():
    found = searched(
        tuning.HyperModel(build, batch_size=[7, 30, 100], learning_rate=(0.01, 0.5)), max_trials=3
    )
    assert len(Spy.fits) == 3
    for values, fit in zip(values_of(found), Spy.fits, strict=True):
        assert fit.updates == 2 * math.ceil(100 / values["batch_size"])
        assert fit.rates == pytest.approx([values["learning_rate"]] * fit.updates)
    (best,) = found.get_best_hyperparameters()
    assert best.values in values_of(found)


def test_along_a_noise_scale_the_rate_follows_the_batch():
    found = searched(
        tuning.HyperModel(build, batch_size=[10, 50], noise_scale=0.8),
        tuner=tuning.GridSearch,
        max_trials=None,
    )
    assert [values["batch_size"] for values in values_of(found)] == [10, 50]
    for fit, size in zip(Spy.fits, (10, 50), strict=True):  # g = lr / (1 - m) (N / B - 1), m = 0.9, N = 100
        assert fit.rates[0] == pytest.approx(0.8 * 0.1 / (100 / size - 1))


@pytest.mark.slow
def test_momentum_and_schedules_are_searched():
    hypermodel = tuning.HyperModel(
        build,
        batch_size=20,
        learning_rate=0.2,
        momentum=[0.0, 0.5],
        rate_schedule={
            "halved": lambda rate, epochs: schedules.staircase(rate, factor=0.5, milestones=[epochs / 2])
        },
        batch_schedule={
            "fixed": lambda size, epochs: schedules.constant(size),
            "grown": lambda size, epochs: schedules.staircase(size, factor=5, milestones=[epochs / 2]),
        },
    )
    found = searched(hypermodel, tuner=tuning.GridSearch, max_trials=None)
    told = [(v["momentum"], v["batch_schedule"]) for v in values_of(found)]
    assert told == [(0.0, "fixed"), (0.0, "grown"), (0.5, "fixed"), (0.5, "grown")]
    for (momentum, chosen), fit in zip(told, Spy.fits, strict=True):
        assert fit.momentum == momentum
        assert fit.rates == pytest.approx([0.2] * 5 + [0.1] * (5 if chosen == "fixed" else 1))


def test_seeds_are_those_of_a_loop_by_hand_and_their_deviation_is_kept():
    found = searched(tuning.HyperModel(build, batch_size=[30]), max_trials=1, seeds=3)
    (trial,) = found.oracle.trials.values()
    finals, epochs = [], []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        model = build(None)
        batches = data.Batches(X, Y, batch_size=30, seed=seed)
        history = model.fit(batches, epochs=2, shuffle=False, validation_data=VALIDATION, verbose=0).history
        finals.append(max(history["val_accuracy"]))
        epochs.append(1 + int(np.argmax(history["val_accuracy"])))
    assert trial.score == pytest.approx(np.mean(finals))
    assert trial.metrics.get_best_value("val_accuracy_deviation") == pytest.approx(np.std(finals, ddof=1))
    assert trial.metrics.get_best_value("val_accuracy_error") == pytest.approx(
        np.std(finals, ddof=1) / math.sqrt(3)
    )
    assert trial.metrics.get_best_value("updates") == pytest.approx(4 * np.mean(epochs)), "of the best epoch"


@pytest.mark.slow
def test_updates_examples_and_seconds_to_a_target_are_objectives():
    hypermodel = tuning.HyperModel(
        build, batch_size=[10], learning_rate=[1e-6, 0.1], target={"val_accuracy": 0.6}
    )
    found = searched(hypermodel, tuning.GridSearch, "updates_to_target", epochs=30, max_trials=None)
    missed, reached = found.oracle.trials.values()
    assert missed.status == "FAILED" and "Missed the target: val_accuracy is" in missed.message
    epochs = len(Spy.fits[1].rates) // 10
    assert reached.score == 10 * epochs < 300
    assert reached.metrics.get_best_value("examples_to_target") == 100 * epochs
    assert reached.metrics.get_best_value("seconds_to_target") > 0
    assert Spy.fits[1].model.evaluate(*VALIDATION, verbose=0, return_dict=True)["accuracy"] >= 0.6


def test_sharpness_is_an_objective():
    from tf_lbgap import curvature

    sample = (X[:40], Y[:40])
    hypermodel = tuning.HyperModel(build, batch_size=[30], sharpness=sample)
    found = searched(hypermodel, objective=keras_tuner.Objective("top_eigenvalue", "min"), max_trials=1)
    (trial,) = found.oracle.trials.values()
    model = Spy.fits[0].model
    expected = curvature.top_eigenpairs(
        curvature.HessianOperator(model, model.loss, sample), k=1, seed=0
    ).values[0]
    assert trial.score == pytest.approx(expected, rel=1e-2)


def test_trials_that_raise_or_diverge_do_not_end_the_search():
    class Moody(tuning.HyperModel):
        def fit(self, hp, model, *args, **kwargs):
            if hp.Choice("mood", ["good", "bad"]) == "bad":
                raise RuntimeError("not today")
            return super().fit(hp, model, *args, **kwargs)

    hypermodel = Moody(build, batch_size=[10], learning_rate=[0.1, 1e20])
    found = searched(hypermodel, max_trials=8)
    statuses = {
        (v["learning_rate"], v.get("mood", "good")): t.status
        for v, t in zip(values_of(found), found.oracle.trials.values(), strict=True)
    }
    assert statuses[0.1, "good"] == "COMPLETED"
    assert (
        all(status == "FAILED" for key, status in statuses.items() if key != (0.1, "good"))
        and len(statuses) > 2
    )


def test_a_script_that_runs_again_goes_on():
    hypermodel = tuning.HyperModel(build, batch_size=[7, 30, 100], learning_rate=(0.01, 0.5))
    first = searched(hypermodel, max_trials=2)
    assert len(Spy.fits) == 2
    assert not list(pathlib.Path("tuned/a").glob("trial_*/trial.json")), "all of it is in one file"
    more = searched(hypermodel, max_trials=3)
    assert len(Spy.fits) == 3 and values_of(more)[:2] == values_of(first)
    assert len(json.loads(pathlib.Path("tuned/a/oracle.json").read_text())["trials"]) == 3


@pytest.mark.slow
def test_hyperband_counts_in_epochs_of_all_the_data():
    hypermodel = tuning.HyperModel(build, batch_size=[10, 50])
    made = tuning.Hyperband(
        hypermodel, "val_accuracy", max_epochs=2, factor=2, seed=1, directory="tuned", project_name="a"
    )
    made.search(X, Y, validation_data=VALIDATION, callbacks=[Spy()], verbose=0)
    for values, fit in zip(values_of(made), Spy.fits, strict=True):
        assert fit.updates == values["tuner/epochs"] * 100 // values["batch_size"], "and each trains anew"


@pytest.mark.slow
def test_a_stock_tuner_takes_the_hypermodel_too():
    made = keras_tuner.RandomSearch(
        tuning.HyperModel(build, batch_size=[7, 100]),
        "val_accuracy",
        max_trials=2,
        directory="tuned",
        project_name="stock",
    )
    made.search(X, Y, epochs=1, validation_data=VALIDATION, callbacks=[Spy()], verbose=0)
    assert sorted(fit.updates for fit in Spy.fits) == [1, 15]


def test_models_are_built_under_a_strategy_by_name():
    found = searched(tuning.HyperModel(build, batch_size=[20]), max_trials=1, strategy="mirrored")
    assert type(found.distribution_strategy).__name__ == "MirroredStrategy"
    assert Spy.fits[0].updates == 10 and Spy.fits[0].model.distribute_strategy is found.distribution_strategy


@pytest.mark.parametrize(
    "options, told",
    [
        ({"batch_size": (8, 64)}, "which sizes? Pass a list"),
        ({"batch_size": []}, "batch_size=[] holds no value"),
        ({"batch_size": 8, "learning_rate": (1.0, 0.1)}, "a pair (low, high) of positive numbers"),
        (
            {"batch_size": 8, "learning_rate": 0.1, "noise_scale": 1.0},
            "pass one of learning_rate and noise_scale",
        ),
        ({"batch_size": 8, "rate_schedule": {"a": schedules.constant}}, "needs a rate to begin with"),
        ({"batch_size": 8, "target": {}}, "should name one metric"),
    ],
)
def test_ranges_that_mean_nothing_are_refused(options, told):
    with pytest.raises(ValueError) as caught:
        tuning.HyperModel(build, **options)
    assert told in str(caught.value)


@pytest.mark.slow
def test_a_search_of_nothing_but_exceptions_ends_after_three():
    hypermodel = tuning.HyperModel(build, batch_size=[8, 9, 10, 11, 12])
    made = tuning.RandomSearch(
        hypermodel,
        keras_tuner.Objective("val_acuracy", "max"),
        max_trials=5,
        directory="tuned",
        project_name="typo",
    )
    with pytest.raises(RuntimeError, match="The first 3 trials failed, the last so: KeyError: 'val_acuracy'"):
        made.search(X, Y, epochs=1, validation_data=VALIDATION, verbose=0)
    assert made.get_best_hyperparameters() == [], "no score, no best"


def test_the_noise_scale_is_of_sgd_and_a_stream_is_not_split():
    def with_adam(hp):
        model = build(hp)
        model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    made = tuning.RandomSearch(
        tuning.HyperModel(with_adam, batch_size=[8], noise_scale=1.0),
        "val_accuracy",
        max_trials=1,
        directory="tuned",
        project_name="d",
    )
    with pytest.raises(keras_tuner.errors.FatalValueError, match="is one of SGD, not of Adam"):
        made.search(X, Y, verbose=0)
    made = tuning.RandomSearch(
        tuning.HyperModel(build, batch_size=[8]),
        "val_accuracy",
        max_trials=1,
        directory="tuned",
        project_name="e",
    )
    with pytest.raises(keras_tuner.errors.FatalValueError, match="a stream cannot be split"):
        made.search(X, Y, validation_split=0.2, verbose=0)


@pytest.mark.slow
def test_what_is_wrong_with_every_trial_ends_the_search():
    hypermodel = tuning.HyperModel(build, batch_size=[8])
    with pytest.raises(ValueError, match="pass seeds= instead"):
        tuning.RandomSearch(hypermodel, "val_accuracy", max_trials=1, executions_per_trial=2)
    made = tuning.RandomSearch(hypermodel, "val_accuracy", max_trials=1, directory="tuned", project_name="b")
    with pytest.raises(keras_tuner.errors.FatalValueError, match="pass arrays x and y"):
        made.search(data.Batches(X, Y, batch_size=8), verbose=0)
    hypermodel = tuning.HyperModel(build, batch_size=[8], target={"accuracyy": 0.5})
    made = tuning.RandomSearch(hypermodel, "val_accuracy", max_trials=1, directory="tuned", project_name="c")
    with pytest.raises(keras_tuner.errors.FatalValueError, match="no metric 'accuracyy', but accuracy"):
        made.search(X, Y, verbose=0)

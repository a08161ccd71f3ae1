"""Studies, against a network of two layers written down in NumPy, and against histories written by hand."""

import json
import shutil

import event_files
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_runs

from tf_lbgap import experiment, landscape
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun
from tf_lbgap.reproduction.studies import parametric_plots
from tf_lbgap.reproduction.studies.input_operator import InputOperator

ALL = {"examples": 0, "test_examples": 0}
MONITOR = {"call": "callbacks.GradientNoiseMonitor", "every": 2, "burn_in": 0}
CONTENT = {
    **tiny_runs.TINY,
    "epochs": 3,
    "seeds": 2,
    "first_seed": 4,
    "arms": {"small": {"batch_size": 10, "callbacks": [MONITOR]}, "large": {"batch_size": 50}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "run"
    tiny_runs.run({**CONTENT, "output": str(folder)})
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return FinishedRun(folder)


@pytest.fixture
def copied(folder, tmp_path):
    """The directory, to be spoilt."""
    return shutil.copytree(folder, tmp_path / "run")


def rows_by(found, key):
    return {(row["arm"], row["seed"]): row[key] for row in found["rows"]}


# The network in NumPy.


def forward(weights, x):
    w1, b1, w2, b2 = (np.asarray(w, "float64") for w in weights)
    hidden = x @ w1 + b1
    scores = np.maximum(hidden, 0) @ w2 + b2
    p = np.exp(scores - scores.max(1, keepdims=True))
    return hidden, p / p.sum(1, keepdims=True)


def loss_and_accuracy(weights, x, y):
    p = forward(weights, x.astype("float64"))[1]
    return -np.log(p[np.arange(len(y)), y]).mean(), (p.argmax(1) == y).mean()


def gradients_by_example(weights, x, y):
    hidden, p = forward(weights, x)
    out = p - np.eye(10)[y]
    into = (out @ np.asarray(weights[2]).T) * (hidden > 0)
    parts = x[:, :, None] * into[:, None], into, np.maximum(hidden, 0)[:, :, None] * out[:, None], out
    return np.concatenate([part.reshape(len(x), -1) for part in parts], 1)


def flat(weights):
    return np.concatenate([np.asarray(w, "float64").ravel() for w in weights])


def unflat(vector, like):
    ends = np.cumsum([w.size for w in like])[:-1]
    return [part.reshape(w.shape) for part, w in zip(np.split(vector, ends), like, strict=True)]


def mixed(run, seed, alpha):
    pairs = zip(run.weights("small", seed), run.weights("large", seed), strict=True)
    return [(1 - alpha) * np.float64(a) + alpha * np.float64(b) for a, b in pairs]


# A finished run.


def test_weights_are_those_of_their_arm_and_seed_and_data_those_they_were_tested_on(run):
    assert len(run.rows) == 4 and run.finished() == [(a, s) for s in (4, 5) for a in ("small", "large")]
    for row in run.rows:
        split = run.split(row["arm"], row["seed"])
        weights = run.weights(row["arm"], row["seed"])
        loss, accuracy = loss_and_accuracy(weights, split.x_test, split.y_test)
        assert row["test_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["test_accuracy"] == pytest.approx(accuracy)
        assert len(run.sample(row["arm"], row["seed"], 7)[1]) == 7


def test_initial_weights_are_as_far_away_as_training_told(run):
    for row in run.rows:
        task = row["arm"], row["seed"]
        way = flat(run.weights(*task)) - flat(run.initial_weights(*task))
        assert np.linalg.norm(way) == pytest.approx(row["distance"], rel=1e-5) and row["distance"] > 0.1


def test_arms_with_one_network_share_it_and_its_traces(run):
    assert run.model("small", 4) is run.model("large", 5)
    assert run.loss("small") is run.loss("large")
    assert run.subject("small", 4, 20) is run.subject("large", 5, 30)


def test_an_experiment_gives_what_its_directory_gives(folder, run):
    again = FinishedRun(experiment.from_dict({**CONTENT, "output": str(folder)}))
    assert again.rows == run.rows
    other = experiment.from_dict({**CONTENT, "epochs": 4, "output": str(folder)})
    with pytest.raises(ConfigError, match="holds no finished arm"):
        FinishedRun(other)


def test_what_is_not_there_is_told_with_what_to_type(run, copied):
    with pytest.raises(ConfigError, match="no run directory"):
        FinishedRun(copied / "small")
    with pytest.raises(ConfigError, match=r"'smal' is not an arm.*Did you mean 'small'"):
        run.model("smal", 4)
    with pytest.raises(ConfigError, match=r"Seed 0 of arm 'small' did not finish.*\[4, 5\]"):
        run.model("small", 0)
    with pytest.raises(ConfigError, match="was not measured while training"):
        run.history("small", 4)
    (copied / "small" / "4" / "model.weights.h5").unlink()
    with pytest.raises(ConfigError, match="--again"):
        FinishedRun(copied).model("small", 4)


# Any study.

STUDIES = {
    "interpolation": {"arms": ["small", "large"]},
    "input_hessian": {},
    "noise_scale": {},
    "subspace_sharpness": {"dimensions": 2},
}


OF_NO_ARMS = {
    "escape",
    "stationary_variance",
    "growth_of_distance",
    "parameter_distance",
}  # simulations, walks, pairs


@pytest.mark.parametrize("name", sorted({*studies.__all__} - OF_NO_ARMS))
def test_an_unknown_arm_is_refused_with_the_nearest(run, name):
    with pytest.raises(ConfigError, match=r"'lrge' is not an arm.*Did you mean 'large'"):
        getattr(studies, name)(run, arms=["lrge", "small"])


@pytest.mark.parametrize("name", STUDIES)
def test_what_diverged_has_a_row_of_nan(copied, name):
    content = json.loads((copied / "results.json").read_text())
    for row in content["runs"]:
        row["train_loss"] = None
    (copied / "results.json").write_text(json.dumps(content))
    rows = getattr(studies, name)(FinishedRun(copied), **STUDIES[name], seeds=1)["rows"]
    assert len(rows) == (1 if name == "interpolation" else 2)
    for row in rows:
        values = [value for key, value in row.items() if key not in ("arm", "seed")]
        assert values and all(np.isnan(values)) and row["seed"] == 4


# Interpolation.


def test_the_loss_half_way_is_that_of_the_mean_of_the_weights(run):
    found = studies.interpolation(run, arms=["small", "large"], points=7, **ALL)
    assert [(row["arm"], row["seed"]) for row in found["rows"]] == [
        ("small to large", 4),
        ("small to large", 5),
    ]
    for row, curve in zip(found["rows"], found["curves"], strict=True):
        split = run.split("small", curve["seed"])
        assert curve["alpha"] == [-1, -0.5, 0, 0.5, 1, 1.5, 2]
        for which in ("train", "test"):
            x, y = getattr(split, f"x_{which}"), getattr(split, f"y_{which}")
            values = [loss_and_accuracy(mixed(run, curve["seed"], alpha), x, y) for alpha in curve["alpha"]]
            losses, accuracies = zip(*values, strict=True)
            np.testing.assert_allclose(curve[f"{which}_loss"], losses, rtol=1e-5)
            np.testing.assert_allclose(curve[f"{which}_accuracy"], accuracies, rtol=1e-6)
            key = "barrier" if which == "train" else "test_barrier"
            expected = max(losses[2:5]) - max(losses[2], losses[4])
            assert row[key] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert row["loss_at_0"] == curve["train_loss"][2] and row["loss_at_1"] == curve["train_loss"][4]


def test_from_a_minimum_to_itself_there_is_no_barrier_but_there_is_one_round_a_curve(run):
    """At α = 1/2 the curve from w to w is at √2 w."""
    options = {"points": 7, "seeds": 1, **ALL}
    found = studies.interpolation(run, arms=[["small", "small"], ["large", "small"]], **options)
    same, other = found["rows"]
    assert same["barrier"] == same["test_barrier"] == 0 and other["arm"] == "large to small"
    (curve,) = studies.interpolation(run, arms=["small", "small"], shape="curve", **options)["curves"]
    x, y = run.sample("small", 4, 0)
    longer = [np.sqrt(2) * np.float64(w) for w in run.weights("small", 4)]
    assert curve["train_loss"][3] == pytest.approx(loss_and_accuracy(longer, x, y)[0], rel=1e-5)


@pytest.mark.parametrize("shape", ["line", "curve"])
def test_eigenvalues_on_the_path_are_those_of_the_dense_hessian(run, shape):
    options = {"points": 7, "examples": 20, "test_examples": 20, "seeds": 1, "eigenvalues": 3}
    (curve,) = studies.interpolation(run, arms=["small", "large"], shape=shape, **options)["curves"]
    assert curve["alpha_eigenvalues"] == [0, 0.5, 1]
    a, b = (flat(run.weights(arm, 4)) for arm in ("small", "large"))
    like = run.weights("small", 4)
    x, y = run.sample("small", 4, 20)
    half = (a + b) / (2 if shape == "line" else np.sqrt(2))

    def gradient(vector):
        return gradients_by_example(unflat(vector, like), x.astype("float64"), y).mean(0)

    for value, point in zip(curve["top_eigenvalue"], (a, half, b), strict=True):
        step = 1e-6 * np.eye(len(point))
        hessian = np.stack([(gradient(point + e) - gradient(point - e)) / 2e-6 for e in step])
        assert value == pytest.approx(np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1], rel=2e-3)


def test_widths_are_told_outwards_from_both_ends():
    """Left of 0 the loss is 1 - α, so 0.5 more at -0.5; right of 1 it never rises by 0.5. Between is a wall."""
    alphas = np.array([-1, -0.25, 0, 0.5, 1, 1.5, 3])
    loss = np.array([2.0, 1.25, 1.0, 9.0, 2.0, 2.1, 2.4])
    found = landscape.Interpolation("line", alphas, loss, loss, loss / 2, loss, "recalibrated")
    row = parametric_plots._row(found, rise=0.5)
    assert row["width_0"] == pytest.approx(0.5) and row["width_1"] == 2 and row["width_ratio"] == 4
    assert row["barrier"] == 7 and row["test_barrier"] == 3.5
    infinite = np.array([np.inf, 1.25, 1.0, 9.0, 2.0, np.nan, 2.4])
    found = landscape.Interpolation("line", alphas, infinite, loss, loss, loss, "recalibrated")
    row = parametric_plots._row(found, rise=0.5)
    assert row["width_0"] == 0.25 and row["width_1"] == 0  # the last points where it is known to be lower


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ["small"]}, r"two arms, \[a, b\]"),
        ({"arms": [["small", "large", "small"]]}, "two arms"),
        ({"shape": "plane"}, "neither"),
        ({"low": 0.5}, "low at most 0"),
        ({"points": 4}, "Take 7 or more"),
        ({"eigenvalues": 1}, "2 are its ends"),
        ({"examples": -1}, "examples: -1"),
        ({"seeds": 0}, "seeds: 0"),
    ],
    ids=str,
)
def test_paths_that_say_nothing_are_refused(run, options, message):
    with pytest.raises(ConfigError, match=message):
        studies.interpolation(run, **{"arms": ["small", "large"], **options})


def test_zero_and_one_are_always_among_the_points(run):
    for low, high, points in ((-1, 2, 25), (-0.9, 1.9, 11), (0, 1, 3), (-0.3, 1.3, 17)):
        alphas = parametric_plots._alphas(low, high, points)
        assert alphas[0] == low and alphas[-1] == high and np.diff(alphas).min() > 1e-6
        assert {0.0, 1.0} <= set(alphas) and len(alphas) <= points + 2


@pytest.mark.slow
def test_batch_normalization_has_the_statistics_of_each_point(tmp_path):
    """By hand: hidden values are normalised with their own mean and variance over the training sample."""
    model = {"call": "networks.mlp", "widths": [8], "normalization": "batch"}
    tiny_runs.run({**CONTENT, "model": model, "seeds": 1, "output": str(tmp_path)})
    run = FinishedRun(tmp_path)
    options = {"points": 7, "examples": 60, "test_examples": 0}
    (curve,) = studies.interpolation(run, arms=["small", "large"], **options)["curves"]
    (x, y), test = run.sample("small", 4, 60), run.test_sample("small", 4, 0)
    layer = next(
        layer
        for layer in run.model("small", 4)._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    trained = [[v.numpy() for v in run.model(arm, 4).trainable_variables] for arm in ("small", "large")]
    assert [w.shape for w in trained[0]][-2:] == [(8, 10), (10,)]
    for i, alpha in enumerate(curve["alpha"]):
        kernel, *bias, gamma, beta, w2, b2 = (
            (1 - alpha) * np.float64(a) + alpha * b for a, b in zip(*trained, strict=True)
        )
        hidden = x.astype("float64") @ kernel + sum(bias)
        mean, deviation = hidden.mean(0), np.sqrt(hidden.var(0) + layer.epsilon)
        for key, (inputs, labels) in {"train_loss": (x, y), "test_loss": test}.items():
            normal = (inputs.astype("float64") @ kernel + sum(bias) - mean) / deviation
            z = np.maximum(normal * gamma + beta, 0) @ w2 + b2
            z -= z.max(1, keepdims=True)
            logs = z - np.log(np.exp(z).sum(1, keepdims=True))
            expected = -logs[np.arange(len(labels)), labels].mean()
            assert curve[key][i] == pytest.approx(expected, rel=1e-4)


# Evolution.


def measured(update, loss, value, converged=True, **more):
    return {
        "update": update,
        "progress": update / 10,
        "loss": loss,
        "values": [value],
        "converged": [converged],
        **more,
    }


@pytest.fixture
def monitored(copied):
    """Loss and eigenvalue of arm small: (2, 1), (0.8, 4), (0.2, 64), up and down; of large one point."""
    history = [
        measured(0, 2.0, 1.0, trace=3.0),
        measured(5, 0.8, 4.0, trace=4.0),
        measured(7, 0.7, 900.0, converged=False, trace=4.5),
        measured(10, 0.2, 64.0, trace=5.0),
        measured(15, 0.9, 5.0, trace=6.0),
        measured(20, 0.15, 70.0, trace=None),
    ]
    for seed in (4, 5):
        (copied / "small" / str(seed) / "curvature.json").write_text(json.dumps(history))
        diverged = {"update": 9, "progress": 0.9, "loss": None, "values": [None], "converged": [False]}
        content = [measured(3, 0.3, 2.0), diverged]
        (copied / "large" / str(seed) / "curvature.json").write_text(json.dumps(content))
    return copied


def test_curvature_is_read_where_the_loss_first_falls_past_a_level(monitored):
    """0.4 is half way from 0.8 to 0.2 in logarithms, and so is 16 from 4 to 64."""
    found = studies.evolution(FinishedRun(monitored), losses=[0.4, 0.8, 0.2, 0.1], seeds=1)
    small, large = found["rows"]
    assert small["top_eigenvalue_at_0.4"] == pytest.approx(16)
    assert small["top_eigenvalue_at_0.8"] == pytest.approx(4)
    assert small["top_eigenvalue_at_0.2"] == pytest.approx(64)
    assert np.isnan(small["top_eigenvalue_at_0.1"]) and small["largest"] == 70
    assert np.isnan(large["top_eigenvalue_at_0.4"]) and large["largest"] == 2
    curve = found["curves"][0]
    assert curve["update"] == [0, 5, 7, 10, 15, 20] and curve["examples"] == [0, 50, 70, 100, 150, 200]
    assert curve["loss"][:2] == [2.0, 0.8] and np.isnan(curve["top_eigenvalue"][2])


def test_the_trace_is_read_likewise_and_what_is_missing_is_told(monitored):
    run = FinishedRun(monitored)
    found = studies.evolution(run, arms=["small"], quantity="trace", losses=0.8)
    assert rows_by(found, "trace_at_0.8") == {("small", 4): pytest.approx(4), ("small", 5): pytest.approx(4)}
    with pytest.raises(ConfigError, match="arm 'large' has no 'trace'"):
        studies.evolution(run, quantity="trace")
    with pytest.raises(ConfigError, match="Did you mean 'trace'"):
        studies.evolution(run, quantity="traces")
    (monitored / "small" / "4" / "curvature.json").write_text(
        json.dumps([{"update": 1, "progress": 0.1, "values": [1.0], "converged": [True]}])
    )
    with pytest.raises(ConfigError, match="has no 'loss' in its history"):
        studies.evolution(run)


# The input.


@pytest.mark.usefixtures("_float64")
def test_hessians_by_the_input_are_those_of_a_network_of_relu(folder):
    """H = Jᵀ(diag(p) - ppᵀ)J and g = Jᵀ(p - e), J of the linear piece; rank 9 of 64 at most, none negative."""
    run = FinishedRun(folder)
    found = studies.input_hessian(run, examples=12)
    for row in found["rows"]:
        weights = [np.float64(w) for w in run.weights(row["arm"], row["seed"])]
        for prefix, sample in (("", run.test_sample), ("train_", run.sample)):
            x, y = sample(row["arm"], row["seed"], 12)
            hidden, p = forward(weights, x.astype("float64"))
            values, norms = [], []
            for i in range(12):
                jacobian = weights[2].T * (hidden[i] > 0) @ weights[0].T
                matrix = jacobian.T @ (np.diag(p[i]) - np.outer(p[i], p[i])) @ jacobian
                values.append(np.linalg.eigvalsh(matrix)[-1])
                norms.append(np.linalg.norm(jacobian.T @ (p[i] - np.eye(10)[y[i]])))
            assert row[f"{prefix}input_eigenvalue"] == pytest.approx(np.mean(values), rel=2e-3)
            assert row[f"{prefix}input_gradient"] == pytest.approx(np.mean(norms), rel=1e-8)
        assert abs(row["least_input_eigenvalue"]) < 1e-12


@pytest.mark.usefixtures("_float64")
def test_least_eigenvalues_are_negative_where_they_are_and_examples_can_be_exchanged():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5)), rng.integers(0, 3, 7)
    operator = InputOperator(model, loss, (x[:2] + 1, y[:2]))
    operator.take([(x[:4], y[:4]), (x[4:], y[4:])])

    inputs = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            total = tf.reduce_sum(
                keras.losses.sparse_categorical_crossentropy(y, model(inputs), from_logits=True)
            )
        gradient = inner.gradient(total, inputs)
    values = np.linalg.eigvalsh(outer.batch_jacobian(gradient, inputs).numpy())
    assert values[:, 0].min() < -0.01
    np.testing.assert_allclose(operator.least_eigenvalues(), values[:, 0], rtol=1e-6)
    np.testing.assert_allclose(operator.top_eigenvalues()[0], values[:, -1], rtol=1e-6)


# Noise.


def test_the_noise_scale_is_that_of_the_gradients_of_single_examples(run):
    """Over the whole training set G is their mean, and Σ their covariance."""
    found = studies.noise_scale(run, examples=0, micro_batch_size=1)
    for row in found["rows"]:
        x, y = run.sample(row["arm"], row["seed"], 0)
        gradients = gradients_by_example(run.weights(row["arm"], row["seed"]), x.astype("float64"), y)
        trace, square = gradients.var(0, ddof=1).sum(), np.sum(gradients.mean(0) ** 2)
        assert row["noise_trace"] == pytest.approx(trace, rel=1e-4)
        assert row["squared_gradient"] == pytest.approx(square, rel=1e-4)
        assert row["noise_scale"] == pytest.approx(trace / square, rel=1e-4)
        assert row["noise_scale_high"] - row["noise_scale_low"] < 1e-6  # nothing is left to chance


def test_the_noise_scale_while_training_is_that_of_the_event_files(folder, run):
    found = studies.noise_scale(run, examples=40, micro_batch_size=2)
    assert all(row["noise_scale_low"] < row["noise_scale"] < row["noise_scale_high"] for row in found["rows"])
    curves = found["curves"]
    assert [(curve["arm"], curve["seed"]) for curve in curves] == [("small", 4), ("small", 5)]
    for curve in curves:
        written = event_files.events(folder / "small" / str(curve["seed"]))
        assert curve["update"] == [10, 20, 30]  # at the end of an epoch
        for suffix in ("", "_low", "_high"):
            values = written[f"schedule/gradient_noise_scale{suffix}"]
            assert curve[f"noise_scale{suffix}"] == [values[update] for update in curve["update"]]


# A random manifold.


def test_sharpness_in_one_dimension_is_the_largest_rise_on_an_interval(run):
    """On the line w + a y, |y| <= ε (|a·w / a·a| + 1), a drawn with the seed of the run; by trying 201 points."""
    found = studies.subspace_sharpness(run, dimensions=1, epsilon=0.05, examples=0)
    for row in found["rows"]:
        weights = run.weights(row["arm"], row["seed"])
        w, (x, y) = flat(weights), run.sample(row["arm"], row["seed"], 0)
        a = np.random.default_rng(row["seed"]).standard_normal(len(w))
        reach = 0.05 * (abs(a @ w / (a @ a)) + 1)
        ends = np.linspace(-reach, reach, 201)
        losses = [loss_and_accuracy(unflat(w + a * end, weights), x, y)[0] for end in ends]
        rise = 100 * (max(losses) - losses[100]) / (1 + losses[100])
        assert rise > 0 and row["sharpness_1"] == pytest.approx(rise, rel=1e-2)

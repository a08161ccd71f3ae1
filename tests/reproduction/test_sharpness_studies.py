"""Studies of sharpness, against a network of two layers written down in NumPy, Jacobian and all."""

import json
import shutil

import numpy as np
import pytest
import tiny_runs

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun
from tf_lbgap.reproduction.studies.random_landscapes import width

CONTENT = {**tiny_runs.TINY, "epochs": 3, "arms": {"small": {"batch_size": 30}, "large": {"batch_size": 50}}}
FEW = [
    "top_eigenvalue",
    "adaptive_sharpness",
    "relative_flatness",
    "evidence_penalty",
    "negative_log_evidence",
]
EXACT = {"num_probes": 20, "num_steps": 40}  # 610 weights: the matrix is written down


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharpness") / "run"
    tiny_runs.run({**CONTENT, "output": str(folder)})
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return FinishedRun(folder)


def flat(weights):
    return np.concatenate([np.asarray(w, "float64").ravel() for w in weights])


def unflat(vector, like):
    ends = np.cumsum([w.size for w in like])[:-1]
    return [part.reshape(w.shape) for part, w in zip(np.split(vector, ends), like, strict=True)]


def forward(weights, x):
    w1, b1, w2, b2 = (np.asarray(w, "float64") for w in weights)
    hidden = x.astype("float64") @ w1 + b1
    scores = np.maximum(hidden, 0) @ w2 + b2
    p = np.exp(scores - scores.max(1, keepdims=True))
    return hidden, p / p.sum(1, keepdims=True)


def loss_and_accuracy(weights, x, y):
    p = forward(weights, x)[1]
    return -np.log(p[np.arange(len(y)), y]).mean(), (p.argmax(1) == y).mean()


def gauss_newton(weights, x):
    """J'(diag(p) - pp')J, the mean over examples; J (10, n) of each, in the order of the weights."""
    hidden, p = forward(weights, x)
    active, matrix = np.maximum(hidden, 0), 0
    for xi, hi, ai, pi in zip(x.astype("float64"), hidden, active, p, strict=True):
        back = (np.asarray(weights[2], "float64") * (hi > 0)[:, None]).T  # (10, hidden)
        first = np.einsum("i,cj->cij", xi, back).reshape(10, -1)
        second = np.einsum("i,cd->cid", ai, np.eye(10)).reshape(10, -1)
        J = np.concatenate([first, back, second, np.eye(10)], 1)
        matrix = matrix + J.T @ (np.diag(pi) - np.outer(pi, pi)) @ J
    return matrix / len(x)


def penalty(matrix, num_examples, precision):
    root = 1 / np.sqrt(np.broadcast_to(precision, len(matrix)))
    return 0.5 * np.linalg.slogdet(np.eye(len(matrix)) + num_examples * root[:, None] * matrix * root)[1]


def test_gaps_norms_and_evidence_are_those_of_the_network_in_numpy(run):
    found = studies.measures(run, measures=FEW, examples=33, l2=0.7, **EXACT)
    assert [row["arm"] for row in found["rows"]] == ["small", "large"]
    for row in found["rows"]:
        split, weights = run.split(row["arm"], 0), run.weights(row["arm"], 0)
        loss, accuracy = loss_and_accuracy(weights, split.x_train, split.y_train)
        test_loss, test_accuracy = loss_and_accuracy(weights, split.x_test, split.y_test)
        assert row["loss_gap"] == pytest.approx(test_loss - loss, rel=1e-4)
        assert row["accuracy_gap"] == pytest.approx(accuracy - test_accuracy, abs=1e-6)
        assert row["weight_norm"] == pytest.approx(np.linalg.norm(flat(weights)), rel=1e-5)
        x, y = run.sample(row["arm"], 0, 33)
        expected = penalty(gauss_newton(weights, x), 100, 0.7)
        assert row["evidence_penalty"] == pytest.approx(expected, rel=1e-3)
        cost = 100 * loss_and_accuracy(weights, x, y)[0] + 0.35 * (flat(weights) ** 2).sum()
        assert row["negative_log_evidence"] == pytest.approx(cost + expected, rel=1e-3)


def test_rescaled_it_is_the_network_with_other_weights(run):
    (row,) = studies.rescaling(
        run, arms="small", factors=[1, 8], measures=FEW, examples=33, l2=0.7, eigenvalues=3, **EXACT
    )["rows"]
    weights, x = run.weights("small", 0), run.sample("small", 0, 33)[0]
    rescaled = [weights[0] * 8, weights[1] * 8, weights[2] / 8, weights[3]]
    assert row["evidence_penalty_x8"] == pytest.approx(penalty(gauss_newton(rescaled, x), 100, 0.7), rel=1e-3)
    assert row["evidence_penalty_x1"] == pytest.approx(penalty(gauss_newton(weights, x), 100, 0.7), rel=1e-3)
    assert row["evidence_penalty_carried_prior_x8"] == pytest.approx(row["evidence_penalty_x1"], rel=1e-3)
    assert row["function_change_x8"] == 0  # a power of two
    for name in ("adaptive_sharpness", "relative_flatness"):
        assert row[f"{name}_x8"] == pytest.approx(row[f"{name}_x1"], rel=1e-3)
    assert row["top_eigenvalue_x8"] > 5 * row["top_eigenvalue_x1"] > row["eigenvalue_3_x1"]
    np.testing.assert_array_equal(run.weights("small", 0)[0], weights[0])


def test_of_layers_only_what_they_have_to_answer_for_is_told(run, monkeypatch):
    few = {"arms": "small", "measures": ["adaptive_sharpness"], "examples": 33}
    with pytest.raises(ConfigError, match=r"^layers: .* would change the function"):
        studies.rescaling(run, layers=[1, 0], **few)

    def diverged(*arguments, **options):
        raise ValueError("The cost is nan.")

    monkeypatch.setattr("tf_lbgap.reproduction.studies.rescalings.measured", diverged)
    with pytest.raises(ValueError, match=r"^The cost is nan\.$"):
        studies.rescaling(run, **few)


def test_a_width_is_where_the_loss_has_risen():
    distances = np.linspace(0, 2, 201)
    assert width(distances, 3 + 2 * distances**2, 0.5) == pytest.approx(0.5, abs=1e-4)
    assert np.isnan(width(distances, 3 + 0 * distances, 0.5))
    assert np.isnan(width(distances, 3 + 0.1 * distances, 0.5))
    assert width([0.0, 1.0, 2.0], [1.0, 1.0, 1.5], 0.5) == 2
    assert width([0.0, 1.0, 2.0], [1.0, 1.1, np.inf], 0.5) == 1.5


def test_widths_are_those_of_the_network_in_numpy(run):
    found = studies.random_lines(run, arms="small", directions=2, points=6, examples=33, plain_reach=1.0)
    (row,), weights = found["rows"], run.weights("small", 0)
    x, y = run.sample("small", 0, 33)
    distances, logarithms = np.linspace(0, 1, 7) ** 2, []
    for i in range(2):
        rng = np.random.default_rng([0, 0xD12EC7, i])
        direction = flat([rng.normal(size=w.shape) * (w.ndim > 1) for w in weights])
        for sign in (1, -1):
            points = [unflat(flat(weights) + sign * a * direction, weights) for a in distances]
            losses = np.array([loss_and_accuracy(point, x, y)[0] for point in points])
            rises = losses - losses[0]
            k = int(np.argmax(rises >= 0.5))
            logarithms.append(np.log(np.interp(0.5, rises[k - 1 : k + 1], distances[k - 1 : k + 1])))
    assert row["plain_width"] == pytest.approx(np.exp(np.mean(logarithms)), rel=1e-4)
    assert row["kernel_norm"] == pytest.approx(
        np.hypot(*(np.linalg.norm(weights[i]) for i in (0, 2))), rel=1e-5
    )
    curve = next(each for each in found["curves"] if each["arm"] == "small, plain")
    assert curve["alpha"] == sorted(curve["alpha"]) and len(curve["train_loss"]) == 13
    assert curve["train_loss"][6] == pytest.approx(loss_and_accuracy(weights, x, y)[0], rel=1e-5)


def test_a_rise_that_was_not_seen_is_no_width(run):
    """Within a thousandth of a weight the loss does not rise by 0.5; along filters it does."""
    (row,) = studies.random_lines(
        run, arms="small", directions=1, points=6, examples=33, reach=8, plain_reach=1e-3
    )["rows"]
    assert np.isnan(row["plain_width"]) and row["filter_width"] > 0


def test_directions_are_not_drawn_by_the_numbers_that_drew_the_training_set(run):
    """`default_rng(seed)` permutes digits, and `default_rng([seed, 0])` is the same stream."""
    (row,) = studies.random_lines(run, arms="small", directions=1, points=6, examples=33, plain_reach=1.0)[
        "rows"
    ]
    weights, (x, y) = run.weights("small", 0), run.sample("small", 0, 33)
    rng, logarithms, distances = np.random.default_rng(0), [], np.linspace(0, 1, 7) ** 2
    direction = flat([rng.normal(size=w.shape) * (w.ndim > 1) for w in weights])
    for sign in (1, -1):
        points = [unflat(flat(weights) + sign * a * direction, weights) for a in distances]
        rises = np.array([loss_and_accuracy(point, x, y)[0] for point in points])
        rises -= rises[0]
        k = int(np.argmax(rises >= 0.5))
        logarithms.append(np.log(np.interp(0.5, rises[k - 1 : k + 1], distances[k - 1 : k + 1])))
    assert row["plain_width"] != pytest.approx(np.exp(np.mean(logarithms)), rel=1e-3)


def test_what_batch_normalization_undoes_moves_the_plain_width_only(tmp_path):
    content = {
        **CONTENT,
        "model": {**CONTENT["model"], "normalization": "batch"},
        "output": str(tmp_path / "run"),
    }
    content["arms"] = {"small": {"batch_size": 30}}
    tiny_runs.run(content)
    (row,) = studies.random_lines(
        FinishedRun(tmp_path / "run"),
        directions=1,
        points=9,
        factor=8,
        plane_points=3,
        reach=8,
        plain_reach=2,
    )["rows"]
    assert row["function_change_x8"] < 0.02
    assert row["filter_width_x8"] == pytest.approx(row["filter_width"], rel=0.03)
    assert row["plain_width_x8"] > 1.3 * row["plain_width"]
    assert row["filter_area"] in np.arange(1, 10) / 9


def test_a_factor_without_batch_normalization_is_refused(run):
    with pytest.raises(ConfigError, match="computes something else"):
        studies.random_lines(run, arms="small", directions=1, points=1, factor=4)


@pytest.mark.parametrize(
    ("study", "options", "message"),
    [
        ("measures", {"measures": ["top_eigenvalu"]}, "Did you mean 'top_eigenvalue'"),
        ("measures", {"l2": 0}, "l2: 0 must be a positive number"),
        ("rescaling", {"layers": [0, 2]}, "two numbers from 0 to 1"),
        ("rescaling", {"factors": [-2]}, "factors: -2"),
        ("random_lines", {"points": 0}, "points: 0"),
    ],
)
def test_what_means_nothing_is_refused(run, study, options, message):
    with pytest.raises(ConfigError, match=message):
        getattr(studies, study)(run, **options)


@pytest.mark.parametrize("study", ["measures", "rescaling", "random_lines"])
def test_what_diverged_has_a_row_of_nan(folder, tmp_path, study):
    copied = shutil.copytree(folder, tmp_path / "run")
    content = json.loads((copied / "results.json").read_text())
    for row in content["runs"]:
        row["train_loss"] = None
    (copied / "results.json").write_text(json.dumps(content))
    for row in getattr(studies, study)(FinishedRun(copied))["rows"]:
        values = [value for key, value in row.items() if key not in ("arm", "seed")]
        assert values and all(np.isnan(values))

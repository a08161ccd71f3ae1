"""Lanczos on matrices of known spectrum, and on the Hessian of a network against a dense eigensolver."""

import warnings

import keras
import numpy as np
import pytest
from references import floatx, symmetric

from tf_lbgap.curvature import DenseOperator, HessianOperator, top_eigenpairs

DECAY = 2.0 ** -np.arange(40)
INDEFINITE = np.r_[-3.0, -2.0, np.linspace(-0.1, 0.1, 35), 1.0, 1.5, 4.0]
RANK_3 = np.r_[7.0, 5.0, 3.0, np.zeros(37)]
COPIES = np.r_[5.0, 5.0, 5.0, np.ones(17), np.zeros(20)]


def wanted(spectrum, k, which):
    rank = {"largest": spectrum, "smallest": -spectrum, "magnitude": np.abs(spectrum)}[which]
    chosen = spectrum[np.argsort(-rank)[:k]]
    return chosen if which == "magnitude" else np.sort(chosen)[::-1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("k", [1, 3, 4])
def test_extreme_eigenvalues_of_an_indefinite_matrix_in_order(k, which, dtype):
    """float32: a product is off by up to 40 x 6e-8 of the largest eigenvalue, 4."""
    matrix = symmetric(INDEFINITE, dtype=dtype)
    pairs = top_eigenpairs(DenseOperator(matrix), k, which=which, tolerance=1e-5)
    tolerance = 1e-9 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(pairs.values, wanted(INDEFINITE, k, which), atol=tolerance)
    assert pairs.converged.all()
    assert pairs.vectors.shape == (k, 40) and pairs.vectors.dtype == dtype
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(k), atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "spectrum", [DECAY, INDEFINITE, RANK_3, COPIES], ids=["decay", "indef", "rank", "copies"]
)
def test_residuals_bound_the_distance_of_vector_and_value_from_an_eigenpair(spectrum, dtype):
    matrix = symmetric(spectrum, dtype=dtype)
    exact = matrix.astype("float64")
    eigenvalues = np.linalg.eigvalsh(exact)
    for seed in range(20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some stop early on purpose: their bounds hold too
            pairs = top_eigenpairs(DenseOperator(matrix), 3, max_products=3 + seed, seed=seed)
        vectors = pairs.vectors.astype("float64")
        residuals = np.linalg.norm(vectors @ exact - pairs.values[:, None] * vectors, axis=1)
        assert (residuals <= pairs.residuals).all()
        nearest = np.abs(eigenvalues[:, None] - pairs.values).min(axis=0)
        assert (nearest <= pairs.residuals).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize(
    "spectrum", [RANK_3, COPIES, np.ones(40), np.zeros(40)], ids=["rank", "copies", "1", "0"]
)
def test_an_eigenvalue_is_found_as_often_as_it_occurs_when_few_are_distinct(spectrum, which, dtype):
    for k in (1, 2, 3, 6):
        operator = DenseOperator(symmetric(spectrum, dtype=dtype))
        pairs = top_eigenpairs(operator, k, which=which)
        np.testing.assert_allclose(pairs.values, wanted(spectrum, k, which), atol=2e-5)
        assert pairs.converged.all()
        assert pairs.num_products == operator.num_products < 30


def test_starting_again_loses_no_accuracy_on_tight_clusters():
    """A loose tolerance ends the first start at the clusters' centres; what it left out is kept account of.

    Without that account the bounds stay as they were at the restart: up to 26 products, and errors of 2e-4.
    """
    for seed in range(8):
        rng = np.random.default_rng(seed)
        spectrum = np.r_[5 + 1e-3 * rng.normal(size=5), 1 + 1e-3 * rng.normal(size=15), np.full(20, 2.0)]
        pairs = top_eigenpairs(DenseOperator(symmetric(spectrum)), 6, tolerance=1e-2)
        np.testing.assert_allclose(pairs.values, wanted(spectrum, 6, "largest"), atol=1e-5)
        assert pairs.converged.all() and pairs.num_products <= 16


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("spectrum", [DECAY, INDEFINITE, COPIES], ids=["decay", "indef", "copies"])
def test_all_n_eigenvalues_equal_those_of_numpy(spectrum, dtype):
    matrix = symmetric(spectrum, dtype=dtype)
    pairs = top_eigenpairs(DenseOperator(matrix), 40)
    np.testing.assert_allclose(
        pairs.values, np.sort(spectrum)[::-1], atol=1e-5 if dtype == "float32" else 1e-12
    )
    assert pairs.converged.all() and pairs.num_products == 40
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(40), atol=20 * np.finfo(dtype).eps)


def test_a_number_is_its_own_eigenvalue():
    pairs = top_eigenpairs(DenseOperator([[-3]]))
    assert pairs.values == [-3] and np.abs(pairs.vectors) == [[1]]


def test_top_eigenvalue_of_a_decaying_spectrum_takes_few_products_and_meets_its_tolerance():
    operator = DenseOperator(symmetric(DECAY))
    pairs = top_eigenpairs(operator, 1, tolerance=1e-3)
    assert pairs.num_products == operator.num_products <= 8
    assert abs(pairs.values[0] - 1) <= pairs.residuals[0] <= 1e-3


def test_equal_seeds_give_equal_results_and_others_agree():
    operator = DenseOperator(symmetric(INDEFINITE))
    a, b, c = (top_eigenpairs(operator, 2, tolerance=1e-9, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.vectors, b.vectors)
    np.testing.assert_allclose(a.values, c.values, rtol=1e-9)
    assert not np.array_equal(a.vectors, c.vectors)


def test_what_did_not_converge_is_flagged_and_warned_of_once():
    operator = DenseOperator(symmetric(np.linspace(0, 1, 40)))
    with pytest.warns(UserWarning, match=r"of 3 eigenvalues did not converge in 6 products") as record:
        pairs = top_eigenpairs(operator, 3, max_products=6)
    assert not pairs.converged.all() and len(record) == 1
    assert (pairs.residuals[~pairs.converged] > 1e-3 * pairs.values[~pairs.converged]).all()


def test_an_operator_that_is_not_symmetric_is_refused():
    """Its tridiagonal matrix may have values far from all of its eigenvalues."""
    matrix = symmetric(DECAY) + np.triu(np.full((40, 40), 0.1), 1)
    with pytest.raises(ValueError, match="not symmetric"):
        top_eigenpairs(DenseOperator(matrix), 1)


@pytest.mark.parametrize("k", [2, 5])
def test_both_ends_are_half_and_half_with_one_more_of_the_largest(k):
    pairs = top_eigenpairs(DenseOperator(symmetric(INDEFINITE)), k, which="both", tolerance=1e-6)
    ordered = np.sort(INDEFINITE)[::-1]
    expected = np.r_[ordered[: k - k // 2], ordered[len(ordered) - k // 2 :]]
    np.testing.assert_allclose(pairs.values, expected, atol=1e-9)


def test_a_start_from_the_eigenvectors_of_a_similar_matrix_saves_products_and_misses_nothing():
    """1e-3 of noise moves eigenvectors a little; of 50 seeds none may cost more, nor find other values."""
    matrix = symmetric(np.r_[INDEFINITE, np.zeros(160)])
    noise = symmetric(np.linspace(-1, 1, 200), seed=1) * 1e-3
    cold, warm = [], []
    for seed in range(50):
        before = top_eigenpairs(DenseOperator(matrix), 1, seed=seed)
        cold.append(top_eigenpairs(DenseOperator(matrix + noise), 1, seed=seed + 50))
        warm.append(top_eigenpairs(DenseOperator(matrix + noise), 1, start=before, seed=seed))
        np.testing.assert_allclose(warm[-1].values, cold[-1].values, rtol=1e-5)
    products = [[pairs.num_products for pairs in group] for group in (cold, warm)]
    assert np.median(products[1]) <= np.median(products[0]) / 2
    assert max(products[1]) <= min(products[0])


def test_a_start_does_not_hide_an_eigenvalue_that_has_overtaken_it():
    vectors = np.eye(40)
    pairs = top_eigenpairs(DenseOperator(np.diag(np.r_[1.0, 5.0, np.zeros(38)])), 1, start=vectors[:1])
    np.testing.assert_allclose(pairs.values, 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 4}, "Pass k=3"),
        ({"which": "biggest"}, "'largest', 'smallest', 'magnitude'"),
        ({"k": 3, "max_products": 2}, "at least 3 products"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(DenseOperator(np.eye(3)), **arguments)


def test_bad_matrices_are_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        top_eigenpairs(DenseOperator(np.full((3, 3), np.nan)))
    with pytest.raises(ValueError, match="square"):
        DenseOperator(np.ones((2, 3)))


def network():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(25, "tanh"), keras.layers.Dense(10)])
    x, labels = rng.normal(size=(64, 20)), rng.integers(0, 10, 64)
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), (x, labels)


@pytest.mark.slow
def test_bounds_hold_for_the_hessian_of_a_network_of_785_weights_over_50_seeds():
    """Products in float32; the truth is the Hessian of the same weights in float64, by eigvalsh."""
    model, loss, data = network()
    operator = HessianOperator(model, loss, data)
    with floatx("float64"):
        double, loss, _ = network()
        double.set_weights(model.get_weights())
        exact = HessianOperator(double, loss, data) @ np.eye(785)
    assert np.abs(exact - exact.T).max() < 1e-13 * np.abs(exact).max()
    eigenvalues = np.linalg.eigvalsh(exact)[::-1]
    assert operator.shape == (785, 785)
    for seed in range(50):
        pairs = top_eigenpairs(operator, 3, tolerance=10.0 ** -(2 + seed % 4), seed=seed)
        assert pairs.converged.all()
        vectors = pairs.vectors.astype("float64")
        residuals = np.linalg.norm(vectors @ exact - pairs.values[:, None] * vectors, axis=1)
        assert (residuals <= pairs.residuals).all()
        assert (np.abs(pairs.values - eigenvalues[:3]) <= pairs.residuals).all()

"""Spectral densities against planted spectra, and the quadrature against dense powers of the matrix."""

import warnings

import numpy as np
import pytest
import scipy.stats
from references import symmetric

from tf_lbgap.curvature.dense import DenseOperator
from tf_lbgap.curvature.quadrature import spectral_density

_RNG = np.random.default_rng(0)
# Ten outliers above an indefinite bulk around 0, as a classifier's Hessian has; the last outlier is 0.75.
HESSIAN_LIKE = np.r_[10 * 0.75 ** np.arange(10), _RNG.exponential(0.02, 150), -_RNG.exponential(0.01, 40)]
THREE = np.r_[np.zeros(150), np.ones(40), np.full(10, -5.0)]
# Rounding of products and of the basis, relative to the largest eigenvalue: n units of the last place at worst.
ROUNDING = {"float64": 1e-12, "float32": 200 * 6e-8}


class Recording(DenseOperator):
    """Keeps the vectors that it is multiplied with."""

    def matvec(self, v):
        self.vectors = [*getattr(self, "vectors", []), np.array(v)]
        return super().matvec(v)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 7])
def test_quadrature_is_exact_for_powers_up_to_twice_the_steps_less_one_and_no_further(num_steps, dtype):
    """Σ w θ^j = vᵀA^jv, with v as the operator saw it. The powers are of the dense matrix, of norm 1."""
    matrix = symmetric(HESSIAN_LIKE / 10, dtype=dtype)
    operator = Recording(matrix)
    found = spectral_density(operator, num_probes=1, num_steps=num_steps)
    v = operator.vectors[0].astype("float64")
    assert operator.vectors[0].dtype == dtype and v @ v == pytest.approx(1, abs=1e-6)
    matrix = matrix.astype("float64")
    for j in range(2 * num_steps):
        expected = v @ np.linalg.matrix_power(matrix, j) @ v / (v @ v)
        assert (found.weights * found.nodes**j).sum() == pytest.approx(expected, abs=ROUNDING[dtype])
    beyond = v @ np.linalg.matrix_power(matrix, 2 * num_steps) @ v / (v @ v)
    if num_steps <= 2:  # later the difference drowns in rounding
        assert (found.weights * found.nodes ** (2 * num_steps)).sum() < beyond - 10 * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_probe_weighs_one_and_the_density_integrates_to_one(dtype):
    operator = DenseOperator(symmetric(HESSIAN_LIKE, dtype=dtype))
    found = spectral_density(operator, num_probes=4, num_steps=20)
    assert found.nodes.shape == found.weights.shape == (4, 20)
    assert (np.diff(found.nodes) > 0).all() and (found.weights >= 0).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-13)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-6)
    assert found.num_products == operator.num_products == 80


@pytest.mark.parametrize(("num_probes", "distance"), [(1, 8e-3), (10, 3.5e-3)])
def test_the_planted_spectrum_is_found(num_probes, distance):
    """Wasserstein distance over the range; single seeds scatter around these by a third, so of ten the mean."""
    operator = DenseOperator(symmetric(HESSIAN_LIKE))
    distances = []
    for seed in range(10):
        found = spectral_density(operator, num_probes=num_probes, num_steps=20, seed=seed)
        distances.append(
            scipy.stats.wasserstein_distance(
                HESSIAN_LIKE, found.nodes.ravel(), v_weights=found.weights.ravel()
            )
        )
    assert np.mean(distances) / np.ptp(HESSIAN_LIKE) < distance


def test_mass_of_the_outliers_is_their_share():
    """10 of 200 above 0.5; a share p of one probe spreads by √(2 p (1 - p) / 200) = 0.022, of 400 by 0.0011."""
    operator = DenseOperator(symmetric(HESSIAN_LIKE))
    found = spectral_density(operator, num_probes=400, num_steps=12)
    assert found.mass(0.5, np.inf) == pytest.approx(10 / 200, abs=3 * 0.0011)
    assert found.mass(-np.inf, np.inf) == pytest.approx(1)
    single = [
        spectral_density(operator, num_probes=1, num_steps=12, seed=s).mass(0.5, 11) for s in range(100)
    ]
    assert np.std(single) == pytest.approx(0.022, rel=0.2)


def test_density_is_a_mixture_of_gaussians_of_the_given_variance():
    """With one step the node is vᵀAv, of weight 1: a single bell, of this variance and no other."""
    grid = np.linspace(-3, 7, 1001)
    found = spectral_density(DenseOperator([[2.0]]), num_probes=3, num_steps=1, grid=grid, variance=0.25)
    np.testing.assert_allclose(found.density, scipy.stats.norm.pdf(grid, 2, 0.5), rtol=1e-12, atol=1e-300)
    assert found.variance == 0.25


@pytest.mark.parametrize("factor", [1e-6, 10.0, 1e6])
def test_scaling_the_matrix_scales_the_picture(factor):
    a, b = (spectral_density(DenseOperator(symmetric(s * HESSIAN_LIKE))) for s in (1.0, factor))
    assert b.variance == pytest.approx(factor**2 * a.variance)
    np.testing.assert_allclose(b.grid, factor * a.grid, atol=1e-9 * factor)
    np.testing.assert_allclose(b.density, a.density / factor, atol=1e-6 * a.density.max() / factor)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "spectrum", [THREE, np.ones(200), np.zeros(200), np.full(200, -2.0)], ids=["three", "1", "0", "-2"]
)
def test_few_distinct_eigenvalues_are_found_and_the_rows_filled_up(spectrum, dtype):
    """As many steps as eigenvalues differ; then the Krylov space is exhausted, and the rest has weight 0."""
    distinct = np.unique(spectrum)
    found = spectral_density(DenseOperator(symmetric(spectrum, dtype=dtype)), num_probes=3, num_steps=10)
    assert found.num_products == 3 * len(distinct)
    assert found.nodes.shape == (3, 10) and (found.weights[:, len(distinct) :] == 0).all()
    for row in found.nodes:
        np.testing.assert_allclose(row[: len(distinct)], distinct, atol=5 * ROUNDING[dtype])
        assert (row[len(distinct) :] == row[len(distinct) - 1]).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-13)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-6)


def test_n_steps_find_every_eigenvalue():
    spectrum = np.r_[-1.0, 0.0, 2.0, 5.0]
    found = spectral_density(DenseOperator(symmetric(spectrum)), num_probes=2, num_steps=30)
    np.testing.assert_allclose(found.nodes[:, :4], [spectrum, spectrum], atol=1e-12)
    assert found.num_products == 8 and found.nodes.shape == (2, 30)


def test_orthogonality_survives_the_convergence_of_eigenvalues():
    """Without reorthogonalisation 60 steps find the largest eigenvalue again and again ("ghosts")."""
    spectrum = np.r_[100.0, np.linspace(0, 1, 99)]
    found = spectral_density(DenseOperator(symmetric(spectrum)), num_probes=1, num_steps=60)
    assert (found.nodes > 50).sum() == 1


def test_equal_seeds_give_equal_densities_and_others_differ():
    operator = DenseOperator(symmetric(HESSIAN_LIKE))
    a, b, c = (spectral_density(operator, num_probes=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.density, b.density)
    assert not np.array_equal(a.nodes, c.nodes)
    assert not np.array_equal(a.nodes[0], a.nodes[1])


def test_a_grid_that_eigenvalues_fall_through_is_refused_but_not_where_there_are_none():
    operator = DenseOperator(symmetric(THREE))
    with pytest.raises(ValueError, match=r"steps from .* Pass a finer grid, variance=0.01 or more"):
        spectral_density(operator, grid=np.arange(-6, 2, 0.1), variance=1e-4)
    sparse = np.r_[np.arange(-5.1, -4.9, 0.01), np.arange(-0.1, 1.1, 0.01)]
    found = spectral_density(operator, grid=sparse, variance=1e-4)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("spacing", [1.0, 0.5])
def test_an_accepted_even_grid_integrates_to_one(spacing):
    """Trapezoids of width σ miss 2 exp(-2π²) = 5e-9 of a Gaussian."""
    grid = np.arange(-6.0, 2.0, spacing * 0.01)
    found = spectral_density(DenseOperator(symmetric(THREE)), grid=grid, variance=1e-4)
    assert np.trapezoid(found.density, grid) == pytest.approx(1, abs=2e-8)


def test_a_grid_that_leaves_eigenvalues_out_warns_of_how_many():
    operator = DenseOperator(symmetric(THREE))
    grid = np.linspace(-1, 2, 1001)
    with pytest.warns(UserWarning, match="of the density lies outside the grid from -1 to 2"):
        found = spectral_density(operator, grid=grid, variance=1e-4)
    assert np.trapezoid(found.density, grid) == pytest.approx(found.mass(-1, 2), abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spectral_density(operator, grid=np.linspace(-6, 2, 1001), variance=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_probes": 0}, "num_probes is 0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"variance": 0.0}, "variance is 0.0"),
        ({"variance": np.nan}, "variance is nan"),
        ({"variance": 1e-20}, "Pass a larger variance"),
        ({"grid": [1.0, 0.0]}, "increasing"),
        ({"grid": 100}, r"shape \(\)"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        spectral_density(DenseOperator(np.diag([1.0, 2.0])), **arguments)


def test_products_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"Product number 1 .* NaN or infinite"):
        spectral_density(DenseOperator(np.full((3, 3), np.nan)))

"""Log determinants against dense ones, and the bounds against the integrals that they enclose."""

import numpy as np
import pytest
from references import symmetric

from tf_lbgap.curvature import DenseOperator, log_determinant

_RNG = np.random.default_rng(0)
# Outliers above a bulk, and a null space: what a network's Gauss-Newton matrix has.
GAUSS_NEWTON_LIKE = np.r_[1e3 * 0.6 ** np.arange(10), _RNG.exponential(1.0, 90), np.zeros(100)]


class Recording(DenseOperator):
    """Keeps the vectors that it is multiplied with."""

    def matvec(self, v):
        self.vectors = [*getattr(self, "vectors", []), np.array(v)]
        return super().matvec(v)


def of_probe(matrix, v):
    """n vᵀ ln(I + A) v of a dense matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return len(v) * float(np.log1p(np.maximum(values, 0)) @ (vectors.T @ v) ** 2)


@pytest.mark.parametrize("n", [3, 16, 37])
def test_with_enough_products_it_is_that_of_the_matrix(n):
    """Blocks of 16 columns: of 37 the last one holds 5."""
    matrix = symmetric(_RNG.exponential(3.0, n))
    found = log_determinant(DenseOperator(matrix), num_probes=n, num_steps=1)
    assert found.value == pytest.approx(np.linalg.slogdet(np.eye(n) + matrix)[1], rel=1e-12)
    assert found.low == found.high == found.value
    assert (found.standard_error, found.negative, found.num_products) == (0, 0, n)


@pytest.mark.parametrize("num_steps", [1, 3, 8, 20])
def test_few_products_enclose_what_many_would_give_for_the_same_vectors(num_steps):
    operator = Recording(symmetric(GAUSS_NEWTON_LIKE))
    found = log_determinant(operator, num_probes=3, num_steps=num_steps)
    probes = operator.vectors[::num_steps]
    exact = np.mean([of_probe(operator.matrix, v) for v in probes])
    assert found.low <= exact * (1 + 1e-12) and exact <= found.high * (1 + 1e-12)
    assert found.high - found.low < {1: 1e3, 3: 1e3, 8: 120, 20: 1}[num_steps]
    assert found.low < found.value < found.high and found.num_products == 3 * num_steps


@pytest.mark.parametrize("num_steps", [8, 12, 25])
def test_in_single_precision_the_bounds_still_hold(num_steps):
    """Products are right to 6e-8 of the largest eigenvalue, 50,000, so an eigenvalue of 0 counts as 3e-3 at most."""
    spectrum = np.r_[5e4 * 0.6 ** np.arange(10), GAUSS_NEWTON_LIKE[10:]]
    operator = Recording(symmetric(spectrum, dtype="float32"))
    found = log_determinant(operator, num_probes=2, num_steps=num_steps)
    probes = [v.astype("float64") for v in operator.vectors[::num_steps]]
    exact = np.mean([of_probe(operator.matrix.astype("float64"), v) for v in probes])
    assert found.low - 0.6 < exact < found.high + 0.6
    assert {8: 40, 12: 2, 25: 0}[num_steps] < found.high - found.low < {8: 600, 12: 300, 25: 0.6}[num_steps]


def test_the_mean_is_right_and_the_standard_error_honest():
    """Of 200 estimates: the mean is within 3 of its errors, and the spread within 3 √(1/400) = 15 % of what they say."""
    matrix = symmetric(GAUSS_NEWTON_LIKE)
    exact = np.linalg.slogdet(np.eye(200) + matrix)[1]
    found = [log_determinant(DenseOperator(matrix), num_probes=6, num_steps=30, seed=i) for i in range(200)]
    values, errors = np.array([(each.value, each.standard_error) for each in found]).T
    assert abs(values.mean() - exact) < 3 * values.std() / np.sqrt(200)
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.15)


def test_negative_eigenvalues_count_as_zero_and_are_counted():
    matrix = symmetric([5.0, 2.0, 0.0, -1e-17, -0.5, -3.0])
    found = log_determinant(DenseOperator(matrix), num_probes=6)
    assert found.value == pytest.approx(np.log(6) + np.log(3), rel=1e-12) and found.negative == 2


def test_by_quadrature_negative_eigenvalues_leave_no_lower_bound():
    spectrum = np.r_[np.full(60, 3.0), np.full(40, -1.0)]  # two nodes see all of it
    found = log_determinant(DenseOperator(symmetric(spectrum)), num_probes=20, num_steps=2)
    assert found.value == pytest.approx(60 * np.log(4), rel=0.1) and found.negative == pytest.approx(
        40, rel=0.15
    )
    spectrum[60:] = np.linspace(-1, -0.1, 40)
    found = log_determinant(DenseOperator(symmetric(spectrum)), num_probes=20, num_steps=3)
    assert np.isnan(found.low) and found.value == found.high


def of_gauss(matrix, v, num_steps):
    """n times Gauss' rule for vᵀ ln(I + A) v, and its nodes: eigenvalues of A projected on span{v, Av, A²v, ...}."""
    basis = v[:, None] / np.linalg.norm(v)
    for _ in range(num_steps - 1):
        basis = np.linalg.qr(np.column_stack([basis, matrix @ basis[:, -1]]))[0]
    nodes, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
    return len(v) * float(np.log1p(np.maximum(nodes, 0)) @ (vectors.T @ (basis.T @ v)) ** 2), nodes


def test_one_rule_is_taken_for_all_vectors_where_some_meet_negative_eigenvalues():
    operator = Recording(symmetric(np.r_[np.linspace(0.05, 5.0, 99), -0.3]))
    found = log_determinant(operator, num_probes=8, num_steps=6)
    rules = [of_gauss(operator.matrix, v, 6) for v in operator.vectors[::6]]
    assert {nodes[0] < 0 for _, nodes in rules} == {False, True}
    values = np.array([value for value, _ in rules])
    assert found.value == pytest.approx(values.mean(), rel=1e-10) and found.value == found.high
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(8), rel=1e-9)


def test_a_spectrum_of_few_values_is_exhausted_and_exact():
    operator = Recording(symmetric(np.r_[np.zeros(70), np.full(30, 9.0)]))
    found = log_determinant(operator, num_probes=2, num_steps=40)
    assert found.num_products == 4 and found.low == pytest.approx(found.high, rel=1e-12)
    assert found.value == pytest.approx(
        np.mean([of_probe(operator.matrix, v) for v in operator.vectors[::2]])
    )


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"num_steps is 0.*num_steps=10"):
        log_determinant(DenseOperator(np.eye(2)), num_steps=0)
    with pytest.raises(ValueError, match="has no determinant"):
        log_determinant(DenseOperator([[np.nan]]))

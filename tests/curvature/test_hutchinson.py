"""Trace estimates against the sum of planted eigenvalues, and their errors against their spread over seeds."""

import functools
import math

import numpy as np
import pytest
import scipy.stats
from references import symmetric

from tf_lbgap.curvature.dense import DenseOperator
from tf_lbgap.curvature.hutchinson import Trace, trace

METHODS = ["hutchinson", "hutch++"]
_RNG = np.random.default_rng(3)
# Ten outliers above an indefinite bulk around 0, as a classifier's Hessian has.
HESSIAN_LIKE = np.r_[10 * 0.75 ** np.arange(10), _RNG.exponential(0.02, 150), -_RNG.exponential(0.01, 40)]


@functools.cache
def estimates(method, num_products, num_seeds=200):
    operator = DenseOperator(symmetric(HESSIAN_LIKE))
    return [trace(operator, num_products=num_products, method=method, seed=s) for s in range(num_seeds)]


@pytest.mark.parametrize("num_products", [8, 30, 60])
@pytest.mark.parametrize("method", METHODS)
def test_estimates_are_unbiased_and_spread_as_much_as_they_say(method, num_products):
    """200 seeds: the mean within 3 of its standard errors (200^-0.5 of the spread), the reported error within 15 %.

    The spread of 200 values is itself uncertain by 1 / √400 = 5 %, and by more as the samples have heavy tails.
    """
    found = estimates(method, num_products)
    values, errors = np.array([e.value for e in found]), np.array([e.standard_error for e in found])
    assert abs(values.mean() - HESSIAN_LIKE.sum()) < 3 * values.std(ddof=1) / math.sqrt(200)
    assert math.sqrt((errors**2).mean()) == pytest.approx(values.std(ddof=1), rel=0.15)


@pytest.mark.parametrize("num_products", [8, 30, 60])
@pytest.mark.parametrize("method", METHODS)
def test_the_interval_of_95_percent_covers_the_trace_of_an_indefinite_matrix_with_outliers(
    method, num_products
):
    """At 0.95 with skewed samples: at least 180 of 200. And not by being too wide: at 0.5 from 80 to 120."""
    found = estimates(method, num_products)
    for level, fewest, most in ((0.95, 180, 199), (0.5, 80, 120)):
        intervals = [e.interval(level) for e in found]
        assert fewest <= sum(low <= HESSIAN_LIKE.sum() <= high for low, high in intervals) <= most


def test_the_error_of_hutchinson_is_that_of_its_formula():
    """√2 ‖A - diag(A)‖_F / √m."""
    matrix = symmetric(HESSIAN_LIKE)
    expected = math.sqrt(2 / 60) * np.linalg.norm(matrix - np.diag(np.diag(matrix)))
    errors = np.array([e.standard_error for e in estimates("hutchinson", 60)])
    assert math.sqrt((errors**2).mean()) == pytest.approx(expected, rel=0.1)


def test_hutch_plus_plus_beats_hutchinson_at_equal_products_where_few_eigenvalues_stand_out():
    """7 % and 0.2 % at 60 products; on 60 equal to each other and the rest 0 it is the other way about."""

    def error(method):
        values = np.array([e.value for e in estimates(method, 60)])
        return math.sqrt(((values / HESSIAN_LIKE.sum() - 1) ** 2).mean())

    assert error("hutch++") < error("hutchinson") / 20
    flat = DenseOperator(symmetric(np.r_[np.ones(100), -np.ones(100)]))
    spread = {
        m: np.std([trace(flat, num_products=60, method=m, seed=s).value for s in range(50)]) for m in METHODS
    }
    assert spread["hutchinson"] < spread["hutch++"]


def test_a_diagonal_matrix_is_exact_with_one_hutchinson_probe_whose_error_is_unknown():
    estimate = trace(DenseOperator(np.diag(HESSIAN_LIKE)), num_products=1, method="hutchinson")
    assert estimate.value == pytest.approx(HESSIAN_LIKE.sum(), rel=1e-12)
    assert math.isnan(estimate.standard_error) and estimate.degrees_of_freedom == 0
    assert all(math.isnan(end) for end in estimate.interval())


@pytest.mark.parametrize("rank", [0, 3, 5])
def test_hutch_plus_plus_is_exact_up_to_a_rank_of_a_third_of_the_products(rank):
    operator = DenseOperator(symmetric(np.r_[np.arange(-2.0, rank - 2), np.zeros(40 - rank)]))
    estimate = trace(operator, num_products=15)
    assert estimate.value == pytest.approx(np.arange(-2.0, rank - 2).sum(), abs=1e-12)
    assert estimate.standard_error < 1e-12
    assert operator.num_products == estimate.num_products == 15


@pytest.mark.parametrize(("num_products", "samples"), [(6, 2), (7, 3), (8, 4), (9, 3), (38, 14)])
def test_products_that_three_does_not_divide_go_to_the_samples(num_products, samples):
    operator = DenseOperator(symmetric(HESSIAN_LIKE))
    estimate = trace(operator, num_products=num_products)
    assert operator.num_products == estimate.num_products == num_products
    assert estimate.degrees_of_freedom == samples - 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 7, 20])
def test_as_many_products_as_rows_give_the_exact_trace(n, method):
    matrix = symmetric(np.linspace(-1, 2, n))
    operator = DenseOperator(matrix)
    estimate = trace(operator, num_products=20, method=method)
    assert estimate.value == pytest.approx(np.trace(matrix), abs=1e-14)
    assert estimate.interval() == (estimate.value, estimate.value)
    assert operator.num_products == estimate.num_products == n


@pytest.mark.parametrize("method", METHODS)
def test_a_float32_operator_gets_float32_vectors_at_most_eight_at_a_time(method):
    """Rounding is 200 x 6e-8 of the largest eigenvalue per product at worst."""
    widths = []

    class Narrow(DenseOperator):
        def matmat(self, V):
            assert V.dtype == np.float32
            widths.append(V.shape[1])
            return super().matmat(V)

    single = trace(Narrow(symmetric(HESSIAN_LIKE, dtype="float32")), method=method)
    double = trace(DenseOperator(symmetric(HESSIAN_LIKE)), method=method)
    assert single.value == pytest.approx(double.value, rel=1e-5)
    assert single.standard_error == pytest.approx(double.standard_error, rel=1e-4)
    assert max(widths) == 8 and sum(widths) == 60


@pytest.mark.parametrize("method", METHODS)
def test_an_operator_of_shape_and_matvec_alone_will_do(method):
    class Bare:
        shape = (200, 200)
        matvec = staticmethod(symmetric(HESSIAN_LIKE).__matmul__)

    expected = trace(DenseOperator(symmetric(HESSIAN_LIKE)), method=method)
    assert trace(Bare(), method=method).value == pytest.approx(expected.value, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_estimates_and_others_differ(method):
    operator = DenseOperator(symmetric(HESSIAN_LIKE))
    a, b, c = (trace(operator, method=method, seed=seed) for seed in (1, 1, 2))
    assert a == b and a.value != c.value


def test_the_interval_is_that_of_scipys_t_test():
    values = np.array([3.0, 5.0, 4.0, 8.0])
    estimate = Trace(5.0, values.std(ddof=1) / 2, 3, 4)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(estimate.interval(0.9), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="level is 95"):
        estimate.interval(95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "hutchplusplus"}, "'hutchinson', 'hutch\\+\\+'"),
        ({"method": "hutchinson", "num_products": 0}, "takes 1 or more"),
        ({"num_products": 5}, 'takes 6 or more. Pass num_products=60 .* or method="hutchinson"'),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        trace(DenseOperator(np.eye(3)), **arguments)


@pytest.mark.parametrize("num_products", [6, 60])
@pytest.mark.parametrize("method", METHODS)
def test_products_that_are_not_finite_are_refused(method, num_products):
    matrix = np.eye(20)
    matrix[3, 4] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite"), np.errstate(invalid="ignore"):
        trace(DenseOperator(matrix), num_products=num_products, method=method)

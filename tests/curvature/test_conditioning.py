"""Ratios of eigenvalues against planted spectra."""

import math
import warnings

import numpy as np
import pytest
from references import symmetric

from tf_lbgap.curvature.conditioning import condition
from tf_lbgap.curvature.dense import DenseOperator
from tf_lbgap.curvature.lanczos import top_eigenpairs
from tf_lbgap.curvature.quadrature import spectral_density

# Three outliers, a bulk of 33 within 0.1 % of the largest, and four negative ones: λ₁ = 8, λ₄ = 0.5, λ_n = -2.
SPECTRUM = np.r_[8.0, 4.0, 2.0, 0.5, np.linspace(-0.005, 0.005, 32), -0.5, -1.0, -1.5, -2.0]


def eigenpairs(spectrum, k, which="largest", **arguments):
    return top_eigenpairs(DenseOperator(symmetric(spectrum)), k, which=which, tolerance=1e-8, **arguments)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_three_numbers_of_a_planted_spectrum_in_any_unit(scale):
    """Four of 40 are negative: the share of one probe spreads by √(2 x 0.1 x 0.9 / 40) = 0.067, of 400 by 0.0034."""
    spectrum = scale * SPECTRUM
    density = spectral_density(DenseOperator(symmetric(spectrum)), num_probes=400, num_steps=12)
    found = condition(
        eigenpairs(spectrum, 4), eigenpairs(spectrum, 1, "smallest"), num_outliers=3, density=density
    )
    assert found.top_to_bulk == pytest.approx(8 / 0.5, rel=1e-7)
    assert found.negative_to_top == pytest.approx(2 / 8, rel=1e-7)
    assert found.negative_share == pytest.approx(4 / 40, abs=3 * 0.0034)
    assert found.converged is True


def test_the_edge_of_the_bulk_is_the_eigenvalue_after_the_outliers():
    top = eigenpairs(SPECTRUM, 4)
    assert condition(top, num_outliers=1).top_to_bulk == pytest.approx(8 / 4, rel=1e-7)
    assert condition(top, num_outliers=2).top_to_bulk == pytest.approx(8 / 2, rel=1e-7)


def test_what_was_not_given_is_not_a_number():
    found = condition(eigenpairs(SPECTRUM, 4), num_outliers=3)
    assert math.isnan(found.negative_to_top) and math.isnan(found.negative_share)
    assert found.converged


def test_the_most_negative_of_several_smallest_counts():
    found = condition(eigenpairs(SPECTRUM, 4), eigenpairs(SPECTRUM, 3, "smallest"), num_outliers=3)
    assert found.negative_to_top == pytest.approx(2 / 8, rel=1e-7)


def test_a_positive_spectrum_has_no_negative_part():
    spectrum = np.linspace(1, 2, 40)
    density = spectral_density(DenseOperator(symmetric(spectrum)))
    pairs = eigenpairs(spectrum, 40)
    found = condition(pairs, pairs, num_outliers=39, density=density)
    assert found.top_to_bulk == pytest.approx(2, rel=1e-7)
    assert found.negative_to_top == 0 and found.negative_share == 0


def test_a_bulk_that_cannot_be_told_from_zero_is_infinitely_far_below():
    """Of rank 2 the third eigenvalue is rounding, which a plain ratio would report as 1e16 or so."""
    assert condition(eigenpairs(np.r_[5.0, 3.0, np.zeros(38)], 3), num_outliers=2).top_to_bulk == math.inf


def test_values_that_did_not_converge_make_a_result_that_says_so():
    spectrum = np.linspace(1, 2, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top, bottom = (eigenpairs(spectrum, 4, which, max_products=6) for which in ("largest", "smallest"))
    assert not top.converged.all() and not bottom.converged.all()
    assert condition(top, num_outliers=3).converged is False
    assert condition(eigenpairs(spectrum, 4), bottom, num_outliers=3).converged is False


def test_only_the_values_that_enter_have_to_converge():
    top = eigenpairs(SPECTRUM, 4)
    top.converged[3] = False
    assert condition(top, num_outliers=2).converged is True
    assert condition(top, num_outliers=3).converged is False


@pytest.mark.parametrize(
    ("top", "bottom", "arguments", "message"),
    [
        ((3, "largest"), None, {"num_outliers": 3}, r"holds 3 .* Pass top_eigenpairs\(operator, 4\)"),
        ((3, "largest"), None, {"num_outliers": 0}, "num_outliers is 0"),
        (
            (4, "magnitude"),
            None,
            {"num_outliers": 3},
            'not "magnitude"',
        ),  # 2 and -2, in the order of rounding
        ((3, "smallest"), None, {"num_outliers": 2}, "the largest are wanted"),
        ((3, "largest"), (2, "largest"), {"num_outliers": 2}, 'which="smallest"'),
        ((3, "largest"), None, {"num_outliers": 2, "zero": -1}, "zero is -1"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(top, bottom, arguments, message):
    top, bottom = eigenpairs(SPECTRUM, *top), bottom and eigenpairs(SPECTRUM, *bottom)
    with pytest.raises(ValueError, match=message):
        condition(top, bottom, **arguments)


def test_a_matrix_of_zeros_is_refused():
    with pytest.raises(ValueError, match="not 0"):
        condition(eigenpairs(np.zeros(5), 2), num_outliers=1)

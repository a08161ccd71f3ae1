"""The two-loop recursion against inverse matrices, and SciPy's."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from tf_lbgap.training.curvature_pairs import product

RNG = np.random.default_rng(0)
N = 6
Q = np.linalg.qr(RNG.normal(size=(N, N)))[0]
A = Q @ np.diag([0.1, 0.5, 1, 2, 5, 20]) @ Q.T


def made(moves, changes, vector, memory=None, without_pairs=1.0):
    """Hv of pairs that are given with the newest last, in a memory that may hold more, or fewer."""
    memory = memory or len(moves)
    rows = np.zeros((2, memory, N))
    for k, pair in enumerate(zip(moves, changes, strict=True)):
        rows[:, k % memory] = pair
    numbers = np.sum(rows[0] * rows[1], 1), np.sum(rows[1] ** 2, 1)
    arrays = [tf.constant(array) for array in (*rows, *numbers)]
    return product(*arrays, len(moves), tf.constant(vector), without_pairs=without_pairs).numpy()


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_products_are_those_of_scipy(count):
    """SciPy begins at the identity. H of γI and the pairs is γ times H of I and the pairs (s/γ, y)."""
    moves = RNG.normal(size=(count, N))
    changes = moves @ A + 0.01 * RNG.normal(size=(count, N))
    gamma = np.mean(np.sum(moves * changes, 1) / np.sum(changes**2, 1))
    scipys = scipy.optimize.LbfgsInvHessProduct(moves / gamma, changes)
    vector = RNG.normal(size=N)
    np.testing.assert_allclose(made(moves, changes, vector), gamma * scipys.matvec(vector), rtol=1e-10)


def test_conjugate_moves_in_all_directions_make_the_inverse():
    """Along eigenvectors BFGS finds all of A⁻¹, whatever the order of the pairs."""
    for vector in np.eye(N):
        np.testing.assert_allclose(made(Q.T, Q.T @ A, vector), np.linalg.solve(A, vector), rtol=1e-10)


def test_the_newest_pair_holds_exactly():
    """H y = s; the older ones hold no more."""
    moves = RNG.normal(size=(3, N))
    changes = moves @ A
    np.testing.assert_allclose(made(moves, changes, changes[-1]), moves[-1], rtol=1e-10)
    assert np.abs(made(moves, changes, changes[0]) - moves[0]).max() > 1e-3


def test_rows_without_a_pair_change_nothing():
    vector = RNG.normal(size=N)
    np.testing.assert_allclose(made([], [], vector, memory=3, without_pairs=0.25), vector / 4)
    moves = RNG.normal(size=(2, N))
    np.testing.assert_allclose(
        made(moves, moves @ A, vector, memory=5), made(moves, moves @ A, vector), rtol=1e-12
    )


def test_the_oldest_pairs_give_way():
    moves, vector = RNG.normal(size=(5, N)), RNG.normal(size=N)
    expected = made(moves[2:], moves[2:] @ A, vector)
    np.testing.assert_allclose(made(moves, moves @ A, vector, memory=3), expected, rtol=1e-12)

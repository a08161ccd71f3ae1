"""The memory of L-BFGS: what the gradient changed by where the weights moved, and the inverse Hessian that follows.

Of the last m pairs s (a move of the weights) and y (the change of the gradient along it) the two-loop recursion makes Hv, in
4 m n multiplications, with H the matrix that BFGS would have made of γI and these pairs:

    H <- (I - s yᵀ / sᵀy) H (I - y sᵀ / sᵀy) + s sᵀ / sᵀy,     γ the mean of sᵀy / yᵀy over the pairs

so that H y = s for the newest pair. Plain tensors: what is kept, and where it comes from, is for others to say.

References:
    Nocedal, "Updating quasi-Newton matrices with limited storage", 1980 (the recursion). Schraudolph, Yu & Günter, "A
    stochastic quasi-Newton method for online convex optimization", AISTATS 2007: the mean in γ, for noisy pairs.
"""

import tensorflow as tf


def product(moves, changes, products, squares, count, vector, *, without_pairs):
    """Return Hv by the two-loop recursion.

    Args:
        moves: s, shape (m, n); the pair that came as the k-th, from 0, is in row k mod m.
        changes: y, likewise.
        products: sᵀy of each pair, shape (m,), above 0.
        squares: yᵀy, likewise.
        count: How many pairs there have been, a scalar tensor.
        vector: v, shape (n,).
        without_pairs: γ while there is none.

    Returns:
        Hv, shape (n,).
    """
    memory, dtype = moves.shape[0], vector.dtype
    count = tf.cast(count, tf.int32)
    there = tf.range(memory) < count
    inverses = tf.where(there, 1 / tf.where(there, products, 1), 0)  # 0 for a pair that is not there
    newest_first = [(count - 1 - i) % memory for i in range(memory)]
    alphas = []
    for row in newest_first:
        alphas.append(inverses[row] * tf.tensordot(moves[row], vector, 1))
        vector -= alphas[-1] * changes[row]
    total = tf.reduce_sum(tf.where(there, products / tf.where(there, squares, 1), 0))
    mean = total / tf.cast(tf.clip_by_value(count, 1, memory), dtype)
    vector *= tf.where(count > 0, mean, tf.constant(without_pairs, dtype))
    for row, alpha in zip(reversed(newest_first), reversed(alphas), strict=True):
        vector += (alpha - inverses[row] * tf.tensordot(changes[row], vector, 1)) * moves[row]
    return vector

"""tr(Σ) and |G|² from the gradients of disjoint micro-batches at fixed weights, and how sure they are.

With g_i the mean gradient of micro-batch i of n_i examples, M of them, n examples in all, ḡ = Σ n_i g_i / n and
d_i = g_i - ḡ,

    S = Σ n_i |d_i|² / (M - 1),    Q = |ḡ|²,    |G|² = Q - S (1/n - 1/N),

are unbiased, however the n_i differ: E n_i |g_i - G|² = tr(Σ) for each. For micro-batches of one example S is the
covariance of the sample itself. A scalar product uᵀHu in place of |u|² gives tr(HΣ) and GᵀHG.

Leaving out micro-batch i moves ḡ by -w d_i, w = n_i / (n - n_i), and so

    Σ' n_j |d_j|² falls by n_i |d_i|² (1 + w),    Q becomes Q - 2 w ḡ·d_i + w² |d_i|²:

the jackknife needs |d_i|² and ḡ·d_i alone, not the gradients.

References:
    Efron & Stein, "The jackknife estimate of variance", 1981: it is too large on average, if anything.
    Busing, Meijer & van der Leeden, "Delete-m jackknife for unequal m", 1999, for the short last micro-batch.
"""

import numpy as np


def estimates(sizes, squares, products, square, num_examples=None):
    """Estimate S and |G|² with their covariance.

    Args:
        sizes: n_i, shape (M,), M at least 2.
        squares: |d_i|², shape (M,).
        products: ḡ·d_i, shape (M,).
        square: |ḡ|².
        num_examples: N, the training set of which the n examples are a part, for |G|² over that; None: over the
            distribution.

    Returns:
        S, |G|², and their covariance (2, 2), or None if M is below 3. For a training set the part of the variance
        that comes from ḡ is multiplied by 1 - n/N; that of S only for micro-batches of one example, since
        otherwise it comes in an unknown part from the cut: then it is too large, if anything.
    """
    sizes, count, total = np.asarray(sizes, float), len(sizes), float(np.sum(sizes))
    scatter = sizes @ squares
    trace = scatter / (count - 1)
    rest = 1 / total - (0.0 if num_examples is None else 1 / num_examples)
    both = trace, square - rest * trace
    if count < 3:
        return *both, None
    ratio = sizes / (total - sizes)
    without = np.stack(
        [
            (scatter - sizes * squares * (1 + ratio)) / (count - 2),
            square - 2 * ratio * products + ratio**2 * squares,
        ]
    )
    deviations = _deviations(np.array([[trace], [square]]), without, total / sizes)
    missing = 1.0 if num_examples is None else np.sqrt(1 - total / num_examples)
    deviations *= [[missing if (sizes == 1).all() else 1.0], [missing]]
    deviations[1] -= rest * deviations[0]
    return *both, deviations @ deviations.T / count


def _deviations(all_in, without, times):
    """Deviations whose mean product is the jackknife's covariance; `times` is n / n_i."""
    pseudo = times * all_in - (times - 1) * without
    centre = len(times) * all_in - ((1 - 1 / times) * without).sum(axis=1, keepdims=True)
    return (pseudo - centre) / np.sqrt(times - 1)

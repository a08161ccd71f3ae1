"""Probes: what the gradients of an update's micro-batches tell, and what a series of such probes tells.

A single probe is hardly more than a coin toss, often with |G|² below 0. What is unbiased can be averaged, so nothing
is clipped, numerator and denominator are averaged apart, and the quotient comes last: the mean of the quotients is
biased without bound.
"""

import numpy as np

from tf_lbgap.gradient_noise.intervals import NoiseScale, check_confidence, quotient

FEWEST = 5
"""Probes below which there is no interval: the variance of fewer block means is a guess."""
MOST_BLOCKS = 10
PROBES_PER_BLOCK = 3


def unbiased(mean_square, square, mean_inverse_size, batch_size, num_examples=None):
    """Unbiased tr(Σ) and |G|², from the squared norms of micro-batch gradients and of their mean.

    A batch of n examples drawn without replacement from N has a mean gradient g_n with

        E|g_n|² = |G_N|² + S' (1/n - 1/N),

    where G_N is the gradient over all N and S' = Σ_a |g_a - G_N|² / (N - 1) the trace of their covariance (sampling
    without replacement; Cochran, "Sampling techniques", theorem 2.2). This holds for each of the parts, of n_i examples,
    that a batch of B was cut into, and for the batch. With q the mean of |g_i|² and Q = |g_B|² the difference

        E(q - Q) = S' (mean(1/n_i) - 1/B)

    does not know N, so S = (q - Q) / (mean(1/n_i) - 1/B) is unbiased for S', and the N examples being drawn from
    somewhere, for tr(Σ). Then Q - S (1/B - 1/N) is unbiased for |G_N|², the gradient of the training set, and
    Q - S/B for |G|², that of the distribution, which is smaller by tr(Σ)/N on average.

    Args:
        mean_square: q, the mean over the parts of |g_i|², a float or an array, such as one entry per layer. Of
            gradients of the mean loss, not the sum.
        square: Q, |g_B|² of the whole batch, of the same shape.
        mean_inverse_size: The mean over the parts of 1/n_i.
        batch_size: B, examples in the batch.
        num_examples: N, for |G|² over the training set; None: over the distribution it was drawn from.

    Returns:
        `(trace, squared_norm)`, of the shape of `mean_square`, in loss² / weight². Either may be below 0.

    Raises:
        ValueError: If the batch had one part only, or is larger than the training set.

    References:
        McCandlish et al. 2018, appendix A.1, for N infinite and equal parts.

    Example:
        >>> unbiased(mean_square=5.0, square=4.0, mean_inverse_size=1 / 2, batch_size=4)    # gradients 1, 3 of 2 each
        (4.0, 3.0)
    """
    difference = mean_inverse_size - 1 / batch_size
    if not difference > 1e-9 / batch_size:
        raise ValueError(
            f"The mean inverse size of the parts is {mean_inverse_size:g}, which is that of one batch of {batch_size}, but "
            "two sizes are wanted to tell signal from noise. Cut the batch into 2 or more micro-batches."
        )
    if num_examples is not None and num_examples < batch_size:
        raise ValueError(
            f"num_examples is {num_examples!r}, but a batch of {batch_size} was drawn without replacement. Pass the size of "
            "the training set, or None for the distribution it is drawn from."
        )
    rest = 1 / batch_size - (1 / num_examples if num_examples is not None else 0.0)
    trace = (mean_square - square) / difference
    return trace, square - trace * rest


def noise_scale(traces, squared_norms, confidence=0.95):
    """The gradient noise scale of a series of probes, with an interval.

    The value is the quotient of the means. The interval is Fieller's, on the means of up to 10 blocks of consecutive
    probes, at least 3 in each from 15 probes on: means of blocks are nearly independent where neighbours are not, and
    nearly normal where single probes are skewed. Fewer than 5 probes give low = 0 and high infinite.

    The interval is about the mean of the probes' expectations. Where |G|² falls during the series, as early in
    training, that is no moment's noise scale, however narrow the interval.

    Args:
        traces: S of each probe, shape (T,), in the order of time, as `unbiased` returns it, negative ones included.
        squared_norms: |G|² of each probe, likewise.
        confidence: Of the interval.

    Returns:
        `NoiseScale`. All is NaN if a probe is not finite; of no probes the value is NaN, too.

    Raises:
        ValueError: If the two series differ in length, or `confidence` is no probability.

    References:
        Fieller 1954; batch means: Schmeiser, "Batch size effects in the analysis of simulation output", 1982,
        by which more than 10 to 30 blocks gain little.

    Example:
        >>> scale = noise_scale([8.0, 12.0, 9.0, 11.0, 10.0], [1.0, 0.9, 1.1, 1.2, 0.8])
        >>> print(scale)
        10 examples, 95% interval 8.159 to 12.23 (tr(Σ) 10, |G|² 1, 5 probes)
    """
    check_confidence(confidence)
    if len(traces) != len(squared_norms):
        raise ValueError(
            f"There are {len(traces)} traces and {len(squared_norms)} squared norms, but each probe has one of both. Pass "
            "two series of one length."
        )
    probes = np.array([traces, squared_norms], dtype=float).reshape(2, -1)
    count = probes.shape[1]
    if not count:
        return NoiseScale(np.nan, 0.0, np.inf, np.nan, np.nan, 0, confidence)
    trace, squared_norm = map(float, probes.mean(axis=1))
    num_blocks = min(MOST_BLOCKS, max(FEWEST, count // PROBES_PER_BLOCK))
    covariance = _covariance_of_mean(probes, num_blocks) if count >= FEWEST else None
    value, low, high = quotient(trace, squared_norm, covariance, num_blocks - 1, confidence)
    return NoiseScale(value, low, high, trace, squared_norm, count, confidence)


def _covariance_of_mean(probes, num_blocks):
    """Covariance (2, 2) of the mean over time of `probes` (2, T), from the means of blocks of near-equal length."""
    count = probes.shape[1]
    bounds = np.arange(num_blocks + 1) * count // num_blocks
    lengths = np.diff(bounds)
    sums = np.add.reduceat(probes, bounds[:-1], axis=1)
    deviations = sums - lengths * probes.mean(axis=1, keepdims=True)
    return deviations @ deviations.T * num_blocks / (num_blocks - 1) / count**2

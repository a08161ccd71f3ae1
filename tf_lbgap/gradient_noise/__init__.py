"""The gradient noise scale tr(Σ) / |G|², in examples: the batch at which noise and signal are equally strong.

G is the gradient of the loss, Σ the covariance of the gradient of a single example. The gradient of a batch of B
examples has E|g_B|² = |G|² + tr(Σ)/B, so far below the noise scale B examples are worth B times as much as one, and
far above it more examples say the same again. Nothing here imports TensorFlow until `measure` is called.

* `unbiased`: one probe, from the squared norms of the gradients of micro-batches and of their mean.
* `noise_scale`: many probes, taken while a model trains, as one number with an interval.
* `measure`: at fixed weights, from examples, as a whole, by layer, and weighed by the Hessian.

References:
    McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018 (arXiv 1812.06162),
    section 2 and appendix A.
"""

from tf_lbgap.gradient_noise.fixed_weights import MeasuredNoiseScale, measure
from tf_lbgap.gradient_noise.intervals import NoiseScale
from tf_lbgap.gradient_noise.layers import by_layer
from tf_lbgap.gradient_noise.probes import noise_scale, unbiased

__all__ = ["MeasuredNoiseScale", "NoiseScale", "by_layer", "measure", "noise_scale", "unbiased"]

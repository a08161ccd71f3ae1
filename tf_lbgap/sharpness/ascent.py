"""Sharpness along the gradient: the rise of the loss after the one step that SAM takes.

    L(w + ρ g / ‖g‖) - L(w),    g = ∂L/∂w,

the first-order answer to how far the loss can rise within a distance ρ. It is no bound, nor is it never below 0: a
long step may end lower. All weights share one norm, and its unit is that of the loss.

The gradient that a step of training sees is that of a batch, and SAM on several accelerators takes its step on each
one's part: *m-sharpness* is the mean over groups of m examples of each group's own rise after its own step.

References:
    Foret, Kleiner, Mobahi & Neyshabur, "Sharpness-aware minimization for efficiently improving generalization",
    2021 (arXiv 2010.01412): equation 2 for the step, section 4.1 for m-sharpness.
"""

from tf_lbgap.sharpness.groups import GroupAscent
from tf_lbgap.sharpness.increases import centre, for_each, length
from tf_lbgap.sharpness.subject import subject


def ascent_sharpness(model, loss=None, batches=None, *, rho=0.05, **options):
    """The rise of the mean loss after a step of length ρ up its gradient.

    Costs one gradient over the data, and one evaluation of the loss for each ρ.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        rho: ρ, in the unit of the weights, or several; 0.05 is SAM's default.
        **options: Of `Subject`.

    Returns:
        A float, in the unit of the loss; a list of floats if `rho` is a sequence. 0 where the gradient is 0: there
        is no step then, as in SAM.

    Raises:
        ValueError: If the loss or its gradient is not finite, or ρ is not above 0.

    Warns:
        UserWarning: If the loss is not finite after the step.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[2.0]])])
        >>> data = np.array([[1.0]]), np.array([[0.0]])
        >>> ascent_sharpness(model, "mse", data, rho=1.0)    # 3² - 2²
        5.0
    """
    surface = subject(model, loss, batches, options).surface
    weights, value, gradient = centre(surface)
    slope = length(gradient)
    direction = gradient / slope if slope > 0 else gradient
    return for_each(rho, "rho", lambda r: surface.value(weights + r * direction) - value)


def m_sharpness(model, loss=None, batches=None, *, m=128, rho=0.05, **options):
    """The mean rise of the loss of m examples after a step of length ρ up the gradient of the same examples.

    The data are cut into groups of m in the order in which they come, however they come in batches; the last group
    may be smaller. Each group counts by what its loss is averaged over: its examples, as a rule. With all data in
    one group this is `ascent_sharpness`; smaller groups have larger gradients of their own, so it grows as m falls.

    Costs one gradient over the data and one evaluation of the loss for each ρ, in pieces of m examples: many small
    groups take longer, about a millisecond each.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`. All examples of one shape.
        m: Examples in a group; 128 is what Andriushchenko et al. evaluated.
        rho: ρ, in the unit of the weights, or several; 0.05 is SAM's default.
        **options: Of `Subject`. With batch_normalization="recalibrated" the exact statistics over all data at the
            present weights hold for every group, before and after its step; with "batch" each group has its own.

    Returns:
        A float, in the unit of the loss; a list of floats if `rho` is a sequence.

    Raises:
        ValueError: If the loss or a gradient is not finite, or m or ρ is out of range.

    Warns:
        UserWarning: If the loss is not finite after a step.

    References:
        Foret et al. 2021, section 4.1. Andriushchenko et al., "A modern look at the relationship between sharpness
        and generalization", 2023 (m = 128).
    """
    s = subject(model, loss, batches, options)
    groups = s.made("groups", lambda: GroupAscent(s.model, s.loss, s.batches, **s.options))
    return for_each(rho, "rho", lambda r: groups.rise(m, r))

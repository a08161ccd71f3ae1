"""The gradient noise scale of a model as it stands: no training, no burn-in, no window."""

import dataclasses

import numpy as np

from tf_lbgap.gradient_noise.intervals import NoiseScale, check_confidence, quotient
from tf_lbgap.gradient_noise.jackknife import estimates
from tf_lbgap.gradient_noise.layers import by_layer
from tf_lbgap.gradient_noise.probes import FEWEST


@dataclasses.dataclass(frozen=True)
class MeasuredNoiseScale(NoiseScale):
    """What `measure` found. The probes of a `NoiseScale` are micro-batches here.

    Attributes:
        num_examples_seen: How many examples it was measured on.
        micro_batch_size: Examples in a micro-batch; the last one may hold fewer.
        layers: From the path of each layer to its own `NoiseScale`; None if not asked for. Their traces and their
            squared norms sum to those of the whole.
        with_hessian: `NoiseScale` of tr(HΣ) / (GᵀHG), whose `trace` and `squared_norm` are these two; None if not asked
            for.
    """

    num_examples_seen: int = 0
    micro_batch_size: int = 0
    layers: dict | None = None
    with_hessian: NoiseScale | None = None

    def __str__(self):
        lines = [
            f"gradient noise scale tr(Σ) / |G|²: {super().__str__()}",
            f"on {self.num_examples_seen} examples in micro-batches of {self.micro_batch_size}",
        ]
        if self.with_hessian is not None:
            scale = self.with_hessian
            lines.append(
                f"with the Hessian, tr(HΣ) / GᵀHG: {scale.value:.4g} examples, {scale.confidence:.0%} interval "
                f"{scale.low:.4g} to {scale.high:.4g}"
            )
        width = max(map(len, self.layers or ("",)))
        for path, scale in (self.layers or {}).items():
            lines.append(f"  {path:{width}}  {scale.value:9.4g}  [{scale.low:.4g}, {scale.high:.4g}]")
        return "\n".join(lines)


def measure(
    model,
    loss=None,
    batches=None,
    *,
    micro_batch_size=32,
    num_examples=None,
    confidence=0.95,
    per_layer=False,
    hessian=False,
    seed=0,
    **options,
):
    """Measure the gradient noise scale at the model's present weights, on given examples.

    The n examples are cut at random into micro-batches; their gradients give tr(Σ) and |G|² without bias, and a
    jackknife over the micro-batches (`gradient_noise.jackknife`) the interval, by Fieller's theorem. The model runs in
    inference mode, and nothing in it changes.

    Costs a gradient of each example, or two where the gradients of all micro-batches exceed 256 MiB in float64; the
    memory of that or of a few gradients. `hessian=True` takes a Hessian product over all n examples for each
    micro-batch, 2 to 3 gradients each: n / micro_batch_size times as much again, so give it few hundred examples.

    Micro-batches of one example give the exact covariance of the sample, but n calls. Larger ones measure tr(Σ) with
    a relative error of about √(2 / (rank x M)), M the number of micro-batches, rank = tr(Σ)² / tr(Σ²).

    Args:
        model: A built Keras model; or a `sharpness.Subject`, alone, so that repeated measures trace once.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`: the sample. It is held in memory and cut anew.
        micro_batch_size: Examples whose mean gradient is taken at a time. Gradients of 5 micro-batches give an
            interval, some 20 a good one.
        num_examples: Size of the training set the sample was drawn from, without replacement: then G is the gradient over
            that. None: G is the expectation over the distribution the examples come from, whose squared norm is
            smaller by tr(Σ) / num_examples. If the sample is the training set, pass its size.
        confidence: Of the intervals.
        per_layer: Whether to tell each layer's own, too.
        hessian: Whether to measure tr(HΣ) / (GᵀHG), too, of which tr(Σ) / |G|² is the special case that H is a multiple
            of the identity. H is the Hessian over the sample, taken as given: the interval does not know that
            another sample has another Hessian. H may be indefinite; the value is infinite where GᵀHG is not above 0.
        seed: Of the cut; None: examples as they come, which is biased if they are sorted, as by class.
        **options: `regularization` (constant: adds to G and not to Σ), `variables`, `batch_normalization`
            ("inference" or "recalibrated"), `loss_weights`, and for the Hessian `chunk_size`, of
            `curvature.HessianOperator`.

    Returns:
        `MeasuredNoiseScale`, a `NoiseScale` with `layers` and `with_hessian`.

    Raises:
        ValueError: If there are fewer than 2 micro-batches, the sample is larger than the training set, the loss or a
            gradient is not finite, or an option is wrong.

    References:
        McCandlish et al. 2018, equations 2.8 (with the Hessian) and 2.9.

    Example:
        >>> x, y = np.array([[1.0], [1.0], [1.0], [1.0]]), np.array([[-1.0], [-2.0], [-3.0], [-4.0]])
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "linear", False, "zeros")])
        >>> scale = measure(model, "mse", (x, y), micro_batch_size=1)    # gradients 2, 4, 6, 8
        >>> scale.trace, scale.squared_norm    # 20/3, and 25 - (20/3)/4
        (6.666666666666667, 23.333333333333332)
    """
    check_confidence(confidence)
    gradients, operator = _of_model(model, loss, batches, options, hessian)
    cut = _checked_cut(gradients, micro_batch_size, num_examples, seed)
    from tf_lbgap.gradient_noise.micro_batches import Deviations

    deviations = Deviations(gradients, cut)
    where = by_layer(gradients.parameters.variables)
    squares, products = _by_layer(deviations, where, gradients.parameters.split)
    mean = _sums(deviations.mean, deviations.mean, where, gradients.parameters.split)

    def scale(columns):
        return _estimated(
            deviations.sizes,
            squares[:, columns].sum(1),
            products[:, columns].sum(1),
            mean[columns].sum(),
            num_examples,
            confidence,
        )

    return MeasuredNoiseScale(
        **vars(scale(slice(None))),
        num_examples_seen=gradients.num_examples,
        micro_batch_size=micro_batch_size,
        layers={path: scale([i]) for i, path in enumerate(where)} if per_layer else None,
        with_hessian=_with_hessian(operator, deviations, num_examples, confidence) if hessian else None,
    )


def _of_model(model, loss, batches, options, hessian):
    """`MicroBatchGradients`, and `HessianOperator` or None."""
    from tf_lbgap.batch_normalization import repeatable
    from tf_lbgap.curvature import HessianOperator
    from tf_lbgap.gradient_noise.micro_batches import MicroBatchGradients

    if hasattr(model, "made"):  # a Subject, whose module stands beside this one and is not imported here
        if loss is not None or batches is not None or options:
            raise ValueError(
                "A Subject has its loss, batches and options already. Pass it alone, or a model with loss and batches."
            )
        subject = model
        made = subject.made(
            "micro_batch_gradients",
            lambda: MicroBatchGradients(subject.model, subject.loss, subject.batches, **subject.options),
        )
        return made, subject.hessian if hessian else None
    if loss is None or batches is None:
        raise ValueError("A model is measured with a loss on data: pass (model, loss, batches).")
    batches = repeatable(batches)
    return (
        MicroBatchGradients(model, loss, batches, **options),
        HessianOperator(model, loss, batches, **options) if hessian else None,
    )


def _checked_cut(gradients, micro_batch_size, num_examples, seed):
    count = gradients.num_examples
    if not (isinstance(micro_batch_size, int | np.integer) and micro_batch_size >= 1):
        raise ValueError(
            f"micro_batch_size is {micro_batch_size!r}, but should be a number of examples of at least 1, such as 32."
        )
    if micro_batch_size >= count:
        raise ValueError(
            f"micro_batch_size is {micro_batch_size}, but there are {count} examples, and one micro-batch alone cannot tell "
            f"signal from noise. Pass micro_batch_size={max(count // 20, 1)}, or more examples."
        )
    if num_examples is not None and num_examples < count:
        raise ValueError(
            f"num_examples is {num_examples!r}, but the sample alone holds {count} examples. Pass the size of the training "
            "set it was drawn from, or None for the distribution."
        )
    return gradients.cut(micro_batch_size, seed)


def _estimated(sizes, squares, products, square, num_examples, confidence):
    trace, squared_norm, covariance = estimates(sizes, squares, products, square, num_examples)
    if len(sizes) < FEWEST:
        covariance = None
    ends = quotient(trace, squared_norm, covariance, len(sizes) - 1, confidence)
    return NoiseScale(*ends, float(trace), float(squared_norm), len(sizes), confidence)


def _with_hessian(operator, deviations, num_examples, confidence):
    """The same with scalar products dᵀHd; H d for 8 micro-batches at a time."""
    mean = deviations.mean
    squares, products = [], []
    for block in _blocks(deviations, 8):
        images = np.float64(operator.matmat(block.T)).T
        squares += list((block * images).sum(1))
        products += list(images @ mean)
    square = mean @ np.float64(operator.matvec(mean))
    return _estimated(
        deviations.sizes, np.array(squares), np.array(products), square, num_examples, confidence
    )


def _blocks(rows, size):
    block = []
    for row in rows:
        block.append(row)
        if len(block) == size:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def _by_layer(deviations, where, split):
    """|d_i|² and ḡ·d_i of each layer, two arrays (M, layers)."""
    rows = [(_sums(d, d, where, split), _sums(d, deviations.mean, where, split)) for d in deviations]
    return np.moveaxis(np.array(rows), 1, 0)


def _sums(first, second, where, split):
    parts = [float((part).sum()) for part in split(first * second)]
    return np.array([sum(parts[i] for i in positions) for positions in where.values()])

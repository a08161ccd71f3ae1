"""Loss and accuracy at many points of weight space, on training and on test data.

Test data are seen with the statistics of the training data, as in deployment. So the model itself is given the
weights of a point, its batch normalization is recalibrated on the training data, both data sets are evaluated
with these statistics, and at the end the model gets back what it had.
"""

import numpy as np

from tf_lbgap.batch_normalization import recalibrated, recalibrated_layers
from tf_lbgap.curvature import LossSurface
from tf_lbgap.curvature.modes import checked_mode, measured
from tf_lbgap.landscape.weights import kept

FIELDS = ("loss", "accuracy", "test_loss", "test_accuracy")


def losses_at(model, loss, batches, points, *, test_batches, batch_normalization, **options):
    """Evaluate a model at points of weight space. Two functions are traced in all, not two per point.

    Args:
        model: A built Keras model; it is the same to the last bit afterwards, also after an error.
        loss: As for `curvature.LossSurface`.
        batches: As for `curvature.LossSurface`.
        points: Iterable of k vectors (n,), n the number of trainable weights. They may lie anywhere: where
            the loss is infinite or NaN, that is what is returned.
        test_batches: Further data, or None.
        batch_normalization: "recalibrated", "batch", or "inference".
        **options: `regularization`, `loss_weights`, `chunk_size` of `curvature.LossSurface`.

    Returns:
        A dict of `FIELDS`: arrays (k,) float64, those of the test None without `test_batches`.
    """
    if options.get("variables") is not None:
        raise ValueError(
            "variables is set, but here all trainable weights move. To hold a layer fixed, set its trainable=False, "
            "or pass a start and an end, or directions, that agree in it."
        )
    recalibrates = checked_mode(batch_normalization) == "recalibrated" and recalibrated_layers(model)
    mode = "batch" if batch_normalization == "batch" else "inference"
    train, *tests = (
        LossSurface(model, loss, data, batch_normalization=mode, **options)
        for data in (batches, test_batches)
        if data is not None
    )

    def at(weights):
        values = [surface.value_and_accuracy(weights) for surface in (train, *tests)]
        return [number for pair in values for number in pair]

    def recalibrated_at(weights):
        train.parameters.assign(weights)
        with measured(model), np.errstate(all="ignore"), recalibrated(model, train.batches):
            return at(weights)

    rows, error, any_finite = [], None, False
    with kept(model.variables):
        for weights in points:
            try:
                rows.append(recalibrated_at(weights) if recalibrates else at(weights))
                any_finite = True
            except ValueError as not_finite:
                # Far out activations overflow: no statistics, no loss. Anything else is a mistake.
                if "no finite mean" not in str(not_finite):
                    raise
                rows.append([np.nan] * (4 if tests else 2))
                error = not_finite
    if error is not None and not any_finite:
        raise error
    columns = list(np.array(rows).T)
    return dict(zip(FIELDS, columns + [None] * (4 - len(columns)), strict=True))

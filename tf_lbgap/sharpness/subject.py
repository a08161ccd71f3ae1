"""What is measured: a model, its loss and data, with what was traced for them.

Every measure takes `(model, loss, batches)`. Tracing costs seconds, measuring often less; who measures the same
model again and again, as a monitor does, makes a `Subject` once and hands it to each measure instead.
"""

from tf_lbgap.batch_normalization import repeatable
from tf_lbgap.curvature import GaussNewtonOperator, HessianOperator, LossSurface


class Subject:
    """A model with a loss and data, measured any number of times at its present weights.

    Args:
        model: A built Keras model.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        **options: `regularization`, `variables`, `batch_normalization`, `loss_weights`, `chunk_size` of
            `curvature.HessianOperator`.

    Example:
        >>> subject = Subject(model, loss, sample)
        >>> for epoch in range(3):
        ...     model.fit(x, y)
        ...     print(top_eigenvalue(subject), epsilon_sharpness(subject, epsilon=1e-3))
    """

    def __init__(self, model, loss, batches, **options):
        self.model, self.loss, self.options = model, loss, options
        self._batches, self._made = repeatable(batches), {}

    @property
    def batches(self):
        """The data. Assign other data of the same structure: nothing is traced anew."""
        return self._batches

    @batches.setter
    def batches(self, batches):
        self._batches = repeatable(batches)
        for made in self._made.values():
            made.batches = self._batches

    def made(self, key, make):
        """What `make()` returned when `key` was first asked for, on the present data: it has `batches`."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @property
    def surface(self):
        """`curvature.LossSurface`, made when it is first asked for."""
        return self.made("surface", lambda: LossSurface(self.model, self.loss, self.batches, **self.options))

    @property
    def hessian(self):
        """`curvature.HessianOperator`, made when it is first asked for."""
        return self.made(
            "hessian", lambda: HessianOperator(self.model, self.loss, self.batches, **self.options)
        )

    @property
    def gauss_newton(self):
        """`curvature.GaussNewtonOperator`, made when it is first asked for."""
        return self.made(
            "gauss_newton", lambda: GaussNewtonOperator(self.model, self.loss, self.batches, **self.options)
        )


def subject(model, loss, batches, options):
    """Return `model` if it is a `Subject` already, else make one of the three."""
    if isinstance(model, Subject):
        if loss is not None or batches is not None or options:
            raise ValueError(
                "A Subject has its loss, batches and options already. Pass it alone, or a model with loss and batches."
            )
        return model
    if loss is None or batches is None:
        raise ValueError("A model is measured with a loss on data: pass (model, loss, batches).")
    return Subject(model, loss, batches, **options)

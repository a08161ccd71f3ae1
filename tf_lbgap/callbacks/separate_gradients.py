"""Gradients of micro-batches that training never sees: of examples drawn at random, in inference mode."""

import numpy as np

from tf_lbgap.curvature import LossSurface
from tf_lbgap.training import MicroGradients


class SeparateGradients:
    """Draws micro-batches and returns the norms of their gradients at the present weights.

    Args:
        model: A compiled and built Keras model.
        batches: The `data.Batches` to draw from, without `map`.
    """

    def __init__(self, model, batches):
        if model.loss is None:
            raise ValueError("The model was compiled without a loss, so there is no gradient to probe.")
        try:
            batches.examples_at([0])
        except ValueError:
            raise ValueError(
                'probe="separate" draws examples by their indices, and a stream from a tf.data.Dataset has none. Pass '
                'arrays, Batches(x, y, ...), or probe="update".'
            ) from None
        self._model, self._batches, self._surface = model, batches, None

    def __call__(self, size, count, seed):
        """Return `training.MicroGradients` of `size` examples in `count` parts, or None if there are too few."""
        total = self._batches.num_examples
        rng = np.random.default_rng([self._batches.seed % 2**63, seed])
        parts = np.array_split(rng.choice(total, min(size, total), replace=False), count)
        sizes = np.array([len(part) for part in parts])
        if sizes.min() < 1:
            return None
        gradients = [self._gradient(self._batches.examples_at(part)) for part in parts]
        whole = sum(n * gradient for n, gradient in zip(sizes, gradients, strict=True)) / sizes.sum()
        return MicroGradients(
            batch_size=int(sizes.sum()),
            num_micro_batches=count,
            mean_inverse_size=float((1 / sizes).mean()),
            squared_norms=np.mean([self._squared_norms(gradient) for gradient in gradients], axis=0),
            squared_norm=self._squared_norms(whole),
            inner_product_variance=None,
        )

    def _gradient(self, part):
        if self._surface is None:
            self._surface = LossSurface(self._model, self._model.loss, part, **options_of(self._model))
        else:
            self._surface.batches = part
        return self._surface.value_and_gradient(self._surface.weights())[1]

    def _squared_norms(self, flat):
        return np.array([(part**2).sum() for part in self._surface.parameters.split(flat)])


def options_of(model):
    """Return the options with which a measure's loss is that of training, penalties included."""
    several = isinstance(model.loss, (list, tuple, dict))
    weights = (model.get_compile_config() or {}).get("loss_weights") if several else None
    return {"regularization": True, "loss_weights": weights}

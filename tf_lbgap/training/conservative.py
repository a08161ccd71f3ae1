"""Conservative training: each batch is minimised for a few steps, near where it was met.

    x_{k+1} = argmin_x  f_B(x) + λ/2 ‖x - x_k‖²,     solved inexactly by a few steps of the optimizer on the same batch.

References:
    Keskar et al., "On large-batch training for deep learning", ICLR 2017 (arXiv 1609.04836), appendix E: λ = 1e-3 and
    3 iterations of ADAM. Li, Zhang, Chen & Smola, "Efficient mini-batch training for stochastic optimization", 2014.
"""

import tensorflow as tf

from tf_lbgap.training import gradients, replicas
from tf_lbgap.training.checked import at_least, check_whole
from tf_lbgap.training.draws import drawn_as_update, number_of_update
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.update_change import UpdateChange, register

_NEEDS = "conservative training", "train without Conservative"


@register
class Conservative(UpdateChange):
    """Take several steps on each batch, held back to where it was met (proximal steps, Keskar et al., appendix E).

    The model's optimizer takes the steps and keeps its state from batch to batch (the paper does not say whether ADAM's
    moments are reset): `optimizer.iterations` counts steps, `steps` per batch, and so does a Keras schedule of the rate.
    The centre x_k stays for all of them. All see the same dropout masks; metrics, the logged loss and statistics
    of batch normalization are those of the first step. Costs `steps` gradients per batch.

    Args:
        strength: λ, in units of loss per squared weight.
        steps: Steps on each batch.

    Raises:
        ValueError: If an argument is out of range.
    """

    arguments = ("strength", "steps")
    applies_itself = True

    def __init__(self, strength=1e-3, *, steps=3):
        self.strength = at_least(0.0, "Conservative", strength=strength)
        self.steps = check_whole("Conservative", steps=steps)

    def around(self, model, step):
        def held_back(data):
            optimizer, seeds = model.optimizer, Seeds(model)
            centre, logs, number = {}, None, number_of_update(optimizer)
            for index in range(self.steps):
                with drawn_as_update(number), gradients.taken(optimizer) as calls:
                    if index == 0:
                        logs = step(data)
                    else:
                        seeds.rewind()
                        with Elsewhere(model):
                            step(data)
                grads, variables = gradients.once(calls, _NEEDS)
                if index == 0:
                    centre = {id(v): tf.identity(v.value) for v in variables}
                else:
                    pairs = zip(grads, variables, strict=True)
                    grads = [self._pulled(optimizer, g, v, centre[id(v)]) for g, v in pairs]
                optimizer.apply(grads, variables)
            return logs

        return held_back

    def _pulled(self, optimizer, gradient, variable, centre):
        """The gradient with that of the penalty; on each of R replicas 1/R of it, for they are added up."""
        if gradient is None:
            return None
        pull = self.strength / replicas.count() * (variable.value - centre)
        return gradients.dense(gradient, variable.value) + optimizer.scale_loss(pull)

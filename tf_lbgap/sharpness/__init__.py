"""Sharpness of the loss at the weights: numbers that are said to tell how a network generalizes.

Every measure takes `(model, loss, batches)`, or a `Subject` that keeps what was traced, changes nothing in the model,
and returns one float (the evidence, and an average with its error, several). Which of them notice a rescaling of a ReLU
network that leaves its function as it is:

| notice it | do not |
|---|---|
| `top_eigenvalue`, `hessian_trace`, `epsilon_sharpness` | `adaptive_sharpness` (with biases: `scale_biases=True`) |
| `ascent_sharpness`, `m_sharpness` | `average_sharpness(adaptive=True)` |
| `average_sharpness` | `relative_flatness`, `squared_fisher_rao_norm` |

The evidence (`negative_log_evidence`) notices, unless the prior goes with the weights.
`relative_flatness` of a layer does notice if the neurons of the layer before are rescaled one by one.
Compare networks at equal training loss: most of these numbers fall with the loss itself.
"""

from tf_lbgap.sharpness.adaptive import adaptive_sharpness
from tf_lbgap.sharpness.ascent import ascent_sharpness, m_sharpness
from tf_lbgap.sharpness.average import AverageSharpness, average_sharpness, sampled_average_sharpness
from tf_lbgap.sharpness.eigenvalue import hessian_trace, top_eigenvalue
from tf_lbgap.sharpness.epsilon import epsilon_sharpness
from tf_lbgap.sharpness.evidence import Evidence, negative_log_evidence
from tf_lbgap.sharpness.fisher_rao import squared_fisher_rao_norm
from tf_lbgap.sharpness.flatness import relative_flatness
from tf_lbgap.sharpness.rescaling import rescale_relu
from tf_lbgap.sharpness.subject import Subject

__all__ = [
    "AverageSharpness",
    "Evidence",
    "Subject",
    "adaptive_sharpness",
    "ascent_sharpness",
    "average_sharpness",
    "epsilon_sharpness",
    "hessian_trace",
    "m_sharpness",
    "negative_log_evidence",
    "relative_flatness",
    "rescale_relu",
    "sampled_average_sharpness",
    "squared_fisher_rao_norm",
    "top_eigenvalue",
]

"""Studies: what is measured after training, on the weights and histories of a finished run.

A study is a function `study(run, **options)` of a `FinishedRun`. It returns a dict of plain numbers: `rows`,
a dict per arm and seed whose keys statistics can ask for as those of a row of `results.json`, and `curves`, a
dict of lists per arm and seed for figures. Where training diverged, or there is nothing to be found, values
are NaN.

A new study is one function in a file here, and a line below. TensorFlow is imported when one is called.
"""

from tf_lbgap.reproduction.studies.batch_edges import batch_sharpness
from tf_lbgap.reproduction.studies.branching import branched
from tf_lbgap.reproduction.studies.edges import hovering
from tf_lbgap.reproduction.studies.generalization_measures import measures
from tf_lbgap.reproduction.studies.gradients import noise_scale
from tf_lbgap.reproduction.studies.histories import evolution
from tf_lbgap.reproduction.studies.inputs import input_hessian
from tf_lbgap.reproduction.studies.neighbouring import parameter_distance
from tf_lbgap.reproduction.studies.parametric_plots import interpolation
from tf_lbgap.reproduction.studies.quadratic import stationary_variance
from tf_lbgap.reproduction.studies.random_landscapes import random_lines
from tf_lbgap.reproduction.studies.rescalings import rescaling
from tf_lbgap.reproduction.studies.sentences import translation
from tf_lbgap.reproduction.studies.subspaces import subspace_sharpness
from tf_lbgap.reproduction.studies.two_basins import escape
from tf_lbgap.reproduction.studies.walks import growth_of_distance

__all__ = [
    "batch_sharpness",
    "branched",
    "escape",
    "evolution",
    "growth_of_distance",
    "hovering",
    "input_hessian",
    "interpolation",
    "measures",
    "noise_scale",
    "parameter_distance",
    "random_lines",
    "rescaling",
    "stationary_variance",
    "subspace_sharpness",
    "translation",
]

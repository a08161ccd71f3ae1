"""Studies: what is measured after training, on the weights and histories of a finished run.

A study is a function `study(run, **options)` of a `FinishedRun`. It returns a dict of plain numbers: `rows`,
a dict per arm and seed whose keys statistics can ask for as those of a row of `results.json`, and `curves`, a
dict of lists per arm and seed for figures. Where training diverged, or there is nothing to be found, values
are NaN.

A new study is one function in a file here, and a line below. TensorFlow is imported when one is called.
"""

from tf_lbgap.reproduction.studies.gradients import noise_scale
from tf_lbgap.reproduction.studies.histories import evolution
from tf_lbgap.reproduction.studies.inputs import input_hessian
from tf_lbgap.reproduction.studies.parametric_plots import interpolation
from tf_lbgap.reproduction.studies.subspaces import subspace_sharpness

__all__ = ["evolution", "input_hessian", "interpolation", "noise_scale", "subspace_sharpness"]

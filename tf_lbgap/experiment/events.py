"""What an arm and seed ended with, as the last points of its curves in TensorBoard.

`generalization/*` ends with the numbers of `results.json`: the whole training and test set, in inference mode, on
exact statistics. (The points before are Keras' running means and the validation examples.) So the tab's table and
the results are the same numbers.
"""

import math

from tf_lbgap.callbacks.summaries import EIGENVALUE_UNIT

_GENERALIZATION = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


def write_results(writer, update, result, measured, *, eigenvalue=True):
    """Write the results of an arm and seed at its last step.

    Args:
        writer: A `tb_plugin.writer.Writer`.
        update: The number of updates.
        result: The row of `results.json`.
        measured: What it belongs to, a dict for captions.
        eigenvalue: Whether the top eigenvalue is written with its residual, too. Not if a monitor's row of
            several eigenvalues has this step.
    """
    for name in _GENERALIZATION:
        if math.isfinite(result[name]):
            writer.scalar(f"generalization/{name}", result[name], update, measured=measured)
    if "top_eigenvalue" not in result:
        return
    value, residual = result["top_eigenvalue"], result["top_eigenvalue_residual"]
    converged = result["top_eigenvalue_converged"]
    scalars = {
        "top_eigenvalue": (value if converged else math.nan, EIGENVALUE_UNIT),
        "top_eigenvalue_residual": (residual, EIGENVALUE_UNIT),
    }
    if "sharpness" in result:
        scalars["epsilon_sharpness"] = result["sharpness"], "%"
    for name, (number, unit) in scalars.items():
        writer.scalar(f"sharpness/{name}", number, update, unit=unit, measured=measured)
    if eigenvalue:
        writer.eigenvalues(
            "curvature/eigenvalues", [value], update,
            residuals=[residual], converged=[converged], mirror=False, measured=measured,
        )  # fmt: skip

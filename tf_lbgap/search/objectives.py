"""What a search optimises: a number of each seed's row, of which the mean over seeds counts."""

from typing import NamedTuple


class Objective(NamedTuple):
    """A key of a row of `results.json`, and which way is better."""

    key: str
    direction: str  # "max" or "min", as Keras Tuner spells it
    title: str
    unit: str = ""
    scale: float = 1.0
    decimals: int = 2
    needs: str | None = None  # what has to be held equal for it


OBJECTIVES = {
    "validation_accuracy": Objective("validation_accuracy", "max", "validation accuracy", "%", 100.0),
    "validation_loss": Objective("validation_loss", "min", "validation loss", decimals=4),
    "updates": Objective("updates", "min", "updates to the target", decimals=0, needs="loss"),
    "examples": Objective("examples", "min", "examples to the target", decimals=0, needs="loss"),
    "seconds": Objective("seconds", "min", "seconds of training to the target", "s", needs="loss"),
    "top_eigenvalue": Objective("top_eigenvalue", "min", "top eigenvalue"),
    "sharpness": Objective("sharpness", "min", "sharpness", "%"),
}
"""By the names that `objective:` takes. Accuracy at a cost in seconds is `validation_accuracy` with `equal: seconds`."""

MEASURED = ("top_eigenvalue", "sharpness")
"""Those that need a Hessian: `measure: top_eigenvalue_examples` above 0."""

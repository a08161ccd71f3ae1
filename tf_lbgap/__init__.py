"""Large-batch training and the generalization gap, for Keras.

`import tf_lbgap as lb` is light: each subpackage, and with it TensorFlow, is imported when it is first
used as an attribute (`lb.data`, `lb.callbacks`, `lb.schedules`, ...).
"""

import importlib

__version__ = "0.1.0"

_SUBPACKAGES = (
    "advisor",
    "attacks",
    "batch_normalization",
    "callbacks",
    "checkpoints",
    "claims",
    "critical_batch_size",
    "curvature",
    "data",
    "experiment",
    "gradient_noise",
    "growth",
    "landscape",
    "layers",
    "losses",
    "networks",
    "optimizers",
    "pilot",
    "report",
    "reproduction",
    "scaling",
    "schedules",
    "search",
    "sharpness",
    "strategy",
    "training",
    "tuning",
)

_FUNCTIONS = {"advise": "pilot"}  # of a subpackage, and as short names of the package


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has {', '.join((*_SUBPACKAGES, *_FUNCTIONS))}."
    )


def __dir__():
    return sorted([*globals(), *_SUBPACKAGES, *_FUNCTIONS])

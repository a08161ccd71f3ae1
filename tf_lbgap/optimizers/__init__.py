"""Optimizers that were proposed for large batches, as published, where Keras has none or another.

| optimizer | length of a step | weight decay |
|---|---|---|
| `Lars` | per layer, proportional to the length of its weights | in the gradient and in the length |
| `Lamb` | per layer, as `Lars`, in the direction of Adam | in the direction and in its length |
| `RmspropWarmup` | RMSprop's, which turns into that of SGD with momentum | Keras' own, apart from the gradient |

A model that was saved with one of them is read back once `tf_lbgap.optimizers` has been imported: `import
tf_lbgap` alone imports nothing of Keras, so does not tell it their names.
"""

from tf_lbgap.optimizers.lamb import Lamb
from tf_lbgap.optimizers.lars import Lars
from tf_lbgap.optimizers.rmsprop_warmup import RmspropWarmup

__all__ = ["Lamb", "Lars", "RmspropWarmup"]

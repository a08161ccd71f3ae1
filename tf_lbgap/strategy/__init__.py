"""The one place that knows `tf.distribute`: which strategy, who writes files, and what Keras 3 breaks.

strategy = lb.strategy.from_name("mirrored")
with strategy.scope():
    model = ...
    model.compile(...)
model.fit(batches, callbacks=[...])
"""

from tf_lbgap.strategy.model import agreed, devices, is_chief, is_chief_of, is_default, num_replicas, of
from tf_lbgap.strategy.names import NAMES, from_name

__all__ = [
    "NAMES",
    "agreed",
    "devices",
    "from_name",
    "is_chief",
    "is_chief_of",
    "is_default",
    "num_replicas",
    "of",
]

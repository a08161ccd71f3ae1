"""What changes the update itself: batches beyond memory, accumulated from micro-batches inside `fit`."""

from tf_lbgap.training.micro_gradients import MicroGradients
from tf_lbgap.training.search import find_micro_batch_size
from tf_lbgap.training.static_updates import StaticUpdates
from tf_lbgap.training.train_functions import TrainFunctions

__all__ = ["MicroGradients", "StaticUpdates", "TrainFunctions", "find_micro_batch_size"]

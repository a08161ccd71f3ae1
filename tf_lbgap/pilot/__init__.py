"""Short trainings that find out what to train: which batch size, which learning rate.

All of them train the user's own model with its own `train_step`, on a stream of their own, and put everything back.
"""

from tf_lbgap.pilot.advising import advise
from tf_lbgap.pilot.branched import Branches, branched_training
from tf_lbgap.pilot.results import Advice

__all__ = ["Advice", "Branches", "advise", "branched_training"]

"""Keras Tuner for scripts: how a model is trained is searched over, with several seeds a trial. For YAML files see `search`."""

from tf_lbgap.tuning.hypermodel import HyperModel
from tf_lbgap.tuning.tuners import BayesianOptimization, GridSearch, Hyperband, RandomSearch

__all__ = ["BayesianOptimization", "GridSearch", "HyperModel", "Hyperband", "RandomSearch"]

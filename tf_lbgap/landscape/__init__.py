"""Landscapes: the loss along a line, a curve, or a plane through weight space.

A picture of two numbers out of millions: what is not in the plane is not seen. Weights move, and batch
normalization with them: at every point its statistics are those that belong to the weights there, because
moving averages of the end points belong to no network in between.

References:
    Goodfellow, Vinyals & Saxe, "Qualitatively characterizing neural network optimization problems", 2015.
    Keskar et al., "On large-batch training for deep learning", 2017 (arXiv 1609.04836), figures 3 and 7.
    Li et al., "Visualizing the loss landscape of neural nets", 2018 (arXiv 1712.09913).
"""

from tf_lbgap.landscape.checkpoints import Trajectory, trajectory
from tf_lbgap.landscape.filters import filter_normalized_direction
from tf_lbgap.landscape.interpolation import Interpolation, curve, line
from tf_lbgap.landscape.planes import Plane, plane

__all__ = [
    "Interpolation",
    "Plane",
    "Trajectory",
    "curve",
    "filter_normalized_direction",
    "line",
    "plane",
    "trajectory",
]

"""Layers for large batches: batch normalization that sees no more of a large batch than of a small one."""

from tf_lbgap.layers.ghost_batch_normalization import GhostBatchNormalization
from tf_lbgap.layers.replacing import with_ghost_batch_normalization

__all__ = ["GhostBatchNormalization", "with_ghost_batch_normalization"]

"""The gradient of a batch that several replicas share, summed over them once.

Keras scales the loss of a replica by 1 / R, and its optimizers add up the gradients of the R replicas when they are
applied. Who wants the norm of the whole gradient beforehand can sum it first and hand the sum on, so that it
travels once; where the optimizer does something with each replica's own gradient before, it has to travel twice.
"""

import tensorflow as tf

from tf_lbgap.training.held import held_in_thread


def count():
    """Return R, the number of replicas that share the batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def summed(grads):
    """Return gradients summed over the replicas, in the context of one of them."""
    if count() == 1:
        return grads
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, grads)


def may_be_summed_before(optimizer):
    """Return whether the optimizer does with a sum what it does with the gradients of replicas."""
    clips = any(
        getattr(optimizer, name, None) is not None for name in ("clipnorm", "global_clipnorm", "clipvalue")
    )
    is_plain = hasattr(optimizer, "_all_reduce_sum_gradients") and not hasattr(optimizer, "inner_optimizer")
    return count() > 1 and is_plain and not clips


def summed_before(optimizer):
    """Let `optimizer.apply` in the block take gradients for summed."""
    return held_in_thread(optimizer, "_all_reduce_sum_gradients", lambda summed: list)


def apply_summed(optimizer, grads, variables):
    """Let an optimizer that does not clip apply gradients that `summed` returned, or what each replica made of them alike."""
    if may_be_summed_before(optimizer):
        with summed_before(optimizer):
            optimizer.apply(grads, variables)
    else:  # the replicas' shares are added up
        optimizer.apply([None if g is None else g / count() for g in grads], variables)

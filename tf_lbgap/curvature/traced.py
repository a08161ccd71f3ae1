"""What a traced function must not hold if its numbers are to be trusted."""

import tensorflow as tf

_RANDOM = ("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle")
_RANDOM += ("Multinomial", "RandomGammaV2", "RandomPoissonV2", "StatefulStandardNormalV2", "StatefulUniform")
_ASSIGNMENTS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatterUpdate")
# XLA finds the arg-max of a second derivative by a comparison of low precision: up to 4 % off (float32).
_WRONG_IN_XLA = ("MaxPoolGradGrad", "MaxPoolGradGradV2", "MaxPool3DGradGrad", "MaxPoolGradGradWithArgmax")


def checked_graph(graph, jit_compile):
    """Raise if a traced function draws random numbers, changes state, or will be compiled wrongly.

    Args:
        graph: `tf.Graph` of the function, as traced without XLA.
        jit_compile: Whether XLA is to compile it.

    Raises:
        ValueError: With the operation that was found, and what to do.
    """
    kinds = _kinds(graph)
    random, assigned = kinds & set(_RANDOM), kinds & set(_ASSIGNMENTS)
    if random:
        raise ValueError(
            f"The model or the loss draws random numbers at inference ({', '.join(sorted(random))}), so its loss is "
            "another function at each call and has no Hessian. Let the layer do nothing when training=False."
        )
    if assigned:
        raise ValueError(
            f"The model or the loss changes a variable when it is called ({', '.join(sorted(assigned))}), so measuring "
            "would change it. Pass a loss without state, and layers that keep theirs when training=False."
        )
    wrong = kinds & set(_WRONG_IN_XLA)
    if wrong and (jit_compile or tf.config.optimizer.get_jit()):
        by = "jit_compile=True" if jit_compile else "tf.config.optimizer.set_jit"
        raise ValueError(
            f"XLA computes the second derivative of max pooling wrongly ({', '.join(sorted(wrong))}; products are off by "
            f"0.5 to 1.5 %), and {by} asks for XLA. Leave it out: without XLA the product is exact, and no slower."
        )


def _kinds(graph):
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    return {node.op for node in nodes}

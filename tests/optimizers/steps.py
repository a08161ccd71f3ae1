"""Variables, gradients, and updates one by one, for tests of optimizers against formulas in NumPy."""

import keras
import numpy as np

RNG = np.random.default_rng(0)
# A kernel, one that begins at 0, an embedding (left out by a pattern in some tests), a bias.
STARTS = {
    "kernel": RNG.normal(size=(3, 2)),
    "zeros": np.zeros((2, 2)),
    "embedding": RNG.normal(size=(4, 1)),
    "bias": RNG.normal(size=2),
}
# The kernel's second gradient is 0, and the last of the kernel that begins at 0.
GRADIENTS = [{name: RNG.normal(size=value.shape) for name, value in STARTS.items()} for _ in range(3)]
GRADIENTS[1]["kernel"] = np.zeros((3, 2))
GRADIENTS[2]["zeros"] = np.zeros((2, 2))


def after_each(optimizer, starts=None, gradients=None):
    """The weights by name, after each update, as arrays."""
    starts, gradients = starts or STARTS, gradients or GRADIENTS
    floats = keras.config.floatx()  # else a variable has the type of the array
    variables = {name: keras.Variable(value, dtype=floats, name=name) for name, value in starts.items()}
    found = []
    for gradient in gradients:
        # A copy: keras.ops.convert_to_tensor may share an array's memory.
        tensors = [keras.ops.convert_to_tensor(np.array(gradient[name], floats)) for name in variables]
        optimizer.apply(tensors, list(variables.values()))
        found.append({name: variable.numpy() for name, variable in variables.items()})
    return found


def assert_steps(optimizer, by_hand, excluded=("bias",), *, starts=None, gradients=None, rtol=1e-10):
    """Compare with `by_hand(w, gradients, excluded)`: the weights of one variable after each update."""
    starts, gradients = starts or STARTS, gradients or GRADIENTS
    found = after_each(optimizer, starts, gradients)
    for name, start in starts.items():
        expected = by_hand(start, [gradient[name] for gradient in gradients], name in excluded)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[name], theirs, rtol=rtol, atol=rtol, err_msg=name)

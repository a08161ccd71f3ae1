"""The same function at other weights: which measures of sharpness notice?

A ReLU layer times α and the next one divided by α compute what they did (Dinh et al. 2017), so what a measure makes of
that says nothing about the network. The evidence is taken twice: with the same prior for all α, and with a prior that goes
with the weights, as a change of parametrisation has it.
"""

import math

from tf_lbgap.experiment.calls import ConfigError, mistakes
from tf_lbgap.experiment.checks import count, positive, whole
from tf_lbgap.reproduction.studies.measured import checked, measured
from tf_lbgap.reproduction.studies.rows import rows_of

CARRIED = "evidence_penalty_carried_prior"
CHANGE = "function_change"


def rescaling(
    run,
    *,
    arms=None,
    factors=(1, 8, 64, 512),
    layers=(0, 1),
    measures=None,
    examples=1000,
    l2=1.0,
    num_probes=4,
    num_steps=20,
    eigenvalues=0,
    seeds=None,
):
    """Measure a finished network, one of its layers times α and the next divided by α, for several α.

    Costs as much as `measures` for each α, and the evidence twice.

    Args:
        run: A `FinishedRun` of networks that `sharpness.rescale_relu` takes.
        arms: Names of arms; None: all.
        factors: α. Powers of two leave the function to the last bit; 1 is the network as it is.
        layers: The two layers, counted from 0 among those with a kernel.
        measures: Names in `reproduction.studies.measured.NAMES`; None: all.
        examples: Of the training set; 0: all.
        l2: λ of the evidence, where the prior is the same for all α. N is the whole training set, as in `measures`.
        num_probes, num_steps: Of the evidence.
        eigenvalues: k: the k-th largest eigenvalue of the Hessian is measured, too; 0: none is.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with the measures, their names followed by the factor: `top_eigenvalue_x1`, `top_eigenvalue_x8`, ..., for
        `claims.quotient`; so too `function_change_x8`, the largest change of an output divided by the largest output;
        `evidence_penalty_carried_prior_x8`, if the penalty is measured, with precision λ/α² for the first layer and λα² for the
        second one's kernel; and `eigenvalue_10_x8` (the 10 is k).

    References:
        Dinh, Pascanu, Bengio & Bengio, "Sharp minima can generalize for deep nets", 2017, definition 5 and theorem 4.
    """
    names = checked(measures)
    factors = [positive(factor, "factors") for factor in factors]
    for value, name in ((examples, "examples"), (eigenvalues, "eigenvalues")):
        count(value, name)
    evidence = {"l2": positive(l2, "l2")}
    evidence |= {"num_probes": whole(num_probes, "num_probes"), "num_steps": whole(num_steps, "num_steps")}
    extra = [CHANGE, *([CARRIED] if "evidence_penalty" in names else []), *_names_of(eigenvalues)]
    keys = [f"{name}_x{factor:g}" for factor in factors for name in (*names, *extra)]

    def measure(arm, seed):
        with mistakes("layers"):
            network = _Rescaled(run, arm, seed, layers, examples)
        found = {factor: network.measured(names, factor, evidence, eigenvalues) for factor in factors}
        return {f"{name}_x{factor:g}": value for factor in factors for name, value in found[factor].items()}

    return {"rows": rows_of(run, arms, seeds, keys, measure), "curves": []}


def _names_of(eigenvalues):
    return [f"eigenvalue_{eigenvalues}"] if eigenvalues else []


class _Rescaled:
    """A network with trained weights, two of its layers, and what it says of the examples."""

    def __init__(self, run, arm, seed, layers, examples):
        self._subject, self._seed = run.subject(arm, seed, examples), seed
        self._model = self._subject.model
        self._layers = _with_kernels(self._model, layers)
        self._inputs = run.sample(arm, seed, examples)[0]
        self._num_train = len(run.split(arm, seed).y_train)
        self._outputs = self._model(self._inputs, training=False).numpy()

    def measured(self, names, factor, evidence, eigenvalues):
        """Measure the network rescaled by a factor; its weights are as they were afterwards."""
        from tf_lbgap import sharpness
        from tf_lbgap.landscape.weights import kept

        with kept(self._model.variables):
            with mistakes("layers"):
                sharpness.rescale_relu(self._model, *self._layers, factor)
            return self._here(names, factor, {**evidence, "num_examples": self._num_train}, eigenvalues)

    def _here(self, names, factor, evidence, eigenvalues):
        found = measured(self._subject, names, seed=self._seed, evidence=evidence)
        if "evidence_penalty" in names:
            carried = {**evidence, "l2": self._prior(evidence["l2"], factor)}
            parts = measured(self._subject, ["evidence_penalty"], seed=self._seed, evidence=carried)
            found[CARRIED] = parts["evidence_penalty"]
        for name in _names_of(eigenvalues):
            found[name] = self._eigenvalue(eigenvalues)
        outputs = self._model(self._inputs, training=False).numpy()
        change = abs(outputs - self._outputs).max() / abs(self._outputs).max()
        return {**found, CHANGE: float(change)}

    def _prior(self, l2, factor):
        """The precision of each weight, after N(0, 1/λ) was rescaled with the weights; shape (n,)."""
        import numpy as np

        first, second = self._layers
        scale = {id(second.kernel): 1 / factor}
        scale |= {id(variable): factor for variable in first.trainable_variables}
        parameters = self._subject.surface.parameters
        scales = [scale.get(id(variable), 1.0) for variable in parameters.variables]
        return l2 / np.repeat(scales, parameters.sizes) ** 2

    def _eigenvalue(self, k):
        from tf_lbgap import curvature

        pairs = curvature.top_eigenpairs(self._subject.hessian, k, tolerance=1e-2, seed=self._seed)
        return float(pairs.values[-1]) if pairs.converged[-1] else math.nan


def _with_kernels(model, layers):
    known = [layer for layer in model.layers if hasattr(layer, "kernel")]
    if len(layers) != 2 or not all(isinstance(i, int) and 0 <= i < len(known) for i in layers):
        raise ConfigError(
            f"layers: {layers!r} must be two numbers from 0 to {len(known) - 1}, of layers with a kernel: [0, 1]."
        )
    return [known[i] for i in layers]

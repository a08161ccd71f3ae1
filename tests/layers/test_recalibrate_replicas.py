"""Statistics set anew on two replicas: each copy of the variables holds those of all data."""

import keras
import numpy as np
import pytest
from replicas import mirrored

import tf_lbgap as lb

layers = keras.layers
KINDS = {
    "per replica": layers.BatchNormalization,
    "synchronized": lambda: layers.BatchNormalization(synchronized=True),
    "ghost": lambda: lb.layers.GhostBatchNormalization(4),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_recalibrate_after_a_fit_under_a_strategy_sets_every_copy_and_evaluate_reads_it(make):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)).astype("float32"), rng.integers(0, 2, 32)
    with mirrored().scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(4), make(), layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    lb.training.recalibrate(model, [(x[:20], None), (x[20:], None)])

    dense, normalization, logits = model.layers
    hidden = x.astype("float64") @ dense.kernel.numpy() + dense.bias.numpy()
    for statistic, value in (("moving_mean", hidden.mean(0)), ("moving_variance", hidden.var(0))):
        copies = getattr(normalization, statistic).value.values
        assert len(copies) == 2
        for copy in copies:
            np.testing.assert_allclose(copy.numpy(), value, rtol=1e-5, atol=1e-6)
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3)
    hidden = hidden * normalization.gamma.numpy() + normalization.beta.numpy()
    outputs = hidden @ logits.kernel.numpy() + logits.bias.numpy()
    losses = np.log(np.exp(outputs).sum(1)) - outputs[np.arange(32), y]
    assert model.evaluate(x, y, batch_size=16, verbose=0) == pytest.approx(losses.mean(), rel=1e-5)

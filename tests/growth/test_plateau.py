"""Growth on a plateau, against Keras' own callback for the rate."""

import keras
import numpy as np
import pytest

from tf_lbgap.growth import Plateau


def first_reduction_of_keras(losses, **options):
    """Return after how many epochs `ReduceLROnPlateau` first reduces the rate, or None."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    callback = keras.callbacks.ReduceLROnPlateau("loss", mode="min", factor=0.5, **options)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"loss": loss})
        if float(model.optimizer.learning_rate.numpy()) < 1:
            return epoch + 1
    return None


@pytest.mark.parametrize("min_delta", [0.0, 1e-4, 0.05])
@pytest.mark.parametrize("patience", [1, 2, 4])
def test_it_grows_in_the_epoch_in_which_keras_first_reduces_the_rate(patience, min_delta):
    rng = np.random.default_rng(patience)
    criterion = Plateau(patience=patience, min_delta=min_delta)
    for _ in range(5):
        losses = 1 / np.arange(1, 25) ** rng.uniform(0, 1) + rng.normal(scale=0.05, size=24)
        sizes = [criterion(64, {"losses": losses[:end]}).batch_size for end in range(1, 25)]
        grown = next((end for end, size in enumerate(sizes, 1) if size > 64), None)
        assert grown == first_reduction_of_keras(losses, patience=patience, min_delta=min_delta)


def test_a_relative_improvement_is_a_fraction_of_the_best_loss():
    losses = (100.0, 95.0, 90.0)
    for relative, min_delta, size in (
        (False, 6, 128),
        (False, 4, 64),
        (True, 0.06, 128),
        (True, 0.04, 64),
    ):
        criterion = Plateau(patience=1, min_delta=min_delta, relative=relative)
        assert criterion(64, {"losses": losses[:2]}).batch_size == size
    assert Plateau(patience=2, min_delta=0.06, relative=True)(64, {"losses": losses}).batch_size == 64
    assert Plateau(patience=1, min_delta=0.06, relative=True)(64, {"losses": (-1.0, -1.05)}).batch_size == 128
    assert Plateau(patience=1, min_delta=0.04, relative=True)(64, {"losses": (-1.0, -1.05)}).batch_size == 64


def test_the_batch_grows_by_the_factor_and_the_reason_counts_epochs():
    decision = Plateau(factor=5, patience=2)(128, {"losses": [0.5, 0.6, 0.5]})
    assert decision.batch_size == 640
    assert decision.reason == "For 2 epochs no loss was below 0.5 by more than min_delta: times 5."
    assert decision.numbers == {"best": 0.5, "last": 0.5, "waited": 2}
    assert Plateau()(128, {"losses": ()}).reason == "No epoch is over yet: the batch size stays."

"""Accuracy under attack and its transfer against loops by hand; what counts as right for all kinds of labels."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx
from victims import C, D, crossentropy, each_loss, examples, linear, linear_gradient, relu_network

from tf_lbgap import attacks


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def right(model, x, y):
    return np.argmax(model(x), 1) == y


@pytest.mark.parametrize("chunk_size", [1, 4, 11, 100])
def test_accuracy_loss_and_error_are_those_of_a_loop_however_it_is_cut(chunk_size):
    """Chunks of 4 leave a last one of 3, which counts by its examples."""
    model, (x, y) = linear(), examples()
    epsilons = (0.0, 0.2, 1.0)
    found = attacks.accuracy_under_attack(
        model, crossentropy, x, y, epsilons=epsilons, data_range=(-2.0, 2.0), chunk_size=chunk_size
    )
    assert found.attack == "fgsm" and found.num_examples == 11
    np.testing.assert_array_equal(found.epsilons, epsilons)
    for i, epsilon in enumerate(epsilons):
        moved = np.clip(x + epsilon * np.sign(linear_gradient(model, x, y)), -2, 2)
        accuracy = right(model, moved, y).mean()
        assert found.accuracy[i] == accuracy
        assert found.loss[i] == pytest.approx(each_loss(model, crossentropy, moved, y).mean(), rel=1e-12)
        assert found.standard_error[i] == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 11))


def test_any_attack_by_name_with_options_or_of_ones_own():
    model, (x, y) = relu_network(), examples()
    stronger = functools.partial(attacks.pgd, num_steps=3, norm="l2")
    moved = attacks.pgd(model, crossentropy, x, y, epsilon=0.7, num_steps=3, norm="l2")
    found = attacks.accuracy_under_attack(model, crossentropy, x, y, attack=stronger, epsilons=0.7)
    assert found.attack == "pgd" and found.accuracy[0] == right(model, moved, y).mean()

    by_name = attacks.accuracy_under_attack(model, crossentropy, x, y, attack="l2grad", epsilons=[0.7])
    moved = attacks.l2grad(model, crossentropy, x, y, epsilon=0.7)
    assert by_name.accuracy[0] == right(model, moved, y).mean()

    def backwards(model, loss, x, y, *, epsilon, data_range=None):
        return -epsilon * x

    own = attacks.accuracy_under_attack(model, crossentropy, x, y, attack=backwards, epsilons=(2.0,))
    assert own.attack == "backwards" and own.accuracy[0] == right(model, -2 * x, y).mean()


def test_noise_is_new_in_each_chunk_the_same_for_all_sizes_and_the_seed_decides_it():
    model, x, y = linear(), np.zeros((6, D)), np.zeros(6, int)
    made = []

    def watched(model, loss, x, y, *, epsilon, data_range=None, seed=0):
        made.append(attacks.gaussian(model, loss, x, y, epsilon=epsilon, seed=seed).numpy())
        return made[-1]

    def noise(**options):
        made.clear()
        attacks.accuracy_under_attack(
            model, crossentropy, x, y, attack=watched, epsilons=(1.0, 2.0), chunk_size=3, **options
        )
        return list(made)

    first, doubled, second, _ = noise()
    np.testing.assert_allclose(doubled, 2 * first)
    assert np.any(first != second)
    np.testing.assert_array_equal(noise()[2], second)
    assert np.any(noise(seed=1)[0] != first)
    fixed = functools.partial(attacks.gaussian, seed=3)  # a seed of one's own is kept
    attacks.accuracy_under_attack(model, crossentropy, x, y, attack=fixed, epsilons=(1.0,))


# What is right.


def measured(model, loss, x, y, **options):
    return attacks.accuracy_under_attack(model, loss, x, y, epsilons=(0.0, 0.3), **options).accuracy


def test_labels_in_all_forms_give_the_same_accuracy():
    model, (x, y) = linear(), examples(40)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    one_hot = keras.losses.CategoricalCrossentropy(from_logits=True)
    wanted = measured(model, crossentropy, x, y)
    assert wanted[0] == right(model, x, y).mean() and 0 < wanted[1] < wanted[0]
    for loss, labels in (
        (sparse, y[:, None]),
        (sparse, y.astype("float64")),
        (sparse, y.astype("uint8")),
        (one_hot, np.eye(C)[y]),
        (one_hot, np.eye(C, dtype=int)[y]),
    ):
        np.testing.assert_array_equal(measured(model, loss, x, labels), wanted)


def test_one_output_is_of_two_classes_by_the_threshold_of_the_loss():
    """Logits against 0, probabilities against 1/2, hinge losses with labels of -1 and 1 against 0."""
    model, (x, y) = linear(classes=1), examples(40, classes=2)
    ending = keras.Sequential([keras.Input((D,)), model, keras.layers.Activation("sigmoid")])
    wanted = ((model(x).numpy()[:, 0] > 0) == y).mean()
    for network, loss, labels in (
        (model, keras.losses.BinaryCrossentropy(from_logits=True), y),
        (model, keras.losses.BinaryFocalCrossentropy(from_logits=True), y[:, None]),
        (ending, keras.losses.BinaryCrossentropy(), y[:, None].astype("float64")),
        (ending, "binary_crossentropy", y.astype(bool)),
        (model, keras.losses.Hinge(), 2 * y[:, None] - 1),
        (model, "squared_hinge", 2.0 * y - 1),
    ):
        found = measured(network, loss, x, labels)
        assert found[0] == wanted and found[1] < wanted, loss


def test_what_is_no_plain_classification_needs_a_function():
    model, (x, _) = linear(classes=1), examples(40)
    y = model(x).numpy() + np.linspace(-1, 1, 40)[:, None]
    with pytest.raises(ValueError, match=r"correct="):
        measured(model, "mse", x, y)
    found = measured(model, "mse", x, y, correct=lambda y, p: tf.abs(y - p) < 0.5)
    assert found[0] == (np.abs(np.linspace(-1, 1, 40)) < 0.5).mean() and found[1] < found[0]
    with pytest.raises(ValueError, match="question of its own"):
        measured(linear(), keras.losses.BinaryCrossentropy(from_logits=True), x, np.ones((40, C)))
    with pytest.raises(ValueError, match="neither class numbers"):
        measured(linear(), lambda y, p: p[:, 0], x, np.ones((40, C + 1)))
    sequence = keras.Sequential([keras.Input((4, D)), keras.layers.Dense(C)])
    with pytest.raises(ValueError, match="known for"):
        measured(sequence, crossentropy, np.zeros((2, 4, D)), np.zeros((2, 4), int))


# Transfer.


def test_transfer_of_a_model_to_itself_is_its_accuracy_under_attack():
    model, (x, y) = relu_network(), examples(40)
    white = attacks.accuracy_under_attack(model, crossentropy, x, y, epsilons=(0.0, 0.4), chunk_size=16)
    found = attacks.transfer(model, model, crossentropy, x, y, epsilon=0.4, chunk_size=16)
    assert [found.clean_accuracy, found.accuracy] == white.accuracy.tolist()
    assert [found.clean_standard_error, found.standard_error] == white.standard_error.tolist()
    assert found.source_accuracy == found.accuracy and found.num_examples == 40


def test_transfer_makes_with_the_source_and_evaluates_the_target():
    source, target, (x, y) = relu_network(), linear(), examples(40)
    y = np.argmax(target(x), 1)
    found = attacks.transfer(source, target, crossentropy, x, y, epsilon=0.4, attack="pgd", chunk_size=7)
    moved = attacks.pgd(source, crossentropy, x, y, epsilon=0.4).numpy()
    assert found.accuracy == right(target, moved, y).mean()
    assert found.clean_accuracy == 1.0 and found.clean_standard_error == 0.0
    assert found.source_accuracy == right(source, moved, y).mean()
    assert found.accuracy > measured(target, crossentropy, x, y, attack="pgd")[1] - 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": "fsgm"}, "no attack 'fsgm'"),
        ({"attack": 3}, "attack is 3"),
        ({"epsilons": ()}, "epsilons is"),
        ({"epsilons": (0.1, -1)}, "epsilons is"),
        ({"epsilons": "ab"}, "epsilons is"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"attack": "gaussian", "seed": -1}, "seed is -1"),
    ],
)
def test_mistakes_are_told(options, message):
    x, y = examples()
    with pytest.raises(ValueError, match=message):
        attacks.accuracy_under_attack(linear(), crossentropy, x, y, **options)

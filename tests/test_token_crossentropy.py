"""A loss per sentence: against Keras' loss of each sentence alone, cut into any batches, and its Hessian against differences."""

import keras
import numpy as np
import pytest
from references import finite_difference_hessian

import tf_lbgap as lb
from tf_lbgap.curvature import HessianOperator
from tf_lbgap.experiment.accuracy import TokenAccuracy
from tf_lbgap.experiment.evaluation import Evaluation
from tf_lbgap.experiment.making import make_compiled_model
from tf_lbgap.losses import TokenCrossentropy

K = 4
RNG = np.random.default_rng(0)
TOKENS = np.array([[1, 2, 3, 0, 0], [3, 0, 0, 0, 0], [2, 2, 1, 3, 1], [1, 1, 0, 0, 0], [3, 2, 0, 0, 0]])
LOGITS = 2 * RNG.normal(size=(5, 5, K))


@pytest.fixture(autouse=True)
def _all_in_float64(_float64):
    pass


def of_sentences():
    """Keras' own loss of each sentence without its padding, one at a time."""
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return [
        float(keras_loss(row[row > 0], logits[row > 0])) for row, logits in zip(TOKENS, LOGITS, strict=True)
    ]


def test_it_is_keras_loss_of_each_sentence_without_its_padding():
    np.testing.assert_allclose(TokenCrossentropy(reduction=None)(TOKENS, LOGITS), of_sentences(), rtol=1e-12)


def test_it_takes_probabilities():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    found = TokenCrossentropy(from_logits=False, reduction=None)(TOKENS, p)
    np.testing.assert_allclose(found, of_sentences(), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_is_additive_over_examples_and_keras_own_is_not(size):
    """With 5 sentences and batches of 2 or 3 the last is short. Keras' mean is over the tokens of a batch."""
    ours = TokenCrossentropy()
    parts = [(TOKENS[i : i + size], LOGITS[i : i + size]) for i in range(0, 5, size)]
    joined = sum(len(y) * float(ours(y, logits)) for y, logits in parts) / 5
    np.testing.assert_allclose(joined, np.mean(of_sentences()), rtol=1e-12)

    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    joined = sum(len(y) * float(theirs(y, logits)) for y, logits in parts) / 5
    assert (abs(joined - float(theirs(TOKENS, LOGITS))) > 1e-3) == (size < 5)


def test_what_stands_at_the_padding_changes_nothing():
    changed = np.where(TOKENS[..., None] == 0, 1e3 * RNG.normal(size=LOGITS.shape), LOGITS)
    np.testing.assert_array_equal(
        TokenCrossentropy(reduction=None)(TOKENS, changed), TokenCrossentropy(reduction=None)(TOKENS, LOGITS)
    )


def test_a_sentence_of_padding_alone_costs_nothing():
    assert float(TokenCrossentropy()(np.zeros((1, 5), int), LOGITS[:1])) == 0.0


def small_model():
    return keras.Sequential([keras.Input((5, 2)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(K)])


@pytest.mark.parametrize("size", [2, 5])
def test_its_hessian_is_that_of_finite_differences(size):
    """Of the mean over sentences, written out, and not of the loss on a batch."""
    model, x = small_model(), RNG.normal(size=(5, 5, 2))
    batches = [(x[i : i + size], TOKENS[i : i + size]) for i in range(0, 5, size)]

    operator = HessianOperator(model, TokenCrossentropy(), batches)

    found = np.stack([operator.matvec(e) for e in np.eye(operator.shape[0])], axis=1)
    weights = (TOKENS > 0) / (TOKENS > 0).sum(1, keepdims=True) / 5

    def mean_loss():
        values = keras.ops.sparse_categorical_crossentropy(TOKENS, model(x), from_logits=True)
        return keras.ops.sum(values * weights)

    expected = finite_difference_hessian(model, mean_loss)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def identity_of(input_shape, num_classes, seed):
    return identity()


def identity():
    layer = keras.layers.Dense(K, use_bias=False, kernel_initializer="identity")
    return keras.Sequential([keras.Input((5, K)), layer])


def test_accuracy_and_loss_of_an_experiment_leave_out_padding():
    """Two of three, none of one, two of five, both, and one of two tokens are right; padding is predicted right or wrong."""
    right = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 1]])
    said = np.where(right, TOKENS, (TOKENS + 1) % K)
    model = identity()
    logits = 3.0 * np.eye(K)[said]

    loss, accuracy = Evaluation(model, TokenCrossentropy())(logits, TOKENS)
    each = Evaluation(model, TokenCrossentropy()).examples(logits, TOKENS)

    shares = [2 / 3, 0, 2 / 5, 1, 1 / 2]
    np.testing.assert_allclose(accuracy, np.mean(shares), rtol=1e-6)
    np.testing.assert_allclose(each[1], shares, rtol=1e-6)
    of_right, of_wrong = np.log(1 + 3 * np.exp(-3)), np.log(np.exp(3) + 3)
    expected = [share * of_right + (1 - share) * of_wrong for share in shares]
    np.testing.assert_allclose(each[0], expected, rtol=1e-6)
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-6)


def test_fit_logs_the_accuracy_without_padding():
    """The same, from what an experiment compiles: at a rate of 0 batches of 2, 2 and 1 sentences."""
    right = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 1]])
    logits = 3.0 * np.eye(K)[np.where(right, TOKENS, (TOKENS + 1) % K)]
    split = lb.data.datasets.Split(logits, TOKENS, logits[:3], TOKENS[:3], name="sentences")
    config = {
        "model": {"call": "test_token_crossentropy:identity_of"},
        "loss": {"call": "losses.TokenCrossentropy"},
        "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.0},
        "jit_compile": False,
        "steps_per_execution": 1,
    }

    model = make_compiled_model(config, split, 0)
    options = {"batch_size": 2, "verbose": 0, "validation_data": (split.x_test, split.y_test)}
    logs = model.fit(split.x_train, split.y_train, **options).history

    np.testing.assert_allclose(logs["accuracy"], np.mean([2 / 3, 0, 2 / 5, 1, 1 / 2]), rtol=1e-6)
    np.testing.assert_allclose(logs["val_accuracy"], np.mean([2 / 3, 0, 2 / 5]), rtol=1e-6)


def test_the_metric_survives_being_saved_and_ignores_the_label_that_it_is_told():
    metric = keras.metrics.deserialize(keras.metrics.serialize(TokenAccuracy(3)))
    metric.update_state(TOKENS, np.eye(K)[np.where(TOKENS == 3, 0, TOKENS)])
    assert (metric.name, float(metric.result())) == ("accuracy", 1.0)


def test_without_padding_accuracy_is_of_all_labels():
    """Label 0 counts where the loss ignores none."""
    logits = 3.0 * np.eye(K)[TOKENS]
    model = identity()
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = Evaluation(model, keras_loss)(logits, np.zeros_like(TOKENS))[1]
    np.testing.assert_allclose(found, np.mean(TOKENS == 0), rtol=1e-6)


def trained(micro_batch_size):
    keras.utils.set_random_seed(1)
    model, x = small_model(), np.random.default_rng(2).normal(size=(5, 5, 2))
    model.compile(keras.optimizers.Adam(0.01), TokenCrossentropy())
    batches = lb.data.Batches(x, TOKENS, batch_size=5, seed=0)
    scheduler = lb.callbacks.BatchSizeScheduler(batches, lambda p: 5, micro_batch_size=micro_batch_size)
    model.fit(batches, epochs=3, shuffle=False, verbose=0, callbacks=[scheduler])
    return model.get_weights()


def test_an_update_from_micro_batches_is_that_of_the_whole_batch():
    """Micro-batches of 2, 2 and 1 sentences with unequal numbers of tokens."""
    for one, other in zip(trained(2), trained(None), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_it_survives_being_saved():
    loss = keras.losses.deserialize(keras.losses.serialize(TokenCrossentropy(3, False, reduction="sum")))
    assert (loss.ignore_class, loss.from_logits, loss.reduction) == (3, False, "sum")


@pytest.mark.parametrize("y", [TOKENS[0], TOKENS[..., None], np.eye(K)[TOKENS]])
def test_labels_of_another_shape_are_refused(y):
    with pytest.raises(ValueError, match="takes tokens of shape"):
        TokenCrossentropy()(y, LOGITS)


def test_arguments_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="ignore_class=None should be a whole number"):
        TokenCrossentropy(None)
    with pytest.raises(ValueError, match="from_logits='yes' should be True or False"):
        TokenCrossentropy(from_logits="yes")

"""The Transformer against its formulas in NumPy; what it may not see; and what it says, word by word."""

import keras
import numpy as np
import pytest

from tf_lbgap.curvature import HessianOperator
from tf_lbgap.losses import TokenCrossentropy
from tf_lbgap.networks import Greedy, transformer

# Heads of 4: Keras rounds 1 / √4 to no other number in float32, in which it keeps it whatever the type of the layer.
SMALL = {"num_classes": 7, "width": 8, "heads": 2, "hidden": 6, "seed": 0}
SPOKEN = 13  # a seed at which answers differ in length
SOURCE = np.array([[3, 4, 2, 0, 0], [5, 2, 0, 0, 0], [6, 6, 4, 3, 2]])
TARGET = np.array([[1, 5, 6, 0], [1, 3, 4, 5], [1, 0, 0, 0]])


def model_of(source=5, target=4, **options):
    return transformer(((source,), (target,)), **{**SMALL, **options})


def logits(model, source=SOURCE, target=TARGET):
    return np.asarray(model((source, target), training=False))


@pytest.mark.parametrize("blocks", [1, 2])
def test_it_counts_as_its_parts(blocks):
    v, d, h = 7, 8, 6
    attention, net, norm = 4 * d * d + 4 * d, 2 * d * h + h + d, 2 * d
    encoder, decoder = attention + net + 2 * norm, 2 * attention + net + 3 * norm
    assert model_of(blocks=blocks).count_params() == v * d + blocks * (encoder + decoder) + 2 * norm


def test_the_default_counts_what_the_page_says():
    assert transformer().count_params() == 591_360


# The formulas of the paper in NumPy, a sentence and a head at a time.


def normalized(x, layer):
    gamma, beta = layer.get_weights()
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * gamma + beta


def attended(queries, keys, allowed, layer):
    wq, bq, wk, bk, wv, bv, wo, bo = layer.get_weights()
    result = np.zeros_like(queries) + bo
    for head in range(wq.shape[1]):
        q, k, v = (
            a @ w[:, head] + b[head] for a, w, b in ((queries, wq, bq), (keys, wk, bk), (keys, wv, bv))
        )
        scores = np.where(allowed, q @ k.T / np.sqrt(q.shape[1]), -np.inf)
        p = np.exp(scores - scores.max(1, keepdims=True))
        result = result + p / p.sum(1, keepdims=True) @ v @ wo[head]
    return result


def embedded(tokens, matrix):
    d = matrix.shape[1]
    rates = 10000.0 ** (-2 * np.arange(d // 2) / d)
    angles = np.arange(len(tokens))[:, None] * rates
    return matrix[tokens] * np.sqrt(d) + np.concatenate([np.sin(angles), np.cos(angles)], 1)


def in_numpy(model, source, target, blocks):
    layer = model.get_layer
    matrix = layer("embedding").get_weights()[0]
    source = source[source > 0]  # without its padding
    causal = np.tril(np.ones((len(target), len(target)), bool))

    def net(x, name):
        w1, b1 = layer(f"{name}_in").get_weights()
        w2, b2 = layer(f"{name}_out").get_weights()
        return x + np.maximum(normalized(x, layer(f"{name}_norm")) @ w1 + b1, 0) @ w2 + b2

    def attention(x, memory, allowed, name):
        normal = normalized(x, layer(f"{name}_norm"))
        return x + attended(normal, normal if memory is None else memory, allowed, layer(name))

    x = embedded(source, matrix)
    for i in range(blocks):
        x = net(attention(x, None, True, f"encoder_{i}_self"), f"encoder_{i}_net")
    memory = normalized(x, layer("encoder_norm"))
    x = embedded(target, matrix)
    for i in range(blocks):
        x = attention(x, None, causal, f"decoder_{i}_self")
        x = net(attention(x, memory, True, f"decoder_{i}_cross"), f"decoder_{i}_net")
    return normalized(x, layer("decoder_norm")) @ matrix.T


@pytest.mark.parametrize("blocks", [1, 2])
def test_logits_are_those_of_the_formulas(blocks, _float64):
    model = model_of(blocks=blocks)
    rng = np.random.default_rng(1)  # biases and normalizations start at 0 and 1, which would hide a mistake
    model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    found = logits(model)
    for i, (source, target) in enumerate(zip(SOURCE, TARGET, strict=True)):
        np.testing.assert_allclose(found[i], in_numpy(model, source, target, blocks), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_later_target_token_changes_no_earlier_logit(position):
    model = model_of(blocks=2)
    changed = TARGET.copy()
    changed[:, position + 1 :] = 6 - changed[:, position + 1 :]
    before, after = logits(model), logits(model, target=changed)
    np.testing.assert_array_equal(before[:, : position + 1], after[:, : position + 1])
    assert np.abs(before[:, position + 1 :] - after[:, position + 1 :]).max() > 1e-3


def test_padding_changes_nothing(_float64):
    """Other lengths, and other sentences in the batch, do not either."""
    expected = logits(model_of(blocks=2))
    longer = logits(
        model_of(9, 6, blocks=2),
        np.pad(SOURCE, ((0, 0), (0, 4))),
        np.pad(TARGET, ((0, 0), (0, 2))),
    )
    np.testing.assert_allclose(longer[:, :4], expected, rtol=1e-10, atol=1e-12)
    alone = logits(model_of(2, 4, blocks=2), SOURCE[1:2, :2], TARGET[1:2])
    np.testing.assert_allclose(alone, expected[1:2], rtol=1e-10, atol=1e-12)


def test_each_source_token_counts():
    model, before = model_of(), logits(model_of())
    for position in range(5):
        source = SOURCE.copy()
        source[2, position] = 5
        assert np.abs(logits(model, source)[2] - before[2]).max() > 1e-3


@pytest.mark.parametrize("size", [2, 3])
def test_hessian_products_are_those_of_finite_differences(size, _float64):
    """Through masks, layer normalization, softmax and tied embeddings; 3 sentences in batches of 2 leave one of one."""
    model, loss = model_of(), TokenCrossentropy()
    said = np.array([[5, 6, 2, 0], [3, 4, 5, 2], [2, 0, 0, 0]])
    batches = [((SOURCE[i : i + size], TARGET[i : i + size]), said[i : i + size]) for i in range(0, 3, size)]
    operator = HessianOperator(model, loss, batches)
    v = np.random.default_rng(3).normal(size=operator.shape[0])
    found = operator.matvec(v)

    def gradient(weights):
        import tensorflow as tf

        start = 0
        for variable in model.trainable_variables:
            variable.assign(
                weights[start : start + (n := int(np.prod(variable.shape)))].reshape(variable.shape)
            )
            start += n
        with tf.GradientTape() as tape:
            value = loss(said, model((SOURCE, TARGET), training=False))
        parts = tape.gradient(value, [w.value for w in model.trainable_variables])
        return np.concatenate([tf.convert_to_tensor(part).numpy().ravel() for part in parts])

    weights, h = np.concatenate([w.numpy().ravel() for w in model.trainable_variables]), 1e-4
    near, far = (gradient(weights + k * h * v) - gradient(weights - k * h * v) for k in (1, 2))
    expected = (8 * near - far) / (12 * h)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.slow
def test_it_learns_to_copy():
    """60 sentences of three tokens, copied: what it has not learned it cannot have seen at that position."""
    rng = np.random.default_rng(0)
    words = rng.integers(3, 7, (60, 3))
    source = np.concatenate([words, np.full((60, 1), 2), np.zeros((60, 1), int)], 1)
    said = source[:, :4]
    shifted = np.concatenate([np.ones((60, 1), int), said[:, :-1]], 1)
    model = model_of(width=16, hidden=32)
    model.compile(keras.optimizers.Adam(0.01), TokenCrossentropy())
    model.fit((source, shifted), said, batch_size=20, epochs=60, verbose=0)
    np.testing.assert_array_equal(Greedy(model)(source), np.pad(words, ((0, 0), (0, 1))))


def test_equal_seeds_start_alike_and_layers_do_not():
    first, again, other = model_of(), model_of(), model_of(seed=1)
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])
    kernels = [w.ravel()[:16] for w in first.get_weights() if w.ndim > 1 and w.any()]
    for i, a in enumerate(kernels):
        assert all(abs(np.corrcoef(a, b)[0, 1]) < 0.999 for b in kernels[:i])


def test_a_saved_model_says_the_same(tmp_path):
    model = model_of()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(keras.models.load_model(tmp_path / "model.keras")), logits(model))


# What it says.


def slowly(model_maker, weights, sentence, length):
    """The most likely token, one after the other, each from a network that is as long as what was said."""
    source, said = sentence[sentence > 0][None], [1]
    while len(said) <= length:
        model = model_maker(source.shape[1], len(said))
        model.set_weights(weights)
        said.append(int(logits(model, source, np.array([said]))[0, -1, 1:].argmax()) + 1)
        if said[-1] == 2:
            break
    answer = [token for token in said[1:] if token != 2]
    return answer + [0] * (length - len(answer))


@pytest.mark.parametrize("batch_size", [5, 100])
def test_greedy_says_what_one_token_after_the_other_says(batch_size):
    """Eight sentences in batches of 5 leave three. At these weights some answers end and some are cut."""
    model, rng = model_of(seed=SPOKEN), np.random.default_rng(SPOKEN)
    model.set_weights([w + 0.6 * rng.normal(size=w.shape) for w in model.get_weights()])
    sources = rng.integers(2, 7, (8, 5)) * (np.arange(5) < rng.integers(1, 6, 8)[:, None])
    expected = [slowly(model_of, model.get_weights(), sentence, 4) for sentence in sources]

    found = Greedy(model, batch_size=batch_size)(sources)

    lengths = {sum(token > 0 for token in answer) for answer in expected}
    assert len(lengths) > 2, "the case has lost its point"
    np.testing.assert_array_equal(found, expected)


def test_greedy_takes_no_sentence_and_asks_for_a_length():
    assert Greedy(model_of())(SOURCE[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match="length=24"):
        Greedy(transformer(((None,), (None,)), **SMALL))(SOURCE)
    with pytest.raises(ValueError, match="batch_size=0 must be"):
        Greedy(model_of(), batch_size=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 6, "heads": 4}, "width=6 must be even and a multiple of heads=4. Pass width=8"),
        ({"blocks": 0}, "blocks=0 must be a whole number"),
        ({"dropout": 1.0}, "dropout=1.0 must be a share"),
        ({"input_shape": (24,)}, "must be two shapes of one dimension"),
    ],
)
def test_what_is_not_possible_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        transformer(**{"input_shape": ((5,), (4,)), **SMALL, **options})

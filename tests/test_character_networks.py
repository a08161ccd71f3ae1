"""Character networks: sizes by hand, nothing seen to the right, a forward pass in NumPy, Hessians by differences."""

import keras
import numpy as np
import pytest
import scipy.special
from references import finite_difference_hessian, mean_loss
from slow import slow_but

from tf_lbgap import curvature, networks
from tf_lbgap.networks import characters

LENGTH, CLASSES = 5, 4
SMALL = {
    "mlp": lambda **options: networks.char_mlp((LENGTH,), CLASSES, embedding=2, widths=(3,), **options),
    "lstm": lambda **options: networks.char_lstm((LENGTH,), CLASSES, embedding=2, units=2, **options),
    "unrolled": lambda **options: networks.char_lstm(
        (LENGTH,), CLASSES, embedding=2, units=2, unroll=True, **options
    ),
    "transformer": lambda **options: networks.char_transformer(
        (LENGTH,), CLASSES, width=4, heads=2, blocks=1, **options
    ),
}


def windows(num_examples=7, length=LENGTH, classes=CLASSES):
    return np.random.default_rng(1).integers(classes, size=(num_examples, length)).astype("int32")


def spread(model, scale=3.0):
    """Move all weights away from where they start: normal values of 0.02 leave a network nearly linear, and biases at 0."""
    random = np.random.default_rng(2)
    model.set_weights([scale * w + random.normal(scale=0.3, size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (networks.char_mlp, 62 * 16 + (16 * 16 * 128 + 128) + (128 * 62 + 62)),
        (networks.char_lstm, 62 * 16 + 4 * (16 * 64 + 64 * 64 + 64) + (64 * 62 + 62)),
        (
            networks.char_transformer,
            (62 + 32) * 32
            + 2 * (3 * (32 * 32 + 32) + (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32) + 2 * 2 * 32)
            + 2 * 32
            + (32 * 62 + 62),
        ),
    ],
    ids=["mlp", "lstm", "transformer"],
)
def test_parameters_are_those_of_the_sum_written_out_and_of_the_docstring(build, expected):
    assert build().count_params() == expected
    assert f"{expected:,} for the default" in " ".join(build.__doc__.split())


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("name", slow_but(["mlp", "lstm", "transformer"], SMALL))
def test_hessian_is_that_of_finite_differences(name):
    """In float64, over batches of 3, 3 and 1; with `tf.nn.moments` as it is the Transformer is off by some percent."""
    model = spread(SMALL[name](seed=0), 1.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x = windows()
    y = x[:, 0] if name == "mlp" else np.roll(x, -1, axis=1)
    batches = [(x[i : i + 3], y[i : i + 3]) for i in (0, 3, 6)]
    operator = curvature.HessianOperator(model, loss, batches)
    found = operator.matmat(np.eye(model.count_params()))
    wanted = finite_difference_hessian(model, lambda: mean_loss(model, loss, x, y))
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-8 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["lstm", "unrolled", "transformer"])
def test_a_place_sees_itself_and_what_is_to_its_left(name):
    model, x = spread(SMALL[name](seed=0), 1.0), windows(3)
    before = np.asarray(model(x))
    for place in range(LENGTH):
        changed = x.copy()
        changed[:, place] = (x[:, place] + 1) % CLASSES
        moved = np.abs(np.asarray(model(changed)) - before).max(axis=(0, 2)) > 1e-5
        assert moved.tolist() == [False] * place + [True] * (LENGTH - place)


def test_transformer_is_the_one_written_down_in_numpy():
    model, x = (
        spread(networks.char_transformer((LENGTH,), CLASSES, width=6, heads=3, blocks=2, seed=0)),
        windows(),
    )
    weights = [np.float64(w) for w in model.get_weights()]

    def take(count):
        return [weights.pop(0) for _ in range(count)]

    def norm(h, gamma, beta):
        deviation = h - h.mean(-1, keepdims=True)
        return gamma * deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-5) + beta

    def attention(h, kernel, bias, out, out_bias):
        parts, mixed = h @ kernel + bias, []
        for head in range(3):
            q, k, v = (parts[..., at + 2 * head : at + 2 * head + 2] for at in (0, 6, 12))
            scores = np.einsum("nid,njd->nij", q, k) / np.sqrt(2)
            scores[:, *np.triu_indices(LENGTH, 1)] = -np.inf
            mixed.append(scipy.special.softmax(scores, -1) @ v)
        return np.concatenate(mixed, -1) @ out + out_bias

    embedding, places = take(2)
    h = embedding[x] + places
    for _ in range(2):
        h = h + attention(norm(h, *take(2)), *take(4))
        gamma, beta, kernel, bias, out, out_bias = take(6)
        inner = norm(h, gamma, beta) @ kernel + bias
        h = h + inner * scipy.special.ndtr(inner) @ out + out_bias
    gamma, beta, kernel, bias = take(4)
    wanted = norm(h, gamma, beta) @ kernel + bias
    assert not weights and np.ptp(wanted) > 1
    np.testing.assert_allclose(model(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_fixes_the_start_and_no_two_layers_start_alike(name):
    first, again, other = (SMALL[name](seed=seed).get_weights() for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    drawn = [w.ravel() for w in first if w.ndim > 1]
    assert not any(
        np.array_equal(a.ravel(), b) for a, b in zip([w for w in other if w.ndim > 1], drawn, strict=True)
    )
    for i, a in enumerate(drawn):
        assert all(
            not np.allclose(a[:4] / np.abs(a[:4]).sum(), b[:4] / np.abs(b[:4]).sum()) for b in drawn[:i]
        )


def test_queries_keys_and_values_start_different():
    """Keras' MultiHeadAttention with one seeded initializer makes them equal."""
    model = networks.char_transformer(seed=0)
    kernel = next(w for w in model.get_weights() if w.shape == (32, 96))
    q, k, v = np.split(kernel, 3, axis=1)
    for a, b in ((q, k), (q, v), (k, v)):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.15


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_network_loads_and_tells_the_same(name, tmp_path):
    model = spread(SMALL[name](seed=0))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(windows()), model(windows())
    )


def test_places_of_a_transformer_are_a_weight_of_their_own():
    layer = characters.AddPlaces(seed=3)
    x = np.zeros((2, 4, 3), "float32")
    added = np.asarray(layer(x))
    np.testing.assert_array_equal(added[0], layer.get_weights()[0])
    np.testing.assert_array_equal(added[0], added[1])
    assert characters.AddPlaces.from_config(layer.get_config()).seed == 3


def test_a_wrong_size_says_what_to_type():
    for build, said in [
        (lambda: networks.char_mlp(widths=(64, 0)), ["widths[1]=0", "1 or more"]),
        (lambda: networks.char_lstm(units=2.5), ["units=2.5", "1 or more"]),
        (lambda: networks.char_transformer(width=30, heads=4), ["width=30", "heads=4", "Pass width=32"]),
        (lambda: networks.char_transformer(blocks=True), ["blocks=True", "1 or more"]),
    ]:
        with pytest.raises(ValueError) as error:
            build()
        assert all(part in str(error.value) for part in said)

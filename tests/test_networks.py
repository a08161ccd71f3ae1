"""The networks have the papers' sizes, end in logits, start where the seed says, and survive a save.

Parameter counts come from the papers and from sums written out here, layer by layer; the code is never
asked to count for the test that checks it, except in the last step, by Keras.
"""

import keras
import numpy as np
import pytest
from slow import slow_but

from tf_lbgap import networks

# One network for each builder in the code: F2, C3 and C4 are F1, C1 and C2 with other numbers. C2 is too big
# to train here; the networks of keras.applications have a test of their own.
SMALL = {
    "mlp": networks.mlp,
    "f1": networks.f1,
    "c1": networks.c1,
    "small_cnn": networks.small_cnn,
    "resnet20": networks.resnet20,
    "wrn_16_4": networks.wrn_16_4,
}
SEEDED = {**SMALL, "c2": networks.c2}


def num_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def random_inputs(model, num_examples=4):
    return np.random.default_rng(0).uniform(size=(num_examples, *model.input_shape[1:])).astype("float32")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (networks.mlp, 2 * (64 * 64 + 64) + (64 * 10 + 10)),  # 8,970
        # "same" padding turns 28 pixels into 14 and 7; "valid" would leave 5
        (networks.small_cnn, (25 * 16 + 16) + (9 * 16 * 32 + 32) + (7 * 7 * 32 * 64 + 64) + (64 * 10 + 10)),
        (networks.f1, 1_462_794),
        (networks.f2, 2_780_085),
        (networks.c1, 1_757_834),
        (networks.c2, 14_991_946),
        (networks.c3, 1_775_204),
        (networks.c4, 15_038_116),
        (networks.resnet20, 269_722),
        (networks.wrn_16_4, 2_748_890),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_networks_have_the_published_number_of_trainable_parameters(build, expected):
    assert num_trainable(build()) == expected


@pytest.mark.parametrize("depth", [8, 32])
def test_resnet_of_any_depth_counts_as_convolutions_and_two_numbers_per_normalised_channel(depth):
    n = (depth - 2) // 6
    total = 9 * 3 * 16 + 2 * 16
    for before, filters in ((16, 16), (16, 32), (32, 64)):
        total += 9 * before * filters + (2 * n - 1) * 9 * filters**2  # shortcuts hold nothing
        total += 2 * n * 2 * filters
    total += 64 * 10 + 10
    assert num_trainable(networks.resnet(depth=depth)) == total


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (22, 2)])
def test_wide_resnet_counts_as_its_blocks(depth, width):
    """A width of 1 leaves the first stage at 16 channels: its shortcut is then the identity."""
    n = (depth - 4) // 6
    total, before = 9 * 3 * 16, 16
    for filters in (16 * width, 32 * width, 64 * width):
        total += 2 * before + 9 * before * filters + 2 * filters + 9 * filters**2  # first block
        total += before * filters if before != filters else 0  # its 1x1 shortcut
        total += (n - 1) * 2 * (2 * filters + 9 * filters**2)
        before = filters
    total += 2 * before + before * 10 + 10
    assert num_trainable(networks.wide_resnet(depth=depth, width=width)) == total


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_logits_not_probabilities(name):
    """Softmax rows are positive and sum to 1; here neither holds."""
    model = SMALL[name](seed=0)
    logits = np.asarray(model(random_inputs(model)))
    assert logits.shape == (4, model.output_shape[-1])
    assert logits.min() < 0
    assert np.all(np.abs(logits.sum(axis=1) - 1) > 1e-3)


@pytest.mark.parametrize("name", slow_but(["mlp", "f1", "c1", "small_cnn"], SMALL))
def test_one_update_changes_the_weights_and_leaves_them_finite(name):
    """Biases in front of BatchNormalization are left out: their gradient is zero but for rounding."""
    model = SMALL[name](seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(random_inputs(model), np.array([0, 1, 2, 3]), batch_size=4, epochs=1, verbose=0)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.all(np.isfinite(variable.numpy())), variable.path
        assert variable.name == "bias" or np.any(variable.numpy() != old), variable.path


@pytest.mark.parametrize("name", SEEDED)
def test_equal_seeds_start_from_bit_identical_weights_whatever_the_global_seed(name):
    keras.utils.set_random_seed(1)
    first = SEEDED[name](seed=7).get_weights()
    keras.utils.set_random_seed(2)
    second = SEEDED[name](seed=7).get_weights()
    assert len(first) == len(second)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", SEEDED)
def test_no_two_layers_start_alike(name):
    """One seed handed to every initializer would give layers of equal shape equal kernels."""
    kernels = [w.ravel()[:64] for w in SEEDED[name](seed=0).get_weights() if w.ndim > 1]
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            size = min(a.size, b.size)
            # up to scale, since initializers scale one stream of random numbers by their fans
            assert abs(np.corrcoef(a[:size], b[:size])[0, 1]) < 0.999


def test_different_seeds_start_from_different_weights():
    first, second = networks.c1(seed=0).get_weights(), networks.c1(seed=1).get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True) if a.ndim > 1)


def test_without_a_seed_the_global_seed_decides():
    keras.utils.set_random_seed(3)
    first, other = networks.mlp().get_weights(), networks.mlp().get_weights()
    keras.utils.set_random_seed(3)
    again = networks.mlp().get_weights()
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


def test_equal_seeds_draw_equal_dropout_masks():
    """C1 in training mode is a random function of its input; the seed fixes it too."""
    outputs = []
    for global_seed in (1, 2):
        keras.utils.set_random_seed(global_seed)
        model = networks.c1(seed=7)
        outputs.append(np.asarray(model(random_inputs(model), training=True)))
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("build", [networks.resnet20, networks.wrn_16_4, networks.c1])
def test_a_saved_network_loads_without_custom_objects_and_gives_the_same_outputs(build, tmp_path):
    model = build(seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = random_inputs(model)
    np.testing.assert_array_equal(model(x), loaded(x))


def test_zero_gamma_starts_from_a_network_that_ignores_the_kernels_of_its_blocks():
    """With the last scale of each block at 0, the blocks pass their input through: only the first
    convolution and the last layer act."""
    model = networks.resnet20(zero_gamma=True, seed=0)
    x = random_inputs(model)
    before = np.asarray(model(x))
    kernels = [v for v in model.trainable_variables if v.name == "kernel" and v.shape.rank == 4]
    for kernel in kernels[1:]:
        kernel.assign(2.0 * kernel + 0.1)
    np.testing.assert_array_equal(model(x), before)
    assert len(kernels) == 19

    gammas = [v.numpy() for v in model.trainable_variables if v.name == "gamma"]
    assert [bool(np.all(g == 0)) for g in gammas] == [False] + [False, True] * 9
    plain = [v.numpy() for v in networks.resnet20(seed=0).trainable_variables if v.name == "gamma"]
    assert all(np.all(g == 1) for g in plain)


def test_shortcuts_of_resnet_take_every_second_pixel_and_pad_channels_with_zeros():
    """With all block scales at 0 the network is ReLU(BN(conv)), subsampled by 4, mean, dense on 16 of 64."""
    model = networks.resnet20(zero_gamma=True, seed=0)
    x = random_inputs(model)
    first_relu = next(layer for layer in model.layers if isinstance(layer, keras.layers.ReLU))
    features = np.asarray(keras.Model(model.input, first_relu.output)(x))[:, ::4, ::4].mean(axis=(1, 2))
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(x), features @ kernel[:16] + bias, rtol=1e-4, atol=1e-5)


def test_convolutions_that_halve_the_image_are_centred_on_the_pixels_their_shortcut_takes():
    """An impulse kernel at the centre of 3x3 must pick pixel (2 i, 2 j); Keras' "same" would pick (2 i + 1, 2 j + 1)."""
    model = networks.resnet20(seed=0)
    halving = [c for c in model.layers if isinstance(c, keras.layers.Conv2D) and c.strides == (2, 2)]
    padding = [p for p in model.layers if isinstance(p, keras.layers.ZeroPadding2D)]
    assert len(halving) == len(padding) == 2
    impulse = np.zeros(halving[0].kernel.shape, "float32")
    impulse[1, 1, 0, 0] = 1.0
    halving[0].kernel.assign(impulse)
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 16)).astype("float32")
    np.testing.assert_array_equal(halving[0](padding[0](x))[..., 0], x[:, ::2, ::2, 0])


def test_initial_kernels_have_the_variance_their_docstrings_state():
    """He-normal: 2 / fan-in. Residual networks: 2 / fan-out. A variance estimated from n normal numbers has
    relative standard error sqrt(2 / n); four of them are the tolerance. (Truncation only lowers it.)"""

    def check(kernel, variance):
        assert np.var(kernel) == pytest.approx(variance, rel=4 * np.sqrt(2 / kernel.size))

    check(networks.mlp(seed=0).get_weights()[0], 2 / 64)
    check(networks.mlp(activation="tanh", seed=0).get_weights()[0], 2 / (64 + 64))
    check(networks.small_cnn(seed=0).get_weights()[2], 2 / (9 * 16))
    check(networks.f1(seed=0).get_weights()[0], 2 / (784 + 512))
    wide = next(w for w in networks.wrn_16_4(seed=0).get_weights() if w.shape == (3, 3, 16, 64))
    check(wide, 2 / (9 * 64))


@pytest.mark.parametrize(
    "normalization, kind, variables", [("batch", "BatchNormalization", 4), ("layer", "LayerNormalization", 2)]
)
def test_mlp_normalises_between_a_dense_layer_and_its_activation(normalization, kind, variables):
    model = networks.mlp((6,), 3, widths=(5, 5), normalization=normalization, seed=0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", *["Dense", kind, "Activation"] * 2, "Dense"]
    plain = networks.mlp((6,), 3, widths=(5, 5), seed=0)
    assert model.count_params() == plain.count_params() + 2 * variables * 5
    np.testing.assert_array_equal(model.get_weights()[0], plain.get_weights()[0])


def test_mlp_drops_hidden_units_in_training_alone():
    model, plain = (networks.mlp((6,), 3, widths=(400,), dropout=rate, seed=0) for rate in (0.25, 0.0))
    hidden = keras.Model(model.input, model.layers[-2].output)
    x = np.abs(np.random.default_rng(0).normal(size=(50, 6))).astype("float32")
    kept, all_of_them = np.asarray(hidden(x, training=True)), np.asarray(hidden(x, training=False))
    dropped = (kept == 0) & (all_of_them > 0)
    assert 0.22 < dropped.sum() / (all_of_them > 0).sum() < 0.28
    np.testing.assert_allclose(kept[kept > 0], all_of_them[kept > 0] / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[0], plain.get_weights()[0])


def test_arguments_of_mlp_shape_the_model():
    model = networks.mlp((8, 8), 3, widths=(5,), activation="tanh", seed=0)
    assert model.input_shape == (None, 8, 8)
    assert [w.shape for w in model.get_weights()] == [(64, 5), (5,), (5, 3), (3,)]
    w, b, v, c = model.get_weights()
    x = random_inputs(model)
    np.testing.assert_allclose(model(x), np.tanh(x.reshape(4, 64) @ w + b) @ v + c, rtol=1e-5, atol=1e-6)
    assert networks.mlp((4,), 2, widths=()).count_params() == 4 * 2 + 2


def test_networks_take_other_shapes_and_class_counts():
    assert networks.f1((28, 28)).output_shape == (None, 10)
    assert networks.c1((28, 28, 1), 7).output_shape == (None, 7)
    assert networks.resnet20((28, 28, 1), 7).output_shape == (None, 7)
    assert networks.wide_resnet((30, 30, 1), 7, depth=10, width=1).output_shape == (None, 7)


def test_a_wrong_argument_is_one_line_that_says_what_to_type():
    for build, said in [
        (lambda: networks.resnet(depth=21), ["depth=21", "6 n + 2", "depth=20 or depth=26"]),
        (lambda: networks.resnet(depth=2), ["depth=2 ", "depth=8 or depth=14"]),
        (lambda: networks.wide_resnet(depth=17), ["depth=17", "6 n + 4", "depth=16 or depth=22"]),
        (lambda: networks.wide_resnet(width=0), ["width=0", "from 1 up", "width=4"]),
        (lambda: networks.mlp(normalization="weight"), ["'weight'", "'batch', 'layer'"]),
        (lambda: networks.mlp(dropout=1.0), ["dropout=1.0", "less than 1, such as 0.2"]),
        (lambda: networks.mlp(widths=(64, 0)), ["widths=(64, 0)", "from 1 up", "widths=()"]),
        (lambda: networks.f1(seed=-1), ["seed=-1", "from 0 up", "seed=0"]),
        (lambda: networks.f1(seed=0.5), ["seed=0.5", "from 0 up", "seed=0"]),
    ]:
        with pytest.raises(ValueError) as error:
            build()
        message = str(error.value)
        assert "\n" not in message
        for part in said:
            assert part in message


def test_all_lists_exactly_the_public_functions():
    public = {name for name, value in vars(networks).items() if callable(value) and not name.startswith("_")}
    assert set(networks.__all__) == public


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "expected"),
    [(networks.resnet50, 25_583_592), (networks.inception_resnet_v2, 55_813_192)],
)
def test_imagenet_networks_are_untrained_and_end_in_logits(build, expected):
    """The counts are those Keras publishes for the two networks, without the statistics of BatchNormalization."""
    keras.utils.set_random_seed(5)
    model = build()
    assert num_trainable(model) == expected
    assert model.output_shape == (None, 1000)
    assert model.layers[-1].activation is keras.activations.linear
    assert not model.compiled
    keras.utils.set_random_seed(5)
    again = build()
    np.testing.assert_array_equal(model.layers[-1].kernel, again.layers[-1].kernel)

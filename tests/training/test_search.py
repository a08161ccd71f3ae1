"""The size that fits is one that was run; and whatever was tried, the model is as before."""

import mmap
import pathlib
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from both_ways import LABELS, X, fit, mlp
from replicas import mirrored
from slow import slow_but

from tf_lbgap import data
from tf_lbgap.training import find_micro_batch_size, memory


class Limited(keras.layers.Layer):
    """Notes how many examples each pass has, and has memory for so many."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.sizes = limit, []

    def call(self, x):
        if x.shape[0] is not None:  # not while the model is built
            self.sizes.append(x.shape[0])
            if x.shape[0] > self.limit:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return x


def limited(limit):
    keras.utils.set_random_seed(1)
    layer = Limited(limit)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=True)
    layer.sizes.clear()
    return model, layer


def endless():
    return float("inf")


@pytest.mark.parametrize(
    "limit, maximum, found",
    slow_but(
        [(5, None, 4), (99, None, 37)],
        [(5, None, 4), (8, None, 8), (1, None, 1), (99, None, 37), (99, 10, 10), (99, 1, 1)],
    ),
)
def test_the_largest_power_of_two_that_ran_or_all_there_are(limit, maximum, found):
    model, layer = limited(limit)
    assert find_micro_batch_size(model, (X, LABELS), maximum, available=endless) == found
    assert max(size for size in layer.sizes if size <= limit) == found


def test_not_even_one_example():
    model, _ = limited(0)
    with pytest.raises(ValueError, match="Not even one example fits into memory"):
        find_micro_batch_size(model, (X, LABELS), available=endless)


def test_no_example():
    with pytest.raises(ValueError, match="holds no example"):
        find_micro_batch_size(mlp(), [])


@pytest.mark.parametrize("maximum", [0, 2.5, "all"])
def test_a_maximum_is_a_whole_number(maximum):
    with pytest.raises(ValueError, match="whole number"):
        find_micro_batch_size(mlp(), (X, LABELS), maximum)


@pytest.mark.slow
def test_the_memory_of_a_process_is_watched_before_the_next_size_is_tried():
    """An example takes 1 MiB forward and 1 MiB backward at least, and 40 MiB are there: at most 20, so 2 to 16.

    What a pass leaves with the process, freed or not, is not there any more, and is taken again by the next.
    """

    class Wide(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(1,), initializer="ones")

        def call(self, x):
            wide = tf.tile(x, [1, 2**16]) * self.scale  # 4 x 2^16 float32 are 1 MiB
            return tf.reduce_mean(tf.sin(wide), -1, keepdims=True) + x

    model = keras.Sequential([keras.Input((4,)), Wide(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.tile(X, (4, 1)).astype("float32"), np.tile(LABELS, 4)
    memory.give_back()
    most = memory.resident() + 40 * 2**20
    assert 2 <= find_micro_batch_size(model, (x, y), available=lambda: most - memory.resident()) <= 16
    assert find_micro_batch_size(model, (x, y), available=endless) == 4 * 37


@pytest.mark.slow
def test_nothing_in_the_model_changes():
    """Neither weights, statistics, seeds, metrics nor the optimizer, in an epoch that goes on."""

    class Drawing(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(tf.shape(x))  # from Keras' global seed

    keras.utils.set_random_seed(3)
    norm = keras.layers.BatchNormalization()
    stack = [keras.layers.Dense(5), norm, keras.layers.Dropout(0.5), Drawing(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), loss, metrics=["accuracy"])
    fit(model, X, LABELS, epochs=1)
    plain = model.train_function

    def state():
        variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
        seeds = keras.src.random.seed_generator.global_seed_generator().state
        return [v.numpy() for v in (*variables, seeds)]

    before = state()
    find_micro_batch_size(model, (X, LABELS), available=endless)
    for one, other in zip(before, state(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.train_function is plain


@pytest.mark.slow
def test_a_model_that_was_never_fit_has_empty_metrics_afterwards():
    model = mlp(metrics=["accuracy"])
    find_micro_batch_size(model, (X, LABELS), available=endless)
    assert all(v.numpy() == 0 for v in model.metrics_variables)
    assert model.optimizer.iterations.numpy() == 0


@pytest.mark.slow
def test_a_stream_gives_its_examples_as_fit_gets_them_and_goes_on_as_before():
    """map makes 4 inputs of 2; reading must not move the order of the epochs."""
    histories = []
    for search in (False, True):
        batches = data.Batches(X[:, :2], LABELS, batch_size=8, map=lambda x, y: (tf.concat([x, x], 1), y))
        model, layer = limited(99)
        if search:
            assert find_micro_batch_size(model, batches, available=endless) == 37
        histories.append(model.fit(batches, epochs=2, shuffle=False, verbose=0).history)
        assert layer.sizes[-5:] == [8, 8, 8, 8, 5]
    np.testing.assert_array_equal(histories[0]["loss"], histories[1]["loss"])


@pytest.mark.slow
def test_weights_and_nested_inputs():
    a, b = keras.Input((4,), name="a"), keras.Input((1,), name="b")
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(keras.layers.Concatenate()([a, b])))
    model.compile("sgd", "mse")
    batches = [
        ({"a": X[i : i + 9], "b": X[i : i + 9, :1]}, X[i : i + 9, 1:2], X[i : i + 9, 0] ** 2) for i in (0, 9)
    ]
    assert find_micro_batch_size(model, batches, available=endless) == 18


@pytest.mark.slow
def test_two_replicas_get_as_many_examples_each():
    with mirrored().scope():
        model = mlp(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    before = [v.numpy() for v in model.variables]
    assert find_micro_batch_size(model, (X[:8], LABELS[:8]), available=endless) == 8
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


# Memory.


@pytest.mark.parametrize("sampled", [False, True])
def test_the_peak_of_a_block_is_seen_after_it_is_gone(sampled):
    peak, before = memory.Peak(), memory.resident()
    # Not from malloc, which may take the block from what it has kept, and keep it again.
    with peak._sampled() if sampled else peak.watched(), mmap.mmap(-1, 64 * 2**20) as block:
        np.frombuffer(block, np.uint8)[:] = 1
        time.sleep(0.05)  # a sampler needs a turn
    assert peak.bytes - before > 60 * 2**20
    assert memory.resident() - before < 32 * 2**20


def test_what_malloc_keeps_is_given_back():
    """A hundred MiB in small blocks, freed but for the last, above which nothing holds the heap up."""
    blocks = [bytearray(2**16) for _ in range(1600)]
    full = memory.resident()
    del blocks[:-1]
    memory.give_back()
    assert full - memory.resident() > 60 * 2**20


def test_a_control_group_and_the_one_around_it_limit_the_process(tmp_path):
    """The inner leaves 1000 - 700 + 50 of reclaimable cache, the outer 500 - 300."""

    def write(group, limit, used, cache):
        group.mkdir(exist_ok=True)
        for name, text in {"max": limit, "current": used, "stat": f"anon 1\ninactive_file {cache}\n"}.items():
            pathlib.Path(group / f"memory.{name}").write_text(f"{text}\n")

    names = "memory.max", "memory.current", "inactive_file"
    write(tmp_path, "max", 10**9, 0)
    write(tmp_path / "outer", 500, 300, 0)
    write(tmp_path / "outer" / "inner", 1000, 700, 50)
    assert list(memory._left(tmp_path, "/outer/inner", *names)) == [350, 200]


def test_there_is_memory():
    total = next(
        line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    assert 0 < memory.available() < int(total.split()[1]) * 1024

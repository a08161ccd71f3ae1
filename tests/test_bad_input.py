"""What cannot work is one clear line, at the place where it enters.

Each message names the value that came, and says what to type instead.
"""

import math

import keras
import numpy as np
import pytest
import recording as r
import tensorflow as tf
from replicas import mirrored
from slow import slow_but

import tf_lbgap as lb

N = 23
nan = math.nan


def stream(n=N, **options):
    return lb.data.Batches(*r.ids(n), **{"batch_size": 4, **options})


def fit(data, callbacks=(), *, model=None, **options):
    model = model or r.recording_model()
    return model.fit(data, shuffle=False, verbose=0, callbacks=list(callbacks), **options)


def message_of(call, exception=ValueError):
    with pytest.raises(exception) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "]"))
    return text


# What makes a stream.


@pytest.mark.parametrize(
    "size", [0, -1, 2.5, True, "32", nan, math.inf, None, N + 1, [4], np.float32(2.5)], ids=repr
)
def test_batch_sizes(size):
    assert f"batch_size={size!r} is not a batch size" in message_of(lambda: stream(batch_size=size))
    assert f"from 1 to {N}" in message_of(lambda: setattr(stream(), "batch_size", size))


def test_sizes_that_are_whole_numbers_of_any_type():
    for size in (4, 4.0, np.int64(4), np.float32(4)):
        assert stream(batch_size=size).batch_size == 4


@pytest.mark.parametrize("seed", [None, 1.5, "0", True])
def test_seeds(seed):
    assert f"seed={seed!r} must be a whole number" in message_of(lambda: stream(seed=seed))
    dataset = tf.data.Dataset.range(N)
    assert f"seed={seed!r}" in message_of(
        lambda: lb.data.Batches.from_dataset(dataset, batch_size=4, seed=seed)
    )


def test_last_batch():
    assert "last_batch='keep' must be one of 'partial', 'merge', 'drop'" in message_of(
        lambda: stream(last_batch="keep")
    )


def test_map():
    assert "map=3 must be a function" in message_of(lambda: stream(map=3))


@pytest.mark.parametrize(
    "weights", [{}, {0: nan}, {0: -1.0}, {-1: 1.0}, {0.5: 1.0}, [1.0, 2.0], {"a": 1.0}], ids=repr
)
def test_class_weights(weights):
    y = np.zeros(N, int)
    assert f"class_weight={weights!r} must be a dict" in message_of(
        lambda: lb.data.Batches(np.zeros((N, 1)), y, batch_size=4, class_weight=weights)
    )


def test_class_weights_need_one_target():
    x = np.zeros((N, 1))
    for y in (None, {"a": x, "b": x}):
        assert "class_weight needs one array of targets" in message_of(
            lambda y=y: lb.data.Batches(x, y, batch_size=4, class_weight={0: 1.0})
        )


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((np.zeros((5, 2)), np.zeros(4)), "of equal length and not empty: x has 5, y has 4"),
        ((np.zeros((5, 2)), np.zeros(5), np.zeros(3)), "sample_weight has 3"),
        (({"a": np.zeros(5), "b": np.zeros(6)},), "x['a'] has 5, x['b'] has 6"),
        ((np.zeros((0, 2)), np.zeros(0)), "not empty: x has 0, y has 0"),
        ((np.float32(3.0),), "is not an array of examples"),
        ((np.zeros(5), 1.0), "y=array(1.) is not an array of examples"),
        ((None,), "x is not an array of numbers, but NoneType"),
        (([[1, 2], [3]],), "x is not an array of numbers"),
        ((np.array([{}, None]),), "x is not an array of numbers"),
    ],
    ids=range(9),
)
def test_arrays(arguments, expected):
    assert expected in message_of(lambda: lb.data.Batches(*arguments, batch_size=1))


def test_a_data_set_in_place_of_arrays():
    assert "Batches.from_dataset" in message_of(
        lambda: lb.data.Batches(tf.data.Dataset.range(5), batch_size=1)
    )


def test_arrays_in_place_of_a_data_set():
    assert "not ndarray" in message_of(lambda: lb.data.Batches.from_dataset(np.zeros(5), batch_size=1))


def test_data_sets_that_do_not_know_their_length():
    unknown = tf.data.Dataset.range(N).filter(lambda i: True)
    endless = tf.data.Dataset.range(N).repeat()
    for dataset in (unknown, endless):
        assert "give from_dataset(..., num_examples=)" in message_of(
            lambda d=dataset: lb.data.Batches.from_dataset(d, batch_size=4)
        )
        lb.data.Batches.from_dataset(dataset, batch_size=4, num_examples=N)


@pytest.mark.parametrize("num_examples", [0, -3, 2.5, True, "20"])
def test_numbers_of_examples(num_examples):
    assert f"num_examples={num_examples!r} must be a whole number" in message_of(
        lambda: lb.data.Batches.from_dataset(
            tf.data.Dataset.range(N), batch_size=1, num_examples=num_examples
        )
    )


def test_data_sets_known_to_be_shorter():
    assert (
        message_of(
            lambda: lb.data.Batches.from_dataset(tf.data.Dataset.range(N), batch_size=4, num_examples=30)
        )
        == "num_examples=30, but the data set holds 23. Pass num_examples=23."
    )


def test_batched_data_sets():
    batched = tf.data.Dataset.from_tensor_slices(r.ids(N)).batch(4)
    text = message_of(lambda: lb.data.Batches.from_dataset(batched, batch_size=4))
    assert "is batched already" in text and "dataset.unbatch()" in text


@pytest.mark.parametrize("position", [(0, N), (0, -1), (-1, 0), (0,), 3, None, (0, "a")], ids=repr)
def test_positions(position):
    text = message_of(lambda: setattr(stream(), "position", position))
    assert f"position={position!r} must be (epoch, examples) with 0 <= examples < {N}" in text


# What hides the stream from fit.


@pytest.mark.parametrize("steered", [True, False])
def test_class_weight_given_to_fit(steered):
    batches = stream()
    callbacks = [lb.callbacks.BatchSizeScheduler(batches)] if steered else []
    text = message_of(lambda: fit(batches, callbacks, class_weight={0: 1.0}))
    assert text == "fit was given class_weight: give it to the stream instead, Batches(..., class_weight=)."


@pytest.mark.parametrize("steps", [1, 6, 100])
def test_steps_per_epoch_given_to_fit(steps):
    batches = stream()
    callback = lb.callbacks.BatchSizeScheduler(batches)
    text = message_of(lambda: fit(batches, [callback], steps_per_epoch=steps))
    assert f"fit counts {steps} steps per epoch" in text and "Leave steps_per_epoch out" in text


def test_a_callback_inside_another_that_keras_does_not_see():
    batches = stream()
    inner = lb.callbacks.BatchSizeScheduler(batches)

    class Outer(keras.callbacks.Callback):
        def set_model(self, model):
            inner.set_model(model)

        def set_params(self, params):
            inner.set_params(params)

        def on_train_begin(self, logs=None):
            inner.on_train_begin(logs)

    assert "put the callback into fit's own list" in message_of(lambda: fit(batches, [Outer()]))


@pytest.mark.parametrize(
    "wrap, expected",
    [
        (lambda b: b.repeat(), "already reads it once per epoch"),
        (lambda b: b.map(lambda x, y: (x, y)), "Batches(..., map=function)"),
        (lambda b: b.batch(2), "Batches(..., batch_size=)"),
        (lambda b: b.rebatch(2), "Batches(..., batch_size=)"),
        (lambda b: b.unbatch(), "in_order(1)"),
        (lambda b: b.prefetch(2), "prefetches by itself"),
        (lambda b: b.shuffle(10), "Batches(..., seed=)"),
        (lambda b: b.cache(), "from_dataset"),
        (lambda b: b.filter(lambda *_: True), "before you give them to Batches"),
    ],
    ids=range(9),
)
def test_transformations_that_would_hide_it(wrap, expected):
    text = message_of(lambda: wrap(stream()))
    assert "would hide the stream from fit" in text and expected in text


CALLBACKS = {
    "batch size": lambda b: lb.callbacks.BatchSizeScheduler(b, lb.schedules.constant(4)),
    "live batch size": lambda b: lb.callbacks.BatchSizeScheduler(b),
    "rate": lambda b: lb.callbacks.LearningRateScheduler(b, lb.schedules.constant(0.1)),
}
OTHERS = {
    "another stream": lambda b: stream(22),
    "take": lambda b: b.take(5),
    "zip": lambda b: tf.data.Dataset.zip((b,)).map(lambda batch: batch),
    "options": lambda b: b.with_options(tf.data.Options()),
    "a data set": lambda b: tf.data.Dataset.from_tensor_slices(r.ids(22)).batch(4, drop_remainder=True),
}


@pytest.mark.parametrize("default_strategy", slow_but([True], [True, False]))
@pytest.mark.parametrize("other", slow_but(["another stream", "take"], OTHERS))
@pytest.mark.parametrize("make_callback", CALLBACKS.values(), ids=CALLBACKS.keys())
def test_a_stream_that_fit_does_not_read(make_callback, other, default_strategy):
    """The second time, too: the callback has seen its own stream in the fit before."""
    if default_strategy:
        model = r.recording_model()
    else:
        with mirrored().scope():
            model = r.recording_model()
    batches = stream(22)
    callback = make_callback(batches)
    if default_strategy:
        fit(batches, [callback], model=model)
    before = r.num_iterations(model)

    for _ in range(2):
        text = message_of(lambda: fit(OTHERS[other](batches), [callback], model=model))
        assert f"{type(callback).__name__} was given a stream that fit does not read" in text
        assert "Batches(..., map=)" in text
    assert r.num_iterations(model) == before


def test_callbacks_without_a_stream():
    for make in CALLBACKS.values():
        text = message_of(lambda make=make: make(tf.data.Dataset.range(3)))
        assert "works with a tf_lbgap.data.Batches" in text and "batches = lb.data.Batches(" in text


@pytest.mark.parametrize("streams", [1, 2])
def test_two_callbacks_that_steer(streams):
    batches = stream()
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches),
        lb.callbacks.BatchSizeScheduler(batches if streams == 1 else stream(), lb.schedules.constant(4)),
    ]
    for order in (callbacks, callbacks[::-1]):
        text = message_of(lambda order=order: fit(batches, order))
        assert ("Two batch-size callbacks steer one stream" if streams == 1 else "fit does not read") in text


def test_a_fit_inside_the_fit_that_is_steered():
    batches = stream()
    within = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: fit(batches))
    text = message_of(lambda: fit(batches, [lb.callbacks.BatchSizeScheduler(batches), within]))
    assert "a stream that another fit is reading" in text


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_measuring_under_a_strategy(method):
    with mirrored().scope():
        model = r.recording_model()
    assert "batches.in_order()" in message_of(lambda: getattr(model, method)(stream(22), verbose=0))


# Schedules.


@pytest.mark.parametrize("value", [nan, math.inf, None, "32", 0, 0.2, -5, N + 1, [4], True], ids=repr)
def test_what_a_schedule_may_not_ask_for(value):
    """At once if it asks for it at the start, and in the epoch in which it does otherwise."""
    batches = stream()
    text = message_of(lambda: lb.callbacks.BatchSizeScheduler(batches, lambda progress: value))
    assert f"asked for a batch of {value!r} at progress 0" in text

    callback = lb.callbacks.BatchSizeScheduler(batches, lambda progress: 4 if progress < 1.5 else value)
    text = message_of(lambda: fit(batches, [callback], epochs=2))
    assert f"asked for a batch of {value!r} at progress 1.5" in text
    if isinstance(value, int) and value > N:
        assert f"Pass maximum={N}" in text
        lb.callbacks.BatchSizeScheduler(batches, lambda progress: value, maximum=N)


def test_what_is_no_schedule():
    assert "lb.schedules.constant(32)" in message_of(lambda: lb.callbacks.BatchSizeScheduler(stream(), 32))
    assert "lb.schedules.constant(0.1)" in message_of(
        lambda: lb.callbacks.LearningRateScheduler(stream(), 0.1)
    )


@pytest.mark.parametrize("value", [nan, math.inf, -0.1, None, "fast", [0.1, 0.2]], ids=repr)
def test_what_a_rate_schedule_may_not_give(value):
    batches = stream()
    text = message_of(lambda: lb.callbacks.LearningRateScheduler(batches, lambda progress: value))
    assert f"gave a learning rate of {value!r} at progress 0" in text

    callback = lb.callbacks.LearningRateScheduler(batches, lambda progress: 0.1 if progress < 0.5 else value)
    assert f"gave a learning rate of {value!r} at progress 0.5" in message_of(
        lambda: fit(batches, [callback])
    )


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"learning_rate": "cubic"}, "learning_rate='cubic' must be one of 'none', 'linear', 'sqrt'"),
        ({"sizes": "few"}, "sizes='few' must be 'any' or 'ladder'"),
        ({"maximum": 0}, "maximum=0 is not a batch size"),
        ({"maximum": N + 1}, f"maximum={N + 1} is not a batch size"),
        ({"multiple_of": 2.5}, "multiple_of=2.5 is not a batch size"),
        (
            {"multiple_of": 8},
            "multiple_of=8 is above the batch of 4 that the schedule asks for at progress 0",
        ),
    ],
    ids=range(6),
)
def test_options_of_the_batch_size_scheduler(options, expected):
    assert expected in message_of(
        lambda: lb.callbacks.BatchSizeScheduler(stream(), lb.schedules.constant(4), **options)
    )


# Sizes set by hand.


class Set(keras.callbacks.Callback):
    def __init__(self, batches, size):
        super().__init__()
        self.batches, self.size = batches, size

    def on_train_batch_end(self, batch, logs=None):
        self.batches.batch_size = self.size


def test_a_size_set_under_a_schedule():
    batches = stream()
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(4)), Set(batches, 8)]
    text = message_of(lambda: fit(batches, callbacks))
    assert "batch_size=8 was set while a schedule steers the stream" in text
    batches.batch_size = 8  # that fit is over


@pytest.mark.parametrize("default_strategy", [True, False])
def test_a_size_set_during_fit_without_our_callback(default_strategy):
    if default_strategy:
        model = r.recording_model()
    else:
        with mirrored().scope():
            model = r.recording_model()
    batches = stream(22)
    text = message_of(lambda: fit(batches, [Set(batches, 8)], model=model))
    assert "batch_size=8 was set while fit was running" in text
    assert "Add lb.callbacks.BatchSizeScheduler(batches)" in text


def test_a_position_set_during_fit():
    batches = stream()
    within = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(batches, "position", (0, 0))
    )
    assert "position is set before fit" in message_of(lambda: fit(batches, [within]))


# Resuming.


def test_a_state_with_another_seed():
    state = lb.callbacks.BatchSizeScheduler(stream(seed=3)).get_state()
    text = message_of(lambda: lb.callbacks.BatchSizeScheduler(stream(seed=4)).set_state(state))
    assert "saved with seed 3, but the stream has seed 4" in text and "Batches(..., seed=3)" in text


def test_resuming_in_mid_epoch_without_our_callback():
    batches = stream()
    batches.position = (0, 8)
    text = message_of(lambda: fit(batches))
    assert "position (0, 8)" in text and "Add lb.callbacks.BatchSizeScheduler(batches)" in text


@pytest.mark.parametrize("position", [(2, 8), (2, 0)])
def test_resuming_in_another_epoch(position):
    batches = stream()
    batches.position = position
    callback = lb.callbacks.BatchSizeScheduler(batches)
    text = message_of(lambda: fit(batches, [callback], epochs=3))
    assert f"resume at position {position}, but fit begins with epoch 0. Call fit(initial_epoch=2)" in text


@pytest.mark.parametrize("live", [True, False])
def test_resuming_where_nothing_is_left(live):
    batches = stream(last_batch="drop")
    batches.position = (0, 21)
    callback = lb.callbacks.BatchSizeScheduler(batches, None if live else lb.schedules.constant(4))
    text = message_of(lambda: fit(batches, [callback]))
    assert "Nothing is left of epoch 0: of 23 examples, training is at 21" in text


# Optimizers.


def test_momentum_correction_needs_momentum():
    for optimizer in (keras.optimizers.Adam(), keras.optimizers.SGD(0.1)):
        batches = stream()
        for callback in (
            lb.callbacks.BatchSizeScheduler(batches, momentum_correction=True),
            lb.callbacks.LearningRateScheduler(batches, lb.schedules.constant(0.1), momentum_correction=True),
        ):
            model = r.recording_model(optimizer=optimizer)
            text = message_of(lambda m=model, c=callback, b=batches: fit(b, [c], model=m))
            assert "needs keras.optimizers.SGD or optimizers.Lars, with momentum" in text
            assert f"the model has {type(optimizer).__name__} with momentum 0" in text


def test_momentum_correction_of_a_rate_that_another_callback_writes():
    batches = stream()
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches, learning_rate="linear", momentum_correction=True),
        lb.callbacks.LearningRateScheduler(batches, lb.schedules.constant(0.1)),
    ]
    model = r.recording_model(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    for order in (callbacks, callbacks[::-1]):
        text = message_of(lambda order=order: fit(batches, order, model=model))
        assert "Give it momentum_correction=True, too" in text


def test_momentum_correction_and_a_backup_without_its_state(tmp_path):
    batches = stream()
    callbacks = [
        keras.callbacks.BackupAndRestore(tmp_path),
        lb.callbacks.BatchSizeScheduler(batches, momentum_correction=True),
    ]
    model = r.recording_model(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    assert "cannot be used with BackupAndRestore" in message_of(lambda: fit(batches, callbacks, model=model))


def test_a_keras_schedule_that_ours_would_overrule():
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    batches = stream()
    callback = lb.callbacks.LearningRateScheduler(batches, lb.schedules.constant(0.1))
    model = r.recording_model(optimizer=keras.optimizers.SGD(decay))
    text = message_of(lambda: fit(batches, [callback], model=model))
    assert "built with a Keras schedule" in text and "learning_rate=0.1" in text


@pytest.mark.parametrize("live", [True, False])
def test_a_callback_that_erases_the_end_of_an_epoch(live):
    """model.stop_training = False after the last batch would make Keras read on."""
    batches = stream()
    model = r.recording_model()
    erase = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", False)
    )
    callback = lb.callbacks.BatchSizeScheduler(batches, None if live else lb.schedules.constant(4))

    text = message_of(lambda: fit(batches, [callback, erase], model=model))

    assert "a callback set model.stop_training back to False" in text
    assert r.num_iterations(model) == 6

"""The stream by itself: what its batches hold, in which order, and what Keras makes of them."""

import copy
import itertools
import re
import threading

import keras
import numpy as np
import pytest
import recording as r
import tensorflow as tf
from slow import slow, slow_but

import tf_lbgap as lb
from tf_lbgap.data.plan import cut, num_batches

N = 23
LAST_BATCH = ["partial", "merge", "drop"]


def parts(n=N):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)).astype("float32"), rng.integers(0, 4, n), rng.random(n).astype("float32")


def sizes_of(batches):
    return [len(keras.tree.flatten(batch)[0]) for batch in batches]


# What a batch holds.


@pytest.mark.parametrize("structure", ["x", "x y", "x y w", "tuple", "dict", "dict y"])
def test_batches_are_rows_in_the_order_of_the_epoch(structure):
    x, y, w = parts()
    x2 = np.arange(N)
    arguments = {
        "x": (x,),
        "x y": (x, y),
        "x y w": (x, y, w),
        "tuple": ((x, x2), y),
        "dict": ({"a": x, "b": x2},),
        "dict y": ({"a": x, "b": x2}, {"c": y}, {"c": w}),
    }[structure]
    batches = lb.data.Batches(*arguments, batch_size=5, seed=1)

    for epoch in range(2):
        order = batches.order(epoch)
        wanted = arguments if len(arguments) > 1 else arguments[0]
        for i, batch in enumerate(batches):
            index = order[5 * i : 5 * i + 5]
            expected = keras.tree.map_structure(lambda a, index=index: a[index], wanted)
            keras.tree.map_structure(np.testing.assert_array_equal, batch, expected)
        assert i == 4 and len(index) == 3


def test_lists_and_data_frames_are_taken_as_keras_takes_them():
    pandas = pytest.importorskip("pandas")
    x, y, _ = parts()
    frame = pandas.DataFrame(x, columns=list("abc"))
    for given, labels in (
        (frame, pandas.Series(y)),
        (x.tolist(), y.tolist()),
        (frame.to_dict("list"), list(y)),
    ):
        batches = lb.data.Batches(given, labels, batch_size=5, shuffle=False)
        first = next(iter(batches))
        values = np.stack(list(first[0].values()), 1) if isinstance(first[0], dict) else first[0]
        np.testing.assert_allclose(values, x[:5], rtol=1e-6)
        np.testing.assert_array_equal(first[1], y[:5])


@pytest.mark.parametrize("one_hot", slow_but([True], [True, False]))
@pytest.mark.parametrize("from_dataset", [True, False])
def test_class_weights_give_the_losses_of_keras(one_hot, from_dataset):
    """In the same order, with a ragged last batch; class 1 is not named and weighs 1."""
    x, y, _ = parts()
    y = np.eye(4, dtype="float32")[y] if one_hot else y
    weights = {0: 3.0, 2: 0.5, 3: 0.0}
    options = {"batch_size": 5, "shuffle": False, "class_weight": weights}
    if from_dataset:
        ours = lb.data.Batches.from_dataset(tf.data.Dataset.from_tensor_slices((x, y)), **options)
    else:
        ours = lb.data.Batches(x, y, **options)

    def losses(data, **options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        kind = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
        model.compile("sgd", kind(from_logits=True))
        return model.fit(data, epochs=3, shuffle=False, verbose=0, **options).history["loss"]

    plain = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    np.testing.assert_allclose(losses(ours), losses(plain, class_weight=weights), rtol=1e-6)


@pytest.mark.parametrize("from_dataset", [True, False])
def test_class_weights_multiply_sample_weights(from_dataset):
    x, y, w = parts()
    y = y - 1  # -1 is a label that nobody named
    options = {"batch_size": 5, "shuffle": False, "class_weight": {0: 3.0, 2: 0.5}}
    if from_dataset:
        batches = lb.data.Batches.from_dataset(tf.data.Dataset.from_tensor_slices((x, y, w)), **options)
    else:
        batches = lb.data.Batches(x, y, w, **options)

    got = np.concatenate([batch[2] for batch in batches])

    np.testing.assert_allclose(got, w * np.select([y == 0, y == 2], [3.0, 0.5], 1.0), rtol=1e-6)


# The map.


def jitter(x, y, seed):
    return x + tf.random.stateless_uniform(tf.shape(x), seed=seed), y


def seen_in_fit(batches, schedule, epochs=1):
    """Return what a model trained on, whatever the size of its batches."""
    seen = []

    class Note(keras.layers.Layer):
        def call(self, inputs, training=False):
            if training:
                shape = inputs.shape
                inputs = tf.numpy_function(lambda a: seen.append(a) or a, [inputs], tf.float32)
                inputs.set_shape(shape)
            return inputs

    model = keras.Sequential([keras.Input((3,)), Note(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[lb.callbacks.BatchSizeScheduler(batches, schedule)],
    )
    return np.concatenate(seen)


@pytest.mark.parametrize("from_dataset", slow_but([False], [True, False]))
def test_a_seeded_map_is_reproducible_planned_and_live(from_dataset):
    x, y, _ = parts()

    def stream(seed):
        options = {"batch_size": 5, "seed": seed, "map": jitter}
        if from_dataset:
            return lb.data.Batches.from_dataset(tf.data.Dataset.from_tensor_slices((x, y)), **options)
        return lb.data.Batches(x, y, **options)

    first = seen_in_fit(stream(1), lb.schedules.constant(5), epochs=2)
    np.testing.assert_array_equal(seen_in_fit(stream(1), lb.schedules.constant(5), epochs=2), first)
    np.testing.assert_array_equal(seen_in_fit(stream(1), None, epochs=2), first)
    assert not np.array_equal(seen_in_fit(stream(2), lb.schedules.constant(5), epochs=2), first)
    if not from_dataset:
        noise = first[:N] - x[stream(1).order(0)]
        assert len(np.unique(noise)) == noise.size  # each batch has a seed of its own
        assert not np.allclose(noise, first[N:] - x[stream(1).order(1)])  # and each epoch


def test_a_map_may_hold_pythons_if_as_in_tf_data():
    def negate_large(x, y):
        if tf.reduce_mean(y) > 3.5:
            x = -x
        return x, y

    x = np.ones((8, 1), np.float32)
    batches = lb.data.Batches(x, np.arange(8.0), batch_size=4, shuffle=False, map=negate_large)

    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches])[:, 0], [1] * 4 + [-1] * 4)


@pytest.mark.parametrize("from_dataset", slow_but([False], [True, False]))
def test_measuring_reads_all_examples_as_stored_without_map(from_dataset):
    x, y, _ = parts()
    options = {"batch_size": 5, "map": lambda x, y: (x + 100.0, y), "last_batch": "drop"}
    if from_dataset:
        batches = lb.data.Batches.from_dataset(tf.data.Dataset.from_tensor_slices((x, y)), **options)
    else:
        batches = lb.data.Batches(x, y, **options)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches.in_order()]), x)
    assert sizes_of(batches.in_order(7)) == [7, 7, 7, 2]
    np.testing.assert_allclose(
        model.evaluate(batches, verbose=0), model.evaluate(x, y, batch_size=5, verbose=0), rtol=1e-5
    )
    np.testing.assert_allclose(model.predict(batches, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches])[:, 0].min() > 50, True)


def test_evaluating_what_map_gives_another_type_is_an_error():
    x, y, _ = parts()
    batches = lb.data.Batches(
        (x * 9).astype("uint8"), y, batch_size=5, map=lambda x, y: (tf.cast(x, tf.float32) / 255, y)
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(batches, shuffle=False, verbose=0)

    with pytest.raises(ValueError, match="evaluate and predict read the stream without map"):
        model.evaluate(batches, verbose=0)


# The order.


def test_the_order_is_a_permutation_that_only_seed_and_epoch_decide():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            for noise in (1, 2):
                tf.random.set_seed(noise)
                order = lb.data.Batches(np.arange(N), batch_size=4, seed=seed).order(epoch)
                np.testing.assert_array_equal(np.sort(order), np.arange(N))
                orders.setdefault((seed, epoch), set()).add(tuple(order))
    assert all(len(found) == 1 for found in orders.values())
    assert len(set.union(*orders.values())) == 4
    np.testing.assert_array_equal(
        lb.data.Batches(np.arange(N), batch_size=4, shuffle=False).order(5), np.arange(N)
    )


@pytest.mark.slow
def test_the_order_of_a_data_set_does_not_change_with_the_global_seed():
    def order(noise):
        tf.random.set_seed(noise)
        batches = lb.data.Batches.from_dataset(tf.data.Dataset.range(N), batch_size=4, seed=3)
        return [np.concatenate(list(batches)).tolist() for _ in range(2)]

    assert order(1) == order(2)
    assert order(1)[0] != order(1)[1]
    assert sorted(order(1)[0]) == list(range(N))


def test_a_data_set_has_no_order():
    batches = lb.data.Batches.from_dataset(tf.data.Dataset.range(N), batch_size=4)
    with pytest.raises(ValueError, match=r"order\(\) needs a stream made from arrays"):
        batches.order(0)


# Where an epoch is cut.


def test_cut_replays_as_written_plainly():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 60))
        sizes = rng.integers(1, n + 1, size=n + 1)  # the size that is asked for at each position
        start = int(rng.integers(0, n))
        for last_batch in LAST_BATCH:
            expected, asked, position = [start], [], start
            while position < n:
                size = sizes[position]
                left = n - position - size
                if left < 0 and last_batch == "drop":
                    break
                position = n if left < 0 or (left < size and last_batch == "merge") else position + size
                expected.append(position)
                asked.append(size)

            boundaries, got = cut(n, lambda at, s=sizes: int(s[at]), start=start, last_batch=last_batch)

            assert boundaries.tolist() == expected and got.tolist() == asked


@pytest.mark.parametrize("last_batch", slow_but(["partial"], LAST_BATCH))
def test_a_constant_stream_is_cut_in_the_same_way_from_arrays_and_from_data_sets(last_batch):
    for n, size in [(1, 1), (7, 7), (7, 4), (9, 4)]:
        expected = np.diff(cut(n, lambda at, s=size: s, last_batch=last_batch)[0]).tolist()
        for batches in (
            lb.data.Batches(np.arange(n), batch_size=size, last_batch=last_batch),
            lb.data.Batches.from_dataset(tf.data.Dataset.range(n), batch_size=size, last_batch=last_batch),
        ):
            assert sizes_of(batches) == expected
            assert len(batches) == num_batches(n, size, last_batch) == len(expected)


@pytest.mark.parametrize("last_batch", LAST_BATCH)
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("n, size", slow_but([(7, 4)], [(1, 1), (7, 4), (8, 4)]))
def test_fit_makes_as_many_updates_as_there_are_batches(n, size, live, last_batch):
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(n), batch_size=size, last_batch=last_batch)

    model.fit(
        batches,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[lb.callbacks.BatchSizeScheduler(batches, None if live else lb.schedules.constant(size))],
    )

    expected = np.diff(cut(n, lambda at: size, last_batch=last_batch)[0]).tolist()
    assert r.sizes_seen(model) == 2 * expected
    assert r.num_iterations(model) == r.num_decays(model) == 2 * len(expected)


# Sources that hold fewer or more examples than was promised.


def counted(n):
    """A data set of n ids that does not know its length."""
    values = tf.data.Dataset.from_tensor_slices(r.ids(n))
    return values.filter(lambda x, y: True)


@pytest.mark.parametrize("mode", ["alone", "planned", "live"])
@pytest.mark.parametrize("promised, size", slow_but([(23, 4)], [(23, 4), (21, 20)]))
def test_too_few_examples_are_an_error_that_counts_them(promised, size, mode):
    """20 came: in the first case only the last batch would be short, in the second it would be missing."""
    batches = lb.data.Batches.from_dataset(counted(20), num_examples=promised, batch_size=size)
    schedule = {"planned": [lb.schedules.constant(size)], "live": [None]}.get(mode, [])
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, each) for each in schedule]

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"after 20 examples, but num_examples={promised}"
    ):
        r.recording_model().fit(batches, shuffle=False, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize("mode", ["alone", "planned", "live"])
def test_too_many_examples_are_left_out_with_one_line(mode, capfd):
    batches = lb.data.Batches.from_dataset(counted(300), num_examples=21, batch_size=4, shuffle=False)
    model = r.recording_model()
    schedule = {"planned": [lb.schedules.constant(4)], "live": [None]}.get(mode, [])

    model.fit(
        batches,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[lb.callbacks.BatchSizeScheduler(batches, each) for each in schedule],
    )

    np.testing.assert_array_equal(np.concatenate(model.layers[0].seen), [*range(21)] * 2)
    assert capfd.readouterr().err.count("the source holds more than num_examples = 21 examples") == 1


# As an object.


def test_copies_are_the_stream_itself():
    batches = lb.data.Batches(np.arange(N), batch_size=4)
    assert copy.deepcopy({"callbacks": [batches]})["callbacks"][0] is batches


def test_position_says_how_far_training_is():
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=5)
    positions = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: positions.append(batches.position)
    )

    model.fit(
        batches,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(5)), note],
    )

    one = [(0, 5), (0, 10), (0, 15), (0, 20), (1, 0)]
    assert positions == one + [(epoch + 1, examples) for epoch, examples in one]


def test_position_resumes_in_mid_epoch_once():
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=5)
    batches.position = (2, 10)
    np.testing.assert_array_equal(
        model.predict(batches, verbose=0)[:, 0], np.arange(N)
    )  # only training starts there

    callback = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(5))
    model.fit(batches, epochs=4, initial_epoch=2, shuffle=False, verbose=0, callbacks=[callback])

    rest, whole = r.epochs_seen(model, [3, 5])
    np.testing.assert_array_equal(rest, batches.order(2)[10:])
    np.testing.assert_array_equal(whole, batches.order(3))


def test_predicting_in_another_thread_does_not_disturb_training():
    for schedule in (None, lb.schedules.constant(5)):
        model, other = r.recording_model(), r.recording_model()
        batches = lb.data.Batches(*r.ids(N), batch_size=5)
        predictions, threads = [], []

        def predict(batch, logs, batches=batches, other=other, predictions=predictions, threads=threads):
            threads.append(
                threading.Thread(target=lambda: predictions.append(other.predict(batches, verbose=0)))
            )
            threads[-1].start()

        callbacks = [
            lb.callbacks.BatchSizeScheduler(batches, schedule),
            keras.callbacks.LambdaCallback(on_train_batch_begin=predict),
        ]

        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        for thread in threads:
            thread.join()

        for epoch, seen in enumerate(r.epochs_seen(model, [5, 5])):
            np.testing.assert_array_equal(seen, batches.order(epoch))
        assert len(predictions) == 10
        for prediction in predictions:
            np.testing.assert_allclose(prediction[:, 0], np.arange(N), rtol=1e-6)


# Several workers, and a source that has no index.


@pytest.mark.parametrize("live", [False, True], ids=["planned", "live"])
@pytest.mark.parametrize("workers", [slow(1), 3])
@pytest.mark.parametrize("source", ["arrays", slow("dataset")])
def test_workers_read_equal_pieces_of_each_batch(source, workers, live):
    """29 examples and workers of 2 replicas: batches of 12, pieces of 12 / replicas, replica after replica."""
    ids = np.arange(29)
    if source == "arrays":
        batches = lb.data.Batches(ids, batch_size=12, seed=1)
    else:
        dataset = tf.data.Dataset.from_tensor_slices(ids)
        batches = lb.data.Batches.from_dataset(dataset, batch_size=12, seed=1)
    replicas = 2 * workers

    class Steering:
        params = None

    steering = Steering()
    batches.steer(steering, live, replicas=replicas)
    stop = 29 - 29 % replicas
    boundaries = np.array([0, 12, 24, stop] if stop > 24 else [0, 12, 24])
    pieces = []
    for worker in range(workers):
        batches.begin_epoch(0, 0, 12, None if live else boundaries)
        context = tf.distribute.InputContext(workers, worker, replicas)
        pieces.append([piece.numpy() for piece in batches.share_of(context)])
    assert [len(of_worker) for of_worker in pieces] == [2 * (len(boundaries) - 1)] * workers
    whole = []
    for i, (low, high) in enumerate(itertools.pairwise(boundaries)):
        of_batch = [piece for of_worker in pieces for piece in of_worker[2 * i : 2 * i + 2]]
        assert {len(piece) for piece in of_batch} == {(high - low) // replicas}
        whole.append(np.concatenate(of_batch))
    batches.end_fit()
    whole = np.concatenate(whole)
    assert len(set(whole)) == len(whole) == stop
    if source == "arrays":
        np.testing.assert_array_equal(whole, batches.order(0)[:stop])


@pytest.mark.parametrize("live", [False, True], ids=["planned", "live"])
def test_a_source_is_read_once_per_epoch_and_skipping_is_told(live, capfd):
    reads = []

    def note(x):
        reads.append(float(x[0]))
        return x

    x = np.arange(20, dtype="float32")[:, None]
    dataset = tf.data.Dataset.from_tensor_slices((x, x))
    dataset = dataset.map(lambda a, b: (tf.ensure_shape(tf.numpy_function(note, [a], tf.float32), [1]), b))
    batches = lb.data.Batches.from_dataset(dataset, batch_size=5, num_examples=20)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches.position = (1, 10)
    steering = lb.callbacks.BatchSizeScheduler(batches, None if live else lb.schedules.constant(5))
    model.fit(batches, epochs=3, initial_epoch=1, shuffle=False, verbose=0, callbacks=[steering])
    assert sorted(reads) == sorted([*range(20)] * 2)
    assert int(model.optimizer.iterations.numpy()) == 2 + 4
    told = [line for line in capfd.readouterr().err.splitlines() if "skipping" in line]
    assert len(told) == 1
    assert re.fullmatch(
        r"Batches.from_dataset: skipping the 10 examples of this epoch that were seen before took [\d.e-]+ s\.",
        told[0],
    )

"""The advisor on models whose answer is known: by a clock that a test turns, by closed forms, and by the trainings that it saw."""

import gc
import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_lbgap as lb
from tf_lbgap.checkpoints import randomness
from tf_lbgap.pilot import trainings
from tf_lbgap.pilot.ladder import Ladder, sizes_from

RNG = np.random.default_rng(0)
N = 100  # of batches of 8 the last has 4
X = RNG.normal(size=(N, 4)).astype("float32")
W = np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")
Y = X @ W + 0.5 * RNG.normal(size=(N, 1)).astype("float32")


def seconds_of(size):
    """What the clock of these tests says that an update takes."""
    return 0.02 + 0.001 * size


class Clock:
    """Stands still but for what is put on it."""

    def __init__(self, per_question=0.0):
        self.now, self.per_question = 0.0, per_question

    def __call__(self):
        self.now += self.per_question
        return self.now


class Watched(keras.Model):
    """A linear model that notes the size of each of its updates, and puts seconds on a clock."""

    def __init__(self, clock, seconds=seconds_of):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="zeros")
        self.clock, self.seconds, self.sizes = clock, seconds, []

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        tf.py_function(self.note, [tf.shape(data[0])[0]], [])
        return super().train_step(data)

    def note(self, size):
        self.sizes.append(int(size))
        self.clock.now += self.seconds(int(size))


def watched(clock, rate=0.02, seconds=seconds_of):
    model = Watched(clock, seconds)
    model(X[:1])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def asked(model, clock, *, batch_size=8, x=X, y=Y, **more):
    batches = lb.data.Batches(x, y, batch_size=batch_size)
    return lb.advise(model, batches, clock=clock, available=lambda: math.inf, **more)


@pytest.fixture(scope="module")
def advised():
    """An advice of 25 seconds of a clock, the sizes of all updates behind it, and that clock."""
    keras.utils.set_random_seed(0)
    clock = Clock()
    model = watched(clock)
    return asked(model, clock, budget=25.0, target_loss=0.5), model.sizes, clock


# What was timed.


def test_seconds_per_update_are_those_of_the_clock(advised):
    """Whole epochs: of 100 examples batches of 64 are 64 and 36, of 8 twelve of 8 and one of 4."""
    advice, _, _ = advised
    assert [row.batch_size for row in advice.sizes] == [2, 4, 8, 16, 32, 64]
    for row in advice.sizes:
        count = -(-N // row.batch_size)
        whole = (count * 0.02 + 0.001 * N) / count
        if row.batch_size >= 32:
            assert row.seconds_per_update == pytest.approx(whole, rel=1e-9)
        else:  # blocks that hold no whole epoch tell of its full batches
            either = (pytest.approx(whole, rel=1e-9), pytest.approx(seconds_of(row.batch_size), rel=1e-9))
            assert row.seconds_per_update in either
        assert row.seconds_low <= row.seconds_per_update <= row.seconds_high
        assert row.examples_per_second == pytest.approx(row.batch_size / row.seconds_per_update)
    assert all(row.repeats >= 2 for row in advice.sizes)


def test_all_sizes_that_are_told_were_run_and_the_advised_one_is_of_them(advised):
    advice, sizes, _ = advised
    told = {row.batch_size for row in advice.sizes}
    assert told <= set(sizes) and advice.batch_size in told
    assert all(size < max(told) for size in set(sizes) - told)  # the last batches of epochs
    assert {row.batch_size for row in advice.races} <= told


def test_the_advised_size_is_the_fastest_of_the_race(advised):
    """Seconds of an entry: the mean of its updates, times what an update took."""
    advice, _, _ = advised
    assert advice.is_raced and advice.goal_loss == 0.5
    seconds = {row.batch_size: row.seconds_per_update for row in advice.sizes}
    for race in advice.races:
        if math.isfinite(race.seconds):
            assert race.seconds == pytest.approx(np.mean(race.updates) * seconds[race.batch_size])
    most = max(len(race.updates) for race in advice.races if math.isfinite(race.seconds))
    best = min((race for race in advice.races if len(race.updates) == most), key=lambda race: race.seconds)
    assert (best.batch_size, best.rate_factor) == (advice.batch_size, advice.rate_factor)
    assert advice.learning_rate == pytest.approx(0.02 * advice.rate_factor, rel=1e-5)
    own = next(r for r in advice.races if (r.batch_size, r.rate_factor) == (8, 1.0))
    assert best.seconds < own.seconds


def test_predictions_are_by_the_noise_scale_from_the_pilots_own_run(advised):
    """S = S_min (1 + B_noise / B) with the mean of a noise scale that moves by a constant factor, (b - a) / ln(b / a)."""
    advice, _, _ = advised
    start, end = advice.noise_pair
    scale = (end - start) / math.log(end / start)
    own = next(r for r in advice.races if (r.batch_size, r.rate_factor) == (8, 1.0)).updates[0]
    for row in advice.sizes:
        updates = own * (1 + scale / row.batch_size) / (1 + scale / 8)
        assert row.predicted_updates == pytest.approx(updates, rel=1e-5)
        assert row.predicted_seconds == pytest.approx(updates * row.seconds_per_update, rel=1e-5)


def test_the_noise_scale_at_the_start_is_that_of_the_formula(advised):
    """tr(Σ) / |G|² of the gradients of single examples by hand: weights are 0, so the gradient is -2 y (x, 1)."""
    advice, _, _ = advised
    gradients = -2 * Y * np.concatenate([X, np.ones((N, 1))], axis=1)
    trace = gradients.var(axis=0, ddof=1).sum()
    square = (gradients.mean(axis=0) ** 2).sum()
    first = advice.noise[0]
    assert first.low <= trace / square <= first.high and first.updates == 0
    assert advice.noise[-1].updates > first.updates


def test_the_budget_is_kept(advised):
    advice, _, clock = advised
    assert 0.3 * 25 < advice.seconds <= clock.now <= 25


@pytest.mark.slow
@pytest.mark.parametrize("budget", [8.0, 16.0, 40.0])
def test_other_budgets_are_kept(budget):
    clock = Clock()
    advice = asked(watched(clock), clock, budget=budget, target_loss=0.4)
    assert 0.3 * budget < advice.seconds <= clock.now <= budget


# The model and the stream.


def stack(momentum=0.9):
    keras.utils.set_random_seed(3)
    norm = keras.layers.BatchNormalization()
    layers = [keras.layers.Dense(6, "relu"), norm, keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse", metrics=["mae"])
    return model


def state(model):
    seeds = keras.src.random.seed_generator.global_seed_generator().state
    variables = (*model.variables, *model.optimizer.variables, *model.metrics_variables, seeds)
    return [np.array(v.numpy()) for v in variables]


def test_model_and_stream_go_on_as_if_nobody_had_asked():
    """Weights, statistics, optimizer, metrics and seeds, bit for bit; and the two epochs after it, dropout masks included."""
    found = []
    for is_asked in (False, True):
        model = stack()
        batches = lb.data.Batches(X, Y, batch_size=8, seed=5)
        history = model.fit(batches, epochs=1, shuffle=False, verbose=0)
        function, before, random = model.train_function, state(model), randomness.read()
        if is_asked:
            advice = lb.advise(model, batches, budget=1.6, clock=Clock(1e-3), available=lambda: math.inf)
            assert advice.is_raced and len(advice.noise) > 2
            assert any("dropout" in text for text in advice.unknowns)
            assert any("batch normalization" in text for text in advice.unknowns)
            assert any("Adam" in text for text in advice.unknowns)
        for one, other in zip(before, state(model), strict=True):
            np.testing.assert_array_equal(one, other)
        assert randomness.read()["python"] == random["python"]
        assert model.train_function is function and model.history is history and not model.stop_training
        assert batches.batch_size == 8
        more = model.fit(batches, epochs=3, initial_epoch=1, shuffle=False, verbose=0).history
        found.append((more["loss"], more["mae"], state(model)))
    assert found[0][:2] == found[1][:2]
    for one, other in zip(found[0][2], found[1][2], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_is_put_back_when_something_goes_wrong():
    clock = Clock()
    model = watched(clock)

    def fail():
        raise RuntimeError("no")

    before = [v.numpy() for v in model.variables]
    with pytest.raises(RuntimeError, match="no"):
        lb.advise(model, lb.data.Batches(X, Y, batch_size=8), clock=clock, budget=5.0, available=fail)
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


@pytest.mark.slow
def test_a_rate_that_is_a_schedule_is_raced_as_a_multiple_of_it():
    clock = Clock()
    model = watched(clock)
    schedule = lb.schedules.linear(0.02, 0.01, epochs=50)
    advice = asked(model, clock, budget=15.0, target_loss=0.5, learning_rate=schedule)
    assert advice.learning_rate is None and advice.known_learning_rate is None and advice.rate_factor > 0
    assert advice.arms()["known"] == {"batch_size": 8} and "learning_rate" not in advice.arms()["advised"]
    assert float(model.optimizer.learning_rate.numpy()) == np.float32(0.02)


@pytest.mark.slow
def test_a_stream_from_a_data_set_with_map_is_advised_on_too():
    """The noise scale and the clean loss are those of examples without map."""
    examples = tf.data.Dataset.from_tensor_slices((X, Y))
    clock, seen = Clock(), []

    def noisy(x, y):
        tf.py_function(lambda n: seen.append(int(n)), [tf.shape(x)[0]], [])
        return x + 0.01, y

    batches = lb.data.Batches.from_dataset(examples, num_examples=N, batch_size=8, map=noisy)
    advice = lb.advise(watched(clock), batches, clock=clock, budget=8.0, available=lambda: math.inf)
    assert advice.is_raced and max(seen) == advice.sizes[-1].batch_size
    assert advice.start_loss == pytest.approx(float((Y**2).mean()), rel=1e-5)


@pytest.mark.slow
def test_a_keras_schedule_is_left_alone():
    clock = Clock()
    model = Watched(clock)
    model(X[:1])
    rate = keras.optimizers.schedules.InverseTimeDecay(0.05, 1000, 0.5)
    model.compile(keras.optimizers.SGD(rate), "mse")
    advice = asked(model, clock, budget=15.0, target_loss=0.6)
    assert {row.rate_factor for row in advice.races} == {1.0}
    assert (advice.rate_rule, advice.learning_rate) == ("none", None)
    assert any("left alone" in sentence for sentence in advice.sentences)


# What ends early.


def climbed(model, own=8, noise_scale=None, available=lambda: math.inf, seconds=100.0, count=N):
    """A ladder that was climbed once, in so many seconds."""
    trained = trainings.Trainings(model, lb.data.Batches(X[:count], Y[:count], batch_size=own), model.clock)
    ladder = Ladder(trained, count, model.clock, available)
    ladder.climb(sizes_from(own, count), own, noise_scale, model.clock.now + seconds)
    return ladder


def test_sizes_stop_where_memory_does():
    ladder = climbed(watched(Clock()), available=lambda: -1e12)
    assert list(ladder.seconds) == [2, 4, 8] and "of 16 examples memory might not hold" in ladder.stopped


def test_sizes_stop_where_memory_is_out():
    class Small(Watched):
        def train_step(self, data):
            if data[0].shape[0] > 20:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
            self.note(data[0].shape[0])
            return keras.Model.train_step(self, data)

    model = Small(Clock())
    model(X[:1])
    model.compile(keras.optimizers.SGD(0.02), "mse", run_eagerly=True)
    ladder = climbed(model, seconds=6.0)
    assert list(ladder.seconds) == [2, 4, 8, 16] and "memory was out at 32" in ladder.stopped
    assert set(ladder.bytes) == {2, 4, 8, 16}
    gc.collect()  # what was interrupted is gone for good
    ladder.repeat([8], 3, model.clock.now + 10)
    assert list(map(len, ladder.seconds.values())) == [1, 1, 4, 1]


@pytest.mark.parametrize("noise_scale, last", [(1.0, 8), (5.0, 64)])
def test_sizes_stop_where_neither_speed_nor_noise_promise_anything(noise_scale, last):
    """Seconds in proportion to the size: saturated at once. 64 are more than 8 noise scales, and 8 are 8 of 1."""
    ladder = climbed(watched(Clock(), seconds=lambda size: 0.01 * size), noise_scale=noise_scale)
    assert max(ladder.seconds) == last
    assert ("not faster" in ladder.stopped) == (last == 8)


def test_sizes_stop_where_an_update_takes_too_long():
    ladder = climbed(watched(Clock(), seconds=lambda size: 0.01 * size), seconds=1.5)
    assert max(ladder.seconds) == 8 and "time" in ladder.stopped


def test_a_data_set_smaller_than_the_ladder():
    ladder = climbed(watched(Clock()), own=2, count=5)
    assert list(ladder.seconds) == [1, 2, 4] and "the 5 examples of the training set" in ladder.stopped


@pytest.mark.slow
def test_a_target_that_is_never_reached_is_told():
    """The noise of the labels alone has a mean square near 0.25."""
    clock = Clock()
    advice = asked(watched(clock), clock, budget=15.0, target_loss=0.01)
    assert advice.goal_loss > 0.1 and advice.target_loss == 0.01
    assert any("to 0.01" in text and "larger batch may be faster" in text for text in advice.unknowns)


def test_a_budget_too_small_for_a_race_leaves_a_prediction_and_says_so():
    clock = Clock()
    advice = asked(watched(clock, seconds=lambda size: 1.0), clock, budget=8.0, target_loss=0.4)
    assert not advice.is_raced and any("nothing was raced" in text for text in advice.unknowns)
    assert advice.batch_size in {row.batch_size for row in advice.sizes}
    assert "raced" in advice.sentences[0]


def test_a_target_that_is_reached_at_the_start_is_refused():
    clock = Clock()
    with pytest.raises(ValueError, match=r"is .* before the first update, and target_loss=1000 is reached"):
        asked(watched(clock), clock, target_loss=1000.0)


@pytest.mark.slow
def test_a_rate_that_diverges_is_left_for_a_quarter_of_it():
    """SGD on a quadratic diverges above 2 / λ; half of the largest eigenvalue's limit does not."""
    features = np.concatenate([X, np.ones((N, 1))], axis=1)
    limit = 2 / np.linalg.eigvalsh(2 / N * features.T @ features).max()
    clock = Clock()
    advice = asked(watched(clock, rate=3.5 * limit), clock, batch_size=50, budget=30.0, target_loss=0.4)
    assert any("diverged; the pilot went on with 0.25" in sentence for sentence in advice.sentences)
    assert advice.learning_rate < 2 * limit


def test_training_that_diverges_at_all_rates_is_refused():
    clock = Clock()
    model = watched(clock, rate=1e20)
    with pytest.raises(
        ValueError, match=r"diverged at batch 8 after .*Compile the model with a lower learning rate"
    ):
        asked(model, clock, budget=10.0)
    assert all(np.isfinite(v.numpy()).all() for v in model.variables)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"budget": 0}, "budget=0 must be a positive number"),
        ({"budget": True}, "budget=True"),
        ({"target_loss": -1.0}, "target_loss=-1.0 must be a positive number"),
        ({"batches": (X, Y)}, r"batches is a tuple, .*Pass lb.data.Batches\(x, y, batch_size=...\)"),
        ({"loss": None}, "compiled without a loss"),
        ({"y": None}, "batches holds no targets"),
        ({"compiled": False}, "Call model.compile"),
        ({"x": np.full_like(X, np.nan)}, "Do the data or the weights hold NaN"),
    ],
    ids=str,
)
def test_wrong_questions_are_refused(change, text):
    change = dict(change)
    model = Watched(Clock())
    model(X[:1])
    if change.pop("compiled", True):
        model.compile("sgd", change.pop("loss", "mse"))
    batches = change.pop("batches", None) or lb.data.Batches(
        change.pop("x", X), change.pop("y", Y), batch_size=8
    )
    with pytest.raises(ValueError, match=text):
        lb.advise(model, batches, **change)


def test_an_advice_is_plain_data_and_text(advised):
    advice, _, _ = advised
    told = json.loads(json.dumps(advice.to_dict(), allow_nan=False))
    assert told["batch_size"] == advice.batch_size and len(told["sizes"]) == 6
    assert all(text in str(advice) for text in (*advice.sentences, *advice.unknowns))
    with pytest.raises(AttributeError):
        advice.batch_size = 3
    arms = advice.arms()
    assert arms["known"] == {"batch_size": 8, "learning_rate": pytest.approx(0.02)}
    assert arms["advised"] == {"batch_size": advice.batch_size, "learning_rate": advice.learning_rate}


def test_the_package_has_it_without_importing_tensorflow():
    code = "import sys, tf_lbgap; print('advise' in dir(tf_lbgap), 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
    assert callable(lb.advise) and lb.advise is lb.pilot.advise


@pytest.mark.parametrize("size", [1, 3])
def test_another_seed_is_another_order_and_the_first_is_the_users(size):
    batches = lb.data.Batches(X, Y, batch_size=size, seed=4)
    from tf_lbgap.pilot.streams import twin

    np.testing.assert_array_equal(twin(batches, 5, 0).order(2), batches.order(2))
    assert twin(batches, 5, 1).order(2).tolist() != batches.order(2).tolist()
    assert twin(batches, 5, 1).batch_size == 5 and batches.batch_size == size and batches.seed == 4


def test_trainings_begin_where_the_model_stood():
    model = watched(Clock())
    trained = trainings.Trainings(model, lb.data.Batches(X, Y, batch_size=8), Clock())
    trained.run(50, lambda r: r.updates >= 2)  # a whole epoch
    first = trained.run(8, lambda r: r.updates >= 20, looks=True)
    again = trained.run(8, lambda r: r.updates >= 20, looks=True)
    other = trained.run(8, lambda r: r.updates >= 20, looks=True, seed=1)
    assert first.points == again.points and first.points != other.points
    assert first.updates == 20 and first.points[0].loss == trained.start_loss


def test_looks_and_probes_are_not_in_the_seconds(monkeypatch):
    """Each takes 1000 s of the clock, and an update 0.028 s."""
    clock = Clock()
    trained = trainings.Trainings(watched(clock), lb.data.Batches(X, Y, batch_size=8), clock)

    def dear(*_):
        clock.now += 1000.0
        return 1.0

    monkeypatch.setattr(trained, "clean_loss", dear)
    recorder = trained.run(8, lambda r: r.updates >= 12, looks=True, probe=dear)
    assert len(recorder.points) > 4
    assert np.diff([stamp.seconds for stamp in recorder.stamps]) == pytest.approx([seconds_of(8)] * 11)

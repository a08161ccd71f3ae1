"""Scaling: against the papers' numbers, closed forms and small simulations that share no code with it."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

from tf_lbgap import schedules
from tf_lbgap.scaling import (
    batch_size_for_noise_scale,
    cap,
    linear_rule,
    momentum_correction,
    noise_scale,
    num_updates,
    seesaw,
    smith,
    sqrt_rule,
)

CIFAR, IMAGENET = 50000, 1281167
STEPS = [60, 120, 160]
DECAY = schedules.staircase(0.1, factor=0.2, milestones=STEPS)
DECAYS = [
    DECAY,
    schedules.cosine(0.1, epochs=200),
    schedules.exponential(0.3, factor=0.9, every=7),
    schedules.join([0.1, 0.01, 0.5], [50, 100]),  # a rate may rise again, even above its start
]


def quarter_cosine(progress):
    """The decay of Meterez et al., η cos(π t / 2 T), with T = 100 epochs."""
    return 0.004 * math.cos(math.pi * progress / 200)


def test_noise_scale_has_the_values_of_smith_and_le():
    """Doubling both rate and batch does not keep the exact noise scale; 181.8 examples do, not 200."""
    assert noise_scale(0.1, 100, 1000) == pytest.approx(0.9)
    assert noise_scale(0.2, 200, 1000) == pytest.approx(0.8)
    assert batch_size_for_noise_scale(0.9, 0.2, 1000) == pytest.approx(1000 / 5.5)
    assert noise_scale(0.2, 1000, 1000) == 0
    assert noise_scale(0.2, 1000, 1000, exact=False) == pytest.approx(0.2)
    assert noise_scale(0.1, 100, 1000, momentum=0.9) == pytest.approx(9)


def test_noise_scale_follows_the_variance_of_batch_means_drawn_without_replacement():
    """The variance over all (N choose B) batches is (N / B - 1) σ² / (N - 1): the -1 is the finite training set."""
    x = np.random.default_rng(0).normal(size=7)

    for size in range(1, 8):
        means = [np.mean(batch) for batch in itertools.combinations(x, size)]
        expected = np.var(means) * (7 - 1) / np.var(x)
        assert noise_scale(1.0, size, 7) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("batch_size", [1, 128, 5120, 50000])
def test_batch_size_for_noise_scale_inverts_noise_scale(batch_size, momentum):
    g = noise_scale(0.1, batch_size, CIFAR, momentum)

    assert batch_size_for_noise_scale(g, 0.1, CIFAR, momentum) == pytest.approx(batch_size, rel=1e-12)


def test_linear_rule_keeps_the_approximate_noise_scale_and_sqrt_rule_the_covariance_of_an_update():
    linear, root = linear_rule(0.1, 128, 4096), sqrt_rule(0.1, 128, 4096)

    assert noise_scale(linear, 4096, CIFAR, exact=False) == pytest.approx(
        noise_scale(0.1, 128, CIFAR, exact=False)
    )
    assert root**2 / 4096 == pytest.approx(0.1**2 / 128)
    assert linear_rule(0.1, 256, 8192) == pytest.approx(3.2)  # Goyal et al.
    assert linear_rule(3.2, 8192, 256) == pytest.approx(0.1)


def test_cap_takes_from_the_rate_what_the_batch_cannot_take():
    """Smith et al. with m = 0.98: of a growth from 3200 by 5, 5120 takes 1.6 and the rate the other 3.125."""
    batch_size, learning_rate = cap(16000, 0.5, maximum=5120)

    assert batch_size == 5120 and learning_rate == pytest.approx(0.5 / 3.125)
    assert cap(640, 0.5, maximum=5120) == (640, 0.5)


@pytest.mark.parametrize("maximum", [None, 640, 5120])
@pytest.mark.parametrize("decay", DECAYS, ids=repr)
def test_smith_keeps_the_noise_scale_of_the_schedule_at_every_progress(decay, maximum):
    batch, rate = smith(decay, 128, maximum)

    for progress in np.linspace(0, 195, 391):
        size = batch(progress)
        ours = noise_scale(rate(progress), size, 10**9, momentum=0.9, exact=False)
        assert ours == pytest.approx(
            noise_scale(decay(progress), 128, 10**9, momentum=0.9, exact=False), rel=1e-12
        )
        assert type(size) is int and 128 <= size <= (maximum or math.inf)


def test_smith_grows_the_batch_first_and_decays_the_rate_once_the_batch_is_full():
    batch, rate = smith(DECAY, 128, maximum=5120)

    assert [batch(p) for p in (0, 59.9, 60, 120, 160, 200)] == [128, 128, 640, 3200, 5120, 5120]
    np.testing.assert_allclose([rate(p) for p in (0, 60, 120, 160)], [0.1, 0.1, 0.1, 0.1 / 3.125])


def test_seesaw_grows_the_batch_by_four_where_it_halves_the_rate():
    """A schedule that cuts by 4 becomes a batch times 4 and a rate over 2."""
    batch, rate = seesaw(schedules.staircase(0.004, factor=0.25, milestones=[10, 20]), 256)

    assert [batch(p) for p in (0, 10, 20)] == [256, 1024, 4096]
    np.testing.assert_allclose([rate(p) for p in (0, 10, 20)], [0.004, 0.002, 0.001])


def test_seesaw_takes_in_full_from_the_rate_what_the_batch_cannot_take():
    """Rate cut times √(batch growth) is the schedule's own cut, 16, also where a batch of 1024 is the largest."""
    batch, rate = seesaw(schedules.staircase(0.004, factor=0.25, milestones=[10, 20]), 256, maximum=1024)

    assert batch(20) == 1024
    assert rate(20) == pytest.approx(0.004 / 8)


def test_seesaw_saves_the_updates_that_its_paper_derives():
    """∫ cos(π t / 2 T) dt = 2 T / π: 36.3 % fewer updates than at the first batch."""
    batch, _ = seesaw(quarter_cosine, 1024, maximum=10**9)

    saved = 1 - num_updates(batch, 10**9, 100) / num_updates(1024, 10**9, 100)

    assert saved == pytest.approx(1 - 2 / math.pi, abs=1e-5)


@pytest.mark.parametrize("trade", [smith, seesaw])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_the_functions_that_come_back_copy_and_pickle(copied, trade):
    pair = trade(schedules.cosine(0.1, epochs=200), 128, maximum=5120)

    again = copied(pair)

    assert again == pair
    assert [part(150) for part in again] == [part(150) for part in pair]


def test_a_rate_of_zero_leaves_the_batch_at_its_maximum_and_the_rate_at_zero():
    batch, rate = smith(schedules.cosine(0.1, epochs=10), 128, maximum=5120)

    assert (batch(10), rate(10)) == (5120, 0)


def test_momentum_correction_gives_keras_sgd_the_path_of_a_rate_outside_the_buffer():
    """The same gradients by both forms, with a jump of the rate half way; without correction they part."""
    gradients = np.random.default_rng(0).normal(size=20)
    rates = [0.5] * 10 + [0.05] * 10

    def keras_form(corrected):
        w = buffer = 0.0
        for i, (rate, g) in enumerate(zip(rates, gradients, strict=True)):
            if corrected and i:
                buffer *= momentum_correction(rates[i - 1], rate)
            buffer = 0.9 * buffer - rate * g
            w += buffer
        return w

    w = u = 0.0
    for rate, g in zip(rates, gradients, strict=True):
        u = 0.9 * u + g
        w -= rate * u

    assert keras_form(corrected=True) == pytest.approx(w, rel=1e-12)
    assert abs(keras_form(corrected=False) - w) > 0.1


@pytest.mark.parametrize(
    ("batch_size", "maximum", "updates"),
    [
        (128, None, 78125),
        (schedules.staircase(128, factor=5, milestones=STEPS), None, 28875),
        (schedules.staircase(128, factor=5, milestones=STEPS), 5120, 29141),
        (smith(DECAY, 128, maximum=5120)[0], None, 29141),
        (
            schedules.staircase(128, factor=5, milestones=STEPS),
            640,
            34375,
        ),  # the hybrid: one step, then the rate
        (schedules.staircase(640, factor=5, milestones=STEPS), 5120, 6406),
        (schedules.staircase(3200, factor=5, milestones=STEPS), 5120, 2305),
    ],
)
def test_num_updates_reproduces_smith_et_al_on_cifar10(batch_size, maximum, updates):
    assert num_updates(batch_size, CIFAR, 200, maximum) == updates


@pytest.mark.parametrize(("first", "updates"), [(8192, 5865), (16384, 3519), (32768, 2346)])
def test_num_updates_reproduces_smith_et_al_on_imagenet(first, updates):
    assert num_updates(schedules.join([first, 65536], [30]), IMAGENET, 90) == updates
    assert num_updates(8192, IMAGENET, 90) == 14075


@pytest.mark.parametrize("epochs", [0.004, 1, 2.5, 3.3])
def test_num_updates_is_exact_for_steps_at_multiples_of_a_64th_epoch(epochs):
    batch_size = schedules.staircase(1, factor=2, milestones=[1 / 64, 1.25, 2])
    edges = np.minimum([0, 1 / 64, 1.25, 2, 1e9], epochs)

    expected = np.sum(np.diff(edges) * 10**6 / [1, 2, 4, 8])

    assert abs(num_updates(batch_size, 10**6, epochs) - expected) <= 0.5 + 1e-6


def test_num_updates_is_what_a_loop_over_batches_counts():
    """Batches that run on across the ends of epochs, so that none is partial."""
    batch_size = schedules.staircase(16, factor=4, milestones=[2, 4])
    seen = count = 0
    while seen < 6 * 1024:
        seen += batch_size(seen / 1024)
        count += 1

    assert num_updates(batch_size, 1024, 6) == count == 128 + 32 + 8


def test_num_updates_takes_numpy_numbers_and_the_maximum_cuts_them():
    assert num_updates(lambda progress: np.int64(512), np.int64(1024), 2, maximum=256) == 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_scale(0, 100, 1000), "learning_rate must be above 0, but got 0"),
        (lambda: noise_scale(math.nan, 100, 1000), "learning_rate must be a finite number, but got nan"),
        (lambda: noise_scale(True, 100, 1000), "learning_rate must be a finite number, but got True"),
        (lambda: noise_scale(0.1, 0, 1000), "batch_size must be above 0, but got 0"),
        (lambda: noise_scale(0.1, 1001, 1000), "batch_size is 1001, .* num_examples=1000"),
        (lambda: noise_scale(0.1, 100, -5), "num_examples must be above 0, but got -5"),
        (lambda: noise_scale(0.1, 100, 1000, momentum=1), "momentum must be from 0 to below 1, but got 1"),
        (lambda: noise_scale(0.1, 100, 1000, momentum=-0.1), "momentum .* got -0.1"),
        (lambda: batch_size_for_noise_scale(-1, 0.1, 1000), "noise_scale must be 0 or more, but got -1"),
        (lambda: batch_size_for_noise_scale(1, 0.1, 1000, 1.5), "momentum .* got 1.5"),
        (lambda: batch_size_for_noise_scale(1, "0.1", 1000), "learning_rate .* got '0.1'"),
        (lambda: linear_rule(0.1, 128, 0), "new_batch_size must be above 0, but got 0"),
        (lambda: sqrt_rule(-0.1, 128, 256), "learning_rate must be above 0, but got -0.1"),
        (lambda: cap(128, 0.1, 0), "maximum must be above 0, but got 0"),
        (lambda: cap(128, math.inf, 64), "learning_rate .* got inf"),
        (lambda: smith(0.1, 128), "a decaying schedule, a function of progress, but got 0.1"),
        (lambda: smith(DECAY, 0), "batch_size must be above 0, but got 0"),
        (lambda: smith(DECAY, 12.5), "batch_size must be a whole number of examples, but got 12.5"),
        (lambda: smith(DECAY, 128, 700.5), "maximum must be a whole number of examples, but got 700.5"),
        (lambda: seesaw(DECAY, 128, 64), "maximum=64 is below the first batch, batch_size=128"),
        (lambda: smith(schedules.warmup(DECAY, epochs=5), 128), "starts at 0.0, .* without its warm-up"),
        (
            lambda: smith(schedules.cosine(0.1, epochs=9), 128)[0](9),
            "decayed to 0.0 at progress 9, .*Pass maximum=",
        ),
        (lambda: smith(schedules.linear(0.1, -0.1, epochs=9), 128)[0](9), "is -0.1 at progress 9"),
        (lambda: momentum_correction(0, 0.1), "old_rate must be above 0, but got 0"),
        (lambda: momentum_correction(0.1, -0.1), "new_rate must be 0 or more, but got -0.1"),
        (lambda: momentum_correction(0.1, math.nan), "new_rate .* got nan"),
        (lambda: num_updates(2000, 1000, 1), "batch_size is 2000, .* num_examples=1000"),
        (lambda: num_updates(DECAY, 1000, 0), "epochs must be above 0, but got 0"),
        (lambda: num_updates(128, 1000, 1, maximum=-1), "maximum must be above 0, but got -1"),
        (lambda: num_updates(lambda p: 1 - p, 10, 2), "batch_size at progress 1.00781 must be above 0"),
        (
            lambda: num_updates(schedules.staircase(9, factor=9, milestones=[1]), 10, 2),
            "batch_size at progress 1.00781 is 81",
        ),
        (lambda: num_updates(lambda p: None, 10, 2, maximum=5), "batch_size at progress .* got None"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)

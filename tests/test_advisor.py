"""The advisor against closed forms, and against every way to choose batches by hand."""

import itertools
import math

import numpy as np
import pytest

from tf_lbgap import advisor, cli

CURVE = {16: 400.0, 64: 900.0, 256: 2000.0}


@pytest.mark.parametrize("batch_size", [1, 37, 500, 10**6])
def test_updates_and_examples_trade_as_mccandlish_says(batch_size):
    """(S / S_min - 1) (E / E_min - 1) = 1, with E_min = B_noise S_min (equation 2.11)."""
    training = advisor.Training(1000, 64, 500)
    least = 1000 / (1 + 500 / 64)
    plan = advisor.fixed(training, advisor.Machine(100.0), batch_size)
    assert (plan.updates / least - 1) * (plan.examples / (500 * least) - 1) == pytest.approx(1, rel=1e-6)
    assert plan.examples == pytest.approx(plan.updates * batch_size)
    assert plan.seconds == pytest.approx(plan.examples / 100)
    assert (plan.batch_sizes, plan.milestones) == ((batch_size,), (0.0,))


def test_the_known_run_takes_what_it_took():
    training = advisor.Training(1000, 64, (20, 9000))
    assert advisor.fixed(training, advisor.Machine(CURVE), 64).updates == pytest.approx(1000, rel=1e-6)


def test_a_noise_scale_that_moves_counts_with_its_logarithmic_mean():
    """∫ a (b/a)^u du = (b - a) / ln(b/a)."""
    training = advisor.Training(1000, 64, (100, 400))
    mean = 300 / math.log(4)
    expected = 1000 / (1 + mean / 64) * (1 + mean / 256)
    assert advisor.fixed(training, advisor.Machine(1.0), 256).updates == pytest.approx(expected, rel=1e-6)


def test_seconds_of_an_update_are_those_of_the_share_and_of_the_ring():
    """8 devices, 512 examples: 64 each, 64 / 900 s; a ring of 8 sends 2 * 7 messages of an eighth of 80 MB at 1 GB/s."""
    machine = advisor.Machine(CURVE, 8, gradient_bytes=8e7, bandwidth=1e9, latency=1e-3)
    assert machine.seconds(512) == pytest.approx(64 / 900 + 14 * (1e7 / 1e9 + 1e-3))
    assert machine.seconds(512 * 4) == pytest.approx(256 / 2000 + 14 * (1e7 / 1e9 + 1e-3))
    assert machine.seconds_of_devices(8 * 160) == pytest.approx((64 / 900 + 256 / 2000) / 2)  # half way
    assert machine.seconds_of_devices(8 * 1024) == pytest.approx(1024 / 2000)
    assert machine.seconds_of_devices(8 * 4) == pytest.approx(16 / 400)
    assert advisor.Machine(CURVE).seconds_of_messages() == 0


def test_a_batch_beyond_a_device_is_accumulated():
    """150 examples in shares of 64: two of 64, and 22 that take 16/400 + 6/48 (64/900 - 16/400) s."""
    machine = advisor.Machine(CURVE, largest_share=64)
    rest = 16 / 400 + 6 / 48 * (64 / 900 - 16 / 400)
    assert machine.seconds(150) == pytest.approx(2 * 64 / 900 + rest)


def test_no_way_to_choose_among_sizes_is_faster_than_the_grown_batch():
    """All 3^5 ways to give each fifth of the progress one of three sizes."""
    training, machine = advisor.Training(1000, 64, (30, 3000)), advisor.Machine(CURVE, 4)
    sizes = [64, 256, 1024]
    grown = advisor.grown(training, machine, sizes)
    noise = training.noise_scales().reshape(5, -1)
    seconds = {
        size: training.min_updates * (1 + noise / size).sum(1) / noise.size * machine.seconds(size)
        for size in sizes
    }
    ways = [sum(seconds[size][i] for i, size in enumerate(way)) for way in itertools.product(sizes, repeat=5)]
    assert grown.seconds <= min(ways) + 1e-9 and grown.seconds == pytest.approx(min(ways), rel=0.02)
    assert grown.is_grown and list(grown.batch_sizes) == sorted(grown.batch_sizes)
    assert grown.milestones[0] == 0 and np.all(np.diff(grown.milestones) > 0)
    assert grown.milestones[-1] < grown.examples


def test_growing_saves_nothing_where_the_noise_scale_stays():
    training, machine = advisor.Training(1000, 64, 300), advisor.Machine(CURVE, 4)
    grown = advisor.grown(training, machine, [64, 256, 1024])
    assert not grown.is_grown
    assert grown.seconds == min(advisor.fixed(training, machine, size).seconds for size in (64, 256, 1024))


def test_keskars_example():
    """f_S = 0.2 and B_S / B_L = 0.1: at most half the iterations (appendix C)."""
    assert advisor.break_even(100, 1000, 0.2) == pytest.approx(0.5)


def test_keskars_condition_is_that_of_the_simulated_seconds():
    """One device takes seconds in proportion to B, so B / f is the seconds of all of them times their number."""
    linear = advisor.Machine(500.0, 4, gradient_bytes=4e7, bandwidth=1e9)
    share = advisor.break_even(64, 512, *(advisor.efficiency(linear, size) for size in (64, 512)))
    assert share == pytest.approx(linear.seconds(64) / linear.seconds(512))


def test_devices_share_equally():
    assert advisor.ladder(advisor.Machine(1.0, 3), 8, 40) == [9, 18, 36]
    with pytest.raises(ValueError, match="can be shared by 64 devices"):
        advisor.ladder(advisor.Machine(1.0, 64), 8, 40)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: advisor.Training(0, 64, 500), "updates=0 should be a positive number"),
        (lambda: advisor.Training(10, 64, (1, 2, 3)), "should be a number or a pair"),
        (lambda: advisor.Training(10, 64, (1, -2)), "noise_scale=-2"),
        (lambda: advisor.Machine({}), "throughput={} says nothing"),
        (lambda: advisor.Machine({64: 0}), "throughput=0"),
        (lambda: advisor.Machine(1.0, devices=True), "devices=True"),
    ],
)
def test_numbers_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


ARGUMENTS = ["advise", "--throughput=16:400,64:900,256:2000", "--updates=10000", "--batch-size=128"]


def test_the_command_prints_fixed_batches_and_the_grown_one(capsys):
    assert cli.main([*ARGUMENTS, "--devices=8", "--noise-scale=200:5000", "--gradient-bytes=1e8"]) == 0
    out = capsys.readouterr().out
    assert "10,000" in out and "1,280,000" in out and "1.00" in out
    assert "Growing with the noise scale saves another" in out and "a model, not a measurement" in out
    assert cli.main([*ARGUMENTS, "--noise-scale=500"]) == 0
    assert "Growing the batch saves nothing here" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["--noise-scale=0", "--noise-scale=a:3", "--devices=0"])
def test_the_command_refuses_what_is_no_number_in_a_line(wrong, capsys):
    with pytest.raises(SystemExit):
        cli.main([*ARGUMENTS, "--noise-scale=500", wrong])
    assert "is not a" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_says_when_no_batch_can_be_shared(capsys):
    assert cli.main([*ARGUMENTS, "--noise-scale=5", "--devices=64", "--largest=40"]) == 2
    assert capsys.readouterr().err == "lbgap: No batch from 64 to 40 can be shared by 64 devices.\n"

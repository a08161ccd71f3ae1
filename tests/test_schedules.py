"""Schedules: values against closed forms; printing, comparing, copying and configs by round trip."""

import copy
import math
import pickle

import numpy as np
import pytest
import yaml

from tf_lbgap import schedules
from tf_lbgap.schedules import (
    constant,
    cosine,
    exponential,
    from_config,
    join,
    linear,
    polynomial,
    quarter_cosine,
    reciprocal,
    scaled,
    staircase,
    stretched,
    warmup,
)


def halving(progress):
    """A user's own schedule, at the top level of a module."""
    return 2.0**-progress


def renamed(progress):
    return 1.0


first_of_its_name = renamed


def renamed(progress):
    return 2.0


TYPED = [
    "constant(128)",
    "staircase(128, factor=5, milestones=[60, 120, 160])",
    "exponential(0.1, factor=0.97)",
    "exponential(0.1, factor=0.97, every=2.4)",
    "linear(128, 640, epochs=10)",
    "polynomial(1.0, 0.0, epochs=90, power=2)",
    "cosine(0.1, epochs=200)",
    "cosine(0.1, epochs=200, final=0.001)",
    "quarter_cosine(0.1, epochs=90)",
    "reciprocal(halving, 8)",
    "warmup(3.2, epochs=5, initial=0.1)",
    "warmup(staircase(3.2, factor=0.1, milestones=[30, 60, 80]), epochs=5)",
    "join([0.1, halving, linear(0.1, 0.0, epochs=10)], [80, 85])",
    "scaled(halving, cosine(1, epochs=3))",
    "stretched(cosine(0.1, epochs=5), 4)",
]


def test_every_function_that_makes_schedules_is_tested_below():
    makers = {name for name, value in vars(schedules).items() if hasattr(value, "makes_schedules")}

    assert makers == {text.partition("(")[0] for text in TYPED}


@pytest.mark.parametrize("text", TYPED)
def test_a_schedule_prints_as_it_was_typed(text):
    assert repr(eval(text)) == text


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda schedule: pickle.loads(pickle.dumps(schedule)),
        lambda schedule: from_config(schedule.get_config()),
        lambda schedule: from_config(yaml.safe_load(yaml.safe_dump(schedule.get_config()))),
    ],
    ids=["deepcopy", "pickle", "config", "yaml"],
)
def test_a_copy_is_equal_and_gives_the_same_values(copied, text):
    schedule = eval(text)

    again = copied(schedule)

    assert again == schedule and hash(again) == hash(schedule) and repr(again) == text
    assert [again(p) for p in (0, 0.5, 60, 85, 500)] == [schedule(p) for p in (0, 0.5, 60, 85, 500)]


def test_schedules_differ_by_function_and_by_arguments():
    assert cosine(0.1, epochs=200) == cosine(initial=0.1, epochs=200.0, final=0.0)
    assert cosine(0.1, epochs=200) != cosine(0.1, epochs=100)
    assert linear(1, 0, epochs=9) != polynomial(1, 0, epochs=9, power=1)
    assert stretched(linear(1, 0, epochs=9), 2) != linear(1, 0, epochs=18)


def test_a_config_is_what_yaml_files_hold():
    assert staircase(128, factor=5, milestones=(60, 120, 160)).get_config() == {
        "call": "schedules.staircase",
        "initial": 128,
        "factor": 5,
        "milestones": [60, 120, 160],
    }
    assert warmup(cosine(0.1, epochs=200), epochs=5).get_config() == {
        "call": "schedules.warmup",
        "schedule": {"call": "schedules.cosine", "initial": 0.1, "epochs": 200},
        "epochs": 5,
    }
    assert scaled(halving, 2).get_config()["schedule"] == {"call": f"{__name__}:halving"}


def test_a_config_may_name_a_function_of_ones_own():
    assert from_config({"call": f"{__name__}:halving"}) is halving
    assert from_config({"call": "math:cos"})(0) == 1


def test_numpy_numbers_and_lists_print_and_dump_as_plain_ones():
    schedule = staircase(np.int64(128), factor=np.float64(0.5), milestones=np.array([60, 120]))

    assert repr(schedule) == "staircase(128, factor=0.5, milestones=[60, 120])"
    assert yaml.safe_load(yaml.safe_dump(schedule.get_config())) == schedule.get_config()


def test_a_schedule_does_not_follow_the_list_it_was_made_from():
    milestones = [60, 120]
    schedule = staircase(128, factor=5, milestones=milestones)
    milestones[0] = 1
    schedule.get_config()["milestones"][0] = 1

    assert schedule(59) == 128
    with pytest.raises(AttributeError):
        schedule.arguments = ()


def test_constant_is_constant():
    assert constant(128)(0) == constant(128)(1e9) == 128


def test_staircase_keeps_whole_numbers_whole_and_steps_at_the_milestone():
    batch_size = staircase(128, factor=5, milestones=[60, 120, 160])

    values = [batch_size(p) for p in (0, math.nextafter(60, 0), 60, 119.9, 120, 160.0, 1e6)]

    assert values == [128, 128, 640, 640, 3200, 16000, 16000]
    assert all(type(value) is int for value in values)
    assert staircase(128, factor=2, milestones=[0])(0) == 256
    assert staircase(7, factor=2, milestones=[])(3) == 7


@pytest.mark.parametrize("progress", [0, 1, 2.5, 30])
def test_exponential_multiplies_by_its_factor_every_so_many_epochs(progress):
    rate = exponential(0.1, factor=0.94, every=2)

    assert rate(progress + 2) == pytest.approx(0.94 * rate(progress), rel=1e-14)
    assert rate(0) == 0.1


@pytest.mark.parametrize(
    "schedule",
    [
        linear(0.9, 0.2, epochs=7),
        polynomial(0.9, 0.2, epochs=7, power=0.9),
        polynomial(0.9, 0.2, epochs=7, power=3),
        cosine(0.9, epochs=7, final=0.2),
    ],
    ids=repr,
)
def test_a_decay_starts_and_ends_exactly_falls_between_and_then_holds(schedule):
    """0.9 and 0.2, because in floating point 0.2 + (0.9 - 0.2) is not 0.9."""
    values = [schedule(p) for p in np.linspace(0, 7, 71)]

    assert values[0] == 0.9 and values[-1] == 0.2 == schedule(7.001) == schedule(1e9)
    assert all(np.diff(values) < 0)


def test_linear_is_a_straight_line():
    np.testing.assert_allclose(
        [linear(128, 640, epochs=4)(p) for p in range(6)], [128, 256, 384, 512, 640, 640]
    )


def test_polynomial_is_the_decay_of_keras():
    import keras

    ours = polynomial(0.5, 0.1, epochs=10, power=2)
    theirs = keras.optimizers.schedules.PolynomialDecay(0.5, 10, 0.1, power=2)

    np.testing.assert_allclose([ours(p) for p in range(12)], [float(theirs(p)) for p in range(12)], rtol=1e-6)


def test_cosine_has_the_values_of_the_cosine_table():
    """cos 60° = 1/2 and cos 120° = -1/2, so after a third 3/4 is left and after two thirds 1/4."""
    np.testing.assert_allclose(
        [cosine(1.0, epochs=3)(p) for p in (0, 1, 1.5, 2, 3)], [1, 0.75, 0.5, 0.25, 0], atol=1e-15
    )
    assert cosine(1.0, epochs=2, final=0.2)(1) == pytest.approx(0.6)


def test_warmup_meets_the_schedule_where_the_schedule_then_is():
    """A schedule that already falls during the warm-up is met at its value at the warm-up's end, not at its start."""
    rate = warmup(linear(1.0, 0.0, epochs=10), epochs=5, initial=0.1)

    np.testing.assert_allclose([rate(p) for p in (0, 2.5, 5, 7.5)], [0.1, 0.3, 0.5, 0.25])
    assert warmup(0.8, epochs=4)(1) == pytest.approx(0.2)


def test_warmup_reproduces_the_rates_of_goyal_et_al():
    """k = 32: from 0.1 to 3.2 over five epochs, a tenth at 30, 60, 80."""
    rate = warmup(staircase(3.2, factor=0.1, milestones=[30, 60, 80]), epochs=5, initial=0.1)

    np.testing.assert_allclose(
        [rate(p) for p in (0, 1, 2, 5, 29.9, 30, 60, 80)], [0.1, 0.72, 1.34, 3.2, 3.2, 0.32, 0.032, 0.0032]
    )


def test_join_starts_the_clock_of_each_schedule_at_its_milestone():
    rate = join([lambda p: p, lambda p: 100 + p, lambda p: 200 + p], [10, 15])

    assert [rate(p) for p in (0, 9.5, 10, 14, 15, 115)] == [0, 9.5, 100, 104, 200, 300]
    assert join([0.5], [])(3) == 0.5


def test_scaled_is_a_product_of_numbers_and_schedules():
    assert scaled(3, 2)(0) == 6
    assert scaled(halving, 8)(2) == 2
    assert scaled(halving, staircase(1, factor=3, milestones=[1]))(1) == 1.5


@pytest.mark.parametrize("progress", [-0.1, math.nan])
def test_progress_must_be_a_number_of_epochs(progress):
    with pytest.raises(ValueError, match=r"constant\(1\) was asked at"):
        constant(1)(progress)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constant(True), "value must be a finite number, but got True"),
        (lambda: constant(np.bool_(True)), "value must be a finite number, but got True"),
        (lambda: constant(math.nan), "value .* got nan"),
        (lambda: constant("1e-3"), "got '1e-3'. In YAML, 1e-3 is text and 1.000000e-03 a number"),
        (lambda: constant("high"), "got 'high'.$"),
        (lambda: constant(halving), "value .* got halving"),
        (lambda: staircase(math.inf, factor=5, milestones=[1]), "initial .* got inf"),
        (lambda: staircase(128, factor=0, milestones=[1]), "factor must be above 0, but got 0"),
        (lambda: staircase(128, factor=5, milestones=60), "milestones must be a list .* got 60"),
        (lambda: staircase(128, factor=5, milestones=[60, 60]), r"increase, but got \[60, 60\]"),
        (lambda: staircase(128, factor=5, milestones=[120, 60]), r"increase, but got \[120, 60\]"),
        (lambda: staircase(128, factor=5, milestones=[-1, 60]), r"0 or more .* got \[-1, 60\]"),
        (lambda: staircase(128, factor=5, milestones=[1, math.nan]), r"milestones\[1\] .* got nan"),
        (lambda: exponential(1, factor=-2), "factor must be above 0, but got -2"),
        (lambda: exponential(1, factor=2, every=0), "every must be above 0, but got 0"),
        (lambda: linear(1, None, epochs=1), "final must be a finite number, but got None"),
        (lambda: linear(1, 0, epochs=0), "epochs must be above 0, but got 0"),
        (lambda: polynomial(1, 0, epochs=1, power=0), "power must be above 0, but got 0"),
        (lambda: polynomial(1, 0, epochs=-1, power=1), "epochs must be above 0, but got -1"),
        (lambda: cosine(1, epochs=0), "epochs must be above 0, but got 0"),
        (lambda: cosine(1, epochs=3, final=math.nan), "final .* got nan"),
        (lambda: warmup(None, epochs=5), "schedule must be a schedule .* got None"),
        (lambda: warmup(cosine, epochs=5), r"cosine makes schedules: type cosine\(...\)"),
        (lambda: warmup(1, epochs=0), "epochs must be above 0, but got 0"),
        (lambda: warmup(1, epochs=5, initial=False), "initial must be a finite number, but got False"),
        (lambda: join(0.1, [5]), "schedules must be a list, .* but got 0.1"),
        (lambda: join([0.1, "x"], [5]), r"schedules\[1\] must be a schedule .* got 'x'"),
        (lambda: join([0.1, 0.2], []), r"2 schedules meet at 1 milestones, but got \[\]"),
        (lambda: join([], []), "0 schedules meet at 0 milestones"),
        (lambda: join([1, 2, 3], [5, 5]), r"increase, but got \[5, 5\]"),
        (lambda: scaled(1, 0), "factor must be above 0, but got 0"),
        (lambda: scaled(1, True), "factor must be a finite number, but got True"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_missing_or_unknown_argument_shows_the_signature():
    with pytest.raises(TypeError, match=r"staircase\(initial, \*, factor, milestones\): missing .* 'factor'"):
        staircase(128, milestones=[1])
    with pytest.raises(TypeError, match=r"constant\(value\): too many positional"):
        constant(1, 2)


@pytest.mark.parametrize(
    "schedule",
    [lambda progress: 1.0, constant(1).rule, first_of_its_name, halving.__call__, np.poly1d([1, 2])],
    ids=["lambda", "local", "redefined", "method", "object"],
)
def test_a_function_that_cannot_be_imported_is_refused_in_a_config_only(schedule):
    product = scaled(schedule, 2)

    assert product(0) > 0
    with pytest.raises(ValueError, match="Define it with def at the top level of a module"):
        product.get_config()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"call": "schedules.stair_case", "initial": 1}, "Did you mean 'schedules.staircase'"),
        ({"call": "schedules.from_config"}, "is no schedule"),
        ({"call": "schedules.Schedule"}, "is no schedule"),
        ({"call": "os.system"}, "Known are schedules.constant, schedules.staircase"),
        (
            {"call": "schedules.staircase", "initial": 1, "factr": 2},
            "no argument 'factr'. Did you mean 'factor'",
        ),
        ({"call": "schedules.staircase", "initial": 1, "factor": 2}, "missing a required .* 'milestones'"),
        (
            {"call": "schedules.warmup", "schedule": {"call": "schedules.cosin"}, "epochs": 5},
            "'schedules.cosine'",
        ),
        ({"call": "no_such_module:rule"}, "No module named 'no_such_module'"),
        ({"call": "math:no_such_function"}, "no attribute 'no_such_function'"),
        ({"call": ":rule"}, "could not be imported"),
        ({"call": "math:pi"}, "but a schedule is a function"),
        ({"call": "math:cos", "initial": 1}, "takes no initial"),
        ({"initial": 1}, "config is a dict such as"),
        ("schedules.cosine", "config is a dict such as"),
    ],
)
def test_a_wrong_config_says_what_to_type(config, message):
    with pytest.raises(ValueError, match=message):
        from_config(config)


def test_a_batch_that_grows_as_a_quarter_of_a_cosine_falls_saves_the_updates_of_the_paper():
    """An update at progress p takes 1/cos of the first examples, so T epochs take ∫ cos(π p / 2 T) dp = 2 T / π updates."""
    batch, updates, seen = reciprocal(quarter_cosine(0.1, epochs=3), 1e-4), 0, 0.0
    while seen < 3:
        updates, seen = updates + 1, seen + batch(seen)
    assert updates / 3e4 == pytest.approx(2 / math.pi, rel=1e-3)
    assert quarter_cosine(0.2, epochs=3)(1) == pytest.approx(0.2 * math.sqrt(3) / 2, rel=1e-12)
    assert quarter_cosine(0.2, epochs=3)(7) == pytest.approx(0, abs=1e-12)


def test_reciprocal_refuses_a_schedule_that_falls_to_zero_where_it_is_asked():
    grown = reciprocal(linear(0.1, 0.0, epochs=4), 8)
    assert grown(2) == pytest.approx(16, rel=1e-12)
    with pytest.raises(ValueError, match=r"0.0 at 4\. Give it a final value above 0"):
        grown(4)

"""Equivalence by the noise scale: against schedules of which the ratio is known on paper, and updates counted one by one."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import yaml
from tiny_runs import TINY

import tf_lbgap as lb
from tb_plugin.writer import Writer
from tf_lbgap.experiment import from_dict, run
from tf_lbgap.report import check_equivalence, write
from tf_lbgap.report.equivalence import DIFFERENT, EQUAL, EQUAL_RATIO, UNKNOWN

N = 20_003  # a prime neighbour: the last batch of an epoch is ragged for every size
SGD = {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.9}
ADAM = {"call": "keras.optimizers.Adam", "learning_rate": 0.1}


@dataclasses.dataclass
class Arm:
    """Functions of progress, what the configuration says, and the layers of the model."""

    batch_size: object
    rate: object
    optimizer: dict = dataclasses.field(default_factory=lambda: SGD)
    config: dict = dataclasses.field(default_factory=dict)
    epochs: int = 6
    layers: tuple | None = None


def updates(arm, num_examples=N):
    """Yield (epochs before, batch size, rate, examples after) of each update."""
    for epoch in range(arm.epochs):
        seen = 0
        while seen < num_examples:
            size = round(arm.batch_size(epoch + seen / num_examples))
            rate = arm.rate(epoch + seen / num_examples)
            seen = min(seen + size, num_examples)
            yield epoch, size, rate, epoch * num_examples + seen


def record(folder, arm, num_examples=N):
    """Write what `RunSummary` would, with points at jumps, at each 5 % of drift, and at ends of epochs."""
    momentum = arm.optimizer.get("momentum", 0.0)
    last = written = None
    with Writer(folder) as writer:

        def point(step, size, rate, examples):
            writer.scalar("schedule/batch_size", size, step)
            writer.scalar("schedule/learning_rate", rate, step)
            writer.scalar("schedule/noise_scale", rate / (1 - momentum) * (num_examples / size - 1), step)
            writer.scalar("progress/examples", examples, step)
            writer.scalar("progress/epochs", examples / num_examples, step)

        def differs(new, old):
            return new[1] != old[1] or abs(new[2] - old[2]) > 0.05 * old[2]

        for step, (_, size, rate, examples) in enumerate(updates(arm, num_examples), 1):
            now = (step, size, rate, examples)
            if (
                written is None
                or differs(now, written)
                or examples % num_examples == 0
                or step - written[0] > 99
            ):
                if last is not None and last != written and differs(now, last):
                    point(*last)
                point(*now)
                written = now
            last = now


def make_run(folder, arms, seeds=1, num_examples=N, **more):
    """Write a run directory of arms, without training."""
    folder.mkdir(parents=True)
    configs = {
        name: {"batch_size": 8, "optimizer": arm.optimizer, "epochs": arm.epochs, **arm.config}
        for name, arm in arms.items()
    }
    experiment = from_dict({"equal": "epochs", "arms": configs, "seeds": seeds, **more}, name=folder.name)
    (folder / "config.yaml").write_text(yaml.safe_dump(experiment.to_dict(), sort_keys=False))
    rows = []
    for name, arm in arms.items():
        for seed in range(seeds):
            rows.append(
                {
                    "arm": name,
                    "seed": seed,
                    "train_loss": 0.1,
                    "test_accuracy": 0.9,
                    "updates": 1,
                    "examples": 1,
                }
            )
            (folder / name / str(seed)).mkdir(parents=True)
            if arm.batch_size is not None:
                record(folder / name / str(seed), arm, num_examples)
            if arm.layers is not None:
                net = keras.Sequential([keras.Input((2,)), *(layer() for layer in arm.layers)])
                net.save_weights(folder / name / str(seed) / "model.weights.h5")
    (folder / "results.json").write_text(json.dumps({"name": folder.name, "environment": {}, "runs": rows}))
    return folder


def constant(value):
    return lambda p: value


def steps(first, factor, milestones=(2, 4)):
    return lambda p: first * factor ** sum(p >= m for m in milestones)


def compare(tmp_path, *arms, **more):
    """Return the `Equivalence` of the second arm with the first."""
    (found,) = check_equivalence([make_run(tmp_path / "run", {"a": arms[0], "b": arms[1]}, **more)])
    return found


def names(found):
    return [breaker.name for breaker in found.breakers]


def text(found, name):
    return next(breaker.text for breaker in found.breakers if breaker.name == name)


DECAY = Arm(constant(16), steps(0.1, 1 / 4))
GROWTH = Arm(steps(16, 4), constant(0.1))


# Where noise scales are equal.


@pytest.mark.parametrize("milestones", [(2, 4), (1.503, 3.781)], ids=["at epochs", "in the middle"])
def test_growth_in_place_of_decay_is_equal(tmp_path, milestones):
    """At 3.781 epochs one arm changes 48 examples after the other, at its own next update, which is no difference.

    The exact ratio is (N / 16k - 1) / ((N / 16 - 1) / k), least for k = 16: 0.98799 (the batch is 1.3 % of the data)."""
    arms = Arm(constant(16), steps(0.1, 1 / 4, milestones)), Arm(steps(16, 4, milestones), constant(0.1))
    found = compare(tmp_path, *arms)
    assert (found.verdict, found.share_apart, found.parts_at, found.breakers) == (EQUAL, 0, None, ())
    assert found.largest_ratio == pytest.approx((N / 256 - 1) / ((N / 16 - 1) / 16), rel=1e-5)
    assert found.examples == 6 * N
    assert "noise scales are equal within 1.2 %." in found.sentence


def test_a_pair_whose_batch_is_no_small_share_of_the_data_is_equal_in_rate_over_batch_and_says_so(tmp_path):
    """At 4096 of 20003 examples N / B - 1 = 3.88, and (N / 16 - 1) / 256 = 4.88."""
    found = compare(tmp_path, Arm(constant(16), steps(0.1, 1 / 16)), Arm(steps(16, 16), constant(0.1)))
    ratio = 256 * (N / 4096 - 1) / (N / 16 - 1)
    assert (found.verdict, found.parts_at, names(found)) == (EQUAL_RATIO, 4 * N, ["large share of the data"])
    assert (found.largest_ratio, found.parts_by) == pytest.approx((ratio, ratio), rel=1e-5)
    assert found.share_apart == pytest.approx(1 / 3)
    assert "20.5 % of the training set" in text(found, "large share of the data")


def test_rates_that_drift_are_equal_although_their_points_fall_on_other_updates(tmp_path):
    def cosine(peak):
        return lambda p: peak * (1.1 + math.cos(math.pi * p / 6)) / 2

    found = compare(tmp_path, Arm(constant(16), cosine(0.1)), Arm(constant(64), cosine(0.4)))
    assert (found.verdict, found.share_apart) == (EQUAL, 0)
    assert found.largest_ratio == pytest.approx(1, abs=0.006)


def test_full_batches_have_no_noise_and_are_equal(tmp_path):
    arms = Arm(constant(N), constant(0.1), epochs=9), Arm(constant(N), constant(0.4), epochs=9)
    found = compare(tmp_path, *arms)
    assert (found.verdict, found.largest_ratio) == (EQUAL, 1)


# Where they part.


@pytest.mark.parametrize(("milestone", "late"), [(2, 0), (2.5, 16)], ids=["at an epoch", "in the middle"])
def test_arms_part_where_one_decays_by_the_factor_of_the_decay(tmp_path, milestone, late):
    found = compare(
        tmp_path, Arm(constant(16), steps(0.1, 1 / 4, (milestone,))), Arm(constant(16), constant(0.1))
    )
    assert found.verdict == DIFFERENT
    assert found.parts_at == pytest.approx(milestone * N, abs=late)
    assert found.parts_at_epoch == pytest.approx(milestone, abs=1e-3)
    assert (found.parts_by, found.largest_ratio) == pytest.approx((4, 4), rel=1e-5)
    assert found.share_apart == pytest.approx(1 - milestone / 6, abs=1e-3)


def test_a_difference_of_less_than_the_tolerance_is_none_and_one_of_more_is_one(tmp_path):
    for factor, verdict in ((1.04, EQUAL), (1 / 1.04, EQUAL), (1.06, DIFFERENT), (1 / 1.06, DIFFERENT)):
        found = compare(
            tmp_path / str(factor), DECAY, Arm(DECAY.batch_size, lambda p, f=factor: f * DECAY.rate(p))
        )
        assert found.verdict == verdict
        assert found.largest_ratio == pytest.approx(factor, rel=1e-5)


def test_half_as_much_is_as_far_as_twice_as_much(tmp_path):
    """Twice the rate from epoch 2 on, a quarter from epoch 4 on: a quarter is farther, as four times would be."""
    rate = DECAY.rate
    found = compare(
        tmp_path, DECAY, Arm(DECAY.batch_size, lambda p: rate(p) * (1 if p < 2 else 2 if p < 4 else 1 / 4))
    )
    assert (found.parts_by, found.largest_ratio) == pytest.approx((2, 1 / 4), rel=1e-5)
    assert found.share_apart == pytest.approx(2 / 3)


def test_a_jump_that_is_many_updates_late_is_a_difference(tmp_path):
    """20 updates of 16 examples, each of the two times."""
    late = [m + 20 * 16 / N for m in (2, 4)]
    found = compare(tmp_path, DECAY, Arm(constant(16), steps(0.1, 1 / 4, late)))
    assert found.verdict == DIFFERENT
    assert found.share_apart == pytest.approx(2 * 20 * 16 / (6 * N), rel=0.06)
    assert found.parts_at == 2 * N


def test_runs_of_other_lengths_are_compared_as_far_as_both_went(tmp_path):
    found = compare(tmp_path, DECAY, dataclasses.replace(GROWTH, epochs=3))
    assert (found.verdict, found.examples) == (EQUAL, 3 * N)


def test_seeds_are_paired_and_the_earliest_parting_is_told(tmp_path):
    """One seed of two is apart in the last third, the other from the start of the second on."""
    folder = make_run(tmp_path / "run", {"a": DECAY, "b": DECAY}, seeds=2)
    for seed, milestones in enumerate(((2,), (2, 3.5, 4))):
        for file in (folder / "b" / str(seed)).iterdir():
            file.unlink()
        record(folder / "b" / str(seed), Arm(constant(16), steps(0.1, 1 / 4, milestones)))
    (found,) = check_equivalence([folder])
    assert found.num_seeds == 2
    assert found.share_apart == pytest.approx((1 / 3 + 2.5 / 6) / 2, abs=1e-3)
    assert found.parts_at == pytest.approx(3.5 * N, abs=16)
    assert found.parts_by == pytest.approx(1 / 4, rel=1e-5)


def test_the_reference_is_that_of_the_first_run_and_all_arms_are_compared_with_it(tmp_path):
    one = make_run(tmp_path / "one", {"x": GROWTH, "y": DECAY}, reference="y")
    two = make_run(tmp_path / "two", {"z": Arm(constant(16), constant(0.1))})
    found = check_equivalence([one, two])
    assert [(each.arm, each.reference, each.verdict) for each in found] == [
        ("one/x", "one/y", EQUAL),
        ("two/z", "one/y", DIFFERENT),
    ]


def test_a_single_arm_has_nothing_to_be_equal_to(tmp_path):
    assert check_equivalence([make_run(tmp_path / "run", {"a": DECAY})]) == []


def test_arms_without_events_are_not_known_and_what_the_configuration_breaks_is_named(tmp_path):
    nothing = {"batch_size": None, "rate": None}
    heavy = {**SGD, "momentum": 0.98, "clipnorm": 1.0}
    found = compare(tmp_path, Arm(**nothing), Arm(**nothing, optimizer=heavy))
    assert (found.verdict, found.examples, found.num_seeds) == (UNKNOWN, 0, 0)
    assert math.isnan(found.largest_ratio)
    assert names(found) == ["momentum", "gradient clipping"]


# What breaks the equivalence where noise scales are equal.


def test_changed_momentum_is_named_with_the_updates_that_its_buffer_takes(tmp_path):
    """0.1 / (1 - 0.98) / 80 = 0.1 / (1 - 0.9) / 16."""
    heavy = Arm(constant(80), steps(0.1, 1 / 4), optimizer={**SGD, "momentum": 0.98})
    found = compare(tmp_path, DECAY, heavy)
    assert (found.verdict, names(found)) == (EQUAL, ["momentum"])
    assert "Momentum is 0.98, not 0.9" in text(found, "momentum")
    assert "50 updates to fill, and as many to forget, not 10 updates" in text(found, "momentum")


def decayed(arm, decay):
    """Sum of rate times decay over updates, counted."""
    return sum(rate * decay for _, _, rate, _ in updates(arm)), sum(1 for _ in updates(arm))


@pytest.mark.parametrize(
    ("optimizer", "decay"),
    [
        ({**SGD, "weight_decay": 0.01}, 0.01),
        ({"call": "keras.optimizers.AdamW", "learning_rate": 0.1}, 0.004),
        ({"call": "keras.optimizers.AdamW", "learning_rate": 0.1, "weight_decay": 0.02}, 0.02),
    ],
    ids=["SGD", "AdamW by default", "AdamW"],
)
def test_decoupled_decay_is_named_with_the_sums_over_updates(tmp_path, optimizer, decay):
    slower = Arm(GROWTH.batch_size, steps(0.1, 1 / 2))
    arms = [dataclasses.replace(arm, optimizer=optimizer) for arm in (DECAY, slower)]
    (theirs, other), (ours, count) = (decayed(arm, decay) for arm in arms)
    told = text(compare(tmp_path, *arms), "decoupled weight decay")
    assert (
        f"sums to {ours:.3g} over the {count:,} updates of b, and to {theirs:.3g} over the {other:,} of a"
        in told
    )


def test_decoupled_decay_that_sums_to_the_same_breaks_nothing(tmp_path):
    """Decay and growth do: a quarter of the rate, or a quarter of the updates."""
    arms = [dataclasses.replace(arm, optimizer={**SGD, "weight_decay": 0.01}) for arm in (DECAY, GROWTH)]
    assert decayed(arms[0], 1)[0] == pytest.approx(decayed(arms[1], 1)[0], rel=0.01)
    assert names(compare(tmp_path, *arms)) == []


def test_adam_is_named_with_the_ratio_of_rate_over_root_batch(tmp_path):
    """Seesaw's pair, batch x 4 and rate / 2 for rate / 4, is equal by that rule alone; Smith's parts by a factor of 2."""
    adam = {"optimizer": ADAM}
    decay = dataclasses.replace(DECAY, **adam)
    found = compare(tmp_path / "seesaw", decay, Arm(steps(16, 4), steps(0.1, 1 / 2), **adam))
    assert (found.verdict, names(found)) == (DIFFERENT, ["Adam-type optimizer"])
    assert "by that rule the arms are equal within 0 %" in text(found, "Adam-type optimizer")
    found = compare(tmp_path / "smith", decay, dataclasses.replace(GROWTH, **adam))
    assert found.verdict == EQUAL
    assert "where the ratio is 2, and differ by more than 5 % during 67 % of the examples" in text(
        found, "Adam-type optimizer"
    )


def test_adam_with_equal_batches_and_rates_is_not_named(tmp_path):
    arm = dataclasses.replace(DECAY, optimizer=ADAM)
    assert names(compare(tmp_path, arm, arm)) == []


def test_another_optimizer_is_named(tmp_path):
    found = compare(
        tmp_path,
        dataclasses.replace(DECAY, optimizer={**SGD, "momentum": 0.0}),
        dataclasses.replace(DECAY, optimizer=ADAM),
    )
    assert names(found) == ["optimizer", "Adam-type optimizer"]
    assert text(found, "optimizer") == "b uses Adam, not SGD."


NORMALIZED = (lambda: keras.layers.Dense(3), keras.layers.BatchNormalization)
PLAIN = (lambda: keras.layers.Dense(3), keras.layers.LayerNormalization)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.norm = keras.layers.Dense(3), keras.layers.BatchNormalization()

    def call(self, x):
        return self.norm(self.first(x))


@pytest.mark.parametrize(
    ("layers", "ghost", "expected"),
    [
        (NORMALIZED, {}, "sees 16 to 256 examples at a time in b, and 16 in a"),
        ((Subclassed,), {}, "sees 16 to 256 examples at a time in b, and 16 in a"),
        (NORMALIZED, {"ghost_batch_size": 32}, "sees 16 to 32 examples at a time in b, and 16 in a"),
        (
            NORMALIZED,
            {"micro_batch_size": 100},
            "sees 16 to 85 examples at a time in b, and 16 in a",
        ),  # 256 in three
        (NORMALIZED, {"ghost_batch_size": 16}, None),
        (PLAIN, {}, None),
        (PLAIN, {"ghost_batch_size": 32}, None),
        (None, {}, None),
        (None, {"ghost_batch_size": 32}, "not known: there are no weights"),
    ],
    ids=[
        "batch",
        "subclassed",
        "ghost",
        "micro",
        "fixed",
        "none",
        "none with ghost",
        "unknown",
        "unknown with ghost",
    ],
)
def test_batch_normalization_of_batches_of_another_size_is_named(tmp_path, layers, ghost, expected):
    arms = dataclasses.replace(DECAY, layers=layers), dataclasses.replace(GROWTH, layers=layers, config=ghost)
    found = compare(tmp_path, *arms)
    assert found.verdict == EQUAL
    assert names(found) == ([] if expected is None else ["ghost batches"])
    assert expected is None or expected in text(found, "ghost batches")


def test_batch_normalization_of_one_arm_alone_is_named(tmp_path):
    found = compare(
        tmp_path, dataclasses.replace(DECAY, layers=PLAIN), dataclasses.replace(GROWTH, layers=NORMALIZED)
    )
    assert (found.verdict, names(found)) == (EQUAL, ["batch normalization"])
    assert text(found, "batch normalization").startswith("Only b has batch normalization")


def test_a_changed_ghost_size_is_named_at_equal_batches(tmp_path):
    arms = [
        dataclasses.replace(DECAY, layers=NORMALIZED, config={"ghost_batch_size": size}) for size in (16, 4)
    ]
    found = compare(tmp_path, *arms)
    assert (found.verdict, names(found)) == (EQUAL, ["ghost batches"])
    nothing = {"batch_size": None, "rate": None, "layers": NORMALIZED}
    arms = [Arm(**nothing, config={"ghost_batch_size": size}) for size in (16, 4)]
    found = compare(tmp_path / "without events", *arms)
    assert text(found, "ghost batches") == "Batch normalization sees 4 examples at a time, not 16."


def test_a_cap_is_named_unless_the_rate_takes_over_what_the_batch_cannot(tmp_path):
    """256 is cut to 100: the noise is 2.56 times the reference's from epoch 4 on, or the rate is 2.56 times lower."""
    call = {"call": "schedules.staircase", "initial": 16, "factor": 4, "milestones": [2, 4]}
    config = {"batch_size": call, "maximum": 100}
    capped = Arm(lambda p: min(steps(16, 4)(p), 100), constant(0.1), config=config)
    found = compare(tmp_path / "cap", DECAY, capped)
    assert (found.verdict, names(found)) == (DIFFERENT, ["cap"])
    assert "stopped at 100, its maximum" in text(found, "cap")
    assert "from epoch 4 (80,012 examples) on its noise scale is up to 2.56 times that of a" in text(
        found, "cap"
    )
    (found,) = check_equivalence([make_run(tmp_path / "the other way", {"a": capped, "b": DECAY})])
    assert names(found) == ["cap"]
    assert "The batch of a stopped at 100" in text(found, "cap")

    traded = dataclasses.replace(capped, rate=lambda p: 0.1 * capped.batch_size(p) / steps(16, 4)(p))
    found = compare(tmp_path / "traded", DECAY, traded)
    assert (found.verdict, names(found)) == (EQUAL, [])


def test_a_batch_that_grew_to_the_whole_training_set_is_a_cap(tmp_path):
    most = 512
    arms = Arm(constant(16), steps(0.1, 1 / 16)), Arm(lambda p: min(steps(16, 16)(p), most), constant(0.1))
    found = compare(tmp_path, *arms, num_examples=most)
    assert "The batch of b stopped at 512, all there are" in text(found, "cap")


def test_a_constant_batch_and_a_rate_that_is_higher_before_the_cap_are_no_cap(tmp_path):
    large = Arm(constant(64), constant(0.1), config={"batch_size": 64, "maximum": 64})
    assert names(compare(tmp_path / "constant", DECAY, large)) == []
    call = {"call": "schedules.staircase", "initial": 16, "factor": 4, "milestones": [2, 4]}
    high = Arm(steps(16, 4), constant(0.2), config={"batch_size": call, "maximum": 256})
    assert names(compare(tmp_path / "high", DECAY, high)) == []


def test_another_rule_of_the_rate_is_named_where_noise_scales_part_and_not_where_they_do_not(tmp_path):
    config = {"scale_learning_rate": "sqrt"}
    root = Arm(steps(16, 4), steps(0.1, 2), config=config)
    found = compare(tmp_path / "parts", DECAY, root)
    assert names(found) == ["learning-rate rule"]
    assert "'sqrt' in b, and by 'none' in a" in text(found, "learning-rate rule")
    assert names(compare(tmp_path / "equal", DECAY, dataclasses.replace(GROWTH, config=config))) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"clipnorm": 1.0}, {}, "clipnorm is not set, and in the reference 1."),
        ({"clipvalue": 1.0}, {"clipvalue": 0.5}, "clipvalue is 0.5, and in the reference 1."),
        ({"clipnorm": 1.0}, {"clipnorm": 1.0}, "clipnorm = 1 meets gradients of another norm"),
    ],
    ids=["one", "other", "same"],
)
def test_clipping_is_named(tmp_path, ours, theirs, expected):
    arms = [
        dataclasses.replace(a, optimizer={**SGD, **clip}) for a, clip in ((DECAY, ours), (GROWTH, theirs))
    ]
    found = compare(tmp_path, *arms)
    assert names(found) == ["gradient clipping"]
    assert expected in text(found, "gradient clipping")
    same = [dataclasses.replace(DECAY, optimizer={**SGD, "clipnorm": 1.0})] * 2
    assert names(compare(tmp_path / "same", *same)) == []


def test_momentum_correction_of_one_arm_is_named(tmp_path):
    found = compare(tmp_path, DECAY, dataclasses.replace(DECAY, config={"momentum_correction": True}))
    assert names(found) == ["momentum"]
    assert text(found, "momentum").startswith("b corrects the momentum buffer")


# In the report.


@pytest.mark.slow
def test_the_report_has_a_table_a_figure_and_a_sentence_for_each_arm(tmp_path):
    heavy = Arm(constant(80), steps(0.1, 1 / 4), optimizer={**SGD, "momentum": 0.98})
    arms = {"decay": DECAY, "growth": GROWTH, "heavy": heavy, "constant": Arm(constant(16), constant(0.1))}
    folder = make_run(tmp_path / "run", arms)
    written = {str(path.relative_to(folder)) for path in write([folder])}
    assert {"tables/equivalence.tex", "figures/equivalence.svg", "figures/equivalence.pdf"} <= written
    lines = (folder / "tables" / "equivalence.tex").read_text().splitlines()
    rows = {line.split("&")[0].strip(): line for line in lines if "&" in line}
    assert [part.strip(" \\") for part in rows["growth"].split("&")[1:]] == [
        "equal",
        "-",
        "x 0.988",
        r"0 \%",
        "-",
    ]
    assert rows["heavy"].endswith(r"& momentum \\")
    assert r"\shortstack[r]{epoch 2 \\ x 4}" in rows["constant"]
    page = (folder / "report.html").read_text()
    assert "heavy against decay, over 120,018 examples (6 epochs): noise scales are equal within" in page
    assert "Momentum is 0.98, not 0.9" in page
    svg = (folder / "figures" / "equivalence.svg").read_text()
    assert ">ratio to the reference<" in svg
    assert "**equivalence.** Noise scale g = " in (folder / "figures" / "captions.md").read_text()


# By training.


@pytest.mark.slow
def test_of_arms_that_were_trained_smiths_are_equal_and_what_breaks_them_is_named(tmp_path):
    """At 8, 32 and 128 of 1000 examples; 128 is 12.8 % of them, and N / B - 1 is 12 % less than it would be."""

    def staircase(initial, factor):
        return {"call": "schedules.staircase", "initial": initial, "factor": factor, "milestones": [1, 1.7]}

    grown = {"batch_size": staircase(8, 4)}
    content = {
        **TINY,
        "data": {"call": "data.datasets.digits", "num_train": 1000},
        "model": {"call": "networks.mlp", "widths": [4]},
        "optimizer": {**SGD, "learning_rate": 0.05},
        "output": str(tmp_path / "run"),
        "arms": {
            "decay": {"batch_size": 8, "learning_rate": staircase(0.05, 0.25)},
            "growth": grown,
            "capped": {**grown, "maximum": 48},
            "decayed": {**grown, "optimizer": {**SGD, "learning_rate": 0.05, "weight_decay": 0.01}},
        },
    }
    run(from_dict(content))
    found = {each.arm: each for each in lb.report.check_equivalence([tmp_path / "run"])}
    told = {arm: (each.verdict, names(each)) for arm, each in found.items()}
    share = "large share of the data"
    assert told == {
        "growth": (EQUAL_RATIO, [share]),
        "capped": (DIFFERENT, ["cap"]),
        "decayed": (EQUAL_RATIO, ["decoupled weight decay", share]),
    }
    assert found["growth"].largest_ratio == pytest.approx(16 * (1000 / 128 - 1) / (1000 / 8 - 1), rel=1e-5)
    assert found["growth"].parts_at == pytest.approx(1700, abs=2 * 32)
    assert np.isclose(found["growth"].share_apart, 0.15, atol=0.03)

"""What all criteria share: arguments, what is missing, what is no number, YAML, optimizers, and their page."""

import copy
import dataclasses
import doctest
import importlib
import inspect
import math
import pathlib
import pickle
import pkgutil
import re

import keras
import numpy as np
import pytest

from tf_lbgap import growth, scaling
from tf_lbgap.experiment.calls import ConfigError, make
from tf_lbgap.growth import (
    Absa,
    BigBatch,
    Cabs,
    FriedlanderSchmidt,
    GradientNoiseScale,
    InnerProductTest,
    NormTest,
    Plateau,
)

CRITERIA = [
    GradientNoiseScale(),
    NormTest(),
    NormTest(unbiased=True, finite=True),
    InnerProductTest(),
    BigBatch(),
    FriedlanderSchmidt(rate=0.99),
    FriedlanderSchmidt(practical=True),
    Absa(),
    Cabs(),
    Plateau(),
]
MEASURED = {
    "trace": 30.0,
    "squared_norm": 0.1,
    "noise_scale": 300.0,
    "noise_scale_low": 100.0,
    "noise_scale_high": 900.0,
    "batch_squared_norm": 0.5,
    "inner_product_variance": 3.0,
    "loss": 0.7,
    "losses": (0.9, 0.8),
    "top_eigenvalues": (8.0, 4.0),
    "learning_rate": 0.1,
    "momentum": 0.0,
    "updates": 40,
    "progress": 2.5,
    "num_examples": 60000,
    "first_batch_size": 32,
    "first_trace": 40.0,
}
EACH = [(criterion, name) for criterion in CRITERIA for name in criterion.needs]


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
def test_a_criterion_is_a_pure_function_of_what_it_needs(criterion):
    needed = {name: MEASURED[name] for name in criterion.needs}
    before = copy.deepcopy(needed)

    decision = criterion(64, needed)

    assert decision == criterion(64, MEASURED) == criterion(np.int64(64), needed)
    assert needed == before
    assert pickle.loads(pickle.dumps(criterion)) == criterion
    assert type(decision.batch_size) is float and decision.batch_size >= 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        criterion.theta = 2


def test_numpy_numbers_decide_as_plain_ones_do():
    arrays = {name: np.float32(value) for name, value in MEASURED.items()}
    for criterion in CRITERIA:
        assert criterion(64, arrays).batch_size == criterion(64, MEASURED).batch_size


@pytest.mark.parametrize(("criterion", "name"), EACH, ids=str)
def test_what_is_missing_is_named_with_who_measures_it(criterion, name):
    for measured in (
        {key: value for key, value in MEASURED.items() if key != name},
        {**MEASURED, name: None},
    ):
        with pytest.raises(
            ValueError, match=f"{type(criterion).__name__} needs '{name}'.*AdaptiveBatchSize"
        ) as error:
            criterion(64, measured)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("criterion", "name"), EACH, ids=str)
def test_of_what_is_no_number_nothing_follows(criterion, name):
    for value in (math.nan, -math.inf):
        wrong = (0.9, value) if name in ("losses", "top_eigenvalues") else value
        decision = criterion(64, {**MEASURED, name: wrong})
        assert decision.batch_size == 64
        assert name in decision.reason and str(value) in decision.reason and "stays" in decision.reason


@pytest.mark.parametrize(
    ("make_it", "told"),
    [
        (lambda: NormTest(theta=0), r"NormTest\(theta=0\): theta must be a number above 0"),
        (lambda: NormTest(theta="0.5"), "theta='0.5'"),
        (lambda: NormTest(theta=math.nan), "theta=nan"),
        (lambda: NormTest(unbiased=1), "unbiased must be True or False"),
        (lambda: NormTest(finite="yes"), "finite='yes'"),
        (lambda: InnerProductTest(theta=-1), r"InnerProductTest\(theta=-1\)"),
        (lambda: BigBatch(theta=True), "theta=True"),
        (lambda: BigBatch(growth=0), "growth must be a number above 0"),
        (lambda: GradientNoiseScale(fraction=math.inf), "fraction=inf"),
        (lambda: GradientNoiseScale(bound="high"), "bound must be 'low' or 'value'"),
        (lambda: FriedlanderSchmidt(), r"rate=None.*such as 0\.999; or pass practical=True"),
        (lambda: FriedlanderSchmidt(rate=1.0), "rate must be a number above 0 and below 1"),
        (lambda: FriedlanderSchmidt(rate=0.9, practical=True), "Pass one of the two"),
        (lambda: FriedlanderSchmidt(practical="yes"), "practical must be True or False"),
        (lambda: Plateau(factor=1), "factor must be above 1"),
        (lambda: Plateau(patience=0), "patience must be a number above 0"),
        (lambda: Plateau(patience=1.5), "patience must be a whole number of epochs"),
        (lambda: Plateau(min_delta=-0.1), "min_delta must be a number of at least 0"),
        (lambda: Plateau(relative=None), "relative must be True or False"),
    ],
)
def test_a_wrong_argument_is_named_where_it_is_given(make_it, told):
    with pytest.raises(ValueError, match=told) as error:
        make_it()
    assert "\n" not in str(error.value)


def test_yaml_makes_them_and_tells_mistakes_in_one_line():
    assert make({"call": "growth.NormTest", "theta": 0.3}) == NormTest(theta=0.3)
    assert make({"call": "growth.Plateau", "patience": 3}) == Plateau(patience=3)
    with pytest.raises(ConfigError, match=r"growth.NormTest: NormTest\(theta=-1\): theta must be"):
        make({"call": "growth.NormTest", "theta": -1})
    with pytest.raises(ConfigError, match=r"has no argument 'thetta'\. Did you mean 'theta'"):
        make({"call": "growth.NormTest", "thetta": 1})


def test_steps_too_small_for_a_ladder_say_so():
    small = [BigBatch(), FriedlanderSchmidt(practical=True), Plateau(factor=1.5)]
    others = [BigBatch(growth=1.0), FriedlanderSchmidt(rate=0.9), Plateau(), NormTest(), Cabs()]
    assert [criterion.in_small_steps for criterion in small + others] == 3 * [True] + 5 * [False]


def test_cabs_is_for_plain_sgd_and_the_others_for_all():
    Cabs().check_optimizer("SGD", 0.0)
    for name, momentum, told in (("SGD", 0.9, "SGD with momentum=0.9"), ("Adam", 0.0, "trained by Adam")):
        with pytest.raises(ValueError, match=told):
            Cabs().check_optimizer(name, momentum)
        for criterion in CRITERIA:
            if criterion != Cabs():
                criterion.check_optimizer(name, momentum)


def test_a_criterion_of_ones_own_is_one_class():
    @dataclasses.dataclass(frozen=True)
    class Doubling(growth.Criterion):
        needs = ("loss",)

        def decide(self, batch_size, *, loss):
            return growth.Decision(2 * batch_size, f"The loss is {loss}.", {"loss": loss})

    assert Doubling()(32, {"loss": 1}).batch_size == 64
    assert Doubling()(32, {"loss": math.nan}).batch_size == 32


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(growth.__path__)])
def test_examples_in_docstrings_hold(name):
    assert not doctest.testmod(importlib.import_module(f"tf_lbgap.growth.{name}")).failed


# docs/growth.md

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "growth.md").read_text(encoding="utf-8")
KINDS = [
    kind
    for kind in vars(growth).values()
    if inspect.isclass(kind) and kind.__name__ not in ("Criterion", "Decision")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_page_has_the_defaults_and_the_needs_of_each(kind):
    fields = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(kind))
    section = re.search(rf"^### `{kind.__name__}\({re.escape(fields)}\)`$(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert section, f"docs/growth.md lacks the heading ### `{kind.__name__}({fields})`"
    criterion = kind(rate=0.9) if kind is FriedlanderSchmidt else kind()
    needs = re.search(r"^\*\*Needs\*\* (.*?)\.", section[1], re.M)[1]
    assert needs.startswith(", ".join(f"`{name}`" for name in criterion.needs)), needs


def test_the_page_says_which_rule_holds_for_which_optimizer():
    rows = re.findall(r"^\| `\"(\w+)\"` \|.*?\| (.*?) \| (.*?) \|", PAGE, re.M)
    told = {rule: (sgd, adam) for rule, sgd, adam in rows}
    assert tuple(told) == scaling.RATE_RULES
    for rule, cells in told.items():
        for cell, optimizers in zip(cells, (["SGD"], ["Adam", "AdamW", "Lion"]), strict=True):
            for optimizer in optimizers:
                if cell.startswith("refused"):
                    with pytest.raises(ValueError, match="does not hold"):
                        scaling.check_rate_rule(rule, optimizer)
                else:
                    scaling.check_rate_rule(rule, optimizer)


def test_every_optimizer_of_keras_is_known_to_the_rules():
    """A new one in Keras is a line in scaling; `Optimizer` and wrappers are none."""
    known = {name.lower() for name in (*scaling._SGD, *scaling._ADAPTIVE)}
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
    names = {name for name, kind in vars(keras.optimizers).items() if inspect.isclass(kind)} - wrappers
    assert {name for name in names if name.lower() not in known} == set()

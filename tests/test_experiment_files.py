"""Configurations of experiments: what they may hold, and what they refuse before or while an arm is made."""

import json
import sys

import pytest
from tiny_runs import DIGITS, ONE_ARM, TINY, Listener, run, trained, users, written

from tf_lbgap import experiment
from tf_lbgap.experiment import ConfigError, RunFailed, calls

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


def test_overrides_reach_into_the_file():
    overrides = [
        "seeds=3",
        "arms.small.batch_size=7",
        "model.widths=[4, 5]",
        "optimizer.learning_rate=1e-2",
        "arms.large.learning_rate={call: schedules.cosine, initial: 0.1, epochs: 2}",
        "arms.new={batch_size: 3}",
        "output=a=b",
        "measure.tolerance=0.5",
    ]
    made = experiment.load(written(TINY), overrides)
    assert (made.seeds, made.output, made.measure.tolerance, made.name) == (3, "a=b", 0.5, "file")
    assert [arm["batch_size"] for arm in made.arms.values()] == [7, 100, 3]
    assert made.arms["small"]["model"] == {"call": "networks.mlp", "widths": [4, 5]}
    assert made.arms["small"]["optimizer"]["learning_rate"] == 0.01
    assert made.arms["large"]["learning_rate"] == {"call": "schedules.cosine", "initial": 0.1, "epochs": 2}


def test_an_override_of_a_part_keeps_the_rest_of_the_default():
    made = experiment.load(
        written("arms: {a: {batch_size: 5}}\nequal: epochs\nepochs: 1"), ["data.num_train=50"]
    )
    assert made.arms["a"]["data"] == {"call": "data.datasets.digits", "num_train": 50}


def test_numbers_with_an_exponent_are_numbers_and_keys_may_be_merged():
    content = """
        equal: epochs
        epochs: 2
        optimizer: {call: keras.optimizers.Adam, learning_rate: 1e-3}
        arms:
          a: &a {batch_size: 5, learning_rate: 2E-3}
          b: {<<: *a, batch_size: 6}
          c: {<<: *a, learning_rate: '-1e-3x'}
    """
    with pytest.raises(ConfigError, match=r"arms: c: learning_rate: '-1e-3x' must be a positive number"):
        experiment.load(written(content))
    arms = experiment.load(written(content.replace("-1e-3x", "5e-1"))).arms
    assert [arms[name]["learning_rate"] for name in "abc"] == [0.002, 0.002, 0.5]
    assert [arms[name]["batch_size"] for name in "abc"] == [5, 6, 5]
    assert arms["a"]["optimizer"]["learning_rate"] == 0.001


def arm(**keys):
    return {"arms": {"small": {"batch_size": 10, **keys}}}


def test_what_a_criterion_has_against_an_arm_is_told():
    adaptive = {"criterion": {"call": "growth.Cabs"}}
    with pytest.raises(RunFailed, match="Cabs holds for plain SGD"):
        run({**ONE_ARM, "arms": {"cabs": {"batch_size": 8, "adaptive": adaptive}}})
    adaptive = {"criterion": {"call": "growth.NormTest", "theta": -1}}
    with pytest.raises(ConfigError, match="theta"):
        run({**ONE_ARM, "arms": {"norm": {"batch_size": 8, "adaptive": adaptive}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            arm(batch_size="32"),
            r"^arms: small: batch_size: '32' must be a whole number of at least 1 or a schedule",
        ),
        (arm(batch_size=0), "batch_size: 0 must be"),
        (arm(batch_size=2.5), "batch_size: 2.5 must be"),
        (arm(batch_size=True), "batch_size: True must be"),
        (arm(batch_size=None), "needs a batch_size"),
        (arm(batch_siz=3), r"'batch_siz' in arm small is not a key. Did you mean 'batch_size'\?"),
        ({"batchsize": 3}, r"'batchsize' in the file is not a key. Did you mean 'batch_size'\?"),
        (arm(learning_rate=-1), "learning_rate: -1 must be a positive number or a schedule"),
        (arm(learning_rate={"a": 1}), r"learning_rate: \{'a': 1\} must be a positive number"),
        (arm(optimizer="sgd"), r"optimizer: 'sgd' must be a call, such as \{call: keras.optimizers.SGD\}"),
        (
            arm(optimizer={"call": "keras.optimizers.SGD", "learning_rate": {"call": "schedules.cosine"}}),
            "schedules.cosine counts epochs, and Keras' optimizers count updates. Take learning_rate out",
        ),
        (arm(model="mlp"), r"model: 'mlp' must be a call, such as \{call: networks.mlp\}"),
        (arm(model={"widths": [3]}), r"model: \{'widths': \[3\]\} must be a call"),
        (arm(data=None), "data: None must be a call"),
        (arm(loss="mse"), "loss: 'mse' must be a call"),
        (arm(map="flip"), "map: 'flip' must be a call"),
        (arm(jit_compile="yes"), "jit_compile: 'yes' is none of true, false, auto"),
        (arm(jit_compile=1), "jit_compile: 1 is none of"),
        (arm(momentum_correction="yes"), "momentum_correction: 'yes' is none of true, false"),
        (arm(sizes=[1]), r"sizes: \[1\] is none of any, ladder"),
        (arm(last_batch="keep"), "last_batch: 'keep' is none of partial, merge, drop"),
        (arm(scale_learning_rate="lin"), "scale_learning_rate: 'lin' is none of none, linear, sqrt"),
        (arm(epochs="2"), "epochs: '2' must be a whole number"),
        (arm(check_rule="no"), "check_rule: 'no' is none of true, false"),
        (arm(micro_batch_size=0), 'micro_batch_size: 0 must be a whole number of at least 1 or "auto"'),
        (arm(ghost_batch_size="auto"), "ghost_batch_size: 'auto' must be a whole number"),
        (arm(adaptive="growth.NormTest"), "adaptive: 'growth.NormTest' must hold a criterion, a call"),
        (arm(adaptive={"every": 3}), r"adaptive: \{'every': 3\} must hold a criterion"),
        (
            arm(adaptive={"criterion": {"call": "growth.Plateau"}, "evry": 1}),
            r"'evry' in arms: small: adaptive is not a key. Did you mean 'every'\?",
        ),
        (
            arm(adaptive={"criterion": {"call": "growth.Plateau"}}, sizes="ladder"),
            "the arm's sizes is for schedules. Write it inside adaptive",
        ),
        (
            arm(
                adaptive={"criterion": {"call": "growth.Plateau"}},
                batch_size={"call": "schedules.constant", "value": 8},
            ),
            "a criterion chooses the batch, and so does the schedule",
        ),
        ({"margin": 0}, "^margin: 0 must be a positive number of points of test accuracy"),
        ({"margin": 100}, "margin: 100 is in points of test accuracy"),
        ({"arms": ["small"]}, "arms: must name at least one arm"),
        ({"arms": {"small": None}}, "arms: small: must hold keys such as batch_size, not None"),
        ({"arms": {"a/b": {"batch_size": 1}}}, "arms: 'a/b' cannot be the name of a folder"),
        ({"arms": {"a\n": {"batch_size": 1}}}, r"arms: 'a\\n' cannot be the name of a folder"),
        (
            {"arms": {"results.json": {"batch_size": 1}}},
            "arms: 'results.json' cannot be the name of a folder",
        ),
        ({"arms": {"x" * 101: {"batch_size": 1}}}, "it is too long"),
        ({"seeds": 0}, "^seeds: 0 must be a whole number of at least 1.$"),
        ({"seeds": [1, 2]}, r"seeds: \[1, 2\] must be"),
        ({"equal": "lose"}, "equal: 'lose' is none of loss, epochs, updates, seconds"),
        ({"equal": ["loss"]}, r"equal: \['loss'\] is none of"),
        ({"equal": "tuned"}, "arms: small: equal: tuned needs learning_rates"),
        (
            {"equal": "tuned", "learning_rates": [0.1]},
            r"learning_rates: \[0.1\] must be a list of at least two",
        ),
        (
            {"learning_rates": [0.1, 1.0]},
            "learning_rates: are tried with equal: tuned, not with equal: epochs",
        ),
        ({"equal": "loss"}, "equal: loss needs target_loss"),
        ({"equal": "seconds", "seconds": "abc"}, "seconds: 'abc' must be a positive number"),
        ({"equal": "updates", "updates": 3, "steps_per_execution": 2}, "leave out steps_per_execution"),
        ({"reference": "smal"}, r"reference: 'smal' is not an arm. Did you mean 'small'\?"),
        ({"reference": ["small"]}, "reference: .* is not an arm"),
        ({"measure": 5}, "measure: 5 must hold keys"),
        ({"measure": ["x"]}, "must hold keys"),
        ({"measure": {"top_eigenvalues": 3}}, r"Did you mean 'top_eigenvalue_examples'\?"),
        ({"measure": {"check_examples": "50"}}, "check_examples: '50' must be a whole number"),
        ({"output": None}, "output: None must be a text"),
        ({"output": ""}, "output: '' must be a text"),
        ({"name": None}, "name: None must be a text"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:40],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        experiment.from_dict({**TINY, **changes})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# \xe9\narms: {}", "Save it as UTF-8"),
        (b"", "must hold keys and values, such as 'arms:', but holds nothing"),
        (b"- a", "but holds a list"),
        (b"arms:\n\tsmall: {batch_size: 3}", r"line 2, column 1.*Indent with spaces"),
        (b"arms: {a: {batch_size: 3}\n", "cannot be read as YAML"),
        (b"arms:\n  a: {batch_size: 3}\n  a: {batch_size: 4}\n", "the key 'a' stands twice .* line 3"),
        (b"arms: !!python/object:os.system x", "cannot be read as YAML"),
    ],
    ids=["latin-1", "empty", "list", "tab", "open", "twice", "object"],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(content, message):
    with open("file.yaml", "wb") as file:
        file.write(content)
    with pytest.raises(ConfigError, match=message) as raised:
        experiment.load("file.yaml")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "'seeds' is not of the form key=value"),
        ("=3", "not of the form"),
        ("seeds=[", "the value cannot be read as YAML"),
        ("seeds.x=3", "seeds holds no keys"),
        ("arms.smal.batch_size=3", r"'smal' is not an arm. Did you mean 'small'\?"),
    ],
)
def test_an_override_that_means_nothing_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        experiment.load(written(TINY), [override])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (arm(model={"call": "networks.mpl"}), r"^arms: small: call: networks.mpl: .* Did you mean 'mlp'\?"),
        (arm(model={"call": "network.mlp"}), r"Did you mean 'networks'\?"),
        (arm(model={"call": "mlp"}), "write networks.mlp, or module:mlp"),
        (
            arm(model={"call": "networks.mlp", "width": [3]}),
            r"has no argument 'width'. Did you mean 'widths'\?",
        ),
        (arm(model={"call": "nowhere:model"}), "cannot import 'nowhere' from"),
        (arm(model={"call": ":model"}), "is not a name such as networks.mlp or my_module:my_function"),
        (arm(model={"call": "keras.optimizers"}), "keras.optimizers is no function"),
        (
            arm(optimizer={"call": "keras.optimizers.SGD", "momentun": 0.9}),
            r"keras.optimizers.SGD has no argument 'momentun'. Did you mean 'momentum'\?",
        ),
        (arm(batch_size={"call": "schedules.constant", "valu": 3}), r"Did you mean 'value'\?"),
        (arm(batch_size={"call": "schedules.staircase"}), "missing a required argument: 'initial'"),
        (
            arm(learning_rate={"call": "schedules.cosine", "initial": 0.1}),
            "missing a required argument: .epochs",
        ),
        (
            arm(batch_size=50, adaptive={"criterion": {"call": "growth.NormTest", "theta": -1}}),
            "theta must be a number above 0",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:70],
)
def test_a_call_of_nothing_is_refused_before_any_arm_is_trained(changes, message):
    arms = {"first": {"batch_size": 50}, **changes["arms"]}
    listener = Listener()
    with pytest.raises(ConfigError, match=message):
        run({**TINY, "arms": arms}, listen=listener)
    assert listener.trained == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (arm(batch_size=101), r"^arms: small: batch_size=101 is not a batch size: .* from 1 to 100"),
        (arm(data={**DIGITS, "num_train": 5000}), "num_train=5000 is not possible"),
        (
            arm(loss={"call": "keras.losses.SparseCategoricalCrossentropy"}),
            "takes probabilities, but the model gives values from .* Add from_logits: true",
        ),
        (arm(optimizer={"call": "keras.optimizers.SGD", "momentum": 2}), "`momentum` must be"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:70],
)
def test_what_only_data_can_refuse_is_told_as_a_mistake_too(changes, message):
    with pytest.raises(ConfigError, match=message):
        run({**TINY, **changes})


def test_a_model_that_ends_in_a_softmax_is_not_trained_as_if_it_gave_logits():
    users(
        "user_softmax",
        """
        def model(input_shape, num_classes):
            return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(num_classes, "softmax")])
        """,
    )
    model = {"call": "user_softmax:model"}
    with pytest.raises(
        ConfigError, match=r"takes logits, but the model gives probabilities. Set from_logits: false"
    ):
        run({**ONE_ARM, "model": model})
    loss = {"call": "keras.losses.SparseCategoricalCrossentropy"}
    assert trained({**ONE_ARM, "model": model, "loss": loss}) == [("small", 0)]


def test_a_directory_that_cannot_be_written_is_told():
    written("", "file")
    with pytest.raises(
        ConfigError, match=r"output: 'file' cannot be written: File exists. Type output=DIRECTORY"
    ):
        run({**ONE_ARM, "output": "file"})


def test_a_call_is_made_with_its_arguments_and_what_it_is_offered():
    users("user_calls", "def f(a, b=2, **more): return (a, b, more)\ndef g(seed): return seed\n")
    assert calls.make(
        {"call": "user_calls:f", "a": [{"call": "user_calls:g", "seed": 4}], "c": 5}, b=3, x=1
    ) == (
        [4],
        3,
        {"c": 5},
    )
    assert calls.make({"call": "user_calls:g", "seed": 7}, seed=8) == 7  # what is written counts
    assert calls.make_function({"call": "user_calls:g"}) is sys.modules["user_calls"].g

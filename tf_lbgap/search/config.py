"""A search as it stands in a YAML file: an experiment with ranges in the place of values.

```yaml
data: {call: data.datasets.digits, num_train: 1000}
model: {call: networks.mlp, widths: [64, 64]}
optimizer: {call: keras.optimizers.SGD, learning_rate: 0.1, momentum: 0.9}
batch_size: {choice: [16, 64, 256]}
learning_rate: {range: [0.01, 1.0], scale: log}
equal: epochs
epochs: 10
tuner: bayesian
max_trials: 30
seeds: 3
```

With `noise_scale` in the place of `learning_rate` the rate follows from Smith and Le's noise scale g = lr / (1 - m) (N / B - 1):
a range searches over (noise scale, batch), a number along a line of equal noise scale. A `learning_rate` beside it is a schedule by which the
rate is multiplied.
"""

import copy
import dataclasses
import math
import pathlib

from tf_lbgap import experiment
from tf_lbgap.experiment.calls import ConfigError, is_call, takes
from tf_lbgap.experiment.checks import check_keys, count, positive, text, whole
from tf_lbgap.experiment.config import ARM_KEYS, DEFAULTS
from tf_lbgap.experiment.reading import read
from tf_lbgap.search import checks, space
from tf_lbgap.search.rates import with_rate

DATA_SEED = 1_000_003  # of the split whose test set the search never sees
MAX_TRIALS = 30  # of random and Bayesian searches, if nobody says
FRESH_SEED = 1_000  # the first of those that winners are trained with; trials have 0, 1, ...

TUNERS = {
    "random": (),
    "grid": (),
    "bayesian": ("num_initial_points", "alpha", "beta"),
    "hyperband": ("factor", "hyperband_iterations"),
}
"""Names of `tuner:`, and what else of Keras Tuner's oracle of that name may be set."""

_KEYS = {
    "tuner": "random",
    "max_trials": None,
    "objective": "validation_accuracy",
    "held_out": 0.2,
    "winners": 1,
    "fresh_seeds": 10,
    "search_seed": 0,
    "noise_scale": None,
}
_OF_EXPERIMENT = ("name", "output", "equal", "seeds", "measure", "margin", "arms", "reference")


@dataclasses.dataclass(frozen=True)
class Search:
    """A search whose every key is known and every value is of the right kind."""

    name: str
    output: str
    tuner: dict  # its name, and arguments of Keras Tuner's oracle
    max_trials: int | None
    objective: str
    seeds: int  # of each trial
    held_out: float  # share of the training set that judges trials
    winners: int  # how many are trained anew
    fresh_seeds: int  # of each of them
    search_seed: int
    content: dict  # keys of an arm, with ranges, and noise_scale; equal and measure
    arms: dict  # what winners are compared with
    reference: str | None
    margin: float | None

    @property
    def dimensions(self):
        """The `space.Dimension`s."""
        return space.find({k: v for k, v in self.content.items() if k not in ("equal", "measure")})

    @property
    def num_trials(self):
        """How many trials there will be at most; None if Hyperband decides."""
        if self.tuner["name"] != "grid":
            return self.max_trials
        return min(self.max_trials or math.inf, self.num_combinations)

    @property
    def num_combinations(self):
        """How many points a grid has."""
        return math.prod(len(dimension.values) for dimension in self.dimensions)

    @property
    def identity(self):
        """What may not change between a search that was stopped and one that goes on."""
        return [self.tuner, self.objective, self.seeds, self.held_out, self.search_seed, self.content]

    def to_dict(self):
        """Return plain dicts, as a YAML file holds them."""
        values = dataclasses.asdict(self)
        content = values.pop("content")
        return {**{k: v for k, v in values.items() if v not in (None, {})}, **content}

    def samples(self):
        """Yield (dimension, value, values of a trial) for each choice, and for both ends of what has none; others are at their first."""
        dimensions = self.dimensions
        first = {d.name: d.low if d.values is None else d.labels[0] for d in dimensions}
        for dimension in dimensions:
            ends = (dimension.low, dimension.high) if dimension.values is None else dimension.labels
            yield from ((dimension, value, {**first, dimension.name: value}) for value in ends)

    def values(self, trial_values, num_train):
        """Return the keys of an arm for values of Keras Tuner's.

        Args:
            trial_values: Dict from the name of a dimension to a value.
            num_train: N, the training examples of a trial.
        """
        arm = {k: v for k, v in self.content.items() if k in ARM_KEYS or k == "noise_scale"}
        arm = with_rate(space.fill(arm, trial_values), num_train)
        if "tuner/epochs" in trial_values:  # Hyperband
            arm["epochs"] = int(trial_values["tuner/epochs"])
        return arm

    def trial(self, name, values):
        """Return the `Experiment` of a trial: one arm, its seeds, judged on what is held out.

        Args:
            name: Of the trial.
            values: Keys of an arm, as `values` gives them.
        """
        data = {"call": "data.held_out", "split": self.data, "share": self.held_out}
        return self._experiment(
            {name: {**values, "data": data}},
            seeds=self.seeds,
            output=str(pathlib.Path(self.output) / "trials"),
        )

    def final(self, winners):
        """Return the `Experiment` that trains winners anew, on all training data, judged on the test set.

        Args:
            winners: Dict from the name of an arm to its keys.
        """
        baselines = {name: {**self.shared, **own, "data": self.data} for name, own in self.arms.items()}
        arms = {**baselines, **{name: {**values, "data": self.data} for name, values in winners.items()}}
        return self._experiment(
            arms,
            name=f"{self.name}, winners",
            seeds=self.fresh_seeds,
            first_seed=FRESH_SEED,
            output=str(pathlib.Path(self.output) / "winners"),
            reference=self.reference or next(iter(arms)),
            margin=self.margin,
        )

    def check(self, arms):
        """Raise if arms make no experiment; what they call is not looked up, which would take TensorFlow."""
        self._experiment(arms, margin=self.margin)

    @property
    def shared(self):
        """Keys of an arm that do not vary."""
        return {k: v for k, v in self.content.items() if k in ARM_KEYS and not space.find(v)}

    @property
    def data(self):
        """The data call, whose split is the same for all seeds."""
        return _seeded(copy.deepcopy(self.content.get("data", DEFAULTS["data"])))

    def _experiment(self, arms, **more):
        shared = {key: self.content[key] for key in ("equal", "measure") if key in self.content}
        return experiment.from_dict({"name": self.name, **shared, **more, "arms": arms}, name=self.name)


def _seeded(call):
    """The data call, and those within it, with the seed of the one split."""
    call = {key: _seeded(value) if is_call(value) else value for key, value in call.items()}
    return {"seed": DATA_SEED, **call} if "seed" in takes(call) else call


def load(path, overrides=()):
    """Read a search from a YAML file; arguments and errors are those of `experiment.load`."""
    return from_dict(read(path, overrides, DEFAULTS), name=pathlib.Path(path).stem)


def from_dict(content, name="search"):
    """Make a search from the content of a YAML file.

    Raises:
        ConfigError: If it says something that nobody understands, or nothing varies.
    """
    content = copy.deepcopy(content)
    check_keys(content, ARM_KEYS | set(_KEYS) | set(_OF_EXPERIMENT), "the file")
    content.setdefault("equal", "epochs")
    name = text(content.get("name", name), "name")
    settings = {key: content.get(key, default) for key, default in _KEYS.items()}
    tuner = _tuner(settings["tuner"])
    search = Search(
        name=name,
        output=text(content.get("output", str(pathlib.Path("runs") / name)), "output"),
        tuner=tuner,
        max_trials=_max_trials(settings["max_trials"], tuner["name"]),
        objective=settings["objective"],
        seeds=whole(content.get("seeds", 3), "seeds"),
        held_out=positive(settings["held_out"], "held_out", "below 1, such as 0.2"),
        winners=whole(settings["winners"], "winners"),
        fresh_seeds=whole(settings["fresh_seeds"], "fresh_seeds"),
        search_seed=count(settings["search_seed"], "search_seed"),
        content={k: content[k] for k in content if k in ARM_KEYS or k in ("equal", "measure", "noise_scale")},
        arms=content.get("arms") or {},
        reference=content.get("reference"),
        margin=content.get("margin"),
    )
    checks.check(search)
    return search


def _max_trials(value, tuner):
    if tuner == "hyperband":
        if value is not None:
            raise ConfigError("max_trials: tuner: hyperband: chooses how many, by epochs. Leave it out.")
        return None
    if value is None:
        return None if tuner == "grid" else MAX_TRIALS
    return whole(value, "max_trials")


def _tuner(value):
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or given.get("name") not in TUNERS:
        told = given.get("name") if isinstance(given, dict) else given
        raise ConfigError(f"tuner: {told!r} is none of {', '.join(TUNERS)}.")
    where = f"tuner: {given['name']}"
    check_keys(given, ("name", *TUNERS[given["name"]]), where)
    for key, option in given.items():
        if key in ("alpha", "beta"):
            positive(option, f"{where}: {key}")
        elif key != "name" and whole(option, f"{where}: {key}") < 2 and key == "factor":
            raise ConfigError(f"{where}: factor: {option} must be at least 2.")
    return dict(given)

"""Measures on the saved weights of a run, after the fact: `lbgap measure RUN`.

```
runs/quickstart/measures.json, .csv      a row per arm and seed
```

The weights were saved after recalibration, so batch normalization runs on the exact statistics of the training
set it was trained on. All arms of a seed are measured on the same examples, cut into the same disjoint subsets.
"""

import functools
import inspect
import math
import pathlib
import statistics

import yaml

from tf_lbgap.experiment.calls import ConfigError, make, nearest
from tf_lbgap.experiment.config import from_dict
from tf_lbgap.experiment.files import read_json, write_csv, write_json
from tf_lbgap.experiment.quiet import import_tensorflow

DEFAULT = ("top_eigenvalue", "hessian_trace", "epsilon_sharpness", "ascent_sharpness", "adaptive_sharpness")
"""What is measured if nobody says what: names in `tf_lbgap.sharpness`."""


def measure(run, names=DEFAULT, *, examples=None, subsets=1, listen=None):
    """Measure the weights of every arm and seed that finished.

    Args:
        run: A run directory.
        names: Functions of `tf_lbgap.sharpness`, with their default arguments.
        examples: How many of the training set, by default as many as the run's Hessian took; 0: all.
        subsets: Into how many disjoint subsets they are cut; each is measured alone. Above 1 a row holds the
            mean, and `<name>_spread`, the standard deviation over subsets.
        listen: Function (arm, seed, row) that is told what was measured.

    Returns:
        The `Experiment`, and a list of dicts, a row per arm and seed.

    Raises:
        ConfigError: If there is no such run, or no measure of that name.
    """
    run = pathlib.Path(run)
    experiment = _experiment(run)
    import_tensorflow()
    functions = {name: _function(name) for name in names}
    examples = experiment.measure.top_eigenvalue_examples or 1000 if examples is None else examples
    rows = []
    for arm in experiment.arms:
        measured = _Arm(experiment.arms[arm], functions, examples, subsets)
        for seed in experiment.seed_numbers:
            folder = run / arm / str(seed)
            if read_json(folder / "result.json") is None:
                continue
            rows.append({"arm": arm, "seed": seed, **measured(seed, folder / "model.weights.h5")})
            if listen is not None:
                listen(arm, seed, rows[-1])
    if not rows:
        raise ConfigError(f"{str(run)!r} holds no finished arm. Train first: lbgap run CONFIG output={run}.")
    about = {"name": experiment.name, "batch_normalization": "recalibrated", "measures": list(names)}
    write_json(run / "measures.json", {**about, "runs": rows})
    write_csv(run / "measures.csv", rows)
    return experiment, rows


class _Arm:
    """Measures the seeds of one arm with one model, so that everything is compiled once."""

    def __init__(self, config, functions, examples, subsets):
        self._config, self._functions = config, functions
        self._examples, self._subsets = examples, subsets
        self._subject = None

    def __call__(self, seed, weights):
        from tf_lbgap import sharpness
        from tf_lbgap.experiment.making import first_examples, load_split, make_model

        split = load_split(self._config["data"], seed)
        sample = first_examples(split.x_train, split.y_train, self._examples)
        if self._subsets > _length(sample):
            raise ConfigError(
                f"{_length(sample)} examples make no {self._subsets} subsets. Pass a smaller --subsets."
            )
        if not weights.exists():
            raise ConfigError(f"{str(weights)!r} is missing. Train it anew: lbgap run with --again.")
        parts = [_part(sample, i, self._subsets) for i in range(self._subsets)]
        if self._subject is None:
            model = make_model(self._config["model"], split, seed)
            self._subject = sharpness.Subject(model, make(self._config["loss"]), parts[0])
        self._subject.model.load_weights(weights)
        values = {name: [] for name in self._functions}
        for part in parts:
            self._subject.batches = part
            for name, function in self._functions.items():
                values[name].append(_number(function, self._subject))
        row = {"examples": _length(sample), "subsets": self._subsets}
        for name, found in values.items():
            row[name] = statistics.fmean(found)
            if self._subsets > 1:
                finite = all(map(math.isfinite, found))
                row[f"{name}_spread"] = statistics.stdev(found) if finite else math.nan
        return row


def _number(function, subject):
    try:
        return float(function(subject))
    except ValueError:  # diverged: the loss is not finite
        surface = subject.surface
        if math.isfinite(surface.value(surface.weights())):
            raise
        return math.nan


def _length(sample):
    import keras

    return len(keras.tree.flatten(sample)[0])


def _part(sample, index, count):
    """Example i belongs to part i mod count: sizes differ by one at most."""
    import keras

    return keras.tree.map_structure(lambda a: a[index::count], sample)


def _experiment(run):
    path = run / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{str(run)!r} is no run directory: {path} cannot be read ({getattr(error, 'strerror', None) or error}). "
            "Pass the directory that lbgap run printed, such as runs/quickstart."
        ) from error
    return from_dict(content, name=run.name)


@functools.cache
def known():
    """Names of the measures that can be asked for."""
    from tf_lbgap import sharpness

    return tuple(
        name
        for name in sharpness.__all__
        if inspect.isfunction(getattr(sharpness, name))
        and name not in ("negative_log_evidence", "rescale_relu", "sampled_average_sharpness")
    )


def _function(name):
    from tf_lbgap import sharpness

    if name not in known():
        raise ConfigError(f"There is no measure {name!r}. {nearest(name, known())}")
    return getattr(sharpness, name)

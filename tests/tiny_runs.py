"""Experiments that train in a moment, and what tests ask of them."""

import json
import pathlib
import sys
import textwrap

import yaml

from tf_lbgap import experiment

DIGITS = {"call": "data.datasets.digits", "num_train": 100}
TINY = {
    "data": DIGITS,
    "model": {"call": "networks.mlp", "widths": [8]},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.9},
    "equal": "epochs",
    "epochs": 2,
    "seeds": 1,
    "measure": {"top_eigenvalue_examples": 0, "validation_examples": 0},
    "arms": {"small": {"batch_size": 30}, "large": {"batch_size": 100}},
}
ONE_ARM = {**TINY, "arms": {"small": {"batch_size": 30}}}


class Listener:
    """Notes which arms and seeds were trained and which were finished before."""

    def __init__(self):
        self.trained, self.before = [], []

    def started(self, arm, seed):
        pass

    def advanced(self, arm, seed, fraction, text):
        assert 0 <= fraction <= 1

    def finished(self, arm, seed, row, trained):
        (self.trained if trained else self.before).append((arm, seed))


def run(content, **options):
    """Run a dict as an experiment; return its rows."""
    return experiment.run(experiment.from_dict(content), **options)


def trained(content, **options):
    """Run and return the (arm, seed) pairs that were trained."""
    listener = Listener()
    run(content, listen=listener, **options)
    return listener.trained


def timeless(rows):
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in rows]


def read_json(folder):
    """Return the content of results.json."""
    return json.loads((pathlib.Path(folder) / "results.json").read_text())


def users(name, code):
    """Write a module of a user; a name is imported once per process, so each test has its own."""
    assert name not in sys.modules
    with open(f"{name}.py", "w") as file:
        file.write("import keras\nimport numpy as np\n" + textwrap.dedent(code))


def written(content, name="file.yaml"):
    with open(name, "w") as file:
        file.write(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return name

"""Searches that train in a moment, and what tests ask of them."""

import json
import pathlib

from tiny_runs import TINY

from tf_lbgap import search

SEARCH = {
    **{key: value for key, value in TINY.items() if key not in ("arms", "seeds")},
    "batch_size": {"choice": [10, 40]},
    "learning_rate": {"range": [0.01, 0.5], "scale": "log"},
    "max_trials": 3,
    "seeds": 2,
    "fresh_seeds": 2,
    "output": "runs/search",
}
N = 80  # training examples of a trial


class Heard:
    """Notes what a search tells."""

    def __init__(self):
        self.started_seeds, self.new, self.before = [], [], []

    def began(self, search, num_train):
        assert num_train == N

    def started(self, trial, seed):
        self.started_seeds.append((trial, seed))

    def advanced(self, trial, seed, fraction, text):
        pass

    def ended(self, found, is_new):
        (self.new if is_new else self.before).append(found["trial"])

    def winners(self, experiment):
        return None


def searched(changes=(), **options):
    """Search, with some keys changed; return results.json as it lies there, and what was heard."""
    heard = Heard()
    search.run(search.from_dict({**SEARCH, **dict(changes)}), listen=heard, **options)
    return results(), heard


def results(folder="runs/search"):
    return json.loads((pathlib.Path(folder) / "results.json").read_text())


def timeless(found):
    """Return results without what a clock or the machine decides."""
    if isinstance(found, dict):
        return {k: timeless(v) for k, v in found.items() if "seconds" not in k and k != "environment"}
    return [timeless(each) for each in found] if isinstance(found, list) else found

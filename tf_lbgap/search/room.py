"""A search at work: Keras Tuner's oracle beside what the trials came to."""

import pathlib

import yaml

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.files import digest, read_json, write_csv, write_json, write_text
from tf_lbgap.search import trials
from tf_lbgap.search.objectives import OBJECTIVES
from tf_lbgap.search.space import label

MISTAKES = 3  # so many trials of a search that begins with nothing but mistakes


class Room:
    """A search at work: Keras Tuner's oracle, and what the trials came to.

    Args:
        search: A `Search`.
    """

    def __init__(self, search):
        from tf_lbgap.search.oracle import make_oracle

        self.search, self.output = search, pathlib.Path(search.output)
        self.num_train = _num_train(search)
        self.oracle = make_oracle(search)
        self.oracle.file = self.output / "oracle.json"
        self._found = {}  # trial id -> record, of those that ended

    def begin(self, fresh=False):
        """Go on where an earlier search of the same configuration was, or begin; nobody else may write.

        Raises:
            ConfigError: If another search is there, and this one is not to begin anew.
        """
        identity = digest(self.search.identity)
        was = read_json(self.output / "identity.json")
        if not fresh and was not in (None, identity):
            raise ConfigError(
                f"output: another search is in {str(self.output)!r}. Type output=DIRECTORY, or --again to begin anew there."
            )
        if not fresh and was == identity and self.oracle.file.exists():
            self.oracle.reload()
            self.oracle.run_again([trial_id for trial_id in self.ended() if self.found(trial_id) is None])
        else:
            self.oracle.file.unlink(missing_ok=True)
            for each in (self.output / "trials").glob("*/trial.json"):
                each.unlink()
        write_json(self.output / "identity.json", identity)
        write_text(self.output / "search.yaml", yaml.safe_dump(self.search.to_dict(), sort_keys=False))

    def piece(self, trial):
        """Return (key, arguments) of `trials.train` for a trial of Keras Tuner's."""
        name = trials.name_of(trial.trial_id)
        arm = self._arm(trial)
        return (name, 0), (self.search.trial(name, arm), (self._told(trial), self.search.dimensions))

    def end(self, name, outcomes):
        """Note what a trial came to, tell Keras Tuner, and return its record."""
        trial = self._trial(name)
        found = self.record(trial, outcomes)
        if found["status"] == "finished":
            self.oracle.update_trial(trial.trial_id, trials.metrics(found, self.search.objective))
            trial.status = "COMPLETED"
        else:
            trial.status, trial.message = "FAILED", f"{found['status']}: {found['message']}"
        self.oracle.end_trial(trial)
        self.write()
        self._check_mistakes(outcomes)
        return found

    def record(self, trial, outcomes):
        """Write and return the record of a trial of Keras Tuner's."""
        found = trials.record(
            trials.name_of(trial.trial_id),
            self._told(trial),
            self._arm(trial),
            self.num_train,
            outcomes if isinstance(outcomes, list) else [outcomes],
            self.search.objective,
        )
        trials.write(self.search, found)
        return found

    def ended(self):
        """Return the ids of the trials that have ended, in the order in which they began."""
        return [t.trial_id for t in self.oracle.trials.values() if t.status in ("COMPLETED", "FAILED")]

    def found(self, trial_id):
        """Return the record of a trial that has ended; None if its file is gone."""
        if self._found.get(trial_id) is None:
            self._found[trial_id] = trials.read(self.search, trials.name_of(trial_id))
        return self._found[trial_id]

    def best(self):
        """Return the records of the finished trials, the best first; of Hyperband's those with the most epochs."""
        sign = -1 if OBJECTIVES[self.search.objective].direction == "max" else 1
        scored = [found for found in map(self.found, self.ended()) if found["score"] is not None]
        if self.search.tuner["name"] == "hyperband":
            most = max((found["values"]["epochs"] for found in scored), default=0)
            scored = [found for found in scored if found["values"]["epochs"] == most]
        return sorted(scored, key=lambda found: sign * found["score"])

    def arm(self, name):
        """Return the keys of the arm of a trial."""
        return self._arm(self._trial(name))

    def write(self, **more):
        """Write `results.json` and `trials.csv`; return the content of the former."""
        objective = OBJECTIVES[self.search.objective]
        found = [self.found(trial_id) for trial_id in self.ended()]
        content = {
            "name": self.search.name,
            "tuner": self.search.tuner["name"],
            "objective": self.search.objective,
            "direction": objective.direction,
            "equal": self.search.content["equal"],
            "num_train": self.num_train,
            "dimensions": [_described(dimension) for dimension in self.search.dimensions],
            "trials": found,
            **more,
        }
        write_json(self.output / "results.json", content)
        write_csv(self.output / "trials.csv", [_flat(each) for each in found])
        return content

    def _trial(self, name):
        return next(t for t in self.oracle.trials.values() if trials.name_of(t.trial_id) == name)

    def _arm(self, trial):
        return self.search.values(trial.hyperparameters.values, self.num_train)

    def _told(self, trial):
        """Return the values of a trial as numbers and texts."""
        given = trial.hyperparameters.values
        told = {d.name: _told(d.value(given[d.name])) for d in self.search.dimensions}
        return {**told, "epochs": int(given["tuner/epochs"])} if "tuner/epochs" in given else told

    def _check_mistakes(self, outcomes):
        """Raise if nothing but mistakes in the configuration has come of the first trials."""
        last = outcomes[-1] if isinstance(outcomes, list) else outcomes
        ended = [self.found(trial_id)["status"] for trial_id in self.ended()]
        if getattr(last, "is_mistake", False) and len(ended) >= MISTAKES and set(ended) == {"failed"}:
            raise ConfigError(f"The first {len(ended)} trials failed, the last so: {last.text}")


def _num_train(search):
    import keras

    from tf_lbgap.experiment.making import is_classification, load_split

    data = {"call": "data.held_out", "split": search.data, "share": search.held_out}
    split = load_split(data, 0)
    if search.objective == "validation_accuracy" and not is_classification(split):
        raise ConfigError(
            "objective: validation_accuracy: the targets are no classes. Type objective=validation_loss."
        )
    return len(keras.tree.flatten(split.y_train)[0])


def _described(dimension):
    return {
        "name": dimension.name,
        "values": None if dimension.values is None else [_told(value) for value in dimension.values],
        "low": dimension.low,
        "high": dimension.high,
        "scale": dimension.scale,
    }


def _told(value):
    return value if isinstance(value, (bool, int, float, str)) else label(value)


def _flat(found):
    """Return a record as a line of a table."""
    flat = {key: value for key, value in found.items() if key not in ("values", "seeds")}
    own = {key: value for key, value in flat.items() if key not in found["values"]}
    return {"trial": own.pop("trial"), **found["values"], **own, "seeds": len(found["seeds"])}

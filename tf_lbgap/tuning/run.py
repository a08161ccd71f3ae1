"""Running a search: trials chosen by Keras Tuner, winners trained anew, into a directory.

```
runs/search/search.yaml                the search as it was understood
            oracle.json                what Keras Tuner knows, one file that is never half written
            results.json, trials.csv   every trial, and the winners on fresh seeds
            trials/0007/trial.json     what came of a trial;  trials/0007/0/: its first seed, as in any run directory
            winners/                   a run directory of its own: the winners, and what they are compared with
            figures/                   what the search shows
```

A seed that is finished is not trained again, and neither is a trial.
"""

import pathlib
import shutil

import yaml

from tf_lbgap import experiment
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.environment import environment
from tf_lbgap.experiment.files import digest, read_json, write_csv, write_json, write_text
from tf_lbgap.experiment.quiet import import_tensorflow
from tf_lbgap.experiment.run import only_writer
from tf_lbgap.experiment.side_by_side import work_on
from tf_lbgap.tuning import hparams, trials, workers
from tf_lbgap.tuning.objectives import OBJECTIVES
from tf_lbgap.tuning.space import label

MISTAKES = 3  # so many trials of a search that begins with nothing but mistakes


def run(search, *, jobs=1, again=False, listen=None):
    """Search, train the winners anew, and write the run directory.

    Args:
        search: A `Search`.
        jobs: How many trials are trained at the same time; they share the cores.
        again: Whether to begin anew.
        listen: Object with `began(search, num_train)`, `started(trial, seed)`, `advanced(trial, seed, fraction, text)`,
            `ended(trial record, is new)` and `winners(experiment)`, which returns what listens to `experiment.run`; told as
            things happen.

    Returns:
        Dict, the content of `results.json`; empty in a worker of several, whose chief writes.

    Raises:
        ConfigError: If a call names no function or argument, no trial finished, the directory cannot be written, or another run
            is writing it.
        experiment.RunFailed: If a winner could not be trained anew.
    """
    listen = listen or _Silent()
    has_workers = workers.are_asked_for()
    if has_workers and not workers.is_chief():
        import_tensorflow()
        room = Room(search)
        listen.began(search, room.num_train)
        workers.work(room, listen)
        return {}
    output = pathlib.Path(search.output)
    with only_writer(output):
        if again:
            shutil.rmtree(output / "trials", ignore_errors=True)
        import_tensorflow()
        room = Room(search)
        room.begin(fresh=again)
        listen.began(search, room.num_train)
        for trial_id in room.ended():
            listen.ended(room.found(trial_id), False)
        if has_workers:
            workers.serve(room, listen)
        else:
            _train(room, jobs, listen)
        return finish(room, jobs, again, listen)


def _train(room, jobs, listen):
    for (name, _), outcomes in work_on(_pieces(room), trials.train, jobs, listen):
        listen.ended(room.end(name, outcomes), True)


def _pieces(room):
    """Give trials to train, as `work_on` asks for them; None while Keras Tuner waits for others to end."""
    asked = 0
    while True:
        asked += 1
        trial = room.oracle.create_trial(f"{asked}")
        if trial.status == "STOPPED":
            return
        yield room.piece(trial) if trial.status == "RUNNING" else None


class Room:
    """A search at work: Keras Tuner's oracle, and what the trials came to.

    Args:
        search: A `Search`.
    """

    def __init__(self, search):
        from tf_lbgap.tuning import oracles

        self.search, self.output = search, pathlib.Path(search.output)
        self.num_train = _num_train(search)
        self.oracle = oracles.make(search)
        self.oracle.file = self.output / "oracle.json"

    def begin(self, fresh=False):
        """Go on where an earlier search of the same configuration was, or begin anew; nobody else may write."""
        identity = digest(self.search.identity)
        was = read_json(self.output / "identity.json")
        if not fresh and was == identity and self.oracle.file.exists():
            self.oracle.reload()
        else:
            self.oracle.file.unlink(missing_ok=True)
            for each in (self.output / "trials").glob("*/trial.json"):
                each.unlink()
        write_json(self.output / "identity.json", identity)
        write_text(self.output / "search.yaml", yaml.safe_dump(self.search.to_dict(), sort_keys=False))
        hparams.write_experiment(self.output / "trials", self.search.dimensions)

    def piece(self, trial):
        """Return (key, arguments) of `trials.train` for a trial of Keras Tuner's."""
        name = trials.name_of(trial.trial_id)
        arm = self._arm(trial)
        return (name, 0), (self.search.trial(name, arm), self._told(trial))

    def end(self, name, outcomes):
        """Note what a trial came to, tell Keras Tuner, and return its record."""
        trial = next(t for t in self.oracle.trials.values() if trials.name_of(t.trial_id) == name)
        found = self.record(trial, outcomes)
        if found["status"] == "finished":
            self.oracle.update_trial(trial.trial_id, {self.search.objective: found["score"]})
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
        """Return the record of a trial that has ended."""
        return trials.read(self.search, trials.name_of(trial_id))

    def best(self):
        """Return the records of the finished trials, the best first."""
        sign = -1 if OBJECTIVES[self.search.objective].direction == "max" else 1
        scored = [found for found in map(self.found, self.ended()) if found["score"] is not None]
        return sorted(scored, key=lambda found: sign * found["score"])

    def arm(self, name):
        """Return the keys of the arm of a trial."""
        return self._arm(next(t for t in self.oracle.trials.values() if trials.name_of(t.trial_id) == name))

    def write(self, **more):
        """Write `results.json` and `trials.csv`; return the content of the former."""
        objective = OBJECTIVES[self.search.objective]
        found = [self.found(trial_id) for trial_id in self.ended()]
        content = {
            "name": self.search.name,
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


def finish(room, jobs, again, listen):
    """Train the winners anew, and return the content of `results.json`."""
    search, best = room.search, room.best()
    if not best:
        states = [room.found(trial_id) for trial_id in room.ended()]
        told = "; ".join(dict.fromkeys(f"{each['status']}: {each['message']}" for each in states))
        raise ConfigError(f"None of {len(states)} trials finished, so there is no winner ({told[:300]}).")
    chosen = best[: search.winners]
    final = search.final({found["trial"]: room.arm(found["trial"]) for found in chosen})
    rows = experiment.run(final, jobs=jobs, again=again, listen=listen.winners(final))
    return room.write(winners=[found["trial"] for found in chosen], environment=environment(jobs), runs=rows)


def _num_train(search):
    from tf_lbgap.experiment.making import load_split

    data = {"call": "data.datasets.held_out", "split": search.data, "share": search.held_out}
    return len(load_split(data, 0).y_train)


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
    return {"trial": flat.pop("trial"), **found["values"], **flat, "seeds": len(found["seeds"])}


class _Silent:
    def began(self, search, num_train):
        pass

    def started(self, trial, seed):
        pass

    def advanced(self, trial, seed, fraction, text):
        pass

    def ended(self, found, is_new):
        pass

    def winners(self, experiment):
        return None

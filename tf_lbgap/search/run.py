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

from tf_lbgap import experiment
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.environment import environment
from tf_lbgap.experiment.quiet import import_tensorflow
from tf_lbgap.experiment.run import check_calls, only_writer
from tf_lbgap.experiment.side_by_side import Silent, work_on
from tf_lbgap.search import trials, workers
from tf_lbgap.search.room import Room
from tf_lbgap.search.space import label


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
    listen = listen or Silent()
    has_workers = workers.are_asked_for()
    if has_workers:
        workers.check(jobs, again)
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
        _check_calls(search, room.num_train)
        room.begin(fresh=again)
        listen.began(search, room.num_train)
        for trial_id in room.ended():
            listen.ended(room.found(trial_id), False)
        if has_workers:
            workers.serve(room, listen)
        else:
            _train(room, jobs, listen)
        return finish(room, jobs, again, listen)


def _check_calls(search, num_train):
    """Raise for what can be told of all trials before one is trained."""
    for dimension, value, values in search.samples():
        try:
            check_calls(search.trial("0", search.values(values, num_train)))
        except ConfigError as error:
            told = str(error).replace("arms: 0: ", "")
            raise ConfigError(f"{dimension.name}: {label(value)}: {told}") from error
    if search.arms:
        check_calls(search.final({}))


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

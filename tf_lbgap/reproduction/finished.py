"""A run that is finished: the weights, data and histories that training left, for who measures them.

Networks are built and traced once for all seeds of an arm, and for all arms with the same network, loss and
data: a study of ten seeds compiles what one seed compiles. So a model that is returned here has its weights
until the next is asked for. TensorFlow is imported when a network or data are first asked for.
"""

import math
import pathlib

from tf_lbgap.experiment import attempt, load
from tf_lbgap.experiment.calls import ConfigError, make, nearest
from tf_lbgap.experiment.checks import whole
from tf_lbgap.experiment.config import Experiment
from tf_lbgap.experiment.files import digest, read_json
from tf_lbgap.experiment.quiet import import_tensorflow


class FinishedRun:
    """What `lbgap run` left in a run directory.

    Args:
        run: The directory; or an `experiment.Experiment`, for what was trained with its present configuration
            in its output.

    Attributes:
        experiment: The `Experiment`.
        folder: The directory, a path.
        rows: A dict per arm and seed that finished: a row of results, with None for what is not finite.

    Raises:
        ConfigError: If it is no run directory, or nothing in it finished.

    Example:
        >>> run = FinishedRun("runs/quickstart")
        >>> run.model("large", 3).predict(run.test_sample("large", 3, 100)[0]).shape
        (100, 10)
    """

    def __init__(self, run):
        if isinstance(run, Experiment):
            self.experiment, self.folder, self.rows = run, pathlib.Path(run.output), _rows(run)
        else:
            self.folder = pathlib.Path(run)
            self.experiment, self.rows = _read(self.folder)
        if not self.rows:
            raise ConfigError(
                f"{str(self.folder)!r} holds no finished arm of {self.experiment.name}. Train first: lbgap run CONFIG "
                f"output={self.folder}."
            )
        self._row_of = {(row["arm"], row["seed"]): row for row in self.rows}
        self._networks, self._split = {}, (None, None)

    # What there is.

    def arms(self, wanted=None):
        """Return names of arms: all, or those wanted, which have to be arms of the experiment."""
        if wanted is None:
            return list(self.experiment.arms)
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        for arm in wanted:
            self._check_arm(arm)
        return wanted

    def finished(self, arms=None, seeds=None):
        """Return the pairs (arm, seed) that finished, seed by seed: so the arms of a seed read its data once.

        Args:
            arms: Names; None: all.
            seeds: How many of the run's seeds, from its first; None, or more than it has: all.
        """
        numbers = self.experiment.seed_numbers
        if seeds is not None:
            numbers = numbers[: whole(seeds, "seeds")]
        wanted = self.arms(arms)
        return [(arm, seed) for seed in numbers for arm in wanted if (arm, seed) in self._row_of]

    def row(self, arm, seed):
        """Return the row of an arm and seed.

        Raises:
            ConfigError: If there is none.
        """
        self._check_arm(arm)
        if (arm, seed) not in self._row_of:
            done = [number for name, number in self._row_of if name == arm]
            raise ConfigError(
                f"Seed {seed} of arm {arm!r} did not finish in {str(self.folder)!r}. Finished: {done or 'none'}."
            )
        return self._row_of[arm, seed]

    def is_finite(self, arm, seed):
        """Return whether training ended at a finite loss; weights that diverged are not to be measured."""
        loss = self.row(arm, seed).get("train_loss")
        return loss is not None and math.isfinite(loss)

    # Data.

    def split(self, arm, seed):
        """Return the `data.Split` an arm and seed was trained and tested on. The last one is kept."""
        key = digest(self._config(arm)["data"]), seed
        if self._split[0] != key:
            self._split = None, None  # the old one is let go before the new one is there
            self._split = key, _making().load_split(self._config(arm)["data"], seed)
        return self._split[1]

    def sample(self, arm, seed, examples):
        """Return (x, y) of the first `examples` of the training set, whose order is random; 0: all."""
        split = self.split(arm, seed)
        return _making().first_examples(split.x_train, split.y_train, examples)

    def test_sample(self, arm, seed, examples):
        """Return (x, y) of the first `examples` of the test set; 0: all."""
        split = self.split(arm, seed)
        return _making().first_examples(split.x_test, split.y_test, examples)

    # Weights.

    def model(self, arm, seed):
        """Return the network with the weights at the end of training.

        Batch normalization has the exact statistics of the training set: they were saved with the weights. It
        is one object for all arms and seeds with this network, and has these weights until the next call.

        Raises:
            ConfigError: If its weights are missing.
        """
        return self._loaded(arm, seed).model

    def loss(self, arm):
        """Return the loss of an arm, the same object each time."""
        return self._network(arm, self._first_seed(arm)).loss

    def subject(self, arm, seed, examples):
        """Return a `sharpness.Subject` of `model`, `loss` and `sample`, whose traces serve all seeds."""
        network, sample = self._loaded(arm, seed), self.sample(arm, seed, examples)
        return network.subject_on(sample)

    def weights(self, arm, seed):
        """Return the weights at the end of training, a list of arrays: `get_weights()` of `model`."""
        return self.model(arm, seed).get_weights()

    def initial_weights(self, arm, seed):
        """Return the weights before training, a list of arrays as `weights`. Builds a network, and lets it go."""
        config = self._config(arm)
        return _making().make_model(config["model"], self.split(arm, seed), seed).get_weights()

    def made(self, arm, seed, key, make):
        """Return what `make(model, loss)` made of this network, once for each `key`; the weights are loaded."""
        network = self._loaded(arm, seed)
        if key not in network.made:
            network.made[key] = make(network.model, network.loss)
        return network.made[key]

    # Histories.

    def history(self, arm, seed):
        """Return the rows of the `CurvatureMonitor` (`measure: monitor:`), with None for what is not finite.

        Raises:
            ConfigError: If the arm was not monitored.
        """
        self.row(arm, seed)
        path = self.folder / arm / str(seed) / "curvature.json"
        found = read_json(path)
        if found is None:
            raise ConfigError(
                f"{str(path)!r} is missing: curvature was not measured while training. Add a monitor to the experiment, "
                "such as  measure: {monitor: {every: {epochs: 1}, at_start: true}}."
            )
        return found

    def series(self, arm, seed, tag):
        """Return what callbacks wrote for TensorBoard under a tag of scalars.

        Returns:
            Updates and values, two lists; empty if nobody wrote any.
        """
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray

        self.row(arm, seed)
        found = {}
        for path in sorted((self.folder / arm / str(seed)).glob("*tfevents*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.tag == tag:  # written again where an interrupted training went on
                        found[event.step] = float(make_ndarray(value.tensor))
        return sorted(found), [found[update] for update in sorted(found)]

    # Networks.

    def _config(self, arm):
        self._check_arm(arm)
        return self.experiment.arms[arm]

    def _check_arm(self, arm):
        if not isinstance(arm, str) or arm not in self.experiment.arms:
            raise ConfigError(
                f"{arm!r} is not an arm of {self.experiment.name}. {nearest(arm, self.experiment.arms)}"
            )

    def _first_seed(self, arm):
        self._check_arm(arm)
        return next((seed for name, seed in self._row_of if name == arm), self.experiment.first_seed)

    def _network(self, arm, seed):
        config = self._config(arm)
        key = digest([config["data"], config["model"], config["loss"]])
        if key not in self._networks:
            model = _making().make_model(config["model"], self.split(arm, seed), seed)
            self._networks[key] = _Network(model, make(config["loss"]))
        return self._networks[key]

    def _loaded(self, arm, seed):
        self.row(arm, seed)
        weights = self.folder / arm / str(seed) / "model.weights.h5"
        if not weights.exists():
            raise ConfigError(f"{str(weights)!r} is missing. Train it anew: lbgap run with --again.")
        network = self._network(arm, seed)
        network.model.load_weights(weights)
        return network


class _Network:
    """A model, its loss, and what was traced for them."""

    def __init__(self, model, loss):
        self.model, self.loss, self.made = model, loss, {}
        self._subject = None

    def subject_on(self, sample):
        from tf_lbgap import sharpness

        if self._subject is None:
            self._subject = sharpness.Subject(self.model, self.loss, sample)
        else:
            self._subject.batches = sample
        return self._subject


def _read(folder):
    """The experiment of a run directory, and the rows of its `results.json`."""
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"{str(folder)!r} is no run directory: it has no config.yaml. Pass the directory that lbgap run printed, "
            "such as runs/quickstart."
        )
    content = read_json(folder / "results.json")
    return load(folder / "config.yaml"), content["runs"] if isinstance(content, dict) else []


def _rows(experiment):
    tasks = [(arm, seed) for arm in experiment.arms for seed in experiment.seed_numbers]
    return [row for task in tasks if (row := attempt.finished(experiment, *task)) is not None]


def _making():
    import_tensorflow()
    from tf_lbgap.experiment import making

    return making

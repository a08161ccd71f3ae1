"""An experiment on several machines: each runs the same `lbgap run`, and the chief alone writes.

All of them train the same arms and seeds in the same order. What is finished only the chief knows, so it tells the others
what is to be done; and what a clock decides, two machines would decide differently, so that is refused.
"""

from tf_lbgap.experiment.calls import ConfigError, mistakes
from tf_lbgap.tf_config import num_machines


def is_asked_for(experiment):
    """Return whether some arm trains on several machines; TensorFlow is not needed to tell."""
    names = {arm["strategy"] for arm in experiment.arms.values()}
    if not names & {"multiworker", "auto"}:
        return False
    with mistakes("strategy"):
        return "multiworker" in names or num_machines() > 1


def check(experiment, jobs):
    """Raise for what several machines cannot do together."""
    where = "strategy: multiworker"
    if len({arm["strategy"] for arm in experiment.arms.values()}) > 1:
        raise ConfigError(f"{where}: all arms of a run train on the same machines. Give them one strategy.")
    if jobs > 1:
        raise ConfigError(f"{where}: --jobs is for one machine. Leave it out.")
    if experiment.equal == "seconds":
        raise ConfigError(
            f"{where}: equal: seconds would end on each machine at another update. Use updates or epochs."
        )
    monitor = experiment.measure.monitor or {}
    if monitor.get("max_overhead") is not None and monitor.get("every") is None:
        raise ConfigError(
            f"{where}: max_overhead would measure on each machine at other updates. Give the monitor every."
        )


class Machines:
    """This machine among the others. Make it before anything else of TensorFlow.

    Args:
        experiment: An `Experiment` for which `is_asked_for`.
    """

    def __init__(self, experiment):
        from tf_lbgap.experiment.making import strategy_of

        self._strategy = strategy_of(next(iter(experiment.arms.values())))

    @property
    def is_chief(self):
        """Whether this machine writes."""
        from tf_lbgap import strategy

        return strategy.is_chief_of(self._strategy)

    def agree(self, tasks, missing=()):
        """Return those of the tasks that the chief finds missing, on all machines."""
        from tf_lbgap import strategy

        return [task for task in tasks if strategy.agreed(self._strategy, int(task in missing))]

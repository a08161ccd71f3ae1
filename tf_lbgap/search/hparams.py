"""Trials in TensorBoard's tab HParams: each seed is a session, the seeds of a trial are a group."""

import contextlib

from tb_plugin.writer import Writer

METRICS = {
    "lbgap/test_accuracy": "validation accuracy",
    "lbgap/test_loss": "validation loss",
    "lbgap/top_eigenvalue": "top eigenvalue",
}
_MARK = ".hparams"  # a file in the folder of a session that has been written


def write_experiment(folder, dimensions):
    """Say in a folder above the trials what varies, and what is shown."""
    from tensorboard.plugins.hparams import summary_v2 as hp

    varied = [hp.HParam(dimension.name, _domain(hp, dimension)) for dimension in dimensions]
    metrics = [hp.Metric(tag, display_name=title) for tag, title in METRICS.items()]
    _once(folder, lambda: hp.hparams_config_pb(varied, metrics))


def write_session(folder, group, values):
    """Say in the folder of a seed which values its trial has; what was said before is not said again.

    Args:
        folder: With the seed's event files.
        group: Name of the trial.
        values: Dict from the name of a dimension to a number or a text.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    _once(folder, lambda: hp.hparams_pb(values, trial_id=group))


def _once(folder, make):
    mark = folder / _MARK
    if mark.exists():
        return
    with Writer(folder) as writer:
        writer.foreign(make())
    with contextlib.suppress(OSError):
        mark.touch()


def _domain(hp, dimension):
    if dimension.values is None:
        return hp.RealInterval(dimension.low, dimension.high)
    return hp.Discrete(list(dimension.labels))

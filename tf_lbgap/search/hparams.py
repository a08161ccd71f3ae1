"""Trials in TensorBoard's tab HParams: each seed is a session, the seeds of a trial are a group."""

import contextlib

from tb_plugin.writer import Writer

METRICS = {
    "lbgap/test_accuracy": "validation accuracy",
    "lbgap/test_loss": "validation loss",
    "lbgap/top_eigenvalue": "top eigenvalue",
}
_MARK = ".hparams"  # a file in the folder of a session that has been written


def write_session(folder, group, values, dimensions, reached):
    """Say in the folder of a seed what its trial is; what was said before is not said again.

    Each session says, too, what varies and what is shown, for a run that said only that would be an empty one in other tabs.

    Args:
        folder: With the seed's event files.
        group: Name of the trial.
        values: Dict from the name of a dimension to a number or a text.
        dimensions: `space.Dimension`s.
        reached: Whether training went as it should.
    """
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
    from tensorboard.plugins.hparams import metadata as hparams
    from tensorboard.plugins.hparams import summary_v2 as hp

    mark = folder / _MARK
    if mark.exists():
        return
    varied = [hp.HParam(dimension.name, _domain(hp, dimension)) for dimension in dimensions]
    metrics = [hp.Metric(tag, display_name=title) for tag, title in METRICS.items()]
    status = api_pb2.STATUS_SUCCESS if reached else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=status))
    with Writer(folder) as writer:
        writer.foreign(hp.hparams_config_pb(varied, metrics))
        writer.foreign(hp.hparams_pb(values, trial_id=group))
        writer.foreign(_summary(hparams.SESSION_END_INFO_TAG, end, hparams))
    with contextlib.suppress(OSError):
        mark.touch()


def _domain(hp, dimension):
    if dimension.values is None:
        return hp.RealInterval(dimension.low, dimension.high)
    return hp.Discrete(list(dimension.labels))


def _summary(tag, content, hparams):
    from tensorboard.compat.proto import summary_pb2

    summary = summary_pb2.Summary()
    summary.value.add(tag=tag, metadata=hparams.create_summary_metadata(content), tensor=hparams.NULL_TENSOR)
    return summary

"""The catalog: which runs and tags there are, asked of TensorBoard anew at each request (some 50 ms for 20 runs).

A run of the tab joins several of TensorBoard's (see `runs`). A run without `generalization/*` borrows what Keras'
own TensorBoard callback wrote: `epoch_loss` and `epoch_accuracy` of its directories `train` and `validation`.
"""

from dataclasses import dataclass, field

from tensorboard.data import provider

from tb_plugin import metadata, runs

_LOSSES = ("epoch_loss",)
_ACCURACIES = (
    "epoch_accuracy",
    "epoch_acc",
    "epoch_sparse_categorical_accuracy",
    "epoch_categorical_accuracy",
    "epoch_binary_accuracy",
)
_KERAS_MEMBERS = {"train": "train", "validation": "test"}


@dataclass(frozen=True)
class Series:
    """One tag of a run: where it is, and what its first summary says about it.

    `member` is TensorBoard's run that holds it as `source_tag` of `plugin`; steps of a series that Keras wrote are
    epochs, counted from 0. `data_class` is "scalar" or "tensor".
    """

    run: str
    tag: str
    member: str
    source_tag: str
    plugin: str
    data_class: str
    content: metadata.Content
    description: str
    max_step: int
    max_wall_time: float

    @property
    def kind(self):
        return self.content.kind

    @property
    def by_keras(self):
        return self.plugin != metadata.PLUGIN_NAME


@dataclass
class Run:
    """One run of the tab. `start` is the wall time of its first event in seconds, None if unknown."""

    name: str
    members: list = field(default_factory=list)
    start: float | None = None
    series: dict = field(default_factory=dict)  # tag -> Series


def read(data_provider, ctx, experiment):
    """Return the runs by name, a dict in TensorBoard's order: by start, then by name."""
    found = {}
    for listed in sorted(
        data_provider.list_runs(ctx, experiment_id=experiment),
        key=lambda r: (r.start_time is None, r.start_time, r.run_name),
    ):
        _join(found, listed.run_name, listed.start_time)
    for series in _own(data_provider, ctx, experiment):
        run = _join(found, series.member)
        known = run.series.get(series.tag)
        if known is None or runs.member_order(run.name, series.member) < runs.member_order(
            run.name, known.member
        ):
            run.series[series.tag] = series
    for series in _keras(data_provider, ctx, experiment):
        run = _join(found, series.member)
        # Keras' values stand in for a part only as a whole: two ways of counting in one panel would confuse.
        if not any(s.tag.startswith("generalization/") and not s.by_keras for s in run.series.values()):
            run.series.setdefault(series.tag, series)
    for run in found.values():
        run.members.sort(key=lambda member: runs.member_order(run.name, member))
        run.series = dict(sorted(run.series.items()))
    return found


def _join(found, member, start=None):
    name = runs.tab_run(member)
    run = found.setdefault(name, Run(name))
    if member not in run.members:
        run.members.append(member)
    if start is not None:
        run.start = start if run.start is None else min(run.start, start)
    return run


def _own(data_provider, ctx, experiment):
    """Yield the series that were written for this plugin."""
    for data_class, listing in (
        ("scalar", data_provider.list_scalars),
        ("tensor", data_provider.list_tensors),
    ):
        listed = listing(ctx, experiment_id=experiment, plugin_name=metadata.PLUGIN_NAME)
        for member, tags in listed.items():
            for tag, entry in tags.items():
                yield Series(
                    runs.tab_run(member), tag, member, tag, metadata.PLUGIN_NAME, data_class,
                    _content(entry, data_class), entry.description, entry.max_step, entry.max_wall_time,
                )  # fmt: skip


def _content(entry, data_class):
    content = metadata.parse(entry.plugin_content)
    if content.note is None and (content.kind == "scalar") != (data_class == "scalar"):
        return metadata.Content("unknown", note=f"says it is of kind {content.kind}, but holds {data_class}s")
    return content


def _keras(data_provider, ctx, experiment):
    """Yield series of `generalization/*` made of Keras' own scalars."""
    tags = [*_LOSSES, *_ACCURACIES]
    listed = data_provider.list_scalars(
        ctx, experiment_id=experiment, plugin_name="scalars", run_tag_filter=provider.RunTagFilter(tags=tags)
    )
    for member, entries in sorted(listed.items()):
        part = _KERAS_MEMBERS.get(member.rpartition("/")[2])
        run = runs.tab_run(member)
        if part is None or run == member:
            continue
        for names, quantity in ((_LOSSES, "loss"), (_ACCURACIES, "accuracy")):
            source = next((name for name in names if name in entries), None)
            if source:
                content = metadata.Content(
                    "scalar", ("value",), unit="loss" if quantity == "loss" else "share"
                )
                yield Series(
                    run, f"generalization/{part}_{quantity}", member, source, "scalars", "scalar", content,
                    f"Keras' {source}", entries[source].max_step, entries[source].max_wall_time,
                )  # fmt: skip

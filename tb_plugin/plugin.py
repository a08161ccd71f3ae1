"""The plugin: read-only routes over TensorBoard's data provider. `docs/plugin_api.md` shows an answer of each.

Each route is a method `<name>_impl` that returns JSON-able data from checked parameters; the HTTP around them is
`_route`. One bad (run, tag) is named under "errors", and the others are answered.
"""

import numpy as np
from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from tb_plugin import assets, export, frames, metadata, parameters, runs, series, table
from tb_plugin.encode import as_written, dumps, number, numbers
from tb_plugin.reader import Reader, Unreadable

MAX_MOMENTS = 500  # columns of a heat map
_AXES = {
    "progress/epochs": "epochs",
    "progress/examples": "examples",
    "generalization/train_loss": "train_loss",
}


class LbgapPlugin(base_plugin.TBPlugin):
    """Serves the tab SHARPNESS.

    Args:
        context: TensorBoard's `TBContext`.
    """

    plugin_name = metadata.PLUGIN_NAME

    def __init__(self, context):
        self._reader = Reader(context.data_provider)

    def get_plugin_apps(self):
        """Return the applications by route. All are exact: no request becomes a path."""
        return {
            "/runs": self._route("GET", self.runs_impl),
            "/series": self._route("POST", self.series_impl),
            "/frames": self._route("POST", self.frames_impl),
            "/frame": self._route("GET", self.frame_impl),
            "/heatmap": self._route("POST", self.heatmap_impl),
            "/table": self._route("POST", self.table_impl),
            "/export.csv": self._export("text/csv", self.export_csv_impl),
            "/export.json": self._export("application/json", self.export_json_impl),
            **assets.routes(),
        }

    def is_active(self):
        """Return False: TensorBoard itself asks whether there are tags of this plugin, which is cheaper."""
        return False

    def frontend_metadata(self):
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="Sharpness")

    def runs_impl(self, ctx, experiment, _=None):
        """Return all runs with their tags."""
        found = self._reader.catalog(ctx, experiment)
        return {
            "version": metadata.VERSION,
            "runs": [_described_run(run) for run in found.values()],
            "errors": [],
        }

    def series_impl(self, ctx, experiment, given):
        """Return thinned scalars and eigenvalues, with every x axis that is known.

        Args:
            ctx: Context of the request.
            experiment: Its experiment id.
            given: `{"runs", "tags", "points": 1000, "steps": null}`.
        """
        points = parameters.whole(given, "points", 1000, 2, parameters.MAX_POINTS)
        bounds = parameters.bounds(given, "steps")
        answers = _Answers("series")
        pairs = self._wanted(ctx, experiment, given)
        axes = {(run.name, tag): run.series[tag] for run, _ in pairs for tag in _AXES if tag in run.series}
        needed = axes | {(wanted.run, wanted.tag): wanted for _, wanted in pairs}
        self._reader.warm(self._reader.columns, ctx, experiment, needed.values())
        for run, wanted, columns in answers.read(self._reader.columns, ctx, experiment, pairs):
            answers.add(wanted, **self._thinned(ctx, experiment, run, wanted, columns, points, bounds))
        return answers.document

    def frames_impl(self, ctx, experiment, given):
        """Return which moments densities, lines, planes and trajectories have; `given` has "runs" and "tags"."""
        answers = _Answers("frames")
        pairs = self._wanted(ctx, experiment, given)
        self._reader.warm(self._reader.frames, ctx, experiment, [wanted for _, wanted in pairs])
        for run, wanted, moments in answers.read(self._reader.frames, ctx, experiment, pairs):
            x = self._axes(ctx, experiment, run, wanted, moments.steps, moments.walls)
            answers.add(wanted, steps=numbers(moments.steps), x=_encoded(x))
        return answers.document

    def frame_impl(self, ctx, experiment, given):
        """Return one moment; `given` has "run", "tag" and perhaps "step", else it is the last."""
        _, wanted = self._one(ctx, experiment, given)
        moments = self._moments(ctx, experiment, wanted)
        step = parameters.whole(given, "step", None, -(2**53), 2**53)
        i = moments.steps.size - 1 if step is None else int(np.searchsorted(moments.steps, step))
        if i >= moments.steps.size or (step is not None and moments.steps[i] != step):
            raise errors.NotFoundError(
                f"Tag {wanted.tag!r} of run {wanted.run!r} has nothing at step {step}."
            )
        fields = frames.described(wanted.kind, moments.arrays[i], wanted.content.columns)
        return {
            "run": wanted.run,
            "tag": wanted.tag,
            "kind": wanted.kind,
            "step": int(moments.steps[i]),
            **fields,
        }

    def heatmap_impl(self, ctx, experiment, given):
        """Return the history of a density; `given` has "run", "tag" and perhaps "bins"."""
        bins = parameters.whole(given, "bins", 200, 2, parameters.MAX_BINS)
        run, wanted = self._one(ctx, experiment, given)
        if wanted.kind != "density":
            raise errors.InvalidArgumentError(
                f"Tag {wanted.tag!r} holds {wanted.kind}; a heat map shows a density."
            )
        moments = self._moments(ctx, experiment, wanted)
        chosen = np.unique(
            np.linspace(0, moments.steps.size - 1, min(moments.steps.size, MAX_MOMENTS)).round().astype(int)
        )
        arrays = [moments.arrays[i] for i in chosen]
        edges, threshold, mass = frames.heatmap([a[0] for a in arrays], [a[1] for a in arrays], bins)
        steps, walls = moments.steps[chosen], moments.walls[chosen]
        x = self._axes(ctx, experiment, run, wanted, steps, walls)
        return {
            "run": wanted.run,
            "tag": wanted.tag,
            "steps": numbers(steps),
            "x": _encoded(x),
            "edges": numbers(edges),
            "linear_threshold": threshold,
            "mass": numbers(mass),
            "hidden": int(moments.steps.size - chosen.size),
        }

    def table_impl(self, ctx, experiment, given):
        """Return the last values of the runs in `given["runs"]`, a row each."""
        found = self._reader.catalog(ctx, experiment)
        names = [name for name in parameters.strings(given, "runs", parameters.MAX_RUNS) if name in found]
        needed = [series for name in names for series in table.sources(found[name]).values()]
        self._reader.warm(self._reader.last, ctx, experiment, needed)
        rows, problems = [], []
        for name in names:
            cells, unread = table.row(self._reader, ctx, experiment, found[name])
            rows.append(cells)
            problems += [{"run": name, "tag": tag, "message": message} for tag, message in unread]
        return {"columns": list(table.COLUMNS), "rows": rows, "errors": problems}

    def export_csv_impl(self, ctx, experiment, given):
        """Yield the lines of a CSV file of the series that `given` chooses."""
        chosen = self._chosen(ctx, experiment, given)
        width = export.num_value_columns(self._reader, ctx, experiment, chosen)
        return export.as_csv(export.tables(self._reader, ctx, experiment, chosen), width)

    def export_json_impl(self, ctx, experiment, given):
        """Yield the lines of a JSON file of the series that `given` chooses."""
        chosen = self._chosen(ctx, experiment, given)
        return export.as_json(export.tables(self._reader, ctx, experiment, chosen))

    def _chosen(self, ctx, experiment, given):
        """Return the series of the given runs and tags; of all runs or tags where none are given."""
        only_runs, only_tags = given.getlist("run"), given.getlist("tag")
        return [
            each
            for run in self._reader.catalog(ctx, experiment).values()
            if not only_runs or run.name in only_runs
            for each in run.series.values()
            if not only_tags or each.tag in only_tags
        ]

    def _wanted(self, ctx, experiment, given):
        """Return a list of pairs (run, series), one for each wanted (run, tag) that exists."""
        wanted_runs = parameters.strings(given, "runs", parameters.MAX_RUNS)
        wanted_tags = parameters.strings(given, "tags", parameters.MAX_TAGS)
        found = self._reader.catalog(ctx, experiment)
        return [
            (found[name], found[name].series[tag])
            for name in wanted_runs
            for tag in wanted_tags
            if name in found and tag in found[name].series
        ]

    def _one(self, ctx, experiment, given):
        """Return the run and the series that "run" and "tag" name."""
        name, tag = parameters.string(given, "run"), parameters.string(given, "tag")
        run = self._reader.catalog(ctx, experiment).get(name)
        if run is None or tag not in run.series:
            raise errors.NotFoundError(f"There is no tag {tag!r} in a run {name!r}.")
        return run, run.series[tag]

    def _moments(self, ctx, experiment, wanted):
        try:
            moments = self._reader.frames(ctx, experiment, wanted)
        except Unreadable as problem:
            raise errors.InvalidArgumentError(
                f"Tag {wanted.tag!r} of run {wanted.run!r} {problem}."
            ) from problem
        if not moments.steps.size:
            raise errors.NotFoundError(f"Tag {wanted.tag!r} of run {wanted.run!r}: {moments.problem}.")
        return moments

    def _thinned(self, ctx, experiment, run, wanted, columns, points, bounds):
        """Return the fields of one series of the answer."""
        rows = slice(None) if bounds is None or wanted.by_keras else series.within(columns.steps, bounds)
        steps, walls, values = columns.steps[rows], columns.walls[rows], columns.values[rows]
        kept = series.thinned(steps, values[:, : columns.num_values()], points)
        x = self._axes(ctx, experiment, run, wanted, steps[kept], walls[kept])
        shown = as_written(values[kept]) if wanted.data_class == "scalar" else values[kept]
        return {
            "columns": list(columns.names),
            "x": _encoded(x),
            "values": numbers(shown.T),
            "num_points": int(steps.size),
            "hidden": int(steps.size - kept.size),
        }

    def _axes(self, ctx, experiment, run, wanted, steps, walls):
        def of(tag):
            other = run.series.get(tag)
            if other is None or other.kind != "scalar" or other.by_keras:
                return None
            try:
                columns = self._reader.columns(ctx, experiment, other)
            except Unreadable:
                return None  # the axis is left out; who asks for that tag is told why
            return columns.steps, columns.values[:, 0]

        return series.axes(
            steps,
            walls,
            start=run.start,
            **{axis: of(tag) for tag, axis in _AXES.items()},
            steps_are_epochs=wanted.by_keras,
        )

    def _route(self, method, impl):
        """Return the application that answers one method with the JSON of an impl, and others with 405."""
        allowed = ("GET", "HEAD") if method == "GET" else (method,)

        @wrappers.Request.application
        def answer(request):
            if request.method not in allowed:
                return http_util.Respond(
                    request,
                    f"This route only answers {method}.",
                    "text/plain",
                    405,
                    headers=[("Allow", ", ".join(allowed))],
                )
            try:
                given = request.args if method == "GET" else parameters.of_body(request)
                document = impl(*_place(request), given)
            except errors.PublicError as error:
                return http_util.Respond(request, str(error), "text/plain", error.http_code)
            return http_util.Respond(request, dumps(document), "application/json")

        return answer

    def _export(self, content_type, impl):
        """Return the application that streams the lines of an impl as a file."""

        @assets.read_only
        def answer(request):
            lines = () if request.method == "HEAD" else impl(*_place(request), request.args)
            name = "lbgap.csv" if content_type == "text/csv" else "lbgap.json"
            response = wrappers.Response(_batched(lines), content_type=f"{content_type}; charset=utf-8")
            response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Cache-Control"] = "no-cache, must-revalidate"
            return response

        return answer


class _Answers:
    """The document of a route that answers several (run, tag): what was read, and what was wrong."""

    def __init__(self, name):
        self._name = name
        self.document = {name: [], "errors": []}

    def add(self, wanted, **fields):
        entry = {"run": wanted.run, "tag": wanted.tag, "kind": wanted.kind, **fields}
        self.document[self._name].append(entry)

    def read(self, reading, ctx, experiment, pairs):
        """Yield run, series and what was read of it; what cannot be read is told, and the others still come."""
        for run, wanted in pairs:
            try:
                found = reading(ctx, experiment, wanted)
            except Unreadable as problem:
                self._tell(wanted, problem)
                continue
            if found.problem:
                self._tell(wanted, found.problem)
            yield run, wanted, found

    def _tell(self, wanted, problem):
        self.document["errors"].append({"run": wanted.run, "tag": wanted.tag, "message": str(problem)})


def _described_run(run):
    group, seed = runs.group_and_seed(run.name)
    tags = [
        {
            "tag": each.tag,
            "kind": each.kind,
            "unit": each.content.unit,
            "description": each.description,
            "measured": each.content.measured,
            "which": each.content.which,
            "max_step": each.max_step,
            "max_wall_time": number(each.max_wall_time),
            "note": each.content.note,
        }
        for each in run.series.values()
    ]
    note = None if tags else "no data that this tab can show"
    return {
        "run": run.name,
        "members": run.members,
        "group": group,
        "seed": seed,
        "tags": tags,
        "note": note,
    }


def _encoded(x):
    return {name: numbers(values) for name, values in x.items()}


def _place(request):
    """Return the context and the experiment id of a request."""
    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _batched(lines):
    """Yield bytes of some 64 kB: a line at a time would cost more in the server than in here."""
    batch, size = [], 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size > 2**16:
            yield "".join(batch).encode(errors="replace")
            batch, size = [], 0
    yield "".join(batch).encode(errors="replace")

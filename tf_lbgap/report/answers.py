"""The plugin's answers about run directories, without a server: what the tab would show, the page shows.

Event files are read by TensorBoard's own loader, and asked by the plugin's own routes.
"""

import types

from tb_plugin.plugin import LbgapPlugin

POINTS = 500  # of a line
MOMENTS = 20  # of a spectrum or landscape, evenly over training and the last
BINS = 120
TAGS = 50  # that are asked for at a time


def answers(runs, plugin=None):
    """Return what `static/data.js` expects of a report, a dict of plain values.

    Args:
        runs: List of `runs.Run`. With several, TensorBoard's run names begin with theirs.
        plugin: A `Plugin` of these runs, if there is one already: to make it reads all event files.
    """
    ask = plugin or Plugin(runs)
    listed = ask("runs")
    names = [run["run"] for run in listed["runs"]]
    pairs = [(run["run"], tag["tag"], tag["kind"]) for run in listed["runs"] for tag in run["tags"]]
    tags = sorted({tag for _, tag, kind in pairs if kind in ("scalar", "eigenvalues")})
    moments = sorted({tag for _, tag, kind in pairs if kind in ("density", "line", "plane", "trajectory")})
    frames = ask("frames", runs=names, tags=moments)
    frames["frames"] = [_fewer(frame) for frame in frames["frames"]]
    series = ask("series", runs=names, tags=tags, points=POINTS)
    complaints = [*listed["errors"], *frames["errors"], *series["errors"]]
    # What one cannot read is named on the page, and the rest is shown.
    return {
        "runs": {**listed, "errors": complaints},
        "series": series,
        "frames": frames,
        "frame": ask.each("frame", _moments(frames), complaints),
        "heatmap": ask.each("heatmap", _densities(pairs), complaints),
        "table": ask("table", runs=names),
    }


def _moments(frames):
    return [
        {"run": each["run"], "tag": each["tag"], "step": str(int(step))}
        for each in frames["frames"]
        for step in each["steps"]
    ]


def _densities(pairs):
    return [{"run": run, "tag": tag, "bins": BINS} for run, tag, kind in pairs if kind == "density"]


class Plugin:
    """Calls the plugin's routes about run directories, by name.

    Args:
        runs: List of `runs.Run`.
    """

    def __init__(self, runs):
        from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
        from tensorboard.context import RequestContext

        everything = {"lbgap": 0, "scalars": 0}
        multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance=everything)
        for run in runs:
            for member in run.members:
                multiplexer.AddRun(str(run.path / member), _name(run, member, len(runs) > 1))
        multiplexer.Reload()
        provider = data_provider.MultiplexerDataProvider(multiplexer, "report")
        self._plugin = LbgapPlugin(types.SimpleNamespace(data_provider=provider))
        self._context = RequestContext()

    def __call__(self, route, **given):
        """Return the answer of a route; of one about runs and tags, asked for as many at a time as it allows."""
        if len(given.get("tags", ())) > TAGS:
            parts = [
                self(route, **{**given, "tags": given["tags"][i : i + TAGS]})
                for i in range(0, len(given["tags"]), TAGS)
            ]
            return {key: [each for part in parts for each in part[key]] for key in parts[0]}
        return getattr(self._plugin, f"{route}_impl")(self._context, "", given)

    def each(self, route, asked, complaints):
        """Return the answers of a route about one run and tag each, without those that it refuses."""
        from tensorboard import errors

        found = []
        for given in asked:
            try:
                found.append(self(route, **given))
            except errors.PublicError as error:
                complaints.append({"run": given["run"], "tag": given["tag"], "message": str(error)})
        return found


def _name(run, member, prefixed):
    parts = [run.name] if prefixed or member == "." else []
    return "/".join(parts + ([member] if member != "." else []))


def _fewer(frame):
    """Leave out moments, evenly, so that the page stays small; the first and the last stay."""
    count = len(frame["steps"])
    if count <= MOMENTS:
        return frame
    kept = sorted({round(i * (count - 1) / (MOMENTS - 1)) for i in range(MOMENTS)})
    x = {name: [values[i] for i in kept] for name, values in frame["x"].items()}
    return {**frame, "steps": [frame["steps"][i] for i in kept], "x": x}

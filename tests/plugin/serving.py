"""TensorBoard's own application over a directory, without sockets: what `tensorboard --logdir` would answer.

The fast path starts TensorBoard's data server as a process, which is ended with the `with` block.
"""

import contextlib
import json
import time

from tensorboard import program
from tensorboard.backend import application
from tensorboard.context import RequestContext
from tensorboard.plugins.core import core_plugin
from werkzeug.test import Client

from tb_plugin import loader

ROUTE = "/data/plugin/lbgap/"
LOAD_FAST = ("true", "false")


class Served:
    """A client of the application.

    Args:
        app: WSGI application.
    """

    def __init__(self, app):
        self._client = Client(app)

    def request(self, method, path, **options):
        """Return the response to a request; the path is relative to the plugin's, or starts with a slash."""
        path = path if path.startswith("/") else ROUTE + path
        return self._client.open(path, method=method, **options)

    def get(self, path, **query):
        """Return the JSON of a GET."""
        return self._json(self.request("GET", path, query_string=query))

    def post(self, path, **body):
        """Return the JSON of a POST."""
        return self._json(self.request("POST", path, json=body))

    def text(self, path, **query):
        """Return the text of a GET."""
        response = self.request("GET", path, query_string=query)
        assert response.status_code == 200, response.text
        return response.text

    def series(self, run, tag, **options):
        """Return the one series of a run and tag."""
        answer = self.post("series", runs=[run], tags=[tag], **options)
        (found,) = answer["series"]
        return found

    @staticmethod
    def _json(response):
        assert response.status_code == 200, f"{response.status_code}: {response.text}"
        return json.loads(response.text, parse_constant=_no_json)


def _no_json(constant):
    raise AssertionError(f"{constant} is no JSON; browsers refuse it")


@contextlib.contextmanager
def served(log_dir, *, load_fast="false", flags=(), plugins=()):
    """Serve a directory by TensorBoard with this plugin, once it is loaded.

    Args:
        log_dir: The directory.
        load_fast: "true" for the data server, "false" for the loader in Python.
        flags: More flags of `tensorboard`.
        plugins: More plugin loaders or classes.
    """
    tensorboard = program.TensorBoard([core_plugin.CorePluginLoader(), *plugins, loader.LbgapLoader])
    once = ["--reload_interval=0", *(["--reload_task=blocking"] if load_fast == "false" else [])]
    tensorboard.configure(["", f"--logdir={log_dir}", f"--load_fast={load_fast}", *once, *flags])
    ingester = tensorboard._make_data_ingester()
    try:
        app = application.TensorBoardWSGIApp(
            tensorboard.flags, tensorboard.plugin_loaders, ingester.data_provider
        )
        client = Served(app)
        if load_fast == "true":
            _settle(ingester.data_provider)
        yield client
    finally:
        if load_fast == "true":
            ingester._stdin_handle.close()  # the data server ends when nobody holds its input


def _settle(provider):
    """Wait until the data server has read what there is: it does so beside answering, and does not say when it is done."""
    ctx, unchanged, last, end = RequestContext(), 0, None, time.monotonic() + 20
    while unchanged < 3 and time.monotonic() < end:
        time.sleep(0.1)
        now = [provider.list_runs(ctx, experiment_id="")]
        for listing in (provider.list_scalars, provider.list_tensors):
            now.append(listing(ctx, experiment_id="", plugin_name="lbgap"))
        # An empty directory settles, too, but needs longer to be believed.
        unchanged = unchanged + (1 if now[0] else 0.1) if now == last else 0
        last = now

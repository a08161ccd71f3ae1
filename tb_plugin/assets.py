"""Static files: an allow-list that is made when the plugin is, one exact route a file.

No request ever becomes a path. MIME types are fixed here, since Python would ask the registry of a Windows machine,
and a module with the wrong type does not run.
"""

import concurrent.futures
import functools
import gzip
import importlib.resources
import importlib.util
import os
import threading

from tensorboard.backend import http_util
from werkzeug import exceptions, wrappers

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}


def routes():
    """Return a dict from route to WSGI application, for each file of `static` and for Plotly."""
    root = importlib.resources.files("tb_plugin") / "static"
    apps = {f"/static/{path}": _file(entry, _TYPES[suffix]) for path, suffix, entry in _listed(root, "")}
    return apps | {"/plotly.min.js": _plotly()}


def _listed(folder, prefix):
    """Yield path, suffix and entry of each file that may be served."""
    for entry in folder.iterdir():
        suffix = os.path.splitext(entry.name)[1]
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            yield from _listed(entry, f"{prefix}{entry.name}/")
        elif suffix in _TYPES:
            yield prefix + entry.name, suffix, entry


def read_only(application):
    """Return a WSGI application that answers GET and HEAD, and any other method with 405."""

    @wrappers.Request.application
    def answer(request):
        if request.method not in ("GET", "HEAD"):
            return http_util.Respond(
                request, "This route only answers GET.", "text/plain", 405, headers=[("Allow", "GET, HEAD")]
            )
        return application(request)

    return answer


def _file(entry, content_type):
    @read_only
    def answer(request):
        # Read at each request: who works on the page reloads it and sees the change.
        return http_util.Respond(request, entry.read_bytes(), content_type)

    return answer


def _plotly():
    """Return the application that serves the script in the package `plotly`, 5 MB."""
    packed = _packed()

    @read_only
    def answer(request):
        script = packed.result()
        if script is None:
            raise exceptions.NotFound("The package plotly is not installed. Type: pip install plotly")
        return http_util.Respond(request, script, "text/javascript", content_encoding="gzip", expires=3600)

    return answer


@functools.cache
def _packed():
    """Pack the script once a process, beside everything else: the first opening of the tab need not wait for it."""
    packed = concurrent.futures.Future()
    threading.Thread(target=_pack, args=(packed,), daemon=True).start()
    return packed


def _pack(packed):
    try:
        spec = importlib.util.find_spec("plotly")  # finding it does not import it
        if spec is None or spec.origin is None:
            packed.set_result(None)
            return
        path = os.path.join(os.path.dirname(spec.origin), "package_data", "plotly.min.js")
        with open(path, "rb") as script:
            packed.set_result(gzip.compress(script.read(), 6, mtime=0))
    except Exception as error:  # whoever asks for the script gets it
        packed.set_exception(error)

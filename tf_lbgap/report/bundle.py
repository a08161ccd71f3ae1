"""The plugin's page as one script: its modules, inlined in the order in which they need each other.

A page from file:// may not import modules. Those of the plugin keep a convention, so that no bundler is
needed: at the start of a line only `import {a, b} from "./x.js"`, and `export` before const, function, async function
or class; no cycles. Each becomes a function of its own, which returns what it exports.
"""

import importlib.resources
import posixpath
import re

_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"([^"]+)";?[ \t]*$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export\s+((?:const|async\s+function\*?|function\*?|class)\s*\*?\s*)(\w+)", re.MULTILINE
)
_STRAY = re.compile(r"^(import\b|export\b)|\bimport\s*\(", re.MULTILINE)


def static(path):
    """Return a static file of the plugin, a text."""
    return (importlib.resources.files("tb_plugin") / "static" / path).read_text(encoding="utf-8")


def bundle(entry="page.js", read=static):
    """Return a script that defines `lbgap`, an object with the exports of the entry.

    Args:
        entry: Path of a module.
        read: Function from a path to its source.

    Raises:
        ValueError: If a module does not keep the convention.
    """
    order, sources = [], {}
    _visit(entry, read, order, sources, ())
    numbers = {path: i for i, path in enumerate(order)}
    parts = [_function(path, sources[path], numbers) for path in order]
    return "\n".join([*parts, f"const lbgap = module_{numbers[entry]};"])


def _visit(path, read, order, sources, above):
    if path in above:
        raise ValueError(f"Modules need each other in a circle: {' -> '.join([*above, path])}.")
    if path in sources:
        return
    sources[path] = source = read(path)
    for _, target in _IMPORT.findall(source):
        _visit(_resolved(path, target), read, order, sources, (*above, path))
    order.append(path)


def _resolved(path, target):
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def _function(path, source, numbers):
    exported = [name for _, name in _EXPORT.findall(source)]

    def imported(match):
        names = re.sub(r"\s+as\s+", ": ", match.group(1)).strip().rstrip(",")
        return f"const {{{names}}} = module_{numbers[_resolved(path, match.group(2))]};"

    source = _EXPORT.sub(lambda match: match.group(1) + match.group(2), _IMPORT.sub(imported, source))
    stray = _STRAY.search(source)
    if stray:
        line = source[stray.start() :].partition("\n")[0]
        raise ValueError(
            f"{path} cannot be inlined: {line!r}. See report/bundle.py for what a module may say."
        )
    return f"// {path}\nconst module_{numbers[path]} = (() => {{\n{source}\nreturn {{{', '.join(exported)}}};\n}})();"

"""Whether results are still those of this code: digests of a configuration, of its claims, and of the package's source.

The digest of the source is that of its syntax trees without docstrings, so that comments, formatting and documentation change nothing,
and leaves out what no result of a paper passes through.
"""

import ast
import functools
import hashlib
import pathlib

ASIDE = frozenset(
    {
        *("report", "cli.py", "commands", "bars.py", "__main__.py"),
        *("advice", "search", "tuning"),
        *("reproduction/sabotage.py", "reproduction/rehearsal.py"),
    }
)
PACKAGE = pathlib.Path(__file__).parent.parent


@functools.cache
def code_digest(package=PACKAGE):
    """Return a short text that differs when what trains, measures or judges does."""
    told = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if not ASIDE & {place.parts[0], place.as_posix()}:
            told.update(str(place).encode())
            told.update(ast.dump(_without_docstrings(path.read_text(encoding="utf-8"))).encode())
    return told.hexdigest()[:16]


def _without_docstrings(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        is_text = isinstance(body, list) and body and isinstance(body[0], ast.Expr)
        if is_text and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
            node.body = body[1:]
    return tree

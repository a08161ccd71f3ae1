"""Files of a run directory: written aside and renamed, so that a crash leaves the old ones."""

import csv
import hashlib
import json
import math
import pathlib

from tf_lbgap.aside import written_aside

CHECKPOINTS = "checkpoints"
"""The folder, within that of an arm and seed, of what an interrupted training goes on from."""


def write_text(path, text):
    """Write a file so that a reader finds the old content or the new, never a part."""
    with written_aside(path) as file:
        file.write(text.encode())


def write_json(path, content):
    """Write JSON, with null for what is not finite."""
    write_text(path, json.dumps(_finite(content), indent=1) + "\n")


def read_json(path):
    """Return the content of a JSON file, or None if it is missing or broken."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_csv(path, rows):
    """Write dicts as CSV, with the keys of all of them as columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = _Lines()
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, "".join(lines))


def digest(content):
    """Return a short text that differs when the content does."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Lines(list):
    write = list.append


def _finite(content):
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content

"""Files that are complete or not there: written aside, put on disk, and only then given their name.

A process may be killed, or the disk run full, at any moment: what had the name before is there still.
"""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def written_aside(path):
    """Yield a binary file that gets the name `path` when the block has ended without an exception.

    Args:
        path: Where it will be; folders are made.

    Raises:
        OSError: If it cannot be written; what was at `path` is unchanged.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        _put_on_disk(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def check_room(folder, size):
    """Raise unless a folder has room for a file of some size, for who would not take its lack well.

    Args:
        folder: A folder.
        size: Bytes.

    Raises:
        OSError: As writing would.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _put_on_disk(folder):
    """Let the new name survive a loss of power, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

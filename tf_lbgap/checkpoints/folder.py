"""A folder that keeps the last few checkpoints, and finds the newest that is whole."""

import contextlib
import pathlib
import re

from tf_lbgap.checkpoints import archive

_NAME = re.compile(r"checkpoint-(\d{6,})\.npz")


class Folder:
    """Checkpoints `checkpoint-000001.npz`, `checkpoint-000002.npz`, ...; the largest number is the newest.

    Args:
        path: The folder; it is made when something is saved.
        keep: How many are kept. Above 1, so that there is another if the newest turns out damaged.
    """

    def __init__(self, path, keep=2):
        self.path, self.keep = pathlib.Path(path), keep

    def save(self, content):
        """Write a checkpoint, let go of the oldest, and return its path.

        Raises:
            OSError: If the disk does not take it; the ones before are still there.
        """
        self._remove_unfinished()
        number = max(self._numbered(), default=0) + 1
        path = self.path_of(number)
        archive.write(path, content)
        for old in sorted(self._numbered())[: -self.keep]:
            self._numbered()[old].unlink(missing_ok=True)
        return path

    def path_of(self, number):
        """Return the path of a checkpoint."""
        return self.path / f"checkpoint-{number:06d}.npz"

    def newest(self, tell):
        """Return number and content of the newest checkpoint that is whole, or (0, None).

        Args:
            tell: Function that gets a line for each that is not.
        """
        damaged = None
        for number, path in sorted(self._numbered().items(), reverse=True):
            try:
                content = archive.read(path)
            except (archive.Damaged, OSError) as error:
                damaged = f"{path} is damaged ({_one_line(error)})"
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".damaged"))
                continue
            if damaged:
                tell(f"{damaged}; going back to {path.name}.")
            return number, content
        if damaged:
            tell(f"{damaged}, and there is no other; training begins anew.")
        return 0, None

    def remove(self):
        """Remove all checkpoints, and the folder if nothing else is in it."""
        self._remove_unfinished()
        for path in self._numbered().values():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _numbered(self):
        if not self.path.is_dir():
            return {}
        found = ((_NAME.fullmatch(path.name), path) for path in self.path.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def _remove_unfinished(self):
        """What a process that was killed while it wrote has left."""
        for path in self.path.glob(".checkpoint-*.npz.*"):
            path.unlink(missing_ok=True)


def _one_line(error):
    return " ".join(str(error).split())[:200]

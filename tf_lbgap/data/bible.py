"""The King James Bible of 1611, 4.3 million characters of English in 31,102 verses, from files that Debian ships.

The text is in the public domain in most of the world (in the United Kingdom the Crown holds a patent to print it). Debian's
`bible-kjv` prints it, a verse in a line, from the compressed file of `bible-kjv-text`:

    Ge1:1 In the beginning God created the heaven and the earth.

Its exit code is 0 whatever it was asked for and found, so what it prints is counted.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess

from tf_lbgap.aside import written_aside
from tf_lbgap.data.copies import kept_in

VERSES = 31_102
CHAPTERS = 1_189
_VERSE = re.compile(r"(\w*?[A-Za-z]+\d+):\d+ (.+)")  # Ge1:1, 1Chr29:30
_COMMAND = ("bible", "-f", "Gen1:1-Rev22:21")


def chapters(file=None, data_dir=None):
    """Return the text of each chapter, verses joined by spaces: a tuple of strings, as long as that of `verses`, which see."""
    return _joined(verses(file, data_dir))


def verses(file=None, data_dir=None):
    """Return the verses of each chapter, in the order of the book.

    Args:
        file: A text of one's own, UTF-8, whose lines are as those above; lines of one chapter lie together. Default: the copy in
            `data_dir`, which the first call makes from what `bible` prints (0.1 s).
        data_dir: Where the copy is. Default: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.

    Returns:
        A tuple of tuples of strings, 1,189 for the whole book.

    Raises:
        FileNotFoundError: If there is neither a copy nor the program with its text, or no such file.
        ValueError: If a line is no verse.
    """
    path = pathlib.Path(file) if file is not None else _copy(data_dir)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no text {os.fspath(path)!r}. Pass file= a text with a verse in each line, as 'Ge1:1 In the ...'."
        )
    return _read(os.fspath(path), path.stat().st_mtime_ns)


def _copy(data_dir):
    """Return the path of the copy, which is made if it is not there."""
    path = kept_in(data_dir) / "king_james" / "verses.txt"
    if not path.is_file():
        text = _printed()
        with written_aside(path) as file:
            file.write(text)
    return path


def _printed():
    """Return what `bible` prints of the whole book, bytes."""
    missing = (
        "The King James Bible is printed by Debian's bible. Type 'apt-get install bible-kjv bible-kjv-text', or pass file= a text "
        "with a verse in each line."
    )
    if shutil.which(_COMMAND[0]) is None:
        raise FileNotFoundError(missing)
    # It would ask for verses on the terminal if it had no argument, and it looks for its text in the present folder first.
    printed = subprocess.run(_COMMAND, stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/")
    found = printed.stdout.count(b"\n")
    if found != VERSES:
        told = printed.stderr.decode(errors="replace").strip() or "nothing"
        raise FileNotFoundError(
            f"{' '.join(_COMMAND)} printed {found:,} lines instead of {VERSES:,} verses, and said {told!r}. {missing}"
        )
    return printed.stdout


@functools.lru_cache(maxsize=2)  # an experiment asks for the same text once per seed and arm
def _read(path, changed):
    found, before = [], None
    for number, line in enumerate(pathlib.Path(path).read_text(encoding="utf-8").splitlines(), 1):
        verse = _VERSE.fullmatch(line)
        if verse is None:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is no verse, such as 'Ge1:1 In the beginning'. Remove the file to have it "
                "made anew, or correct it."
            )
        chapter, text = verse.groups()
        if chapter != before:
            found.append([])
        found[-1].append(text)
        before = chapter
    return tuple(map(tuple, found))


@functools.lru_cache(maxsize=2)
def _joined(chapters):
    return tuple(map(" ".join, chapters))

"""Sentences with their translations: 31,000 verses of two public-domain bibles, English (World English) and Spanish (1909).

Debian ships them as `sword-text-web` and `sword-text-sparv`, and `diatheke` prints them (6 s). What it printed is kept, parsed,
in TFDS' usual `data_dir` (6 MB). Three traps are in its text:

- English verses run over several lines, so a verse ends where the next reference begins, not at the end of a line.
- The heading of a psalm stands in front of each of its verses, and in front of all verses of all books up to the next heading:
  "A praise psalm by David." in 11,000 of them. Behind a heading the reference is indented, which tells it.
- The Spanish text has numbers of a dictionary in it, <H6240>; words in capitals begin its chapters.

Texts are in lower case and without quotation marks, which the Spanish has not. Verses are aligned by their references, so
some pairs are no translations: where the two bibles count verses differently.
"""

import functools
import re
import subprocess

from tf_lbgap.aside import written_aside
from tf_lbgap.data.copies import kept_in

MODULES = {"english": "engWEB2015eb", "spanish": "spaRV1909eb"}
FILE = "engWEB2015eb-spaRV1909eb-1.tsv"  # raise the number when the parsing changes
WANTED = 20_000  # pairs; there are 31,077. Fewer tell a file that is damaged or a bible that is missing

_REFERENCE = re.compile(r"^(?:[^\n]*\n {2,})?((?:[IV]+ )?[A-Z][A-Za-z ]+ \d+:\d+): ?", re.MULTILINE)
_LEFT_OUT = re.compile(r"^<title.*|<[^<>]*>|[“”‘]|’(?!\w)", re.MULTILINE)
_SPACES_BEFORE = re.compile(r"\s+(?=[,.;:!?])")


def pairs(data_dir=None):
    """Read the verses that both bibles have, in the order of the books; what `diatheke` prints the first time.

    Args:
        data_dir: Where the parsed copy is kept. Default: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.

    Returns:
        A tuple of (reference, English, Spanish), such as ("John 11:35", "jesus wept.", "y lloró jesús.").

    Raises:
        FileNotFoundError: If there is no copy, and `diatheke` or one of the bibles is not installed, or it failed.
        ValueError: If the copy is damaged.
    """
    path = kept_in(data_dir) / "verses" / FILE
    if not path.is_file():
        found = _aligned(*(parsed(printed(module)) for module in MODULES.values()))
        if len(found) < WANTED:
            raise _missing(f"only {len(found)} verses are in both of its bibles")
        with written_aside(path) as file:
            file.write("".join("\t".join(pair) + "\n" for pair in found).encode())
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)  # an experiment asks once per seed and arm
def _read(path, changed):
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    found = tuple(tuple(line.split("\t")) for line in lines)
    if len(found) < WANTED or any(len(pair) != 3 for pair in found):
        raise ValueError(
            f"{path} is damaged: it should hold at least {WANTED} lines of a reference and two texts. Delete it, and it is made "
            "anew."
        )
    return found


def printed(module):
    """What `diatheke` prints of a bible, from Genesis to Revelation.

    Raises:
        FileNotFoundError: If it is not installed, fails, or prints nothing or what is no UTF-8.
    """
    command = ["diatheke", "-b", module, "-f", "plain", "-k", "Gen-Rev"]
    try:
        # It looks for bibles in the present folder first.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/")
    except FileNotFoundError:
        raise _missing("diatheke is not installed") from None
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip() or "nothing"
        raise _missing(f"diatheke ended with {done.returncode} when asked for {module!r}, and said {told!r}")
    if not done.stdout.strip():  # it ends with 0 where it has no such bible
        raise _missing(f"diatheke prints nothing of {module!r}")
    try:
        return done.stdout.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _missing(f"what diatheke prints of {module!r} is no UTF-8: {error}") from None


def parsed(text):
    """Verses of what `diatheke` printed, a dict from references to texts that are not empty.

    Example:
        >>> parsed("Psalms 3:1: Yahweh,\\nhow many! \\n\\nA Psalm by David.\\n  Psalms 3:2: Many say\\nof my soul.\\n")
        {'Psalms 3:1': 'yahweh, how many!', 'Psalms 3:2': 'many say of my soul.'}
    """
    parts = _REFERENCE.split(text)[1:]
    # Behind the last verse stands a glossary: nothing tells where it begins, but that the verse is of one line.
    parts[-1:] = [part.strip().partition("\n")[0] for part in parts[-1:]]
    verses = {reference: _clean(verse) for reference, verse in zip(parts[::2], parts[1::2], strict=True)}
    return {reference: verse for reference, verse in verses.items() if verse}


def _clean(verse):
    words = " ".join(_LEFT_OUT.sub("", verse).split())
    return _SPACES_BEFORE.sub("", words).lower()


def _aligned(english, spanish):
    return [
        (reference, english[reference], spanish[reference]) for reference in english if reference in spanish
    ]


def _missing(what):
    return FileNotFoundError(
        f"Verses are printed by diatheke from two bibles, but {what}. On Debian, type  'apt-get install diatheke sword-text-web "
        "sword-text-sparv', or pass data_dir= of a machine that has read them before."
    )

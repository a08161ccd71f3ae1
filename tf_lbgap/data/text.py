"""Character language modelling: windows of a text, and the characters that come next.

A chapter is cut into windows one after the other; a network sees the characters of a window and tells the next one (`"last"`, for
a perceptron over a fixed context), or the next one at each place (`"each"`, for networks that read from left to right).
Chapters, not windows, are divided into those that train and those that test, and chapters that have a verse in common, word for
word, stay together (`data.shared_verses`): a verse never does both. Verses that are nearly the same may, and windows cut from one chapter
share its names and phrases.

Losses are cross entropies in nats per character; divided by ln 2 they are the bits per character that papers on compression tell.
Always telling the frequencies of single characters costs 2.99 nats (4.31 bits), equal odds for all 62 cost 4.13.
"""

import dataclasses
import functools
import numbers

import numpy as np

from tf_lbgap.data import bible, shared_verses
from tf_lbgap.data.counts import check_counts
from tf_lbgap.data.datasets import Split

TARGETS = ("last", "each")


@dataclasses.dataclass(frozen=True, eq=False)
class Characters(Split):
    """A `Split` of windows of characters, with the characters that numbers stand for."""

    characters: str = ""  # in their order

    @property
    def num_classes(self):
        """Characters of the whole text: some may be in no window."""
        return len(self.characters)


def king_james(
    *,
    num_train=4000,
    num_test=400,
    length=32,
    targets="each",
    seed=0,
    test_share=0.1,
    file=None,
    data_dir=None,
):
    """Windows of characters of the King James Bible, from chapters that are dealt to training and test anew for each seed.

    Characters are numbered in the order of their codes, and the space comes last. `num_classes` is 62, whatever characters the
    windows have; that of another file is how many different ones it has. 52 chapters of Exodus, Leviticus and Numbers are the largest
    group with verses in common.

    Args:
        num_train: How many windows train, of those in the chapters that do (124,000 of 32 characters).
        num_test: How many test, of the other chapters.
        length: Characters in a window that the network sees.
        targets: `"each"`: the next character at each place; `"last"`: the one after the window.
        seed: Of the division of the chapters, and of the windows that are drawn.
        test_share: Of the chapters that test, above 0 and below 1. See `data.shared_verses.dealt`.
        file, data_dir: Where the text is, as for `data.bible.verses`.

    Returns:
        `Characters`, a `Split` with x int32 of shape (n, length), and y int64 of shape (n, length), or (n,) for `"last"`. `pool` is how many
        windows the book has.

    Raises:
        FileNotFoundError: If the text is not installed: it says what to type.
        ValueError: If a number is out of range, the chapters have fewer windows than are asked for, or all have verses in common.

    Example:
        >>> split = king_james(num_train=3, num_test=2, length=16, targets="last")
        >>> split.x_train.shape, split.y_train.shape, split.num_classes
        ((3, 16), (3,), 62)
    """
    check_counts(num_train=num_train, num_test=num_test, length=length)
    if targets not in TARGETS:
        raise ValueError(f"targets={targets!r} is none of {', '.join(map(repr, TARGETS))}.")
    if isinstance(test_share, bool) or not isinstance(test_share, numbers.Real) or not 0 < test_share < 1:
        raise ValueError(
            f"test_share={test_share!r} of the chapters is to be above 0 and below 1, such as 0.1."
        )
    texts, groups = bible.chapters(file, data_dir), _groups(bible.verses(file, data_dir))
    if len(groups) < 2:
        raise ValueError(
            f"The text cannot be divided: it has {len(texts)} chapter(s), which have verses in common. Pass file= a text of two "
            "chapters or more that have none."
        )
    coded, random = _coded(texts), np.random.default_rng(seed)
    train, test = shared_verses.dealt(groups, test_share, random)
    parts = []
    for name, count, chosen in (("num_train", num_train, train), ("num_test", num_test, test)):
        windows = _windows([coded[index] for index in chosen], length)
        if count > len(windows):
            raise ValueError(
                f"{name}={count} windows of {length} characters are more than the {len(windows):,} of those chapters. Pass fewer, or "
                "a smaller length."
            )
        parts.append(windows[random.permutation(len(windows))[:count]])
    arrays = [array for part in parts for array in _pairs(part, targets)]
    pool = sum(_count(len(each), length) for each in coded)
    return Characters(*arrays, name="king_james", pool=pool, characters=_characters(texts))


def vocabulary(file=None, data_dir=None):
    """Return the characters that numbers stand for, in their order, the space last: a string of 62.

    Example:
        >>> "".join(vocabulary()[number] for number in king_james(num_train=1).x_train[0])
        'd: and Moses went up into the mo'
    """
    return _characters(bible.chapters(file, data_dir))


def _pairs(windows, targets):
    """Return x and y of windows of shape (n, length + 1)."""
    y = windows[:, -1] if targets == "last" else windows[:, 1:]
    return np.ascontiguousarray(windows[:, :-1]), y.astype(np.int64)


def _windows(coded, length):
    """Cut each chapter into windows of `length` + 1 characters that share one with the next, shape (n, length + 1), int32.

    So each character but the first of a chapter is told once, and what is left at the end is dropped.
    """
    starts = [
        np.arange(_count(len(each), length))[:, None] * length + np.arange(length + 1) for each in coded
    ]
    return np.concatenate([each[at] for each, at in zip(coded, starts, strict=True)])


def _count(characters, length):
    return max(0, (characters - 1) // length)


@functools.lru_cache(maxsize=2)
def _characters(texts):
    found = sorted(set("".join(texts)) - {" "})
    return "".join([*found, " "])


@functools.lru_cache(maxsize=2)
def _coded(texts):
    """Return each text as int32 numbers of its characters."""
    number = {character: index for index, character in enumerate(_characters(texts))}
    return tuple(np.array([number[character] for character in text], np.int32) for text in texts)


@functools.lru_cache(maxsize=2)
def _groups(chapters):
    return shared_verses.groups(chapters)

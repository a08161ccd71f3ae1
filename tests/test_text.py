"""Windows of a text: each lies in a chapter of its side, and what is told is what comes next.

The texts are written by the test, or printed by Debian's `bible` and counted here.
"""

import shutil

import numpy as np
import pytest

from tf_lbgap import data
from tf_lbgap.data import bible, shared_verses, text

needs_bible = pytest.mark.skipif(
    shutil.which("bible") is None, reason="apt-get install bible-kjv bible-kjv-text"
)

LINES = [
    "Ge1:1 In the beginning was a line.",
    "Ge1:2 And another one: it came after.",
    "Ge2:1 Of a second chapter!",
    "1Chr29:30 Letters of a third, zzz.",
    "1Chr29:31 Its end.",
    "Jude1:1 QQ? The fourth is the last of them.",
]
CHAPTERS = (
    "In the beginning was a line. And another one: it came after.",
    "Of a second chapter!",
    "Letters of a third, zzz. Its end.",
    "QQ? The fourth is the last of them.",
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "verses.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def told(split, file, part):
    letters = text.vocabulary(file)
    x, y = getattr(split, f"x_{part}"), getattr(split, f"y_{part}")
    y = y if y.ndim == 2 else y[:, None]
    return [
        ("".join(letters[i] for i in a), "".join(letters[i] for i in b)) for a, b in zip(x, y, strict=True)
    ]


def test_chapters_are_verses_joined_by_spaces(file):
    assert bible.chapters(file) == CHAPTERS


def test_vocabulary_is_sorted_with_the_space_last(file):
    letters = text.vocabulary(file)
    assert letters[-1] == " " and list(letters[:-1]) == sorted(set("".join(CHAPTERS)) - {" "})


@pytest.mark.parametrize("length", [1, 4, 7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_windows_of_each_side_tile_its_chapters_and_sides_share_none(file, length, seed):
    """Asked for every window, each side gives each character but a chapter's first, and a rest, exactly once."""
    count = [(len(chapter) - 1) // length for chapter in CHAPTERS]
    for test in range(4):
        sizes = sum(count) - count[test], count[test]
        try:
            split = text.king_james(
                num_train=sizes[0], num_test=sizes[1], length=length, seed=seed, test_share=0.25, file=file
            )
        except ValueError:  # another chapter tests
            continue
        if sizes != (len(split.x_train), len(split.x_test)):
            continue
        found = sorted(told(split, file, "train")), sorted(told(split, file, "test"))
        wanted = [
            [
                (chapter[at : at + length], chapter[at + 1 : at + length + 1])
                for index, chapter in enumerate(CHAPTERS)
                for at in range(0, count[index] * length, length)
                if (index == test) is side
            ]
            for side in (False, True)
        ]
        if found == (sorted(wanted[0]), sorted(wanted[1])):
            assert split.pool == sum(count)
            return
    raise AssertionError("no chapter's windows are those of the test set")


def test_last_targets_are_the_characters_after_the_windows(file):
    options = dict(num_train=3, num_test=2, length=5, seed=4, file=file)
    each, last = (text.king_james(**options, targets=targets) for targets in ("each", "last"))
    np.testing.assert_array_equal(each.x_train, last.x_train)
    np.testing.assert_array_equal(each.y_train[:, -1], last.y_train)
    np.testing.assert_array_equal(each.y_test[:, -1], last.y_test)
    assert last.x_train.dtype == np.int32 and last.y_train.dtype == np.int64


def test_seeds_redraw_windows_and_a_seed_repeats_them(file):
    first, again, other = (
        text.king_james(num_train=8, num_test=2, length=3, seed=seed, file=file) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_train, other.x_train)


def test_a_changed_file_is_read_anew(file):
    import os

    bible.chapters(file)
    file.write_text("Ge1:1 Other words.\n", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert bible.chapters(file) == ("Other words.",)


def test_what_is_wrong_is_told(file, tmp_path):
    for options, said in [
        ({"num_train": 0}, "num_train=0"),
        ({"num_train": 999}, "num_train=999 windows of 4 characters are more"),
        ({"targets": "all"}, "'each'"),
        ({"test_share": 1}, "below 1, such as 0.1"),
        ({"length": 1.5}, "length=1.5"),
    ]:
        with pytest.raises(ValueError, match=said):
            text.king_james(**{"num_train": 2, "num_test": 1, "length": 4, "file": file, **options})
    file.write_text("Ge1:1 Right.\nwithout a place\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: 'without a place' is no verse"):
        bible.chapters(file)
    with pytest.raises(FileNotFoundError, match="a verse in each line"):
        bible.chapters(tmp_path / "nothing.txt")


def test_no_verse_of_a_training_chapter_is_in_a_test_chapter(tmp_path):
    """Chapters 1, 3 and 4 are held together by a verse of 1 and 3, and another of 3 and 4; their windows name their chapter."""
    path = tmp_path / "verses.txt"
    shared = {"1": "a a a.", "3": "a a a. b b b.", "4": "b b b.", "2": "", "5": "", "6": ""}
    lines = []
    for chapter in "123456":
        verses = [chapter * 5 + ".", *(f"{each.strip()}." for each in shared[chapter].split(".") if each)]
        lines += [f"Ge{chapter}:{i} {verse}" for i, verse in enumerate(verses, 1)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tested = []
    for seed in range(20):
        split = text.king_james(num_train=3, num_test=1, length=4, seed=seed, test_share=0.5, file=path)
        train, test = (
            {letter for x, _ in told(split, path, part) for letter in x if letter in "123456"}
            for part in ("train", "test")
        )
        assert not (train & set("134") and test & set("134")), seed
        tested += sorted(test)
    assert {"2", "5"} < set(tested) and set(tested) & set("134")


def test_a_text_whose_chapters_all_share_verses_cannot_be_divided(tmp_path):
    path = tmp_path / "verses.txt"
    for content in ("Ge1:1 One and only.\n", "Ge1:1 Same words.\nGe2:1 Other.\nGe2:2 Same words.\n"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"cannot be divided.*two chapters or more"):
            text.king_james(num_train=1, num_test=1, length=2, file=path)
        path.unlink()


@pytest.mark.parametrize("sizes", [[1, 1], [2, 1], [3, 4], [1, 2, 5], [52, *[1] * 200]], ids=str)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_whole_groups_are_dealt_and_both_sides_get_one(sizes, share):
    ends = np.cumsum(sizes)
    groups = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    for seed in range(5):
        train, test = shared_verses.dealt(groups, share, np.random.default_rng(seed))
        assert len(train) and len(test)
        assert sorted([*train, *test]) == list(range(ends[-1]))
        assert not any(0 < np.isin(group, test).sum() < len(group) for group in groups)
        if len(sizes) > 100:
            assert len(test) == round(share * ends[-1])


def test_classes_are_the_characters_of_the_text_whatever_the_windows_have(file):
    """Of 4 windows most lack most of them; the space, the last one, is in 1 of 6 last targets."""
    everything = len(set("".join(CHAPTERS)))
    for seed in range(5):
        split = text.king_james(num_train=2, num_test=2, length=2, targets="last", seed=seed, file=file)
        assert split.num_classes == everything
        assert data.held_out(split, share=0.5).num_classes == everything
        assert split.characters == text.vocabulary(file)


def write_program(folder, script, monkeypatch):
    folder.mkdir()
    (folder / "bible").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bible").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_the_program_or_its_text_the_packages_are_named(tmp_path, monkeypatch):
    """The program ends with 0 when it finds nothing, too."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="apt-get install bible-kjv bible-kjv-text"):
        bible.chapters(data_dir=tmp_path)
    write_program(tmp_path / "bin", "echo Ge1:1 In; echo no text >&2", monkeypatch)
    with pytest.raises(
        FileNotFoundError, match=r"printed 1 lines instead of 31,102 verses, and said 'no text'"
    ):
        bible.chapters(data_dir=tmp_path)
    assert not (tmp_path / "king_james").exists()


def test_the_copy_is_made_once_and_lies_in_the_data_dir(tmp_path, monkeypatch):
    write_program(tmp_path / "bin", f"echo >> {tmp_path}/calls; yes 'Ge1:1 In.' | head -n 31102", monkeypatch)
    first = bible.chapters(data_dir=tmp_path / "data")
    assert first == bible.chapters(data_dir=tmp_path / "data") and len(first[0]) == 4 * 31102 - 1
    assert (tmp_path / "calls").read_text() == "\n"
    assert [path.name for path in (tmp_path / "data" / "king_james").iterdir()] == ["verses.txt"]
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert bible.chapters() == first


@needs_bible
def test_debians_bible_has_its_chapters_and_the_characters_that_were_counted(tmp_path):
    chapters = bible.chapters(data_dir=tmp_path)
    assert len(chapters) == bible.CHAPTERS
    assert chapters[0].startswith("In the beginning God created the heaven and the earth. And the earth was")
    assert chapters[-1].endswith("The grace of our Lord Jesus Christ be with you all. Amen.")
    split = text.king_james(num_train=50, num_test=40, length=30, targets="last", data_dir=tmp_path)
    assert (split.num_classes, len(text.vocabulary(data_dir=tmp_path))) == (62, 62)
    odds = np.unique(list("".join(chapters)), return_counts=True)[1] / len("".join(chapters))
    assert (
        f"{-(odds * np.log(odds)).sum():.2f} nats ({-(odds * np.log2(odds)).sum():.2f} bits)" in text.__doc__
    )
    assert split.pool == sum((len(chapter) - 1) // 30 for chapter in chapters)


@needs_bible
def test_no_verse_of_debians_bible_is_on_both_sides(tmp_path, monkeypatch):
    """Read from the file by the test: Ezra 2 and Nehemiah 7 have verses in common, and 2 Kings 19 and Isaiah 37."""
    bible.chapters(data_dir=tmp_path)
    of_chapter = {}
    for line in (tmp_path / "king_james" / "verses.txt").read_text(encoding="utf-8").splitlines():
        place, verse = line.split(" ", 1)
        of_chapter.setdefault(place.split(":")[0], set()).add(verse)
    assert of_chapter["Ezra2"] & of_chapter["Neh7"] and of_chapter["2Ki19"] & of_chapter["Isa37"]
    verses, dealt = list(of_chapter.values()), shared_verses.dealt
    sides = []
    monkeypatch.setattr(shared_verses, "dealt", lambda *given: sides.append(dealt(*given)) or sides[-1])
    for seed in range(5):
        text.king_james(num_train=5, num_test=5, length=16, seed=seed, data_dir=tmp_path)
        train, test = (set().union(*(verses[number] for number in side)) for side in sides[-1])
        assert train.isdisjoint(test)
        assert len(sides[-1][1]) == 119

"""Verses, as `diatheke` prints them, and the arrays that are made of them."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from tf_lbgap import data
from tf_lbgap.data import translations, verses

ENGLISH = """Genesis 1:1: In the beginning, God created
the heavens and the earth.
Genesis 1:2: He said, “Don’t fear.” ’Twas day .

A Psalm by David.
  Psalms 3:1: Yahweh, how my adversaries
have increased!

<title type="psalm">A Psalm by David.</title> <l
A Psalm by David.
   I John 1:2: A number 3:16: is no verse.
II John 1:13: The end.
  A glossary: Abba means father.
Abaddon is Hebrew.
(engWEB)
"""
SPANISH = """Genesis 1:1: EN el principio crió <H7225> Dios los cielos.
Psalms 3:1: ¡Oh Jehová!
I John 1:2:
III John 1:1: Al amado Gayo.
(spaRV1909eb)
"""


def test_a_verse_ends_where_the_next_reference_begins_and_a_heading_is_no_verse():
    assert verses.parsed(ENGLISH) == {
        "Genesis 1:1": "in the beginning, god created the heavens and the earth.",
        "Genesis 1:2": "he said, don’t fear. ’twas day.",
        "Psalms 3:1": "yahweh, how my adversaries have increased!",
        "I John 1:2": "a number 3:16: is no verse.",
        "II John 1:13": "the end.",
    }


def test_numbers_of_a_dictionary_and_empty_verses_are_left_out():
    assert verses.parsed(SPANISH) == {
        "Genesis 1:1": "en el principio crió dios los cielos.",
        "Psalms 3:1": "¡oh jehová!",
        "III John 1:1": "al amado gayo.",
    }


@pytest.fixture
def _printed(monkeypatch):
    """A diatheke that prints the texts above."""
    texts = dict(zip(verses.MODULES.values(), (ENGLISH, SPANISH), strict=True))
    monkeypatch.setattr(verses, "printed", texts.__getitem__)
    monkeypatch.setattr(verses, "WANTED", 2)
    verses._read.cache_clear()
    yield
    verses._read.cache_clear()


@pytest.mark.usefixtures("_printed")
def test_pairs_are_of_one_reference_and_are_kept(tmp_path, monkeypatch):
    expected = (
        (
            "Genesis 1:1",
            "in the beginning, god created the heavens and the earth.",
            "en el principio crió dios los cielos.",
        ),
        ("Psalms 3:1", "yahweh, how my adversaries have increased!", "¡oh jehová!"),
    )
    assert verses.pairs(tmp_path) == expected
    monkeypatch.setattr(verses, "printed", None)  # it is not asked again
    verses._read.cache_clear()
    assert verses.pairs(tmp_path) == expected


@pytest.mark.usefixtures("_printed")
def test_a_changed_copy_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    verses.pairs()
    path = tmp_path / "verses" / verses.FILE
    path.write_text("a\tb\tc\nd\te\tf\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert verses.pairs() == (("a", "b", "c"), ("d", "e", "f"))


@pytest.mark.usefixtures("_printed")
def test_a_damaged_copy_is_no_data(tmp_path):
    verses.pairs(tmp_path)
    path = tmp_path / "verses" / verses.FILE
    for content in (path.read_bytes()[:40], b"a\tb\nc\td\n", b"\xff\t\t\n" * 3):
        path.write_bytes(content)
        verses._read.cache_clear()
        with pytest.raises(ValueError, match=r"is damaged.*Delete it"):
            verses.pairs(tmp_path)


def test_what_is_not_installed_is_told_with_what_to_type(tmp_path, monkeypatch):
    verses._read.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"not installed.*apt-get install diatheke sword-text-web sword-text-sparv"
    ):
        verses.pairs(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "prints nothing of 'engWEB2015eb'"),
        ("echo Genesis 1:1: In; echo no such bible >&2; exit 3", "ended with 3.*and said 'no such bible'"),
        (r"printf 'Genesis 1:1: se\361or\n'", "'engWEB2015eb' is no UTF-8"),
        ("echo Genesis 1:1: In", "only 1 verses are in both"),
    ],
)
def test_a_diatheke_that_fails_makes_no_copy(tmp_path, monkeypatch, script, said):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "diatheke"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with pytest.raises(FileNotFoundError, match=f"{said}.*apt-get install diatheke"):
        verses.pairs(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_diatheke_gets_no_input_and_no_folder_with_bibles_of_its_own(tmp_path, monkeypatch):
    asked = {}
    done = subprocess.CompletedProcess([], 0, stdout=b"Genesis 1:1: In\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: asked.update(options) or done)
    verses.printed("engWEB2015eb")
    assert (asked["stdin"], asked["cwd"]) == (subprocess.DEVNULL, "/")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("diatheke"), reason="needs Debian's diatheke and its two bibles")
def test_the_bibles_themselves(tmp_path):
    """31,102 verses are in either; a few are empty in one of them. No heading is left of the thousands there were."""
    verses._read.cache_clear()
    found = {reference: texts for reference, *texts in verses.pairs(tmp_path)}
    assert 31_000 < len(found) <= 31_102
    assert found["John 11:35"] == ["jesus wept.", "y lloró jesús."]
    assert found["Psalms 3:1"][0].endswith("many are those who rise up against me.")
    everything = [text for pair in found.values() for text in pair]
    assert not any("psalm by david" in text or "with goliath" in text or "<" in text for text in everything)
    assert max(map(len, everything)) < 700
    lengths = np.array([list(map(len, pair)) for pair in found.values()])
    assert np.corrcoef(lengths.T)[0, 1] > 0.8  # verses that stand beside each other belong together


# Arrays.

NAMES = ["dan", "lea", "eva", "noe", "ada", "ben", "amos", "ruth"]
DEEDS = [("sees", "ve"), ("loves", "ama"), ("leads", "guía"), ("hears", "oye"), ("asks", "pide")]


@pytest.fixture
def _few(monkeypatch):
    """320 sentences, of which every fifth is there twice, as parallel passages are."""
    texts = [(f"{a} {e} {b}.", f"y {a} {s} á {b};") for a in NAMES for b in NAMES for e, s in DEEDS]
    pairs = [(f"A 1:{i}", *pair) for i, pair in enumerate(texts + texts[::5])]
    monkeypatch.setattr(verses, "pairs", lambda data_dir: tuple(pairs))


OPTIONS = {"num_train": 150, "num_test": 40, "vocabulary": 60, "length": 20}
few = pytest.mark.usefixtures("_few")


@few
@pytest.mark.parametrize("source", ["english", "spanish"])
def test_arrays_are_the_texts_and_the_target_is_shifted_by_one(source):
    split = translations.verses(source=source, **OPTIONS)
    assert [array.shape for array in (*split.x_train, split.y_train)] == [(150, 20)] * 3
    assert [array.shape for array in (*split.x_test, split.y_test)] == [(40, 20)] * 3
    for (said, shifted), meant, texts in (
        (split.x_train, split.y_train, split.texts_train),
        (split.x_test, split.y_test, split.texts_test),
    ):
        assert list(zip(split.decoded(said), split.decoded(meant), strict=True)) == list(texts)
        assert all(("á" in target) == (source == "english") for _, target in texts)
        assert set(shifted[:, 0]) == {translations.START}
        np.testing.assert_array_equal(shifted[:, 1:], np.where(meant == translations.END, 0, meant)[:, :-1])
        for row in (*said, *meant):
            end = list(row).index(translations.END)
            assert all(row[:end] > translations.END)
            assert not row[end + 1 :].any()


@few
def test_no_text_of_the_test_set_is_in_training():
    """Without that, a fifth of the sentences could be."""
    for seed in range(5):
        split = translations.verses(seed=seed, **OPTIONS)
        trained = {text for pair in split.texts_train for text in pair}
        assert trained.isdisjoint(text for pair in split.texts_test for text in pair)


@few
def test_seeds_redraw_and_equal_seeds_do_not():
    first, other = (translations.verses(seed=seed, **OPTIONS) for seed in (0, 1))
    translations._split.cache_clear()
    again = translations.verses(seed=0, **OPTIONS)
    np.testing.assert_array_equal(first.x_train[0], again.x_train[0])
    np.testing.assert_array_equal(first.y_test, again.y_test)
    assert first.texts_test != other.texts_test
    assert set(first.texts_train) != set(other.texts_train)


@few
def test_the_tokenizer_knows_training_sentences_alone(monkeypatch):
    """A letter that is in one sentence is unknown, unless that sentence trains."""
    pairs = [*verses.pairs(None), ("A 2:1", "ada ŵ ben.", "ada ŵ ben;")]
    monkeypatch.setattr(verses, "pairs", lambda data_dir: tuple(pairs))
    known = set()
    for seed in range(6):
        split = translations.verses(seed=seed, **OPTIONS)
        trains = any("ŵ" in source for source, _ in split.texts_train)
        knows = translations.UNKNOWN not in split.tokenizer.encode("ada ŵ ben.")
        assert knows == trains
        known.add(knows)
    assert known == {False, True}


@few
def test_longer_pairs_are_left_out_and_numbers_stay_full():
    split = translations.verses(**{**OPTIONS, "num_train": 60, "num_test": 20, "length": 9})
    assert len(split.y_train) == 60
    assert split.pool < 400
    assert (split.y_train == translations.END).any(1).all()


@few
def test_the_vocabulary_is_that_of_the_tokenizer_whatever_the_targets_have():
    split = translations.verses(**OPTIONS)
    assert split.num_classes == 60
    assert max(array.max() for array in (*split.x_train, split.y_train)) < 60


@few
def test_what_is_held_out_keeps_its_texts_and_the_vocabulary():
    """Each example's tokens say its own texts, on both sides."""
    whole = translations.verses(**OPTIONS)
    split = data.held_out(whole, share=0.2)
    assert split.num_classes == 60
    assert (len(split.texts_train), len(split.texts_test)) == (120, 30)
    assert set(split.texts_train) | set(split.texts_test) == set(whole.texts_train)
    for (said, _), meant, texts in (
        (split.x_train, split.y_train, split.texts_train),
        (split.x_test, split.y_test, split.texts_test),
    ):
        assert list(zip(split.decoded(said), split.decoded(meant), strict=True)) == list(texts)


@few
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "latin"}, "source='latin' is neither"),
        ({"length": 0}, "length=0 must be"),
        ({"num_train": 390}, "num_test=40 were asked for"),
        ({"max_characters": 5}, "0 pairs have at most 5|vocabulary=60 does not suit"),
        ({"vocabulary": 10}, "vocabulary=10 does not suit 300 texts"),
    ],
)
def test_what_is_not_possible_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        translations.verses(**{**OPTIONS, **options})

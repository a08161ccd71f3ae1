"""Pairs of sentences as arrays of token numbers: what a sequence-to-sequence network is trained and judged on.

An example is x = (source, shifted target) and y = target, whole numbers of fixed length:

    source      7 12  9  2  0  0        tokens of the sentence, its end, padding
    shifted     1 31  5  8  2  0        the start, then the target: what is known before each token
    target     31  5  8  2  0  0        what is to be said, its end, padding
"""

import dataclasses
import functools
import io

import numpy as np

from tf_lbgap.data import verses as bibles
from tf_lbgap.data.counts import check_counts
from tf_lbgap.data.datasets import Split

PADDING, START, END, UNKNOWN = range(4)


@dataclasses.dataclass(frozen=True, eq=False)
class Translations(Split):
    """A `Split` of pairs of sentences, with the texts, and the sub-words that they were cut into.

    x_train and x_test are pairs of arrays, (n, length) int32 each; y_train and y_test are (n, length) int64.
    """

    texts_train: tuple = ()  # (source, target) of each training example
    texts_test: tuple = ()
    tokenizer: object = None  # sentencepiece.SentencePieceProcessor

    @property
    def padding(self):
        return PADDING

    @property
    def num_classes(self):
        """Tokens of the vocabulary: some may be in no target."""
        return self.tokenizer.vocab_size()

    def training_examples(self, numbers):
        """As `Split` does, with their `"texts"`."""
        return {
            **super().training_examples(numbers),
            "texts": tuple(self.texts_train[number] for number in numbers),
        }

    def decoded(self, tokens):
        """Texts of rows of token numbers, up to the first end or padding of each; a list of str."""
        return [self.tokenizer.decode(_until_end(row)) for row in np.asarray(tokens).tolist()]


def verses(
    *,
    source="english",
    num_train=4000,
    num_test=500,
    max_characters=80,
    length=32,
    vocabulary=1000,
    seed=0,
    data_dir=None,
):
    """Loads short verses of the bible in English and Spanish, split at random, cut into sub-words of both languages.

    The pool are pairs of at most `max_characters` on either side. They are permuted with the seed. The first `num_train` fit the
    tokenizer (byte-pair encoding by SentencePiece, of both languages together); the first `num_train` that have at most `length`
    tokens train. The test set are the next `num_test` of which no text, source or target, is one of a training verse: parallel
    passages repeat verses word for word. Verses that are nearly the same remain.

    Args:
        source: "english" or "spanish": what is translated into the other.
        num_train: Size of the training set.
        num_test: Size of the test set.
        max_characters: Of a text. There are 5,774 pairs up to 80, and 31,077 in all.
        length: Tokens of a text, its end among them; also the length of the arrays. Pairs with more are left out.
        vocabulary: Tokens, the four special ones among them.
        seed: Seed of the permutation.
        data_dir: See `verses.pairs`.

    Returns:
        `Translations`.

    Raises:
        FileNotFoundError: If the bibles are not installed.
        ImportError: If SentencePiece is not.
        ValueError: If a number is not possible, or there are too few verses.

    References:
        Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", 2016 (byte-pair encoding of
        both languages together). Kudo and Richardson, "SentencePiece", 2018.
    """
    if source not in bibles.MODULES:
        raise ValueError(f"source={source!r} is neither 'english' nor 'spanish'.")
    counts = dict(
        num_train=num_train,
        num_test=num_test,
        max_characters=max_characters,
        length=length,
        vocabulary=vocabulary,
    )
    check_counts(**counts)
    texts = tuple((e, s) if source == "english" else (s, e) for _, e, s in bibles.pairs(data_dir))
    return _split(texts, **counts, seed=seed, name=f"verses from {source}")


@functools.lru_cache(maxsize=2)  # an experiment asks once per seed and arm
def _split(texts, num_train, num_test, max_characters, length, vocabulary, seed, name):
    pool = [pair for pair in texts if max(map(len, pair)) <= max_characters]
    order = np.random.default_rng(seed).permutation(len(pool))
    drawn = [pool[i] for i in order]
    tokenizer = fitted_tokenizer([text for pair in drawn[:num_train] for text in pair], vocabulary)
    encoded = [[row + [END] for row in rows] for rows in map(tokenizer.encode, map(list, drawn))]
    fitting = [i for i, rows in enumerate(encoded) if max(map(len, rows)) <= length]
    train = fitting[:num_train]
    seen = {text for i in train for text in drawn[i]}
    test = [i for i in fitting[num_train:] if seen.isdisjoint(drawn[i])][:num_test]
    if len(train) < num_train or len(test) < num_test:
        raise ValueError(
            f"{len(fitting)} pairs have at most {max_characters} characters and {length} tokens. num_train={num_train} of them "
            f"leave {len(test)} to test that are not repeated in training, and num_test={num_test} were asked for. Pass a larger "
            "max_characters and length, or smaller numbers."
        )
    (x_train, y_train), (x_test, y_test) = (arrays([encoded[i] for i in p], length) for p in (train, test))
    return Translations(
        x_train,
        y_train,
        x_test,
        y_test,
        name=name,
        pool=len(fitting),
        texts_train=tuple(drawn[i] for i in train),
        texts_test=tuple(drawn[i] for i in test),
        tokenizer=tokenizer,
    )


def fitted_tokenizer(texts, vocabulary):
    """Fit byte-pair encoding to texts, the same for the same texts.

    Args:
        texts: List of str.
        vocabulary: Tokens, with padding 0, start 1, end 2 and unknown 3.

    Returns:
        `sentencepiece.SentencePieceProcessor`, with `encode(text)`, `decode(numbers)` and `vocab_size()`.

    Raises:
        ImportError: If SentencePiece is not installed.
        ValueError: If the texts have more characters, or fewer sub-words, than that.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "Sub-words are cut by SentencePiece, which is not installed. Type  pip install 'tf_lbgap[text]'"
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=1.0,
            pad_id=PADDING,
            bos_id=START,
            eos_id=END,
            unk_id=UNKNOWN,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"vocabulary={vocabulary} does not suit {len(texts)} texts: {' '.join(str(error).split())}"
        ) from error
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def arrays(rows, length):
    """((source, shifted target), target), arrays of shape (n, length), of pairs of lists of token numbers with their ends."""
    source, shifted, target = np.full((3, len(rows), length), PADDING, np.int32)
    for i, (said, meant) in enumerate(rows):
        source[i, : len(said)] = said
        target[i, : len(meant)] = meant
        shifted[i, : len(meant)] = [START, *meant[:-1]]
    return (source, shifted), target.astype(np.int64)


def _until_end(row):
    ends = [i for i, token in enumerate(row) if token in (PADDING, END)]
    return row[: ends[0]] if ends else row

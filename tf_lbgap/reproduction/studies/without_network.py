"""Translations that need no network, from training sentences alone: what a network has to be better than.

Each is a function of the training pairs and of sources, lists of texts, that returns a text for each source.
"""

import numpy as np


def copy(pairs, sources):
    """The source as it is: right in names and punctuation."""
    return list(sources)


def unigram(pairs, sources):
    """The most likely words of a unigram model of training targets, each once, most likely first.

    There are as many as the source has words, times the ratio of target to source words in training.
    """
    words, counts = np.unique(
        np.array([word for _, target in pairs for word in target.split()], dtype=object).astype(str),
        return_counts=True,
    )
    ranked = words[np.argsort(-counts, kind="stable")]
    ratio = counts.sum() / sum(len(source.split()) for source, _ in pairs)
    return [" ".join(ranked[: round(ratio * len(source.split()))]) for source in sources]


def word_by_word(pairs, sources):
    """Each word's closest companion in training targets, in the order of the source; unknown words stay.

    Closest is by Dice's coefficient, 2 n_both / (n_source + n_target), where n count training pairs in which a word is. It is the
    first step of statistical translation; Brown et al.'s Model 1 would go on from it by expectation maximization.

    References:
        Dice, "Measures of the amount of ecologic association between species", 1945. Melamed, "Models of translational
        equivalence among words", 2000.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    of_source, of_target = (
        CountVectorizer(analyzer=str.split, binary=True, dtype=np.int32) for _ in range(2)
    )
    has_source = of_source.fit_transform(source for source, _ in pairs)
    has_target = of_target.fit_transform(target for _, target in pairs)
    both = (has_source.T @ has_target).tocoo()
    n_source, n_target = (np.asarray(has.sum(0)).ravel() for has in (has_source, has_target))
    dice = 2 * both.data / (n_source[both.row] + n_target[both.col])
    # By source word, then by coefficient, then by number of the target word, which decides ties: the last of each is its best.
    order = np.lexsort((-both.col, dice, both.row))
    rows = both.row[order]
    last = np.append(rows[1:] != rows[:-1], True)
    target_words, source_words = of_target.get_feature_names_out(), of_source.get_feature_names_out()
    closest = dict(zip(source_words[rows[last]], target_words[both.col[order][last]], strict=True))
    return [" ".join(closest.get(word, word) for word in source.split()) for source in sources]


BASELINES = {"copy": copy, "unigram": unigram, "word_by_word": word_by_word}

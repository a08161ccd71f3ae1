"""Chapters that have a verse in common, word for word: to divide a text so that no verse is on both sides, they stay together.

Parallel passages repeat verses (Ezra 2 and Nehemiah 7, 2 Kings 19 and Isaiah 37), and so do phrases such as "And the LORD spake
unto Moses, saying,". Verses that are nearly the same are told apart.
"""

import numpy as np


def groups(chapters):
    """Divide chapters so that no verse is in two groups, into as many groups as possible.

    Chapters and verses are the nodes of a graph, a chapter's verses its edges; groups are its connected components.

    Args:
        chapters: List of lists of verses, str.

    Returns:
        List of arrays of the numbers of chapters, ascending, in the order of their first ones.

    Example:
        >>> [group.tolist() for group in groups([["a", "b"], ["c"], ["d", "b"]])]
        [[0, 2], [1]]
    """
    from scipy import sparse

    known = {}
    edges = [
        (chapter, known.setdefault(verse, len(known)))
        for chapter, verses in enumerate(chapters)
        for verse in verses
    ]
    row, column = np.array(edges).T
    size = len(chapters) + len(known)
    graph = sparse.coo_array((np.ones(len(edges)), (row, len(chapters) + column)), (size, size))
    labels = sparse.csgraph.connected_components(graph, directed=False)[1][: len(chapters)]
    return [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]


def dealt(groups, share, random):
    """Draw groups that hold about a share of the chapters, both sides at least one group.

    Groups are taken in random order as long as they fit, so where enough chapters are alone the share is exact, and a large group is
    taken a little less often than a small one.

    Args:
        groups: What `groups` returns, two or more.
        share: Of the chapters, above 0 and below 1.
        random: `numpy.random.Generator`.

    Returns:
        Two arrays of the numbers of chapters: the others, and those of the share, in the order in which they were drawn.
    """
    total = sum(map(len, groups))
    room = min(max(1, round(share * total)), total - 1)
    chosen, others = [], []
    for number in random.permutation(len(groups)):
        fits = len(groups[number]) <= room
        room -= len(groups[number]) * fits
        (chosen if fits else others).append(groups[number])
    if not chosen:
        chosen.append(others.pop(int(np.argmin([len(group) for group in others]))))
    return np.concatenate(others), np.concatenate(chosen)

"""Pieces of work in processes: which process does which."""

import os

import pytest

from tf_lbgap.experiment.side_by_side import Silent, work_on


def process_of(key, news):
    return os.getpid()


def processes_of(keys, jobs, alone):
    pieces = ((key, ()) for key in keys)
    return dict(work_on(pieces, process_of, jobs, Silent(), lambda key: key in alone))


@pytest.mark.slow
def test_what_is_to_be_alone_has_a_process_in_which_nothing_was_done_before_nor_is_after():
    """An arm on a parameter server leaves TensorFlow calling for a cluster that is gone, through all arms that follow."""
    one = processes_of("abcde", 1, alone="bd")
    assert one["a"] == one["c"] == one["e"] == os.getpid()
    assert len({one["a"], one["b"], one["d"]}) == 3
    two = processes_of("abcdefgh", 2, alone="cd")
    rest = {two[key] for key in "abefgh"}
    assert not rest & {two["c"], two["d"]} and two["c"] != two["d"] and os.getpid() not in two.values()

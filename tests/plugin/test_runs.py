"""How names of runs are read, on names that people give."""

import time

import pytest

from tb_plugin.runs import group_and_seed, tab_run


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("small/0/train", "small/0"),
        ("small/0/validation", "small/0"),
        ("small/test", "small"),
        ("small/curvature", "small"),
        ("small/0", "small/0"),
        ("train", "train"),
        ("/train", "/train"),
        ("small/training", "small/training"),
        (".", "."),
        ("", ""),
    ],
)
def test_directories_of_one_fit_are_one_run(name, run):
    assert tab_run(name) == run


@pytest.mark.parametrize(
    ("run", "group", "seed"),
    [
        ("small/0", "small", "0"),
        ("digits/large/17", "digits/large", "17"),
        ("a/seed_3", "a", "3"),
        ("a/seed-3", "a", "3"),
        ("a/seed=3", "a", "3"),
        ("a/seed3", "a", "3"),
        ("wide-seed3", "wide", "3"),
        ("wide_s12", "wide", "12"),
        ("resnet50", "resnet50", None),
        ("lr0.1", "lr0.1", None),
        ("batch-128", "batch-128", None),
        ("classes3", "classes3", None),
        ("7", "7", None),
        ("a\n/3", "a\n", "3"),
    ],
)
def test_seeds_are_found_and_other_numbers_are_not(run, group, seed):
    assert group_and_seed(run) == (group, seed)


@pytest.mark.parametrize("part", ["/0", "_s1", "-seed", "/seed_", "9"])
def test_long_names_take_no_long_time(part):
    start = time.process_time()
    group_and_seed(part * 20_000 + "x")
    assert time.process_time() - start < 1

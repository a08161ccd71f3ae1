"""Label noise: how many labels change, to what, and that nothing else does."""

import dataclasses

import numpy as np
import pytest

from tf_lbgap.data import corruption, datasets
from tf_lbgap.data.corruption import noisy_labels
from tf_lbgap.experiment import calls

K, N = 10, 20_000
LABELS = np.random.default_rng(0).integers(0, K, N)
IDS = np.arange(N)  # x, so that one sees which example is which


def within(count, total, share, deviations=4.5):
    """Whether a binomial count is as expected; by chance it is not once in 150,000."""
    return abs(count - total * share) <= deviations * np.sqrt(total * share * (1 - share)) + 1e-9


@pytest.mark.parametrize("fraction", [0, 0.3, 0.33333, 1])
def test_a_fraction_changes_exactly_that_many_labels(fraction):
    """With the confused kind each draw is seen."""
    x, y = noisy_labels((IDS, LABELS), fraction=fraction, kind="confused")
    np.testing.assert_array_equal(x, IDS)
    changed = y != LABELS
    assert changed.sum() == round(fraction * N)
    np.testing.assert_array_equal(y[changed], (LABELS[changed] + 1) % K)


def test_uniform_noise_draws_the_true_class_too():
    """Of a fraction f of labels f (K - 1) / K are wrong, and all wrong classes are as frequent."""
    _, y = noisy_labels((IDS, LABELS), fraction=0.5)
    wrong = y != LABELS
    assert within(wrong.sum(), N // 2, (K - 1) / K)
    for shift in range(1, K):
        assert within(np.sum((y - LABELS) % K == shift), N // 2, 1 / K)


def test_which_examples_are_drawn_does_not_depend_on_where_they_stand():
    _, y = noisy_labels((IDS, LABELS), fraction=0.5, kind="confused")
    for part in np.split(y != LABELS, 4):
        assert within(part.sum(), N // 4, 0.5)


def test_a_transition_matrix_is_found_again_in_what_was_drawn():
    matrix = np.random.default_rng(1).random((K, K))
    matrix[2] = np.eye(K)[7]  # always
    matrix[3, 5:] = 0  # never the last classes
    matrix[4, :3] = 0  # never the first
    matrix /= matrix.sum(1, keepdims=True)

    _, y = noisy_labels((IDS, LABELS), fraction=1, kind=matrix.tolist())

    assert y.max() < K
    for clean in range(K):
        drawn = y[clean == LABELS]
        for noisy in range(K):
            assert within(np.sum(drawn == noisy), len(drawn), matrix[clean, noisy])


@pytest.mark.parametrize("alpha", [0, 1, 2.5, 3])
def test_alpha_adds_that_many_copies_of_each_example_and_keeps_the_clean_ones(alpha):
    """With the confused kind clean and noisy labels are told apart, example by example."""
    x, y = noisy_labels((IDS, LABELS), alpha=alpha, kind="confused")
    assert len(x) == len(y) == N + round(alpha * N)
    is_clean = y == LABELS[x]
    np.testing.assert_array_equal(np.sort(x[is_clean]), IDS)
    np.testing.assert_array_equal(y[~is_clean], (LABELS[x[~is_clean]] + 1) % K)
    copies = np.bincount(x[~is_clean], minlength=N)
    assert copies.sum() == round(alpha * N)
    assert set(copies) <= {int(np.floor(alpha)), int(np.ceil(alpha))}


def test_uniform_copies_have_every_class_as_often_whatever_the_clean_one():
    x, y = noisy_labels((IDS, LABELS), alpha=4)
    counts = np.zeros((K, K))
    np.add.at(counts, (LABELS[x], y), 1)
    for clean in range(K):
        total = np.sum(clean == LABELS)
        for noisy in range(K):
            assert within(counts[clean, noisy] - total * (clean == noisy), 4 * total, 1 / K)


def test_the_first_examples_of_a_grown_set_are_a_sample_of_it():
    """A measure takes the first thousand: were the clean ones first, it would see no noise."""
    x, y = noisy_labels((IDS, LABELS), alpha=1, kind="confused")
    assert within(np.sum(y[:1000] == LABELS[x[:1000]]), 1000, 0.5)


@pytest.mark.parametrize("how", [{"fraction": 0.5}, {"alpha": 1.5}], ids=["fraction", "alpha"])
def test_equal_seeds_give_equal_labels_and_others_others(how):
    one, same, other = (noisy_labels((IDS, LABELS), seed=seed, **how) for seed in (3, 3, 4))
    for part in range(2):
        np.testing.assert_array_equal(one[part], same[part])
    assert np.mean(one[1] == other[1]) < 0.7


def test_of_a_split_only_the_training_labels_change_and_its_name_tells():
    clean = datasets.digits(num_train=1000)
    noisy = noisy_labels(clean, fraction=0.2, kind="confused")
    assert noisy.x_test is clean.x_test
    assert noisy.y_test is clean.y_test
    np.testing.assert_array_equal(noisy.x_train, clean.x_train)
    assert np.sum(noisy.y_train != clean.y_train) == 200
    assert noisy.y_train.dtype == clean.y_train.dtype
    assert noisy.name == "digits, 20 % noisy labels (confused)"
    assert noisy_labels(clean, alpha=5).x_train.shape == (6000, 64)
    assert noisy_labels(clean, alpha=5).name == "digits, 5 noisy labels per clean one (uniform)"


def test_what_came_is_not_written_to():
    labels = LABELS.copy()
    noisy_labels((IDS, labels), fraction=1)
    np.testing.assert_array_equal(labels, LABELS)


def test_labels_in_a_column_and_in_bytes_stay_so():
    x, y = noisy_labels((IDS, LABELS.astype("uint8")[:, None]), fraction=0.5, kind="confused")
    assert (y.shape, y.dtype) == ((N, 1), np.uint8)
    assert np.sum(y[:, 0] != LABELS) == N // 2
    x, y = noisy_labels((IDS, LABELS.astype("uint8")[:, None]), alpha=1)
    assert (x.shape, y.shape, y.dtype) == ((2 * N,), (2 * N, 1), np.uint8)


TOKENS = np.random.default_rng(2).integers(0, K, (1000, 7))


def test_a_fraction_of_sequences_changes_that_many_labels_at_places_of_their_own():
    _, y = noisy_labels((IDS[:1000], TOKENS), fraction=0.3, kind="confused")
    changed = y != TOKENS
    assert (y.shape, changed.sum()) == (TOKENS.shape, 2100)
    np.testing.assert_array_equal(y[changed], (TOKENS[changed] + 1) % K)
    assert within(np.sum(changed.all(1)), 1000, 0.3**7) and all(within(n, 1000, 0.3) for n in changed.sum(0))


def test_copies_of_sequences_have_all_labels_drawn_and_keep_what_is_theirs():
    x, y = noisy_labels((IDS[:1000], TOKENS), alpha=1, kind="confused")
    is_clean = (y == TOKENS[x]).all(1)
    np.testing.assert_array_equal(np.sort(x[is_clean]), IDS[:1000])
    np.testing.assert_array_equal(y[~is_clean], (TOKENS[x[~is_clean]] + 1) % K)


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences(datasets.Split):
    texts_train: tuple = ()
    padding = 4

    def training_examples(self, numbers):
        return {**super().training_examples(numbers), "texts": tuple(self.texts_train[i] for i in numbers)}


@pytest.mark.parametrize("how", [{"fraction": 1}, {"alpha": 1}], ids=["fraction", "alpha"])
@pytest.mark.parametrize("kind", ["uniform", "confused"])
def test_padding_stays_and_is_never_drawn(how, kind):
    """Also where x is a pair, and examples have texts: they go with their copies."""
    ids = IDS[:1000]
    split = Sentences(
        (ids, 2 * ids), TOKENS, (ids[:9], ids[:9]), TOKENS[:9], name="s", texts_train=tuple(map(str, ids))
    )
    noisy = noisy_labels(split, **how, kind=kind)
    x, y = noisy.x_train[0], noisy.y_train
    np.testing.assert_array_equal(noisy.x_train[1], 2 * x)
    assert noisy.texts_train == tuple(map(str, x))
    np.testing.assert_array_equal(y == 4, TOKENS[x] == 4)
    drawn = y != TOKENS[x]
    total = np.sum(TOKENS != 4) * (1 if kind == "confused" else (K - 2) / (K - 1))
    assert drawn.sum() == total if kind == "confused" else abs(drawn.sum() - total) < 150
    if kind == "confused":
        after = {c: (5 if c == 3 else (c + 1) % K) for c in range(K) if c != 4}
        np.testing.assert_array_equal(y[drawn], [after[c] for c in TOKENS[x][drawn]])


def test_keras_own_form_of_a_data_set_is_a_split():
    noisy = noisy_labels(((IDS, LABELS), (IDS[:5], LABELS[:5])), fraction=0.5)
    np.testing.assert_array_equal(noisy.y_test, LABELS[:5])


def test_a_class_that_the_training_labels_lack_can_be_drawn():
    y = np.zeros(1000, int)
    assert set(noisy_labels((y, y), fraction=1, num_classes=3)[1]) == {0, 1, 2}


def test_a_config_nests_it():
    config = {
        "call": "data.corruption.noisy_labels",
        "data": {"call": "data.datasets.digits", "num_train": 100},
        "alpha": 2,
    }
    split = calls.make(config, seed=1)
    assert split.x_train.shape == (300, 64)
    assert corruption.noisy_labels is calls.resolve(config["call"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of them"),
        ({"fraction": 0.1, "alpha": 1}, "give one of them"),
        ({"fraction": 1.1}, "fraction=1.1 should be a number from 0 to 1"),
        ({"fraction": True}, "fraction=True should be a number"),
        ({"alpha": -1}, "alpha=-1 should be a number of at least 0"),
        ({"alpha": float("nan")}, "alpha=nan should be a number"),
        ({"alpha": 1, "kind": "unifrom"}, "kind='unifrom' should be"),
        ({"alpha": 1, "kind": [[1.0]]}, r"matrix of shape \(10, 10\)"),
        ({"alpha": 1, "kind": [[1, 2], [3]]}, r"matrix of shape \(10, 10\)"),
        ({"alpha": 1, "kind": np.eye(K) * 0.9}, "Row 0 of kind"),
        ({"alpha": 1, "num_classes": 9}, "num_classes=9 should be a whole number above 9"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        noisy_labels((IDS, LABELS), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IDS, LABELS / 2), "needs whole numbers"),
        ((IDS, np.eye(K)[LABELS].astype(int)), "argmax"),
        ((IDS[:5], LABELS), "equally many examples"),
        ((IDS, LABELS - 1), "Labels go down to -1"),
        (LABELS, "returned ndarray"),
        ((IDS, LABELS.astype("uint8"), 3), "tuple"),
    ],
    ids=["floats", "one-hot", "lengths", "negative", "array", "triple"],
)
def test_what_is_no_labelled_data_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        noisy_labels(data, alpha=1)

"""Scores by hand, baselines of languages that are known, and translations of a run against the network asked again."""

import numpy as np
import pytest
import tiny_runs

from tf_lbgap.data import verses
from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.networks import Greedy
from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.finished import FinishedRun
from tf_lbgap.reproduction.studies import sentences, without_network

WORDS = {
    "dan": "daniel",
    "lea": "lía",
    "sees": "ve",
    "asks": "pide",
    "the": "el",
    "king": "rey",
    "son": "hijo",
}


def translated(text):
    return " ".join(WORDS[word] for word in text.split())


def test_bleu_is_the_geometric_mean_of_precisions_times_the_brevity_penalty():
    """4 of 5 words are right, 3 of 4 pairs, 2 of 3, 1 of 2; and a text of 5 words for a reference of 6 loses e^(1 - 6/5)."""
    precision = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    found = sentences.scores(["a b c d e"], ["a b c d f"])
    np.testing.assert_allclose(found["test_bleu"], 100 * precision, rtol=1e-8)
    assert found["test_length_ratio"] == 1
    found = sentences.scores(["a b c d e"], ["a b c d f g"])
    np.testing.assert_allclose(found["test_bleu"], 100 * precision * np.exp(1 - 6 / 5), rtol=1e-8)
    np.testing.assert_allclose(found["test_length_ratio"], 5 / 6, rtol=1e-8)


def test_scores_are_of_the_corpus_and_not_a_mean_over_sentences():
    found = sentences.scores(["a b c d", "x y z w v u"], ["a b c d", "a b c d e f"])
    precisions = [4 / 10, 3 / 8, 2 / 6, 1 / 4]
    np.testing.assert_allclose(found["test_bleu"], 100 * np.prod(precisions) ** 0.25, rtol=1e-8)


def test_the_unigram_model_says_the_most_frequent_words_at_the_ratio_of_lengths():
    """Targets have twice as many words as sources: el 3, rey 2, hijo 1, ve 1, of which the first of the alphabet comes first."""
    pairs = [("king", "el rey el"), ("king sees", "el rey ve"), ("son", "hijo di")]
    assert without_network.unigram(pairs, ["a", "a b", ""]) == ["el rey", "el rey di hijo", ""]


def test_words_that_are_translated_one_by_one_are_found_and_others_stay():
    rng = np.random.default_rng(0)
    sources = [" ".join(rng.choice(list(WORDS), rng.integers(2, 5), replace=False)) for _ in range(60)]
    found = without_network.word_by_word([(s, translated(s)) for s in sources], ["lea sees the old king"])
    assert found == ["lía ve el old rey"]


def test_copies_are_copies():
    assert without_network.copy([("a", "b")], ["c d"]) == ["c d"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two arms of two seeds on 100 sentences of known words."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(list(WORDS), 3, replace=False)) for _ in range(150)]
    pairs = [(f"A 1:{i}", text, translated(text)) for i, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verses, "pairs", lambda data_dir: tuple(pairs))
        content = {
            **tiny_runs.TINY,
            "data": {
                "call": "data.translations.verses",
                "num_train": 100,
                "num_test": 12,
                "vocabulary": 50,
                "length": 16,
            },
            "model": {"call": "networks.transformer", "width": 8, "heads": 2, "hidden": 8},
            "loss": {"call": "losses.TokenCrossentropy"},
            "optimizer": {"call": "keras.optimizers.Adam", "learning_rate": 0.01},
            "measure": {
                "top_eigenvalue_examples": 20,
                "tolerance": 0.1,
                "validation_examples": 10,
                "epsilon": 0,
            },
            "seeds": 2,
            "output": str(tmp_path_factory.mktemp("translated") / "run"),
        }
        tiny_runs.run(content)
        yield FinishedRun(content["output"])


@pytest.mark.slow
def test_a_row_has_the_scores_of_what_the_network_says_and_of_the_baselines(run):
    found = studies.translation(run, sentences=7, shown=2, batch_size=4)
    assert [(row["arm"], row["seed"]) for row in found["rows"]] == [
        (arm, seed) for seed in (0, 1) for arm in ("small", "large")
    ]
    for row, curve in zip(found["rows"], found["curves"], strict=True):
        split = run.split(row["arm"], row["seed"])
        said = split.decoded(Greedy(run.model(row["arm"], row["seed"]))(split.x_test[0][:7]))
        sources, references = zip(*split.texts_test[:7], strict=True)
        expected = sentences.scores(said, list(references))
        copied = sentences.scores(list(sources), list(references))
        assert {key: row[key] for key in expected} == expected
        assert row["test_chrf_copy"] == copied["test_chrf"]
        assert row["test_chrf_over_copy"] == expected["test_chrf"] - copied["test_chrf"]
        assert set(row) == {"arm", "seed", *sentences.KEYS}
        assert (curve["source"], curve["said"]) == (list(sources[:2]), said[:2])


@pytest.mark.slow
def test_the_words_of_these_languages_are_found_one_by_one(run):
    """In which a translation is word by word, so that baseline is nearly right: a scale for the others."""
    row = studies.translation(run, arms=["small"], seeds=1)["rows"][0]
    assert row["test_chrf_word_by_word"] > 90 > row["test_chrf_unigram"]


@pytest.mark.slow
def test_the_rows_of_the_experiment_are_of_tokens(run):
    """The hessian of a token's loss converged, and accuracies are between chance and all."""
    for row in run.rows:
        assert row["top_eigenvalue"] > 0
        assert 0 <= row["test_accuracy"] < 1
        assert 0 < row["test_loss"] < 2 * np.log(50)


def test_data_that_are_no_translations_are_refused(tmp_path):
    tiny_runs.run({**tiny_runs.ONE_ARM, "output": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match="are no translations"):
        studies.translation(FinishedRun(tmp_path / "run"))

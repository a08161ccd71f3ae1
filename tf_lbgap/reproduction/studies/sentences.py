"""How well finished networks translate: BLEU and chrF of test sentences, beside what needs no network.

A loss per token is told the true beginning of each sentence; a translation goes on from the network's own words. So its
score can differ where losses agree.
"""

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count, whole
from tf_lbgap.reproduction.studies.rows import rows_of
from tf_lbgap.reproduction.studies.without_network import BASELINES

SCORES = (
    "test_bleu",
    "test_chrf",
    "test_length_ratio",
)  # test_: what is of test examples, for `claims.dependence`
POINTS = SCORES[:2]
KEYS = (
    *SCORES,
    *(f"{score}_{name}" for name in BASELINES for score in POINTS),
    *(f"{score}_over_{name}" for name in BASELINES for score in POINTS),
)


def translation(run, *, arms=None, sentences=500, shown=5, batch_size=100, seeds=None):
    """Translate test sentences greedily and score them against the one reference that each has.

    Costs as many forward passes over the sentences as the longest answer has tokens, for an arm and seed. Scores are those of
    sacrebleu of texts as the data have them (verses: in lower case), up to 100, BLEU with its tokenizer `13a`.

    Args:
        run: A `FinishedRun`, whose data are `data.translations.Translations`.
        arms: Names of arms; None: all.
        sentences: Of the test set; 0: all.
        shown: How many sentences of each arm and seed are kept as text.
        batch_size: Sentences that are decoded at a time.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `test_bleu`, `test_chrf`, and `test_length_ratio`, words said per word of the references. Beside them, of the
        same sentences, `test_bleu_copy` and `test_chrf_copy` of the source as it is, `..._unigram` of as many of the most frequent
        words as the source has, fitted to the ratio of lengths, and `..._word_by_word` of each word's closest companion, all
        taken from training sentences alone; and by how many points the network is better: `test_chrf_over_copy` and so on.
        `curves` with the texts `source`, `reference` and `said`.

    Raises:
        ConfigError: If the data are no translations, or sacrebleu is not installed.

    References:
        Papineni et al., "BLEU", 2002. Popović, "chrF", 2015. Post, "A call for clarity in reporting BLEU scores", 2018.
    """
    count(sentences, "sentences")
    count(shown, "shown")
    whole(batch_size, "batch_size")
    curves, baselines = [], {}

    def measure(arm, seed):
        from tf_lbgap.networks import Greedy

        split = _translations(run, arm, seed)
        greedy = run.made(arm, seed, "greedy", lambda model, loss: Greedy(model, batch_size=batch_size))
        (source, _), _ = run.test_sample(arm, seed, sentences)
        texts = split.texts_test[: sentences or None]
        sources, references = map(list, zip(*texts, strict=True))
        said = split.decoded(greedy(source))
        about = {"source": sources, "reference": references, "said": said}
        curves.append({"arm": arm, "seed": seed, **{key: kept[:shown] for key, kept in about.items()}})
        if split not in baselines:  # arms of a seed have the same
            baselines.clear()
            baselines[split] = _of_baselines(split.texts_train, sources, references)
        own, others = scores(said, references), baselines[split]
        return {**own, **others, **_differences(own, others)}

    return {"rows": rows_of(run, arms, seeds, KEYS, measure), "curves": curves}


def _of_baselines(pairs, sources, references):
    found = {name: scores(say(pairs, sources), references) for name, say in BASELINES.items()}
    return {f"{score}_{name}": found[name][score] for name in found for score in POINTS}


def _differences(own, others):
    return {
        f"{score}_over_{name}": own[score] - others[f"{score}_{name}"]
        for name in BASELINES
        for score in POINTS
    }


def scores(said, references):
    """BLEU, chrF and the ratio of lengths of a list of texts against one reference each, a dict of floats.

    Example:
        >>> scores(["y dijo dios: sea la luz."], ["y dijo dios: sea la luz."])["test_bleu"]
        100.0
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise ConfigError(
            "Translations are scored by sacrebleu, which is not installed. Type  pip install 'tf_lbgap[text]'"
        ) from error
    words = [sum(len(text.split()) for text in texts) for texts in (said, references)]
    values = (
        sacrebleu.corpus_bleu(said, [references]).score,
        sacrebleu.corpus_chrf(said, [references]).score,
        words[0] / words[1],
    )
    return {key: round(float(value), 10) for key, value in zip(SCORES, values, strict=True)}


def _translations(run, arm, seed):
    split = run.split(arm, seed)
    if not hasattr(split, "texts_test"):
        raise ConfigError(
            f"arm {arm}: data: {split.name} are no translations. Use  data: {{call: data.translations.verses}}."
        )
    return split

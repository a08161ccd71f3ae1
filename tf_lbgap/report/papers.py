"""All papers in one table, `docs/papers.md`: what each claims, our verdict or why there is none, the file, the time; and which scales what.

A file of `configs/` has a main paper, whose primary claim has a line here, under the paper's own rule. A claim with `paper:` is that of
another one, and has a line too. The page is made from `results.json` and nothing else.
"""

from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.markdown import escaped, link, table
from tf_lbgap.report.paper_results import claims_of, experiments_of, seconds_of, setting_of

GALLERY = "gallery.md"
_FEATURES = {"scales": "what scales", "rule": "by which rule", "models": "model", "data": "data", "measures": "measured"}  # fmt: skip
_INTRODUCTION = (
    "What the literature claims of large batches, and what small networks on two cores say of it. Each line is a claim with a verdict by a criterion "
    "that stood in the file beforehand, and by the paper's own way of comparing; all claims of a file, its intervals and its figures are in [the "
    "gallery](gallery.md), what the verdicts cannot tell in [limitations](limitations.md). NOT RUN: two cores cannot tell, for the reason given. "
    "Core time is that of the whole file."
)


def papers(all_results):
    """Return the page, a text.

    Args:
        all_results: Contents of `results.json`, one for each file, in the order in which they are shown.
    """
    lines = [line for results in all_results for line in _lines(results)]
    headings = [
        "paper",
        "claim",
        "equal",
        "claimed",
        "seen<br>(95 % interval)",
        "verdict",
        "file",
        "core time",
    ]
    parts = ["# Papers", _INTRODUCTION, table(headings, lines, numeric=(4,))]
    return "\n\n".join([*parts, "## Which paper scales what", _features(all_results)]) + "\n"


def _lines(results):
    """Yield the lines of a file: its primary claim, then those of other papers."""
    claims = claims_of(results)
    own = [claim for claim in claims if claim.get("primary")]
    main = next((claim for claim in own if claim.get("own")), next(iter(own), None))
    if main is not None:
        yield _line(results, main, results.get("paper") or "", numbers.duration(seconds_of(results)[0]))
    for claim in claims:
        if claim.get("paper"):
            yield _line(results, claim, claim["paper"], "")


def _line(results, claim, paper, time):
    reason = f"<br>{escaped(claim['seen'])}" if claim["verdict"] == "NOT RUN" else ""
    return [
        escaped(paper),
        escaped(claim["says"]) + reason,
        claim.get("rule") or numbers.UNKNOWN,
        escaped(claim.get("claimed") or numbers.UNKNOWN),
        escaped(numbers.estimate(claim)).replace(" (", "<br>("),
        claim["verdict"],
        link(results["name"], GALLERY),
        time,
    ]


def _features(all_results):
    lines = []
    for results in all_results:
        told = {**_known_features(results), **(results.get("features") or {})}
        cells = [escaped(str(told.get(key) or numbers.UNKNOWN)) for key in _FEATURES]
        lines.append([link(results["name"], GALLERY), *cells])
    return table(["file", *_FEATURES.values()], lines)


def _known_features(results):
    """Return what the experiments tell, where the paper's file does not say it in words."""
    behind = experiments_of(results, None)
    return {
        "models": setting_of(results, behind, "model"),
        "data": setting_of(results, behind, "data"),
        "rule": ", ".join(dict.fromkeys(results["experiments"][n].get("equal") or "" for n in behind)),
    }

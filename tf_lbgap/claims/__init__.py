"""What may be said about arms, given results of several seeds: comparisons, margins, and claims with verdicts.

`compare` says which arms differ, `non_inferiority` and `equivalence` hold them against a margin. A paper's claim is
a `Claim`: a sentence, a statistic of the results of one seed (`ratio`, `difference`, `slope`, ...) and the values that it
may have for the sentence to hold; `judge` gives each claim of a paper its verdict.
"""

from tf_lbgap.claims.chances import power_of
from tf_lbgap.claims.claim import Claim, Verdict, judge, not_run
from tf_lbgap.claims.comparisons import COSTS, LEVEL, QUANTITIES, Summary, compare, holm, summarize
from tf_lbgap.claims.interactions import difference_of_differences, ratio_of_ratios
from tf_lbgap.claims.margins import equivalence, non_inferiority, power
from tf_lbgap.claims.statistics import (
    Missing,
    Statistic,
    bend,
    closer_correlation,
    correlation,
    critical_batch,
    difference,
    optimum_slope,
    quotient,
    ratio,
    slope,
    spread,
    value,
)

__all__ = [
    "COSTS",
    "LEVEL",
    "QUANTITIES",
    "Claim",
    "Missing",
    "Statistic",
    "Summary",
    "Verdict",
    "bend",
    "closer_correlation",
    "compare",
    "correlation",
    "critical_batch",
    "difference",
    "difference_of_differences",
    "equivalence",
    "holm",
    "judge",
    "non_inferiority",
    "not_run",
    "optimum_slope",
    "power",
    "power_of",
    "quotient",
    "ratio",
    "ratio_of_ratios",
    "slope",
    "spread",
    "summarize",
    "value",
]

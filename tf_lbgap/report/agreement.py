"""Whether the same claims get the same verdicts with other seeds."""

NOT_RUN = "NOT RUN"


def agreement(all_results, second):
    """Return sentences that compare verdicts and intervals of two seed sets, and (paper, claim, rule, verdict, verdict) where they differ.

    Args:
        all_results, second: Contents of `results.json`, of the same papers or some of them.
    """
    pairs = list(_pairs(all_results, second))
    if not pairs:
        return "No claim was tested with two seed sets.", []
    differ = [
        (*place, one["verdict"], other["verdict"]) for place, one, other in pairs if not _same(one, other)
    ]
    opposite = sum(set(each[-2:]) == {"PASS", "FAIL"} for each in differ)
    measured = [(one, other) for _, one, other in pairs if _has_interval(one) and _has_interval(other)]
    overlapping = sum(_overlap(one["interval"], other["interval"]) for one, other in measured)
    told = (
        f"Of {len(pairs)} tests, each of a claim under a rule, made with both seed sets {len(pairs) - len(differ)} have the same verdict, "
        f"{len(differ) - opposite} are INCONCLUSIVE in one of them, and {opposite} PASS in one and FAIL in the other. "
        f"The two 95 % intervals overlap for {overlapping} of {len(measured)}."
    )
    return told, differ


def _pairs(all_results, second):
    others = {(results["name"], *key): claim for results in second for key, claim in _tested(results)}
    for results in all_results:
        for key, claim in _tested(results):
            place = (results["name"], *key)
            if place in others:
                yield place, claim, others[place]


def _tested(results):
    for claim in results.get("claims") or ():
        has_seeds = claim.get("num_seeds") != 0  # without any there was nothing to test
        if claim["verdict"] != NOT_RUN and has_seeds:
            yield (claim["name"], claim.get("rule")), claim


def _same(one, other):
    return one["verdict"] == other["verdict"]


def _has_interval(claim):
    return None not in (claim.get("interval") or [None])


def _overlap(one, other):
    return one[0] <= other[1] and other[0] <= one[1]

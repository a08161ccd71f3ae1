"""What so many seeds can show, before the run."""

from tf_lbgap import claims


def expected(paper):
    """Return a dict per claim that is to be tested: `says, rule, claimed, kind, expected, deviation, num_seeds, power`.

    `power` is None where the file does not say what is expected. Correction for shared examples is known after the run only, and
    not in it.
    """
    tested = [each for each in paper.claims if not each.not_run]
    return [_expected(paper, each, len(tested)) for each in tested]


def _expected(paper, testable, num_claims):
    claim = testable.claim
    num_seeds = min(_num_seeds(paper, place) for place in testable.places)
    return {
        "name": claim.name,
        "says": claim.says,
        "rule": claim.rule,
        "claimed": claim.claimed,
        "kind": claim.statistic.kind,
        "expected": claim.expected if claim.own else None,  # seen under the paper's own rule
        "deviation": claim.deviation if claim.own else None,
        "num_seeds": num_seeds,
        "power": claims.power_of(claim, num_seeds, num_claims=num_claims) if claim.own else None,
    }


def _num_seeds(paper, place):
    """Return the seeds of an experiment, or of a study, which may have fewer than what it measures; a simulation has the file's."""
    if place in paper.experiments:
        return paper.experiments[place].seeds
    study = paper.studies[place]
    behind = [paper.experiments[name].seeds for name in study["in"]] or [len(paper.seeds)]
    return min(*behind, study.get("seeds") or behind[0])

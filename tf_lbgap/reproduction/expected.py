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
    seeds = [paper.experiments[name].seeds for name in _experiments(paper, testable.places)]
    num_seeds = min(seeds, default=len(paper.seeds))
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


def _experiments(paper, places):
    """Yield the experiments that places are of; a study is of one, a simulation of none."""
    for place in places:
        yield from (place,) if place in paper.experiments else paper.studies[place]["in"]

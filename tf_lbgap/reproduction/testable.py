"""The claims of a paper's file: what each says, between which bounds its statistic has to lie, and where its rows come from."""

import dataclasses

from tf_lbgap.claims import Claim, Statistic
from tf_lbgap.experiment.calls import ConfigError, is_call, make, mistakes
from tf_lbgap.experiment.checks import check_keys, mapping, text
from tf_lbgap.experiment.config import EQUAL

CLAIM_KEYS = (
    "says",
    "source",
    "in",
    "statistic",
    "above",
    "below",
    "within",
    "expected",
    "deviation",
    "not_run",
    "paper",
)


@dataclasses.dataclass(frozen=True)
class Testable:
    """A claim and where its rows come from."""

    claim: Claim
    places: tuple  # names of experiments and studies; rows of one arm and seed are joined
    not_run: str = ""  # why nobody tests it here


def claims_of(content, names, own_rule):
    claims, primary = mapping(content, "claims"), content["primary"]
    for name in sorted(claims, key=lambda name: name != primary):
        settings, where = claims[name], f"claims: {name}"
        if not isinstance(settings, dict):
            raise ConfigError(f"{where}: must hold says, in, statistic and a bound, not {settings!r}.")
        check_keys(settings, CLAIM_KEYS, where)
        if settings.get("not_run") is not None:
            yield _not_run(name, settings, where, primary)
            continue
        for rule in EQUAL if name == primary and own_rule else (None,):
            places = names.resolved(settings, where, rule)["in"]
            if not places:
                raise ConfigError(f"{where}: in: must name an experiment or a study, or a list of them.")
            claim = _claim(name, settings, where)
            claim = dataclasses.replace(
                claim,
                primary=name == primary,
                rule=rule or ", ".join(equal for equal in EQUAL if equal in names.equal(places)),
                own=rule in (None, own_rule),
            )
            yield Testable(claim, places, names.reason(places))


def _not_run(name, settings, where, primary):
    """Return a claim that this scale cannot tell, for the reason that stands in it; another scale may say `not_run: null`."""
    claim = Claim(**_words(name, settings, where), primary=name == primary)
    return Testable(claim, (), text(settings["not_run"], f"{where}: not_run"))


def _words(name, settings, where):
    told = {key: str(settings.get(key, "")) for key in ("source", "paper")}
    return {"name": name, "says": text(settings.get("says"), f"{where}: says"), **told}


def _claim(name, settings, where):
    if not is_call(settings.get("statistic")):
        raise ConfigError(
            f"{where}: statistic: must be a call, such as  {{call: claims.ratio, of: updates, ...}}."
        )
    with mistakes(f"{where}: statistic"):
        statistic = make(settings["statistic"])
    if not isinstance(statistic, Statistic):
        raise ConfigError(f"{where}: statistic: {settings['statistic']['call']} gave no Statistic.")
    low, high = _bounds(settings, where)
    return Claim(
        **_words(name, settings, where),
        statistic=statistic,
        low=low,
        high=high,
        expected=_number(settings.get("expected"), f"{where}: expected"),
        deviation=_number(settings.get("deviation"), f"{where}: deviation"),
    )


def _bounds(settings, where):
    given = [key for key in ("above", "below", "within") if key in settings]
    if len(given) != 1:
        raise ConfigError(f"{where}: needs one of above, below and within, not {len(given)} of them.")
    value = settings[given[0]]
    if given == ["within"]:
        if not isinstance(value, list) or len(value) != 2:
            raise ConfigError(f"{where}: within: {value!r} must be two numbers, such as [0.8, 1.25].")
        low, high = (_number(number, f"{where}: within") for number in value)
        if not low < high:
            raise ConfigError(f"{where}: within: {value!r} must rise.")
        return low, high
    bound = _number(value, f"{where}: {given[0]}")
    return (bound, None) if given == ["above"] else (None, bound)


def _number(value, where):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where}: {value!r} must be a number.")
    return float(value)

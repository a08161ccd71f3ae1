"""Captions of a reproduction's figures: what is seen, of which model, data and seeds, on which device, and what the bars are."""

from tf_lbgap.report import paper_figures
from tf_lbgap.report import paper_numbers as numbers
from tf_lbgap.report.paper_results import (
    arms_of,
    curves_of,
    environment_text,
    experiments_of,
    places_of,
    seeds_of,
    setting_of,
)

_MEANS = "Means over seeds; bars are 95 % intervals by Student's t."
_SHOWN = {
    "claims": (
        "Each claim: what was claimed (shaded), the estimate with its 95 % interval, seeds as faint ticks, and the verdict. Ratios are "
        "on a log axis. Verdicts are corrected for the number of claims, intervals are not."
    ),
    "against": _MEANS,
    "arms": _MEANS,
    "lines": "Thin lines are seeds, thick ones medians over them; there are no intervals.",
    "evolution": (
        "Thin lines are seeds, thick ones geometric means over them where at least half of the seeds are; there are no intervals."
    ),
}


def caption_of(results, figure):
    """Return the caption of a figure, with what it needs to stand alone.

    Args:
        results: Content of a reproduction's `results.json`.
        figure: A name in `paper_figures.figures_of(results)`.
    """
    call = paper_figures.figures_of(results)[figure]
    module, _, kind = str(call["call"]).rpartition(".")
    shown = _SHOWN.get(kind, "") if module == "report.paper_figures" else ""
    told = subject(results, places_of(call.get("in")), _chosen(call))
    return " ".join(filter(None, [call.get("caption", ""), shown, told]))


def _chosen(call):
    """Return the names of the arms that a figure's call lists, none where it shows all there are."""
    series = call.get("series")
    lists = [call.get("arms") or (), *(series.values() if isinstance(series, dict) else ())]
    return {name for names in lists for name in places_of(names)}


def subject(results, places=(), chosen=()):
    """Return a sentence that names model, data, optimizer, seeds, arms, device and scale.

    Args:
        results: Content of a reproduction's `results.json`.
        places: Names of experiments and studies; none: all of them.
        chosen: Names of the arms that are shown; none: all of them.
    """
    behind = experiments_of(results, places)
    arms = _arms(results, list(places) or behind)
    shown = len(arms & set(chosen)) or len(arms)
    facts = {
        "Model": setting_of(results, behind, "model"),
        "data": setting_of(results, behind, "data"),
        "optimizer": setting_of(results, behind, "optimizer"),
        "seeds": _seeds(results, places, behind),
        "arms": f"{shown} of {len(arms)}" if shown < len(arms) else str(shown or ""),
        "device": environment_text(results),
        "scale": str(results.get("scale") or ""),
    }
    return "; ".join(f"{name}: {value}" for name, value in facts.items() if value) + "."


def _seeds(results, places, behind):
    """Return the seeds that are shown, in words: a study may have fewer than the experiment behind it, and experiments may differ."""
    studied = [name for name in places if name in results.get("studies", {})]
    own = [
        row["seed"] for name in studied for row in results["studies"][name].get("rows") or () if "seed" in row
    ]
    if own or not behind:
        return numbers.seeds(own or seeds_of(results, behind))
    told = dict.fromkeys(numbers.seeds(seeds_of(results, [name])) for name in behind)
    return " / ".join(told) if len(told) <= 2 else numbers.seeds(seeds_of(results, behind))


def _arms(results, places):
    """Return the names of the arms shown: of a path between two, `small to large`, both."""
    studied = [name for name in places if name in results.get("studies", {})]
    found = {*arms_of(results, places), *(curve["arm"] for curve in curves_of(results, studied))}
    known = {arm for name in experiments_of(results, places) for arm in results["experiments"][name]["arms"]}
    return {end for arm in found for end in ([arm] if arm in known else arm.split(" to "))}

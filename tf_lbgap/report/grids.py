"""What a run shows, as grids of text: arms, their differences from the reference, measures; and one sentence.

A grid is drawn in the terminal (`tables`), in HTML (`page`) and in LaTeX (`latex`), so that they say the same.
"""

import dataclasses
import math

from tf_lbgap.claims import COSTS, LEVEL, QUANTITIES, compare, non_inferiority, summarize

_COLUMNS = (  # key in results.json, title, scale, decimals
    ("test_accuracy", "test\naccuracy %", 100.0, 2),
    ("test_loss", "test\nloss", 1.0, 3),
    ("top_eigenvalue", "top\neigenvalue", 1.0, 2),
    ("updates", "\nupdates", 1.0, 0),
    ("examples", "\nexamples", 1.0, 0),
    ("seconds", "\nseconds", 1.0, 1),
)
_WITHOUT_ERROR = ("examples",)  # to fit 80 columns; results.json has every seed

_EQUAL = {
    "loss": "At equal training loss",
    "epochs": "After equal epochs",
    "updates": "After equal updates",
    "seconds": "After equal seconds",
    "tuned": "With the learning rate tuned for each arm",
}


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of text; cells and headings may hold several lines.

    The first column names the rows, the others hold numbers.
    """

    name: str  # what it is, as a file is called
    title: str
    columns: tuple  # headings
    rows: tuple  # of tuples, as long as columns
    caption: str | None = None


def results_grid(experiment, rows):
    """Return a line per arm, mean ± standard error over seeds."""
    columns = [column for column in _COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    lines = []
    for arm in experiment.arms:
        own = [row for row in rows if row["arm"] == arm]
        cells = [
            _cell(summarize([row.get(key) for row in own]), scale, decimals, key not in _WITHOUT_ERROR)
            for key, _, scale, decimals in columns
        ]
        diverged = sum(row.get("train_loss") is None for row in own)
        missed = sum(not row.get("reached", True) for row in own) - diverged
        unsure = sum(row.get("top_eigenvalue_converged") is False for row in own)
        marks = f"\ndiverged: {diverged}" if diverged else ""
        marks += f"\nmissed the target: {missed}" if missed else ""
        marks += (
            "\nbest rate at the edge of those tried"
            if any(r.get("learning_rate_at_edge") for r in own)
            else ""
        )
        marks += f"\neigenvalue not converged: {unsure}" if unsure else ""
        lines.append((arm + marks, *cells))
    return Grid(
        "results",
        f"{experiment.name}: mean ± standard error over {_seeds(experiment.seeds)}",
        ("\narm", *(title for _, title, *_ in columns)),
        tuple(lines),
        _losses(experiment, rows),
    )


def measures_grid(experiment, rows, names):
    """Return a line per measure, a column per arm, mean ± standard error over seeds."""
    row = rows[0]
    on = f"{row['examples']} training examples"
    if row["subsets"] > 1:
        on += f", {row['subsets']} disjoint subsets of them; in brackets the spread between subsets"
    arms = [arm for arm in experiment.arms if any(row["arm"] == arm for row in rows)]
    lines = []
    for name in names:
        cells = []
        for arm in arms:
            own = [row for row in rows if row["arm"] == arm]
            summary = summarize([row[name] for row in own])
            spread = summarize([row.get(f"{name}_spread") for row in own])
            cell = f"{summary.mean:.4g}" if summary.num_seeds else "-"
            if math.isfinite(summary.standard_error):
                cell += f"\n±{summary.standard_error:.2g}"
            cells.append(cell + (f"\n({spread.mean:.2g})" if spread.num_seeds else ""))
        lines.append((name, *cells))
    return Grid(
        "measures",
        f"{experiment.name}: mean ± standard error over {_seeds(experiment.seeds)}",
        ("measure", *arms),
        tuple(lines),
        f"On {on}.",
    )


def differences_grid(experiment, rows):
    """Return paired differences from the reference arm, or None if there are none."""
    comparisons = compare(rows, experiment.reference)
    if not comparisons:
        return None
    found = {(c.arm, c.quantity): c for c in comparisons}
    lines = tuple(
        (arm, *(_difference(found.get((arm, q.key)), q) for q in QUANTITIES))
        for arm in dict.fromkeys(c.arm for c in comparisons)
    )
    return Grid(
        "differences",
        f"difference from {experiment.reference}, paired by seed (95 % interval)",
        ("arm", *(quantity.title for quantity in QUANTITIES)),
        lines,
        f"Significant: p < {LEVEL} in a paired t test, Holm-corrected for {len(comparisons)} comparisons.",
    )


def margin_grid(experiment, rows):
    """Return which arms are worse by less than the experiment's margin, with their costs; None without a margin."""
    margin = getattr(experiment, "margin", None)
    tests = non_inferiority(rows, experiment.reference, margin / 100) if margin is not None else []
    if not tests:
        return None
    ratios = {(c.arm, c.quantity): c for c in compare(rows, experiment.reference, COSTS)}
    lines = tuple(
        (
            test.arm,
            _points(test.difference),
            _points(test.lower),
            f"{test.verdict}{_seeds_to_decide(test)}",
            *(_ratio(ratios.get((test.arm, quantity.key))) for quantity in COSTS),
        )
        for test in tests
    )
    noted = {}
    for test in tests:
        if test.note:
            noted.setdefault(test.note, []).append(test.arm)
    notes = [f"{', '.join(arms)}: {note}." for note, arms in noted.items()]
    return Grid(
        "margin",
        f"test accuracy against {experiment.reference}, with a margin of {margin:g} points",
        ("\narm", "difference\n(points)", "lower\nbound", "\nverdict", "\nupdates", "\nseconds"),
        lines,
        " ".join(
            [
                "PASS: the one-sided 95 % bound, paired by seed, is above the negative margin; FAIL: the difference is "
                "significantly below it. Each arm is tested at 5 %. Updates and seconds: geometric mean of the ratios to "
                f"{experiment.reference} (95 % interval).",
                *notes,
            ]
        ),
    )


def _points(share):
    return f"{100 * share:+.2f}" if math.isfinite(share) else "-"


def _seeds_to_decide(test):
    """An experiment that is too small to decide says how large it would have to be."""
    needed = test.seeds_needed
    if test.verdict != "INCONCLUSIVE" or needed is None or needed <= test.num_seeds:
        return ""
    return f"\n({needed} seeds for 80 % power)"


def _ratio(comparison):
    if comparison is None:
        return "-"
    amount, *interval = (f"{value:.3g}" for value in (comparison.difference, *comparison.interval))
    return f"x {amount}" + ("\n({} to {})".format(*interval) if {*interval} != {amount} else "")


def sentence(experiment, rows):
    """Return what the comparisons show, in one sentence that says no more than they do."""
    parts = []
    comparisons = compare(rows, experiment.reference)
    for quantity in QUANTITIES:
        own = [c for c in comparisons if c.quantity == quantity.key]
        if not own:
            continue
        told = [f"{c.arm} {_direction(c, quantity)} ({_amount(c, quantity)})" for c in own if c.significant]
        same = [c.arm for c in own if not c.significant]
        if same:
            told.append(f"no significant difference for {_listed(same)}")
        parts.append(f"{quantity.title}: {', '.join(told)}")
    if not parts:
        return "Too few seeds finished in both arms to compare anything; run at least two."
    return f"{_EQUAL[experiment.equal]}, against {experiment.reference}: {'; '.join(parts)}."


def _direction(comparison, quantity):
    neutral = 1.0 if quantity.ratio else 0.0
    return quantity.more if comparison.difference > neutral else quantity.less


def _difference(comparison, quantity):
    if comparison is None:
        return "-"
    low, high = (_number(v, quantity) for v in comparison.interval)
    amount = f"{_amount(comparison, quantity)}\n({low} to {high})"
    return amount if comparison.significant else f"{amount}\nno significant difference"


def _amount(comparison, quantity):
    number = _number(comparison.difference, quantity)
    return f"x {number}" if quantity.ratio else f"{number} {quantity.unit.replace('%', 'points')}".strip()


def _number(value, quantity):
    return f"{value:.2f}" if quantity.ratio else f"{value * quantity.scale:+.{2 if quantity.unit else 4}f}"


def _losses(experiment, rows):
    """Name the clean training loss that each arm ended with: arms at unequal loss are not comparable."""
    told = []
    for arm in experiment.arms:
        summary = summarize([row["train_loss"] for row in rows if row["arm"] == arm])
        told += [f"{arm} {summary.mean:.4f}"] if summary.num_seeds else []
    return f"Clean training loss reached: {', '.join(told)}." if told else None


def _cell(summary, scale, decimals, with_error):
    if not summary.num_seeds:
        return "-"
    mean, error = summary.mean * scale, summary.standard_error * scale
    decimals = 0 if abs(mean) >= 100 else decimals
    if math.isnan(error) or not with_error:
        return f"{mean:,.{decimals}f}"
    return f"{mean:,.{decimals}f}±{error:,.{decimals}f}"


def _seeds(count):
    return "1 seed" if count == 1 else f"{count} seeds"


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

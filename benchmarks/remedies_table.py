"""Prints a run of configs/remedies.yaml, remedies_equal_loss.yaml or recipe.yaml as the table of docs/remedies.md.

lbgap run configs/remedies.yaml --jobs 2
python benchmarks/remedies_table.py runs/remedies
"""

import json
import pathlib
import statistics
import sys

import yaml
from scipy import stats

_COLUMNS = {
    "test accuracy %": ("test_accuracy", 100, ".2f"),
    "test loss": ("test_loss", 1, ".3f"),
    "train loss": ("train_loss", 1, ".3f"),
    "top eigenvalue": ("top_eigenvalue", 1, ".1f"),
    "sharpness": ("sharpness", 1, ".1f"),
    "under FGSM 0.02, %": ("robust_accuracy_fgsm_0.02", 100, ".1f"),
    "updates": ("updates", 1, ",.0f"),
    "epochs": ("epochs", 1, ".3g"),
    "CPU s": ("seconds_cpu", 1, ".3g"),
}
_WITH_ERROR = ("test accuracy %", "top eigenvalue", "sharpness")


def main():
    run = pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else "")
    if not (run / "results.json").is_file():
        sys.exit(
            f"There is no run {str(run)!r}. Pass the directory that lbgap run printed, such as runs/remedies."
        )
    rows = json.loads((run / "results.json").read_text())["runs"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    columns = [name for name, (key, *_) in _COLUMNS.items() if key in rows[0]]
    print("| arm |", " | ".join([columns[0], "difference (95 %)", *columns[1:]]), "|")
    print("|---" * (len(columns) + 2) + "|")
    reference = by_seed(rows, config["reference"])
    for arm in config["arms"]:
        ours = by_seed(rows, arm)
        cells = [cell(name, ours.values()) for name in columns]
        cells.insert(1, difference(ours, reference) if arm != config["reference"] else "")
        missed = sum(not row["reached"] for row in ours.values())
        note = f" ({missed} of {len(ours)} never reached it)" if missed else ""
        print(f"| `{arm}`{note} |", " | ".join(cells), "|")


def by_seed(rows, arm):
    return {row["seed"]: row for row in rows if row["arm"] == arm}


def cell(name, rows):
    key, factor, form = _COLUMNS[name]
    values = [factor * row[key] for row in rows if row.get(key) is not None]
    if not values:
        return ""
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):{form}}" + (f"±{error:{form}}" if name in _WITH_ERROR else "")


def difference(ours, theirs):
    """Points of accuracy, paired by seed, with an interval that is not corrected for the number of arms."""
    pairs = [100 * (row["test_accuracy"] - theirs[seed]["test_accuracy"]) for seed, row in ours.items()]
    mean, error = statistics.fmean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5
    half = float(stats.t.ppf(0.975, len(pairs) - 1)) * error
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


if __name__ == "__main__":
    main()

"""A measured advice as tables of the terminal, within 80 columns."""

from rich import box
from rich.table import Table


def speeds_table(advice):
    """Return a rich table of what an update of each size takes."""
    table = _table("an update, as fit makes it", ("batch", "ms", "95 %", "examples/s", "MiB"))
    for row in advice.sizes:
        table.add_row(
            f"{row.batch_size:,}",
            _short(1e3 * row.seconds_per_update),
            f"{_short(1e3 * row.seconds_low)} to {_short(1e3 * row.seconds_high)}",
            f"{row.examples_per_second:,.0f}",
            "-" if row.bytes is None else f"{row.bytes / 2**20:,.0f}",
        )
    return table


def races_table(advice):
    """Return a rich table of updates and seconds to the goal, predicted and raced; the advised size has a star."""
    columns = ("batch", "updates", "seconds", "raced: updates", "seconds", "seeds", "rate x")
    table = _table(f"to a loss of {_short(advice.goal_loss)}", columns)
    table.caption = (
        "predicted by the noise scale at the rule's rate; raced at the fastest rate, over your own"
    )
    for row in advice.sizes:
        table.add_row(
            f"{row.batch_size:,}{' *' if row.batch_size == advice.batch_size else ''}",
            _whole(row.predicted_updates),
            _short(row.predicted_seconds),
            _whole(row.raced_updates),
            _short(row.raced_seconds),
            str(row.raced_seeds or "-"),
            _short(row.rate_factor),
        )
    return table


def _table(title, columns):
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _whole(number):
    return "-" if number is None else f"{number:,.0f}"


def _short(number):
    return "-" if number is None else f"{number:.3g}"

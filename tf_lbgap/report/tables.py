"""Grids in the terminal, within 80 columns."""

from rich import box
from rich.table import Table


def rich_table(grid, whole=None):
    """Return a rich table of a grid.

    Args:
        grid: A `grids.Grid`.
        whole: What must not be wrapped, if anything: "names", the first column, or "numbers", the others.
    """
    table = Table(
        title=grid.title, caption=grid.caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    first, *others = grid.columns
    table.add_column(first, overflow="fold", no_wrap=whole == "names")
    for title in others:
        table.add_column(title, justify="right", no_wrap=whole == "numbers")
    for row in grid.rows:
        table.add_row(*row)
    return table

"""A progress bar per arm and seed, on a terminal; a line for each that finished, elsewhere."""

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bars:
    """Listens to a run. A context manager.

    Args:
        console: A `rich.console.Console`.
        quiet: Whether to say nothing.
    """

    def __init__(self, console, *, quiet=False):
        self._console, self._quiet = console, quiet
        self._live = console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.fields[arm]} {task.fields[seed]}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not self._live,
        )
        self._bars = {}

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *exception):
        self._progress.stop()

    def started(self, arm, seed):
        self._bar(arm, seed)

    def advanced(self, arm, seed, fraction, text):
        self._progress.update(self._bar(arm, seed), completed=fraction, description=text)

    def finished(self, arm, seed, row, trained):
        text = f"{row['updates']:,} updates, train loss {_short(row['train_loss'])}, "
        text += f"test accuracy {_short(row['test_accuracy'])}"
        if not row.get("reached", True):
            text += ", diverged" if row["train_loss"] is None else ", missed the target"
        text += "" if trained else ", finished before"
        self._progress.update(self._bar(arm, seed), completed=1.0, description=text)
        if not self._live and not self._quiet:
            seconds = f" in {row['seconds']:.1f} s" if trained else ""
            self._console.print(f"{arm} seed {seed}: {text}{seconds}", soft_wrap=True, markup=False)

    def _bar(self, arm, seed):
        if (arm, seed) not in self._bars:
            self._bars[arm, seed] = self._progress.add_task("", total=1.0, arm=arm, seed=f"seed {seed}")
        return self._bars[arm, seed]


def _short(value):
    return "-" if value is None else f"{value:.4f}"

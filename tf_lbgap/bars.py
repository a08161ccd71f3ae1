"""Progress of runs and of searches: bars on a terminal, and lines."""

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bars:
    """Listens to a run: a bar per arm and seed on a terminal, elsewhere a line for each that finished. A context manager.

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

    def remove(self, arm, seed):
        """Take a bar away."""
        if (arm, seed) in self._bars:
            self._progress.remove_task(self._bars.pop((arm, seed)))

    def _bar(self, arm, seed):
        if (arm, seed) not in self._bars:
            self._bars[arm, seed] = self._progress.add_task(
                "", total=1.0, arm=arm, seed=f"seed {seed}" if isinstance(seed, int) else seed
            )
        return self._bars[arm, seed]


class _WithLines:
    """Bars of what is under way, and lines of what ended. A context manager."""

    def __init__(self, console, quiet):
        self._console, self._quiet = console, quiet
        self._bars = Bars(console, quiet=quiet)

    def __enter__(self):
        self._bars.__enter__()
        return self

    def __exit__(self, *exception):
        self._bars.__exit__(*exception)

    def _say(self, text):
        if not self._quiet:
            self._console.print(text, soft_wrap=True, markup=False)


class TrialBars(_WithLines):
    """Listens to a search: a bar for the trials, one for each seed that is trained, a line for each trial that ended.

    Args:
        console: A `rich.console.Console`.
        quiet: Whether to say nothing.
    """

    def __init__(self, console, *, quiet=False):
        super().__init__(console, quiet)
        self._open, self._ended, self._of = {}, 0, None

    def began(self, search, num_train):
        self._say(
            f"{search.name}: {search.seeds} seeds a trial, {num_train:,} training examples, {search.tuner['name']}"
        )
        if search.tuner["name"] == "grid" and search.num_trials < search.num_combinations:
            self._say(f"max_trials: the first {search.num_trials} of {search.num_combinations} combinations")
        self._title, self._of = search.objective.replace("_", " "), search.num_trials

    def started(self, trial, seed):
        self._bars.started(trial, seed)
        self._open.setdefault(trial, set()).add(seed)

    def advanced(self, trial, seed, fraction, text):
        self._bars.advanced(trial, seed, fraction, text)

    def ended(self, found, is_new):
        self._ended += 1
        for seed in self._open.pop(found["trial"], ()):
            self._bars.remove(found["trial"], seed)
        values = ", ".join(f"{name} {_text(value)}" for name, value in found["values"].items())
        of = f"/{self._of}" if self._of else ""
        seconds = f" in {found['seconds']:.1f} s" if is_new else ", finished before"
        self._say(f"{self._ended}{of} trial {found['trial']}: {values}: {self._outcome(found)}{seconds}")

    def winners(self, experiment):
        self._say(f"training anew on {experiment.seeds} fresh seeds: {', '.join(experiment.arms)}")
        return self._bars

    def _outcome(self, found):
        if found["score"] is None:
            return f"{found['status']} ({found['message']})"
        deviation = found["score_deviation"]
        return f"{self._title} {found['score']:.4g}" + (
            "" if deviation is None else f" (deviation {deviation:.2g})"
        )


class PieceBars(_WithLines):
    """Listens to reproductions: a bar for each piece that is under way, a line for each that ended.

    Args:
        console: A `rich.console.Console`.
        quiet: Whether to say nothing.
    """

    def __init__(self, console, *, quiet=False):
        super().__init__(console, quiet)
        self._of, self._ended = {}, {}

    def began(self, paper, num_pieces):
        self._of[paper.name], self._ended[paper.name] = num_pieces, 0

    def started(self, paper, piece):
        self._bars.started(paper, piece)

    def advanced(self, paper, piece, fraction, text):
        self._bars.advanced(paper, piece, fraction, text)

    def ended(self, paper, piece, failure):
        self._bars.remove(paper.name, piece)
        self._ended[paper.name] += 1
        outcome = f"failed: {failure}" if failure else "done"
        self._say(f"{paper.name} {self._ended[paper.name]}/{self._of[paper.name]} {piece}: {outcome}")


def _text(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(value):
    return "-" if value is None else f"{value:.4f}"

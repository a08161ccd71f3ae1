"""`lbgap advise CONFIG --branched 0,1,5`: the critical batch size by branched training, as a table that grows."""

import math

from rich import box
from rich.table import Table

from tf_lbgap import experiment
from tf_lbgap.advice.comparison import arm_of

NOTE = (
    "critical: the largest batch that loses nothing against smaller ones, trained on the same examples (Merrill et al. 2025); excess: "
    "by how much the next one's loss is above the best of smaller ones. noise scale: tr(Σ) / |G|² at the same moment (95 %)."
)


def run(options, console):
    """Train an arm, measure its branches after so many epochs each, print a table, and return the exit code.

    Args:
        options: Of the command line.
        console: A rich console.

    Raises:
        ConfigError: If the file or the arm is wrong.
    """
    loaded = experiment.load(options.config, options.overrides)
    arm = loaded.arms[arm_of(loaded, options)]
    from tf_lbgap.experiment.quiet import import_tensorflow

    import_tensorflow()
    from tf_lbgap.pilot.configured import branches_of_arm

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=NOTE)
    for title in ("epochs", "loss", "sizes run", "critical", "up to", "excess", "noise scale"):
        table.add_column(title, justify="right", no_wrap=True)
    with console.status("") as status:

        def tell(text):
            if console.is_terminal and not options.quiet:
                status.update(text)

        for epochs, found, noise in branches_of_arm(arm, options.branched, tell=tell):
            table.add_row(*_row(epochs, found, noise))
    console.print(table)
    return 0


def _row(epochs, found, noise):
    sizes = found.batch_sizes
    after = sizes.index(found.value) + 1
    excess, error = (
        (found.excess[after], found.excess_error[after]) if after < len(sizes) else (math.nan, math.nan)
    )
    return (
        f"{epochs}",
        f"{found.start_loss:.3g}",
        f"{sizes[0]:,} to {sizes[-1]:,}",
        f"{found.value:,}",
        f"{found.interval[1]:,.0f}" if math.isfinite(found.interval[1]) else "not seen",
        f"{excess:.2g}±{error:.1g}" if math.isfinite(excess) else "-" if math.isnan(excess) else "diverged",
        f"{noise.noise_scale:,.0f} ({noise.low:,.0f} to {noise.high:,.0f})" if noise else "-",
    )

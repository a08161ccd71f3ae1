"""What a search shows, as figures beside its results."""

import os
import pathlib

from tf_lbgap.report import drawing
from tf_lbgap.report.search_figures import FIGURES


def write_search(output, results):
    """Write the figures of a search that there is something to show in.

    Args:
        output: Run directory of the search.
        results: Content of its `results.json`.

    Returns:
        List of the paths written, SVG and PDF of each figure, in `figures/`.
    """
    folder, written = pathlib.Path(output) / "figures", []
    for name, make in FIGURES.items():
        with drawing.style():
            figure = make(results)
        if figure is not None:
            os.makedirs(folder, exist_ok=True)
            written += drawing.save(figure, folder / name)
    return written

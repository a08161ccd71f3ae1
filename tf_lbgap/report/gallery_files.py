"""What is kept of reproductions once they are run: `docs/results/NAME.json`, `docs/gallery.md` with its figures, and `docs/papers.md`.

The pages are made from the files that are kept, not from those of the run, so whoever has the files can make them again.
"""

import pathlib

from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.files import read_json, write_json, write_text
from tf_lbgap.report.gallery import IMAGES, gallery, write_images
from tf_lbgap.report.papers import papers

SECOND = "second"
"""Folder of `results` with those of other seeds."""

DIGITS = 6


def write_gallery(runs, docs, *, second=None, scale="small"):
    """Collect results of reproductions, write the pages, and return the paths of what was written.

    Args:
        runs: Where `lbgap reproduce` wrote, such as `runs/reproduce`.
        docs: The folder of the pages.
        second: The same as `runs` with other seeds, shown beside; None: what was collected before stays.
        scale: Whose results.

    Raises:
        ConfigError: If there are none.
    """
    docs = pathlib.Path(docs)
    written = _collect(runs, scale, docs / "results")
    if second is not None:
        written += _collect(second, scale, docs / "results" / SECOND)
    results, others = kept_results(docs)
    pages = {docs / "gallery.md": gallery(results, others), docs / "papers.md": papers(results)}
    for path, page in pages.items():
        write_text(path, page)
    return [*written, *write_images(results, docs / IMAGES), *pages]


def kept_results(docs):
    """Return the contents of `results/*.json` and of `results/second/*.json`, two lists in the order of their names."""
    folder = pathlib.Path(docs) / "results"
    return [[read_json(path) for path in sorted(f.glob("*.json"))] for f in (folder, folder / SECOND)]


def _collect(runs, scale, folder):
    """Copy the results of all papers into a folder."""
    found = sorted(pathlib.Path(runs).glob(f"*-{scale}/results.json"))
    if not found:
        raise ConfigError(
            f"{runs} holds no results of scale {scale}. Type  lbgap reproduce --all --scale {scale}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for path in found:
        written.append(folder / f"{path.parent.name.removesuffix(f'-{scale}')}.json")
        write_json(written[-1], rounded(read_json(path)))
    return written


def rounded(content):
    """Return the content with numbers of `DIGITS` digits, more than anybody reads."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return float(f"{content:.{DIGITS}g}") if isinstance(content, float) else content

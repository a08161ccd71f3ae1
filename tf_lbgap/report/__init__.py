"""What runs show: tables in the terminal, and a report as a page, figures, and tables for a paper.

No TensorFlow: `write` reads event files by TensorBoard's own loader.
"""

from tf_lbgap.report.equivalence import check_equivalence
from tf_lbgap.report.gallery_files import write_gallery
from tf_lbgap.report.grids import differences_grid, margin_grid, measures_grid, results_grid, sentence
from tf_lbgap.report.paper_grids import arms_grid, claims_grid, power_grid
from tf_lbgap.report.paper_page import write_paper
from tf_lbgap.report.search_grids import edge_sentences, trials_grid
from tf_lbgap.report.tables import rich_table
from tf_lbgap.report.write import write
from tf_lbgap.report.write_search import write_search

__all__ = [
    "arms_grid",
    "check_equivalence",
    "claims_grid",
    "differences_grid",
    "edge_sentences",
    "margin_grid",
    "measures_grid",
    "power_grid",
    "results_grid",
    "rich_table",
    "sentence",
    "trials_grid",
    "write",
    "write_gallery",
    "write_paper",
    "write_search",
]

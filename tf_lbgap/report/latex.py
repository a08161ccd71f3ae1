"""Grids as LaTeX tables for a paper; they need the package booktabs."""

import re

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "²": r"$^2$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "−": r"$-$",
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))
_MINUS = re.compile(r"(?<![\w.)])-(?=\d)")


def escaped(text):
    r"""Return text that LaTeX prints as it is.

    Example:
        >>> print(escaped("a_b: 5 % of $x, -0.5 ± 1"))
        a\_b: 5 \% of \$x, $-$0.5 $\pm$ 1
    """
    text = _MINUS.sub("−", text)
    return _SPECIAL.sub(lambda match: _ESCAPES[match.group()], text)


def latex_table(grid, label):
    """Return a table environment.

    Args:
        grid: A `grids.Grid`.
        label: For `\\ref`, without the `tab:`.
    """
    caption = " ".join(filter(None, [_sentence(grid.title), grid.caption]))
    lines = [
        "% written by lbgap report; needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \label{{tab:{re.sub('[^A-Za-z0-9:.-]+', '-', label)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
        r"    \toprule",
        _line(grid.columns),
        r"    \midrule",
        *map(_line, grid.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells):
    first, *others = cells
    return "    " + " & ".join([_cell(first, "l"), *(_cell(cell, "r") for cell in others)]) + r" \\"


def _cell(text, side):
    parts = [escaped(part) for part in text.strip("\n").split("\n")]
    # A cell that begins with [ would be taken for an option of the line break before it.
    parts = [f"{{}}{part}" if part.startswith(("[", "*")) else part for part in parts]
    if len(parts) == 1:
        return parts[0]
    return rf"\shortstack[{side}]{{" + r" \\ ".join(parts) + "}"


def _sentence(text):
    return text[:1].upper() + text[1:] + "."

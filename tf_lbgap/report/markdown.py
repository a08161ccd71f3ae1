"""Text and tables of a page of Markdown, as GitHub shows it."""

import html
import re

_SPECIAL = re.compile(r"([\\`*\[\]|$~])|(?<!\w)(_)|(_)(?!\w)")


def table(headings, rows, numeric=()):
    """Return a table; columns with numbers are aligned to the right."""
    rule = ["---:" if place in numeric else "---" for place in range(len(headings))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [headings, rule, *rows])


def escaped(text):
    """Return text that Markdown shows as it is: neither markup nor HTML, on one line."""
    shown = _SPECIAL.sub(r"\\\g<0>", html.escape(text.strip(), quote=False))
    return "<br>".join(shown.splitlines())


def link(text, page=""):
    """Return a link to the heading of that text, on the page or another one."""
    return f"[{escaped(text)}]({page}#{_anchor(text)})"


def _anchor(heading):
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))

"""Figures as short SVG, small enough to be committed and to stand inside of a page.

matplotlib writes a group and a name around every line, and six decimals. Here a tenth of a point is the least that is told (of a marker a hundredth),
groups that say nothing are gone, and what all elements share stands once. Text stays text. A third to a half is left.
"""

import io
import re
import xml.etree.ElementTree as ElementTree

from tf_lbgap.report import drawing

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_FONT = "font-family: 'DejaVu Sans', sans-serif"
_SHARED = f"{_FONT}; stroke-linejoin: round; stroke-linecap: butt"  # these two are a style sheet's, which would reach beyond
_NOT_DRAWN = {"metadata", "style"}


def svg_of(figure, label=None):
    """Return a figure as the text of an `<svg>` element.

    Args:
        figure: A matplotlib figure.
        label: What it is called for those who do not see it.
    """
    file = io.BytesIO()
    with drawing.style():
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    _shorten(root)
    root.set("style", _SHARED)
    if label:
        root.set("role", "img")
        root.set("aria-label", label)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _shorten(element, decimals=1):
    """Shorten an element and all within it, in place."""
    decimals = 2 if _name(element) == "defs" else decimals  # markers, which are drawn many times
    _shorten_own(element, decimals)
    children = []
    for child in element:
        if _name(child) in _NOT_DRAWN:
            continue
        _shorten(child, decimals)
        children += list(child) if _name(child) == "g" and not child.attrib else [child]
    element[:] = [child for child in children if len(child) or child.attrib]
    for child in element:
        child.tail = "\n"
    if len(element) or not (element.text or "").strip():
        element.text = None


def _shorten_own(element, decimals):
    if _name(element) == "g":
        element.attrib.pop("id", None)
    for key, value in element.attrib.items():
        value = " ".join(value.split())
        if key == "style":
            element.set(key, value.replace(f"; {_FONT}", "").replace("; ", ";").replace(": ", ":"))
        elif key not in ("width", "height", "viewBox"):
            element.set(key, _NUMBER.sub(lambda match: _rounded(match, decimals), value))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


def _rounded(match, decimals):
    return f"{float(match.group()):.{decimals}f}".rstrip("0").rstrip(".")


def _name(element):
    return element.tag.rpartition("}")[2]

"""One HTML file that opens without TensorBoard: the tab's own panels over inlined answers, and the run's tables.

Everything is inside: Plotly, the plugin's modules, its style, and the data as JSON. A content security policy in the
page forbids all requests, so it can neither phone home nor break when a server is gone. Names come from
files that anyone may have written: they are escaped, and in JSON no `<` is left that could end a script.
"""

import html
import importlib.resources
import json
import math

from tf_lbgap.report.bundle import bundle, static

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; worker-src blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_STYLE = """
#findings { max-width: 1100px; padding: 8px 24px 48px; }
#findings h2 { font-size: 15px; font-weight: 500; margin: 28px 0 6px; }
#findings p, #findings li { max-width: 88ch; line-height: 1.5; }
#findings .wide { overflow-x: auto; }
#findings table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
#findings caption { text-align: left; color: var(--soft); padding: 4px 0 6px; }
#findings th, #findings td { padding: 4px 18px 4px 0; vertical-align: top; white-space: pre-line; text-align: right; }
#findings th:first-child, #findings td:first-child { text-align: left; }
#findings thead th { border-bottom: 1px solid var(--rule); font-weight: 500; vertical-align: bottom; }
#findings .note { color: var(--soft); }
@media print { html, body, .page, main { height: auto !important; overflow: visible !important; } .sidebar, .toolbar { display: none !important; } }
"""
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_BODY = """<section id="findings">{findings}</section>
<script>{plotly}</script>
<script id="answers" type="application/json">{answers}</script>
<script>
(() => {{
"use strict";
window.__lbgap_report = JSON.parse(document.getElementById("answers").textContent);
const findings = document.getElementById("findings");
{modules}
lbgap.openPage();
(document.querySelector("main") || document.body).append(findings);
}})();
</script>"""


def document(title, policy, style, body):
    """Return a whole HTML document; title and policy are text, style and body stand as they are."""
    return _DOCUMENT.format(title=html.escape(title), policy=html.escape(policy), style=style, body=body)


def page(title, answers, findings):
    """Return the HTML of a report.

    Args:
        title: Text.
        answers: Of `answers.answers`.
        findings: HTML, of `grid_html` and `text_html`, that stands below the panels.
    """
    body = _BODY.format(
        findings=findings,
        plotly=_inlined(_plotly(), "script"),
        answers=json.dumps(_rounded(answers), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        modules=_inlined(bundle(), "script"),
    )
    return document(title, _POLICY, _inlined(static("style.css"), "style") + _STYLE, body)


def grid_html(grid):
    """Return a grid as a table with its title as a heading."""
    head = "".join(f"<th>{html.escape(text.strip())}</th>" for text in grid.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in grid.rows
    )
    note = f'<p class="note">{html.escape(grid.caption)}</p>' if grid.caption else ""
    return (
        f'<h2>{html.escape(grid.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def text_html(heading, *paragraphs):
    """Return a heading and paragraphs of text."""
    return f"<h2>{html.escape(heading)}</h2>" + "".join(f"<p>{html.escape(p)}</p>" for p in paragraphs)


def _plotly():
    return (importlib.resources.files("plotly") / "package_data" / "plotly.min.js").read_text(
        encoding="utf-8"
    )


def _inlined(text, tag):
    """Return a text that does not end the element it stands in."""
    return text.replace(f"</{tag}", f"<\\/{tag}").replace("<!--", "<\\!--")


def _rounded(content):
    """Numbers to seven digits, as many as float32 has: the page is half as large."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    if isinstance(content, float) and math.isfinite(content):
        return int(content) if content == int(content) and abs(content) < 2**53 else float(f"{content:.7g}")
    return content

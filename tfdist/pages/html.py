"""The pieces of a report's HTML: one page in one file, which loads nothing from elsewhere."""

import base64
import html

from tfdist.pages.style import CSS


def text(value):
    """`value` as text of a page."""
    return html.escape(str(value), quote=True)


def _uri(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


def figure(words, light, dark):
    """A PNG, bytes, with what it shows in words; `dark` where the reader's system is."""
    return (
        '<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_uri(dark)}"><img src="{_uri(light)}" alt="{words}"></picture></figure>'
    )


def page(title, body, closing):
    """A whole page: its title, a list of HTML, and what stands at its foot."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(title)}</title>
<style>
{CSS}</style>
</head>
<body>
<main>
{"".join(body)}
<footer>{text(closing)}</footer>
</main>
</body>
</html>
"""


def header(title, facts):
    """The title, and a list of facts beneath it."""
    chips = "".join(f"<li>{text(fact)}</li>" for fact in facts)
    return f'<header><h1>{text(title)}</h1><ul class="facts">{chips}</ul></header>'


def section(title, content):
    """A panel with a title."""
    return f"<section><h2>{text(title)}</h2>{content}</section>"


def table(header, rows):
    """A table of text; the first column names the rows."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def notes(found):
    """A panel for each of a list of notes."""
    return "".join(f'<p class="note">{text(note)}</p>' for note in found)


def cards(found):
    """The few numbers that a reader looks at first.

    Args:
        found: list of a name, a value, and what stands beneath it; the last two are HTML.
    """
    shown = [
        f'<div class="card"><div class="name">{text(name)}</div>'
        f'<div class="value">{value}</div>'
        f'<div class="interval">{beneath}</div></div>'
        for name, value, beneath in found
    ]
    return f'<div class="cards">{"".join(shown)}</div>'

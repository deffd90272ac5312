"""Render tables for terminals, Markdown and LaTeX with tabulate.

A table is a list of rows of text; the first row is the header and the first column names the row. Rows may
be short.
"""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]

_MARKUP = "\\|*_<`"
_BLANK = "\ue000"  # private character in place of leading blanks, which tabulate strips


def text_table(rows: Rows) -> str:
    """Align the columns of a table for a terminal; blanks at the start of a cell indent it."""
    kept = [[_BLANK * (len(cell) - len(cell.lstrip(" "))) + cell.lstrip(" ") for cell in row] for row in rows]
    return _render(kept, "plain", ["left"]).replace(_BLANK, " ")


def markdown_table(rows: Rows) -> str:
    """Write a Markdown table; nothing in a cell is markup or ends it, and line breaks are kept."""
    return _render(
        [["<br>".join(map(markdown_text, cell.split("\n"))) for cell in row] for row in rows],
        "pipe",
        ["left", "right"],
    )


def markdown_text(text: str) -> str:
    """Escape a line of text, such as a path or a user's title, for Markdown."""
    for character in _MARKUP:
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def latex_table(rows: Rows) -> str:
    """Write a LaTeX table (booktabs); special characters are escaped, ``->`` and ``→`` become arrows."""
    cells = [[" ".join(cell.split()).replace("→", "->") for cell in row] for row in rows]
    rendered = _render(cells, "latex_booktabs", ["left", "right"])
    return rendered.replace(r"-\ensuremath{>}", r"$\rightarrow$")


def _render(rows: Rows, form: str, aligns: Sequence[str]) -> str:
    """Render rows; the last of ``aligns`` applies to all further columns."""
    import tabulate

    width = max(map(len, rows))
    header, *body = [[*row, *[""] * (width - len(row))] for row in rows]
    columns = [*aligns, *[aligns[-1]] * width][:width]
    # In plain text the header is an ordinary row: tabulate would widen its columns needlessly.
    table, names = ([header, *body], ()) if form == "plain" else (body, header)
    return tabulate.tabulate(
        table, names, tablefmt=form, disable_numparse=True, colalign=columns if table else None
    )

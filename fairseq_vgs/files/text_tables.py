"""Render tables for terminals, Markdown and LaTeX.

A table is a list of rows of text; the first row is the header and the first column names the row. Rows may
be short.
"""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]

_ALIGNS = ("left", "right")
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "→": r"$\rightarrow$",
        "−": "$-$",
        "–": "--",
    }
)
_PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
"""
_FITTING = r"\ifdim\width>\linewidth\linewidth\else\width\fi"  # as wide as it is, but not beyond the page
_MARKUP = "\\|*_<`"
_BLANK = "\ue000"  # private character in place of leading blanks, which tabulate strips
_BOLD, _BOLD_END = "\ue001", "\ue002"  # around bold text until it is rendered


def bold(text: str) -> str:
    """Mark text in a cell as bold, which Markdown and LaTeX show."""
    return f"{_BOLD}{text}{_BOLD_END}"


def text_table(rows: Rows) -> str:
    """Align the columns of a table for a terminal; blanks at the start of a cell indent it."""
    kept = [[_BLANK * (len(cell) - len(cell.lstrip(" "))) + cell.lstrip(" ") for cell in row] for row in rows]
    plain = [[_with_bold(cell, "", "") for cell in row] for row in kept]
    return _render(plain, "plain", ["left"]).replace(_BLANK, " ")


def markdown_table(rows: Rows) -> str:
    """Write a Markdown table; nothing in a cell is markup or ends it, and line breaks are kept."""
    cells = [["<br>".join(map(markdown_text, cell.split("\n"))) for cell in row] for row in rows]
    return _render([[_with_bold(cell, "**", "**") for cell in row] for row in cells], "pipe", _ALIGNS)


def markdown_text(text: str) -> str:
    """Escape a line of text, such as a path or a user's title, for Markdown."""
    for character in _MARKUP:
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def latex_table(rows: Rows) -> str:
    """Write a LaTeX table (booktabs); special characters are escaped, ``->`` and ``→`` become arrows.

    Line breaks are kept in the header only.
    """
    width = max(map(len, rows))
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    header = " & ".join(map(_stacked, filled[0]))
    body = [" & ".join(map(latex_text, row)) for row in filled[1:]]
    # A bracket or star at the start of a line would belong to the end of the line before.
    lines = [f"{{}}{line}" if line[:1] in {"[", "*"} else line for line in body]
    columns = "".join([*"l", *"r" * width][:width])
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
            *(rf"{line} \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _stacked(cell: str) -> str:
    lines = r" \\ ".join(latex_text(line) for line in cell.split("\n"))
    return rf"\shortstack[r]{{{lines}}}" if "\n" in cell else lines


def latex_text(text: str) -> str:
    """Escape a line of text for LaTeX; letters with accents stay, as UTF-8 is what LaTeX reads."""
    text = " ".join(text.split()).replace("->", "→").translate(_LATEX)
    return _with_bold(text, r"\textbf{", "}")


def latex_document(entries: Sequence[tuple[str, str]]) -> str:
    """Write (caption, table) pairs as a document that pdflatex compiles with nothing else at hand."""
    tables = [
        f"\\begin{{table}}[ht]\n\\caption{{{latex_text(caption)}}}\n\\centering\\small\n"
        f"\\resizebox{{{_FITTING}}}{{!}}{{%\n{table}}}\n"
        "\\end{table}\n"
        for caption, table in entries
    ]
    return _PREAMBLE + "\n".join(tables) + "\n\\end{document}\n"


def _with_bold(text: str, start: str, end: str) -> str:
    return text.replace(_BOLD, start).replace(_BOLD_END, end)


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

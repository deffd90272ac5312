"""Tables for terminals, Markdown and LaTeX."""

import shutil
import subprocess

import pytest

from fairseq_vgs.files.text_tables import bold, latex_document, latex_table, markdown_table, text_table

ROWS = [["", "R@1 %", "n"], ["speech -> image"], ["  run_1|x", "12.5 [10.0, 15.0]", "007"]]


def test_text_is_aligned_indented_and_kept_as_it_is():
    assert text_table(ROWS).split("\n") == [
        "                 R@1 %              n",
        "speech -> image",
        "  run_1|x        12.5 [10.0, 15.0]  007",
    ]


def test_markdown_cells_hold_no_markup():
    lines = markdown_table(ROWS).split("\n")
    assert [line.replace(r"\|", "").count("|") for line in lines] == [4] * 4
    assert lines[1].startswith("|:--") and lines[1].endswith("-:|")
    assert r"run\_1\|x" in lines[3]
    assert "speech -> image" in lines[2]


def test_latex_is_escaped_and_has_arrows():
    text = latex_table([*ROWS, ["a → b", "5 %", "#"]])
    assert text.startswith(r"\begin{tabular}{lrr}")
    assert text.endswith(r"\end{tabular}")
    assert r"speech $\rightarrow$ image" in text and r"a $\rightarrow$ b" in text
    assert r"run\_1|x" in text and r"5 \%" in text and r"\#" in text


def test_a_header_alone():
    assert text_table([["a", "b"]]) == "a  b"


def test_bold_is_markup_where_there_is_any():
    rows = [["", "R@1"], ["a_1", f"{bold('9.5 [8, 11]')}\n9 · 10"]]
    assert markdown_table(rows).split("\n")[2] == r"| a\_1 | **9.5 [8, 11]**<br>9 · 10 |"
    assert latex_table(rows).split("\n")[4] == r"a\_1 & \textbf{9.5 [8, 11]} 9 · 10 \\"
    assert "\n".join(line.rstrip() for line in text_table(rows).split("\n")[1:2]).startswith("a_1")
    assert "9.5 [8, 11]" in text_table(rows)
    assert not set(text_table(rows) + markdown_table(rows)) & {"\ue001", "\ue002"}


def test_line_breaks_are_kept_in_a_latex_header():
    lines = latex_table([["", "R@1\n%"], ["a\nb", "1"]]).split("\n")
    assert lines[2:5:2] == [r" & \shortstack[r]{R@1 \\ \%} \\", r"a b & 1 \\"]


def test_a_line_of_latex_never_begins_with_an_option_of_the_line_before():
    lines = latex_table([["", "n"], ["[mean]", "1"], ["*", "2"]]).split("\n")
    assert lines[4:6] == [r"{}[mean] & 1 \\", r"{}* & 2 \\"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_a_document_of_tables_compiles_with_any_names(tmp_path):
    names = ["100 % of a_b & c#1 $x^2~{y}", r"C:\Bücher <ä> − → –", "[x]", "*y"]
    rows = [["", *["R@10, speech → image, %"] * 6], *([name, "−1.5 [−2, 3]", bold("+1 %")] for name in names)]
    document = latex_document([(f"Größe [95 %], {names[0]}", latex_table(rows)), ("b", latex_table(rows))])
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-1500:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
    assert b"Overfull" not in done.stdout

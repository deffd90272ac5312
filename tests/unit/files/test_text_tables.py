"""Tables for terminals, Markdown and LaTeX."""

from fairseq_vgs.files.text_tables import latex_table, markdown_table, text_table

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

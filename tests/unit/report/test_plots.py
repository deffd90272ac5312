"""The plot engine: formats, the CSV of what is drawn, files that exist, SVG for pages."""

from __future__ import annotations

import csv
import re
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from support.faults import raises_fault

from fairseq_vgs.report.plots import Figure, Panel, Series, inline_svg, write_figure

HOSTILE = "<script>alert('&')</script>"


def figure(**changes):
    line = Series(
        "line",
        [1.0, 3.0],
        [0, 10],
        "#0072B2",
        css_class="s-line",
        tips=[HOSTILE, "second"],
        cells={"seed": 1},
    )
    level = Series("chance", [2.0], style=":", legend="chance (dotted)")
    hidden = Series("hidden", [5.0], [10], style="", band=([4.0], [6.0]))
    panel = Panel("one", "%", [line, level, hidden], limits=(0.0, float("nan")), boundary=5)
    columns = {name: name for name in ("panel", "series", "seed", "x", "value", "low", "unit")}
    return Figure([panel, Panel("two", "%", [level])], columns, **changes)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")]
)
@pytest.mark.parametrize("legend", ["panel", "figure", "direct"])
def test_suffix_chooses_the_format(tmp_path, suffix, start, legend):
    output = tmp_path / f"plot{suffix}"
    table = write_figure(figure(legend=legend), output)
    assert output.read_bytes().startswith(start)
    before = output.read_bytes()
    assert write_figure(figure(legend=legend), output, force=True) == table == tmp_path / "plot.csv"
    assert output.read_bytes() == before  # no dates or random ids


def test_all_formats_at_once_with_text_that_stays_text(tmp_path):
    assert write_figure(figure(), tmp_path / "plot.png", also=(".pdf", ".svg")) == tmp_path / "plot.csv"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"plot.{end}" for end in ("png", "pdf", "svg", "csv")
    }
    assert re.search(r"<text[^>]*>two</text>", (tmp_path / "plot.svg").read_text(encoding="utf-8"))
    pdf = (tmp_path / "plot.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/FontFile2" in pdf  # TrueType, whole and embedded
    assert b"/Type3" not in pdf
    with raises_fault("output.exists"):
        write_figure(figure(), tmp_path / "plot.png", also=(".pdf",))


def test_points_with_bounds_have_bars(tmp_path):
    points = Series("points", [1.0, 2.0], [0, 1], "#123456", "o", band=([0.5, 1.0], [1.5, 4.0]))
    panel = Panel("one", "%", [points])
    columns = {name: name for name in ("x", "value", "low", "high")}
    write_figure(Figure([panel], columns, "", ["a", "b"], tick_degrees=90), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert (
        len(re.findall(r'<path d="M [\d. ]+\nL [\d. ]+\n"[^>]*style="fill: none; stroke: #123456', text)) == 2
    )


def test_csv_holds_exactly_what_was_drawn(tmp_path):
    with write_figure(figure(), tmp_path / "plot.svg").open(encoding="utf-8", newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("one", "line", "1", "0", "1.0", "", "%"),
        ("one", "line", "1", "10", "3.0", "", "%"),
        ("one", "chance", "", "", "2.0", "", "%"),
        ("one", "hidden", "", "10", "5.0", "4.0", "%"),
        ("two", "chance", "", "", "2.0", "", "%"),
    ]


def test_an_entry_of_several_colours_is_grey():
    """In the colour of the first line, it would seem to belong to that line alone."""
    levels = [Series(name, [1.0], None, name, ":", legend="chance") for name in ("#0072b2", "#d55e00")]
    for panel_levels, colour in ((levels, "#737373"), (levels[:1], "#0072b2")):
        drawn = inline_svg(Figure([Panel("one", "%", panel_levels)], {}), name="f", title="f")
        (legend,) = (part for part in ET.fromstring(drawn).iter() if part.get("id") == "f-legend_1")
        styles = [part.get("style", "") for part in legend.iter()]
        assert [style for style in styles if "stroke:" in style and colour not in style] == []
        assert sum(colour in style for style in styles) == 1


def test_panels_are_drawn_side_by_side(tmp_path):
    write_figure(figure(), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("L").getcolors()) > 20


def test_other_formats_are_refused(tmp_path):
    with raises_fault("plot.suffix", "OUTPUT"):
        write_figure(figure(), tmp_path / "plot.jpg")
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "plot.csv").write_text("mine")
    with raises_fault("output.exists", "plot.csv"):
        write_figure(figure(), tmp_path / "plot.png")
    assert (tmp_path / "plot.csv").read_text() == "mine"
    assert not (tmp_path / "plot.png").exists()
    write_figure(figure(), tmp_path / "plot.png", force=True)


def test_inline_svg_has_classes_tips_and_ids_of_its_own():
    text = inline_svg(figure(legend="direct"), name="chart-1", title=f"a {HOSTILE}")
    assert text.startswith("<svg ")
    assert "<script" not in text
    root = ET.fromstring(text)
    assert root.get("aria-label") == f"a {HOSTILE}"
    (group,) = [element for element in root.iter() if element.get("class") == "s s-line"]
    assert [title.text for title in group.iter("{http://www.w3.org/2000/svg}title")] == [HOSTILE, "second"]
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(names)) == len(names)
    assert all(name.startswith("chart-1-") for name in names)
    references = re.findall(r'(?:href="|url\()#([\w.-]+)', text)
    assert references
    assert set(references) <= set(names)

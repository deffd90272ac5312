from __future__ import annotations

from fairseq_vgs.files.tables import Table
from fairseq_vgs.manifest.references import (
    feature_rows_out_of_range,
    images_without_regions,
    unknown_audio,
    unknown_images,
)
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow

PAIRS = Table("p.tsv", (PairRow("a", "i"), PairRow("b", "j"), PairRow("c", "j")), (2, 5, 9))


def regions(*rows: tuple[str, int]) -> Table[RegionRow]:
    table_rows = tuple(RegionRow(image_id, row, 0.0, 0.0, 1.0, 1.0) for image_id, row in rows)
    return Table("r.tsv", table_rows, tuple(range(2, 2 + len(rows))))


def test_unknown_audio() -> None:
    audio = Table("t.tsv", (AudioRow("a", 1), AudioRow("c", 1)), (2, 3))
    faults = [str(item) for item in unknown_audio(PAIRS, audio)]
    assert faults == [
        "p.tsv:5: audio_id must be in t.tsv, got 'b'; correct the line or rerun fairseq-vgs prepare"
    ]


def test_unknown_images_line_by_line() -> None:
    images = Table("i.tsv", (ImageRow("i", "i.png", 1, 1),), (3,))
    assert [item.place for item in unknown_images(PAIRS, images)] == ["p.tsv:5", "p.tsv:9"]
    assert [item.place for item in unknown_images(regions(("i", 0), ("k", 0)), images)] == ["r.tsv:3"]


def test_ids_on_faulty_lines_are_not_unknown_too() -> None:
    assert unknown_audio(PAIRS, Table("t.tsv", (AudioRow("a", 1),), (2,), doubtful=frozenset("bc"))) == []
    assert unknown_images(PAIRS, Table("i.tsv", doubtful=frozenset("ij"))) == []
    assert images_without_regions(PAIRS, Table("r.tsv", doubtful=frozenset("ij")), {"i", "j"}) == []


def test_an_unusable_table_says_nothing_about_ids() -> None:
    assert unknown_audio(PAIRS, Table("t.tsv", usable=False)) == []
    assert unknown_images(PAIRS, Table("i.tsv", usable=False)) == []
    assert images_without_regions(PAIRS, Table("r.tsv", usable=False), {"i", "j"}) == []


def test_images_without_regions_at_their_first_pair() -> None:
    faults = images_without_regions(PAIRS, regions(("i", 0)), {"i", "j"})
    assert [(item.place, item.code) for item in faults] == [("p.tsv:5", "regions.missing")]
    assert "'j'" in faults[0].message


def test_unknown_images_do_not_lack_regions_too() -> None:
    assert images_without_regions(PAIRS, regions(("i", 0)), {"i"}) == []


def test_feature_rows_out_of_range() -> None:
    faults = feature_rows_out_of_range(regions(("i", 0), ("i", 4), ("i", 5)), 5)
    assert [(item.place, item.code) for item in faults] == [("r.tsv:4", "regions.row")]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.region_files import lxmert_fields, packed, write_lxmert

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.regions import lxmert as regions_lxmert
from fairseq_vgs.regions.lxmert import LxmertSource
from fairseq_vgs.regions.source import BadRegions, ImageRegions

# The bytes of a line with one region of two dims, written out: little-endian, base64.
LITERAL = (
    b"COCO_val2014_000000000042\t480\t640\t"
    b"BwAAAAAAAAA=\tAAAAPw==\tAAAAAAAAAAA=\tAACAPg==\t1\t"
    b"AACAQQAAAEIAAKBDAABwQw==\tAACAPwAAIMA=\r\n"
)


def read(path: Path, wanted: set[str] | None = None) -> list[ImageRegions | BadRegions]:
    return list(LxmertSource([path]).read(lambda name: name if wanted is None or name in wanted else None))


def line(name: str = "a", **changes: str) -> list[str]:
    fields = lxmert_fields(
        name, size=(8, 4), boxes=[(0, 0, 8, 4), (1, 1, 2, 2)], features=[(1.0, 2.0), (3.0, 4.0)]
    )
    for field, value in changes.items():
        fields[regions_lxmert.FIELDS.index(field)] = value
    return fields


def test_a_line_of_the_published_format(tmp_path: Path) -> None:
    path = tmp_path / "val2014_obj36.tsv"
    path.write_bytes(LITERAL)
    (found,) = read(path)
    assert isinstance(found, ImageRegions)
    assert (found.image_id, found.width, found.height) == ("COCO_val2014_000000000042", 640, 480)
    assert found.place == "val2014_obj36.tsv:1"
    np.testing.assert_array_equal(found.boxes, np.array([[16, 32, 320, 240]], np.float32))
    np.testing.assert_array_equal(found.features, np.array([[1, -2.5]], np.float32))
    assert found.features.dtype == found.boxes.dtype == np.float32


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_header_line_ends_and_last_line(tmp_path: Path, end: str) -> None:
    path = write_lxmert(tmp_path / "x.tsv", [list(regions_lxmert.FIELDS), line("a"), line("b")], end=end)
    path.write_bytes(path.read_bytes().removesuffix(end.encode()))
    assert [(image.image_id, image.place) for image in read(path)] == [("a", "x.tsv:2"), ("b", "x.tsv:3")]  # type: ignore[union-attr]


def test_the_surest_regions_come_first(tmp_path: Path) -> None:
    fields = lxmert_fields(
        "a",
        size=(9, 9),
        boxes=[(0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3)],
        features=[(1.0,), (2.0,), (3.0,)],
        confidences=[0.25, 0.75, 0.25],
    )
    (found,) = read(write_lxmert(tmp_path / "x.tsv", [fields]))
    assert isinstance(found, ImageRegions)
    assert found.features[:, 0].tolist() == [2, 1, 3]
    assert found.boxes[:, 2].tolist() == [2, 1, 3]


FAULTS = {
    "no id left": ({"img_id": "a\tb"}, "line must have 10 fields between tabs"),
    "height": ({"img_h": "0"}, "img_h must be a positive integer, got '0'"),
    "width": ({"img_w": "8.0"}, "img_w must be a positive integer, got '8.0'"),
    "num_boxes": ({"num_boxes": "x"}, "num_boxes must be a positive integer, got 'x'"),
    "more boxes": (
        {"num_boxes": "3"},
        "objects_id must be 24 bytes, num_boxes being 3, got '16 bytes'",
    ),
    "boxes": ({"boxes": packed("f", [0.0] * 7)}, "boxes must be 32 bytes, num_boxes being 2, got '28 bytes'"),
    "features": (
        {"features": packed("f", [0.0] * 3)},
        "features must be a multiple of 8 bytes, num_boxes being 2, got '12 bytes'",
    ),
    "no features": ({"features": ""}, "features must be a multiple of 8 bytes"),
    "cut": ({"features": packed("f", [0.0] * 4)[:-3]}, "features must be whole base64 ("),
    "python 3": ({"boxes": f"b'{packed('f', [0.0] * 8)}'"}, "boxes must be whole base64 ("),
    "confidence": ({"objects_conf": packed("f", [0.5, float("nan")])}, "objects_conf must be numbers"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_have_lines_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    changes, expected = FAULTS[name]
    path = write_lxmert(tmp_path / "x.tsv", [line("good"), line(**changes), line("last")])
    first, bad, last = read(path)
    assert isinstance(first, ImageRegions)
    assert isinstance(last, ImageRegions)
    assert isinstance(bad, BadRegions)
    assert str(bad.fault).startswith(f"x.tsv:2: {expected}")
    assert bad.image_id == "a"


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    path = write_lxmert(tmp_path / "x.tsv", [line("a"), line("b")])
    whole = path.read_bytes()
    middle = len(whole) // 2
    for end in range(middle + 1, len(whole) - 2, 7):
        path.write_bytes(whole[:end])
        found = read(path)
        assert isinstance(found[1], BadRegions), end
        assert found[1].fault.place == "x.tsv:2"


def test_unwanted_pictures_are_not_decoded(tmp_path: Path) -> None:
    path = write_lxmert(tmp_path / "x.tsv", [line("a", features="?"), line("b"), line("c", img_h="?")])
    assert [image.image_id for image in read(path, {"b"})] == ["b"]


def test_ids_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"\xff\t1\n")
    (bad,) = read(path)
    assert isinstance(bad, BadRegions)
    assert "img_id must be UTF-8 text" in str(bad.fault)


def test_endless_lines_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions_lxmert, "MAX_LINE_BYTES", 1000)
    path = write_lxmert(tmp_path / "x.tsv", [line("a")])
    with path.open("ab") as file:
        file.write(b"b\t" + b"A" * 5000)
    first, bad = read(path)
    assert isinstance(first, ImageRegions)
    assert isinstance(bad, BadRegions)
    assert str(bad.fault).startswith("x.tsv:2: line must be shorter than 1000 bytes (the rest of the file")


def test_progress_is_in_bytes_of_all_files(tmp_path: Path) -> None:
    paths = [write_lxmert(tmp_path / name, [line(name)]) for name in ("x", "y")]
    seen: list[tuple[int, int]] = []
    source = LxmertSource(paths)
    assert [image.image_id for image in source.read(str, lambda *values: seen.append(values))] == ["x", "y"]
    size = paths[0].stat().st_size
    assert seen == [(size, 2 * size), (2 * size, 2 * size)]
    assert source.describe() == {"format": "lxmert", "files": {"x": size, "y": size}}


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(FaultError) as caught:
        LxmertSource([tmp_path / "x", tmp_path / "y"])
    assert len(caught.value.faults) == 2

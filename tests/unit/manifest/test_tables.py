from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.output import OutputExistsError
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow
from fairseq_vgs.manifest.tables import (
    read_audio_list,
    read_images,
    read_pairs,
    read_regions,
    scan_images,
    scan_pairs,
    write_audio_list,
    write_images,
    write_pairs,
    write_regions,
)

PAIR_HEADER = "audio_id\timage_id\tspeaker\ttext"
IMAGE_HEADER = "#root\t.\nimage_id\tpath\twidth\theight\tgroup"
REGION_HEADER = "image_id\tfeature_row\tx0\ty0\tx1\ty1"

# Everything that UTF-8 can hold, without what has a meaning in the format.
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), max_size=12)
_names = _text.filter(lambda text: text and text == text.strip())
_optional = _text.map(str.strip)
_entries = _names.filter(
    lambda text: (
        not text.startswith("/") and ".." not in text.split("/") and ":" not in text and "." not in text
    )
) | st.builds(lambda a, b: f"я x.zip:{a}:{b}", st.integers(0, 10**17), st.integers(1, 10**17))
_sizes = st.integers(1, 10**17)
_edges = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted)
_boxes = st.builds(lambda x, y: (x[0], y[0], x[1], y[1]), _edges, _edges)

audio_rows = st.lists(st.builds(AudioRow, _entries, _sizes), min_size=1, unique_by=lambda row: row.audio_id)
pair_rows = st.lists(
    st.builds(PairRow, _names, _names, _optional, _text), min_size=1, unique_by=lambda row: row.audio_id
)
image_rows = st.lists(
    st.builds(ImageRow, _names, _entries | st.just(""), _sizes, _sizes, _optional),
    min_size=1,
    unique_by=lambda row: row.image_id,
)
region_rows = st.lists(
    st.builds(lambda name, row, box: RegionRow(name, row, *box), _names, st.integers(0, 10**17), _boxes),
    min_size=1,
    unique=True,
)
round_trip = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@round_trip
@given(rows=audio_rows)
def test_audio_lists_read_back_as_written(tmp_path: Path, rows: list[AudioRow]) -> None:
    write_audio_list(tmp_path / "t.tsv", rows, root=".", force=True)
    assert read_audio_list(tmp_path / "t.tsv").rows == tuple(rows)


@round_trip
@given(rows=pair_rows, carriage_returns=st.booleans())
def test_pairs_read_back_as_written(tmp_path: Path, rows: list[PairRow], carriage_returns: bool) -> None:
    path = tmp_path / "t.pairs.tsv"
    write_pairs(path, rows, force=True)
    if carriage_returns:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_pairs(path) == tuple(rows)


@round_trip
@given(rows=image_rows)
def test_images_read_back_as_written(tmp_path: Path, rows: list[ImageRow]) -> None:
    write_images(tmp_path / "t.tsv", rows, force=True)
    assert read_images(tmp_path / "t.tsv").rows == tuple(rows)


@round_trip
@given(rows=region_rows)
def test_regions_read_back_as_written(tmp_path: Path, rows: list[RegionRow]) -> None:
    write_regions(tmp_path / "t.tsv", rows, force=True)
    assert read_regions(tmp_path / "t.tsv") == tuple(rows)


@round_trip
@given(
    content=st.binary(max_size=200) | st.text(alphabet="a.:/\t\r\n0123-#rot", max_size=200).map(str.encode)
)
def test_any_bytes_give_rows_or_a_manifest_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.tsv"
    for read in (read_audio_list, read_pairs, read_images, read_regions):
        for header in (b"", PAIR_HEADER.encode(), IMAGE_HEADER.encode(), REGION_HEADER.encode()):
            path.write_bytes(header + b"\n" + content if header else content)
            with suppress(FaultError):
                read(path)


def test_what_is_written_looks_like_the_format(tmp_path: Path) -> None:
    write_audio_list(tmp_path / "train.tsv", [AudioRow("a b/я.wav", 5)], root="/media")
    write_pairs(tmp_path / "train.pairs.tsv", [PairRow("a b/я.wav", "i", "", 'say "я"')])
    write_images(tmp_path / "images.tsv", [ImageRow("i", "x.tar:512:9", 3, 4)])
    write_regions(tmp_path / "regions.tsv", [RegionRow("i", 0, 0.0, 0.25, 0.5, 1.0)])
    assert (tmp_path / "train.tsv").read_text() == "/media\na b/я.wav\t5\n"
    assert (tmp_path / "train.pairs.tsv").read_text() == f'{PAIR_HEADER}\na b/я.wav\ti\t\tsay "я"\n'
    assert (tmp_path / "images.tsv").read_text() == f"{IMAGE_HEADER}\ni\tx.tar:512:9\t3\t4\t\n"
    assert (tmp_path / "regions.tsv").read_text() == f"{REGION_HEADER}\ni\t0\t0.0\t0.25\t0.5\t1.0\n"


def test_roots_start_from_the_lists_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    rows = [AudioRow("a.wav", 1)]
    for name, root in (("here", "."), ("beside", "../media"), ("absolute", "/media x")):
        write_audio_list(folder / f"{name}.tsv", rows, root=root)
    monkeypatch.chdir(folder)
    assert read_audio_list(Path("here.tsv")).root == folder
    assert read_audio_list(Path("beside.tsv")).root == folder / "../media"
    assert read_audio_list(Path("absolute.tsv")).root == Path("/media x")
    write_images(folder / "images.tsv", [ImageRow("i", "i.png", 1, 1)], root="pictures")
    assert read_images(Path("images.tsv")).root == folder / "pictures"


def test_stock_fairseq_reads_an_audio_list(tmp_path: Path, tools: Any) -> None:
    raw_audio_dataset = pytest.importorskip("fairseq.data.audio.raw_audio_dataset")
    waves = {"a": tools.wave(tools.noise(0)), "b": tools.wave(tools.noise(1, 900))}
    (tmp_path / "с пробелом.wav").write_bytes(waves["a"])
    entries = [
        "с пробелом.wav",
        tools.pack_zip(tmp_path / "x.zip", waves)[1],
        tools.pack_tar(tmp_path / "y.tar", waves)[0],
    ]
    sizes = [800, 900, 800]
    write_audio_list(tmp_path / "train.tsv", map(AudioRow, entries, sizes), root=tmp_path)
    dataset = raw_audio_dataset.FileAudioDataset(tmp_path / "train.tsv", 16_000)
    assert list(dataset.sizes) == sizes
    assert [len(dataset[i]["source"]) for i in range(3)] == sizes


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text("text\timage_id\taudio_id\tspeaker\nслово\ti\ta\tАнна\n")
    assert read_pairs(path) == (PairRow("a", "i", "Анна", "слово"),)


def faults_of(read: Callable[[Path], Any], path: Path, content: str | bytes) -> list[str]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FaultError) as caught:
        read(path)
    return str(caught.value).splitlines()


AUDIO_CASES = [
    ("", ["t.tsv: file is empty; rerun fairseq-vgs prepare"]),
    (".\n", ["t.tsv:1: file must list at least one utterance; rerun fairseq-vgs prepare"]),
    ("\na.wav\t1\n", ["t.tsv:1: root folder must not be empty, got ''; name a folder, '.' for this one"]),
    (" .\na.wav\t1\n", ["t.tsv:1: root folder must not begin or end with blanks, got ' .'; "]),
    (
        "a.wav\t1\nb.wav\t1\n",
        ["t.tsv:1: line 1 must be the root folder alone, got 'a.wav\\t1'; put the folder"],
    ),
    (
        ".\na.wav\n",
        ["t.tsv:2: line must have 2 fields between tabs (audio_id, n_samples), got 1 in 'a.wav'; "],
    ),
    (".\na\t1\t2\n", ["t.tsv:2: line must have 2 fields between tabs (audio_id, n_samples), got 3 in "]),
    (
        ".\na\t1\n\nb\t2\n",
        ["t.tsv:3: line must have 2 fields between tabs (audio_id, n_samples), got an empty line"],
    ),
    (".\na\t1\n\n", ["t.tsv:3: line must have 2 fields"]),
    (
        ".\na\t-3\n",
        ["t.tsv:2: n_samples must be a positive integer, got '-3'; correct the line or rerun fairseq-vgs"],
    ),
    (".\n../a\t1\n", ["t.tsv:2: audio_id must stay below the root, without '..', got '../a'; "]),
    (".\n/a\t1\n", ["t.tsv:2: audio_id must be relative to the root, not absolute, got '/a'; "]),
    (".\nx.zip:1\t1\n", ["t.tsv:2: audio_id must be ARCHIVE:OFFSET:LENGTH with whole numbers"]),
    (".\na\rb\t1\n", ["t.tsv:2: line must not contain carriage returns or NUL, got 'a\\rb\\t1'; "]),
    (
        ".\na\t1\nb\t1\na\t1\n",
        ["t.tsv:4: audio_id must appear only once in the file (first in line 2), got 'a'; remove"],
    ),
    (
        ".\n \tx\nb\t1\n\nc\t0\n",
        [
            "t.tsv:2: audio_id must not begin or end with blanks, got ' '; ",
            "t.tsv:2: n_samples must be a positive integer, got 'x'; ",
            "t.tsv:4: line must have 2 fields",
            "t.tsv:5: n_samples must be a positive integer, got '0'; ",
        ],
    ),
    (
        b".\na\t1\n\xe9.wav\t1\nb\t1\n",
        ["t.tsv:3: line must be UTF-8 text (it is not at byte 1), got b'\\xe9.wav\\t1'; "],
    ),
    (b"caf\xe9\na\t1\n", ["t.tsv:1: line must be UTF-8 text (it is not at byte 4)"]),
    (".\na\t1\n".encode("utf-16"), ["t.tsv: must be UTF-8 text, got UTF-16LE; save it as UTF-8"]),
    (
        b"PK\x03\x04\n",
        ["t.tsv: must be text, got a workbook; save it as CSV UTF-8 in the spreadsheet program"],
    ),
    (b"\xef\xbb\xbf.\na\t1\n", ["t.tsv:1: must not begin with a byte order mark; save as UTF-8 without one"]),
]


@pytest.mark.parametrize(("content", "expected"), AUDIO_CASES)
def test_faults_of_audio_lists(tmp_path: Path, content: str | bytes, expected: list[str]) -> None:
    found = faults_of(read_audio_list, tmp_path / "t.tsv", content)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


PAIR_CASES = [
    (f"{PAIR_HEADER}\n", ["p.tsv:1: file must list at least one pair; "]),
    (
        "a\ti\t\t\n",
        ["p.tsv:1: header must name the columns audio_id, image_id, speaker, text, got 'a\\ti\\t\\t'; "],
    ),
    (
        "audio_id\timage_id\na\ti\n",
        ["p.tsv:1: header lacks 'speaker', 'text'; the columns are audio_id, image_id, "],
    ),
    (f"{PAIR_HEADER}\tmood\na\ti\t\t\tx\n", ["p.tsv:1: header has unknown columns 'mood'; the columns are "]),
    (f"{PAIR_HEADER}\ttext\na\ti\t\t\t\n", ["p.tsv:1: header names 'text' more than once; "]),
    (
        "audio_id\timage_id\tspeaker\tcaption\na\ti\t\t\n",
        ["p.tsv:1: header lacks 'text'; ", "p.tsv:1: header has unknown columns 'caption'; "],
    ),
    (
        f"{PAIR_HEADER}\n\ti\t\t\na\t\t\t\n",
        ["p.tsv:2: audio_id must not be empty", "p.tsv:3: image_id must not be empty"],
    ),
    (f"{PAIR_HEADER}\na\ti\t x\t\n", ["p.tsv:2: speaker must not begin or end with blanks, got ' x'; "]),
    (
        f"{PAIR_HEADER}\na\ti\t\t\na\ti\t\t\na\tj\t\t\n",
        [
            "p.tsv:3: audio_id must appear only once in the file (first in line 2), got 'a'; ",
            "p.tsv:4: audio_id must appear only once in the file (first in line 2), got 'a'; ",
        ],
    ),
    (
        f"{PAIR_HEADER}\na\ti\n",
        ["p.tsv:2: line must have 4 fields between tabs (audio_id, image_id, speaker, text), got 2"],
    ),
]


@pytest.mark.parametrize(("content", "expected"), PAIR_CASES)
def test_faults_of_pairs(tmp_path: Path, content: str, expected: list[str]) -> None:
    found = faults_of(read_pairs, tmp_path / "p.tsv", content)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


IMAGE_CASES = [
    (
        "image_id\tpath\twidth\theight\tgroup\ni\ti.png\t1\t1\t\n",
        ["i.tsv:1: line 1 must be #root, a tab and the folder that the paths start from ('.' for this one),"],
    ),
    (
        "root\n" + IMAGE_HEADER.partition("\n")[2] + "\ni\ti.png\t1\t1\t\n",
        ["i.tsv:1: line 1 must be #root, a tab"],
    ),
    ("#root\t.\n", ["i.tsv:2: header must name the columns image_id, path, width, height, group, got ''; "]),
    ("#root\t\nx", ["i.tsv:1: root folder must not be empty", "i.tsv:2: header must name the columns"]),
    (f"{IMAGE_HEADER}\n", ["i.tsv:2: file must list at least one image; "]),
    (
        f"{IMAGE_HEADER}\ni\ti.png\t0\tx\t\n",
        ["i.tsv:3: width must be a positive", "i.tsv:3: height must be a positive"],
    ),
    (
        f"{IMAGE_HEADER}\ni\t../i.png\t1\t1\t\n",
        ["i.tsv:3: path must stay below the root, without '..', got '../i.png'; "],
    ),
    (
        f"{IMAGE_HEADER}\ni\ta.png\t1\t1\t\ni\tb.png\t1\t1\t\n",
        ["i.tsv:4: image_id must appear only once in the file (first in line 3), got 'i'; "],
    ),
]


@pytest.mark.parametrize(("content", "expected"), IMAGE_CASES)
def test_faults_of_images(tmp_path: Path, content: str, expected: list[str]) -> None:
    found = faults_of(read_images, tmp_path / "i.tsv", content)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_without_the_root_line_images_are_still_read_for_the_checker(tmp_path: Path) -> None:
    (tmp_path / "i.tsv").write_text("image_id\tpath\twidth\theight\tgroup\ni\ti.png\t1\t1\t\n")
    table = scan_images(tmp_path / "i.tsv")
    assert table.rows == (ImageRow("i", "i.png", 1, 1),)
    assert len(table.faults) == 1


REGION_CASES = [
    ("i\t-1\t0\t0\t1\t1\n", ["r.tsv:2: feature_row must be a row number, an integer from 0 on, got '-1'; "]),
    (
        "i\t0\t-0.1\t0\t1\t1.5\n",
        ["r.tsv:2: x0 must be a number in [0, 1], got '-0.1'; ", "r.tsv:2: y1 must be a number in"],
    ),
    ("i\t0\tnan\t0\t1\t1\n", ["r.tsv:2: x0 must be a number in [0, 1], got 'nan'; "]),
    ("i\t0\t0.6\t0\t0.5\t1\n", ["r.tsv:2: box must have x0 < x1 and y0 < y1, got '0.6 0 0.5 1'; "]),
    ("i\t0\t0\t1\t1\t1\n", ["r.tsv:2: box must have x0 < x1 and y0 < y1, got '0 1 1 1'; "]),
    (
        "i\t0\t0\t0\t1\t1\ni\t0\t0.0\t0\t1\t1\n",
        ["r.tsv:3: row must appear only once in the file (first in line 2), got ('i', 0, 0.0,"],
    ),
]


@pytest.mark.parametrize(("content", "expected"), REGION_CASES)
def test_faults_of_regions(tmp_path: Path, content: str, expected: list[str]) -> None:
    found = faults_of(read_regions, tmp_path / "r.tsv", f"{REGION_HEADER}\n{content}")
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_regions_may_share_features_and_images(tmp_path: Path) -> None:
    rows = (
        RegionRow("i", 0, 0.0, 0.0, 0.5, 1.0),
        RegionRow("i", 0, 0.5, 0.0, 1.0, 1.0),
        RegionRow("j", 0, 0.0, 0.0, 1.0, 1.0),
    )
    write_regions(tmp_path / "r.tsv", rows)
    assert read_regions(tmp_path / "r.tsv") == rows


def test_a_missing_list_names_the_splits_that_are_there(tmp_path: Path) -> None:
    for name in ("test.tsv", "train.tsv", "train.pairs.tsv", "images.tsv", "regions.tsv"):
        (tmp_path / name).write_text("")
    with raises_fault("file.missing", "tset.tsv") as caught:
        read_audio_list(tmp_path / "tset.tsv")
    assert "'test'" in str(caught.value)
    assert "test, train" in str(caught.value)
    with raises_fault("file.missing", "valid.pairs.tsv"):
        read_pairs(tmp_path / "valid.pairs.tsv")


@pytest.mark.parametrize("read", [read_audio_list, read_pairs, read_images, read_regions])
def test_missing_and_irregular_files(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with raises_fault("file.missing", "t.tsv"):
        read(tmp_path / "t.tsv")
    with raises_fault("file.kind"):
        read(tmp_path)


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(f"{PAIR_HEADER}\na\ti\t\tx")
    assert read_pairs(tmp_path / "p.tsv") == (PairRow("a", "i", "", "x"),)


def test_scanning_keeps_good_rows_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(f"{PAIR_HEADER}\na\ti\t\t\nb\t\t\t\nc\ti\t\t\n")
    table = scan_pairs(tmp_path / "p.tsv")
    assert [row.audio_id for row in table.rows] == ["a", "c"]
    assert table.lines == (2, 4)
    assert table.doubtful == {"b"}


def test_writers_name_all_rows_that_the_format_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    rows = [
        PairRow("a", "i", "", "x\ty"),
        PairRow("b", "i"),
        PairRow("b", "j"),
        PairRow(" c", "i", "s\n", ""),
    ]
    with pytest.raises(FaultError) as caught:
        write_pairs(path, rows)
    assert [(item.place, item.code) for item in caught.value.faults] == [
        ("p.tsv:2", "table.value"),
        ("p.tsv:4", "table.duplicate"),
        ("p.tsv:5", "table.value"),
    ]
    assert not path.exists()


def test_writers_refuse_what_readers_would(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    with raises_fault("table.value", "t.tsv:2"):
        write_audio_list(path, [AudioRow("../a", 1)], root=".")
    with raises_fault("table.empty", "t.tsv"):
        write_audio_list(path, [], root=".")
    with raises_fault("table.root", "t.tsv:1"):
        write_audio_list(path, [AudioRow("a", 1)], root="")
    with raises_fault("table.root", "t.tsv:1"):
        write_images(path, [ImageRow("a", "a", 1, 1)], root="a\tb")
    with raises_fault("table.value", "t.tsv:2"):
        write_regions(path, [RegionRow("i", 0, 0.5, 0.0, 0.5, 1.0)])
    assert not path.exists()


def test_writers_keep_an_existing_file_without_force(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    write_pairs(path, [PairRow("a", "i")])
    with raises_fault("output.exists", "p.tsv", error=OutputExistsError):
        write_pairs(path, [PairRow("b", "i")])
    assert read_pairs(path) == (PairRow("a", "i"),)
    write_pairs(path, [PairRow("b", "i")], force=True)
    assert read_pairs(path) == (PairRow("b", "i"),)


def test_reading_is_linear_in_the_number_of_lines(tmp_path: Path) -> None:
    def seconds(n_rows: int) -> float:
        path = tmp_path / f"{n_rows}.tsv"
        path.write_text(f"{PAIR_HEADER}\n" + "".join(f"a{i}\ti\t\t\na{i}\ti\t\t\n" for i in range(n_rows)))
        start = time.process_time()
        scan_pairs(path)
        return time.process_time() - start

    seconds(100)
    # Half of the lines are duplicates. A quadratic reader would take 100 times as long; other work on the
    # machine slows some of the readings down.
    few, many = (min(seconds(n_rows) for _ in range(3)) for n_rows in (2_000, 20_000))
    assert many < 40 * max(few, 0.005)

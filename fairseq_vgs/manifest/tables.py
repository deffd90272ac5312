"""The tables of a data folder: audio lists, pairs, utterances, images, regions.

``read_*`` and ``write_*`` raise ``FaultError`` naming all faulty lines; writers check like readers.
``scan_*`` return all readable rows and the faults, for the checker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fairseq_vgs.files import columns
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.tables import (
    Table,
    TableFormat,
    line_number,
    parse_header,
    parse_rows,
    read_lines,
    render_rows,
)
from fairseq_vgs.manifest.schema import (
    AudioList,
    AudioRow,
    ImageRow,
    ImageTable,
    PairRow,
    RegionRow,
    UtteranceRow,
)

Row = TypeVar("Row")
_Parser = Callable[[TableFormat[Row], Sequence[str | None], Path], Table[Row]]
ROOT_MARK = "#root\t"


def _check_box(row: RegionRow) -> None:
    if not (row.x0 < row.x1 and row.y0 < row.y1):
        raise ValueError("box must have x0 < x1 and y0 < y1", f"{row.x0:g} {row.y0:g} {row.x1:g} {row.y1:g}")


_NAME, _SPEAKER, _TEXT = (
    columns.identifier("audio_id"),
    columns.optional("speaker"),
    columns.free_text("text"),
)
_IMAGE = columns.identifier("image_id")
_EDGES = ("x0", "y0", "x1", "y1")
AUDIO = TableFormat(
    (columns.media_path("audio_id"), columns.positive_integer("n_samples")),
    AudioRow,
    unique=("audio_id",),
    noun="utterance",
)
PAIRS = TableFormat((_NAME, _IMAGE, _SPEAKER, _TEXT), PairRow, unique=("audio_id",), noun="pair")
UTTERANCES = TableFormat((_NAME, _SPEAKER, _TEXT), UtteranceRow, unique=("audio_id",), noun="utterance")
IMAGES = TableFormat(
    (
        _IMAGE,
        columns.optional_media_path("path"),
        columns.positive_integer("width"),
        columns.positive_integer("height"),
        columns.optional("group"),
    ),
    ImageRow,
    unique=("image_id",),
    noun="image",
)
REGIONS = TableFormat(
    (_IMAGE, columns.row_number("feature_row"), *map(columns.share, _EDGES)),
    RegionRow,
    unique=("image_id", "feature_row", *_EDGES),
    noun="region",
    check=_check_box,
)


def read_audio_list(path: Path) -> AudioList:
    """Read an audio list in fairseq's format: a root line, then path and length in samples.

    A relative root is relative to the list's folder (in fairseq, to the working directory).
    """
    table = _strict(scan_audio_list(path))
    return AudioList(root_of(table), table.rows)


def read_pairs(path: Path) -> tuple[PairRow, ...]:
    """Read a pair table; audio ids are unique, image ids may repeat."""
    return _strict(scan_pairs(path)).rows


def read_utterances(path: Path) -> tuple[UtteranceRow, ...]:
    """Read the table of speakers and texts of utterances without a pair."""
    return _strict(scan_utterances(path)).rows


def read_images(path: Path) -> ImageTable:
    """Read an image table; its root works as in an audio list."""
    table = _strict(scan_images(path))
    return ImageTable(root_of(table), table.rows)


def read_regions(path: Path) -> tuple[RegionRow, ...]:
    """Read a region table; an image may have several regions, which may share a feature row."""
    return _strict(scan_regions(path)).rows


def write_audio_list(path: Path, rows: Iterable[AudioRow], *, root: Path | str, force: bool = False) -> None:
    """Write an audio list; ``root`` is absolute or relative to the list's folder."""
    _write(Path(path), [_checked_root(path, root)], rows, AUDIO, force=force)


def write_pairs(path: Path, rows: Iterable[PairRow], *, force: bool = False) -> None:
    """Write a pair table."""
    _write(Path(path), [_header(PAIRS)], rows, PAIRS, force=force)


def write_utterances(path: Path, rows: Iterable[UtteranceRow], *, force: bool = False) -> None:
    """Write the table of utterances without a pair."""
    _write(Path(path), [_header(UTTERANCES)], rows, UTTERANCES, force=force)


def write_images(
    path: Path, rows: Iterable[ImageRow], *, root: Path | str = ".", force: bool = False
) -> None:
    """Write an image table; ``root`` is absolute or relative to the table's folder."""
    _write(Path(path), [ROOT_MARK + _checked_root(path, root), _header(IMAGES)], rows, IMAGES, force=force)


def write_regions(path: Path, rows: Iterable[RegionRow], *, force: bool = False) -> None:
    """Write a region table."""
    _write(Path(path), [_header(REGIONS)], rows, REGIONS, force=force)


def _scan(table: TableFormat[Row], parse: _Parser[Row], path: Path) -> Table[Row]:
    """Read a table as far as possible."""
    path = Path(path)
    try:
        lines, faults = read_lines(path)
    except FaultError as error:
        return Table(path.name, faults=error.faults, usable=False)
    found = parse(table, lines, path)
    return replace(found, faults=tuple(sorted([*faults, *found.faults], key=line_number)))


def _parse_audio_list(table: TableFormat[Row], lines: Sequence[str | None], path: Path) -> Table[Row]:
    root_text, root = lines[0], None
    faults: list[Fault] = []
    if root_text is not None and "\t" in root_text:
        expected = "line 1 must be the root folder alone"
        step = "put the folder that the paths start from on line 1"
        faults.append(fault(f"{path.name}:1", expected, root_text, step, code="table.root"))
    else:
        root = _parse_root(root_text, path, faults)
    found = parse_rows(lines, table, name=path.name, start=1, order=(0, 1))
    return replace(found, root=root, faults=(*faults, *found.faults))


def _parse_images(table: TableFormat[Row], lines: Sequence[str | None], path: Path) -> Table[Row]:
    faults: list[Fault] = []
    first = lines[0]
    if first is not None and not first.startswith(ROOT_MARK):
        expected = "line 1 must be #root, a tab and the folder that the paths start from ('.' for this one)"
        faults.append(fault(f"{path.name}:1", expected, first, "put that line first", code="table.root"))
        # If only the root line is missing, check the rest with paths relative to this folder.
        start = 0 if first.split("\t")[0] in table.names else 1
        root: Path | None = path.parent.absolute()
    else:
        start, root = 1, _parse_root(None if first is None else first.removeprefix(ROOT_MARK), path, faults)
    found = _parse_headed(table, lines, path, start)
    return replace(found, root=root, faults=(*faults, *found.faults))


def _parse_headed(
    table: TableFormat[Row], lines: Sequence[str | None], path: Path, start: int = 0
) -> Table[Row]:
    header = lines[start] if start < len(lines) else ""
    if header is None:
        return Table(path.name, usable=False)
    order, faults = parse_header(header, table, place=f"{path.name}:{start + 1}")
    if faults:
        return Table(path.name, faults=tuple(faults), usable=False)
    return parse_rows(lines, table, name=path.name, start=start + 1, order=order)


# Of tables that a reader takes as far as possible.
scan_audio_list = partial(_scan, AUDIO, _parse_audio_list)
scan_pairs = partial(_scan, PAIRS, _parse_headed)
scan_utterances = partial(_scan, UTTERANCES, _parse_headed)
scan_images = partial(_scan, IMAGES, _parse_images)
scan_regions = partial(_scan, REGIONS, _parse_headed)


def _parse_root(text: str | None, path: Path, faults: list[Fault]) -> Path | None:
    if text is None:
        return None
    if problem := _root_problem(text):
        expected, step = f"root folder {problem}", "name a folder, '.' for this one"
        faults.append(fault(f"{path.name}:1", expected, text, step, code="table.root"))
        return None
    return path.parent.absolute() / text


def _root_problem(text: str) -> str | None:
    if not text:
        return "must not be empty"
    if text != text.strip():
        return "must not begin or end with blanks"
    if any(c in text for c in "\t\n\r\0"):
        return "must not contain tabs, line ends or NUL"
    return None


def _checked_root(path: Path, root: Path | str) -> str:
    if problem := _root_problem(str(root)):
        place, expected = f"{Path(path).name}:1", f"root folder {problem}"
        raise FaultError(fault(place, expected, str(root), "name a folder", code="table.root"))
    return str(root)


def _strict(table: Table[Row]) -> Table[Row]:
    if table.faults:
        raise FaultError(table.faults)
    return table


def root_of(table: Table[Any]) -> Path:
    """Return the root of a table without faults."""
    if table.root is None:
        raise ValueError(f"{table.name}: has no root")
    return table.root


def _header(table: TableFormat[Row]) -> str:
    return "\t".join(table.names)


def _write(
    path: Path, preamble: Sequence[str], rows: Iterable[Row], table: TableFormat[Row], *, force: bool
) -> None:
    lines = render_rows(rows, table, name=path.name, start=len(preamble) + 1)
    with atomic_write(path, force=force) as file:
        file.writelines(f"{line}\n" for line in [*preamble, *lines])

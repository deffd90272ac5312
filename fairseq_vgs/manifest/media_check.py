"""Check the media of a table, and fingerprint their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import MediaLocation, check_present, read_bytes, resolve
from fairseq_vgs.files.tables import Table

Row = TypeVar("Row")
Progress = Callable[[int, int], None]


class MediaCheck:
    """Check the media of several tables, one after another, and collect their faults.

    Args:
        read_media: read and decode; otherwise only check that every medium exists.
        total: number of media in all tables, for ``progress``.
        progress: called with (media done, total) after each.
    """

    def __init__(self, *, read_media: bool, total: int, progress: Progress | None = None) -> None:
        self.faults: list[Fault] = []
        self._read_media = read_media
        self._total = total
        self._done = 0
        self._progress = progress

    def run(
        self,
        table: Table[Row],
        *,
        entry: Callable[[Row], str],
        problems: Callable[[bytes, Row, str], list[Fault]],
    ) -> list[str | None]:
        """Check the media of one table.

        Args:
            table: the table; paths are relative to its root.
            entry: returns the path or archive entry of a row, empty if it has no medium.
            problems: returns the faults of a row's bytes, at a place.

        Returns:
            The fingerprint of each row's content: the SHA-256 of the bytes or, without reading, their
            location. None without content.
        """
        if table.root is None or not table.root.is_dir():
            if table.root is not None:
                place, step = f"{table.name}:1", "correct line 1, or put the media there"
                expected = "root folder must exist"
                self.faults.append(fault(place, expected, str(table.root), step, code="folder.missing"))
            self._advance(len(table.rows))
            return [None] * len(table.rows)
        prints: list[str | None] = []
        missing_archives: dict[Path, list[int]] = {}
        for line, row in zip(table.lines, table.rows, strict=True):
            if not entry(row):
                prints.append(None)
                self._advance(1)
                continue
            location = resolve(table.root, entry(row))
            if location.offset is not None and not location.path.exists():
                missing_archives.setdefault(location.path, []).append(line)
                prints.append(None)
            else:
                prints.append(self._check_one(f"{table.name}:{line}", location, row, problems))
            self._advance(1)
        # Report a missing archive once, however many entries it should hold.
        for path, lines in missing_archives.items():
            needed = f"archive is missing, needed by {len(lines)} lines from here on"
            message = f"{path}: {needed}; check the root and the path"
            self.faults.append(Fault(f"{table.name}:{lines[0]}", message, "archive.missing"))
        return prints

    def _check_one(
        self,
        place: str,
        location: MediaLocation,
        row: Row,
        problems: Callable[[bytes, Row, str], list[Fault]],
    ) -> str | None:
        try:
            if not self._read_media:
                check_present(location)
                return f"at {os.path.normpath(location.path)}:{location.offset}:{location.length}"
            data = read_bytes(location)
        except FaultError as error:
            self.faults.extend(Fault(place, str(item), item.code) for item in error.faults)
            return None
        self.faults.extend(problems(data, row, place))
        # Empty files are all equal, which is no sign of a copy.
        return hashlib.sha256(data).hexdigest() if data else None

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)

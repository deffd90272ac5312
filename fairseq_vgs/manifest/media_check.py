"""Check the media of a table, and fingerprint their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import MediaLocation, check_present, read_bytes, resolve
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.tables import Table

Row = TypeVar("Row")
Problems = Callable[[bytes, Row, str], list[Fault]]


class MediaCheck:
    """Check the media of several tables, and collect their faults; arguments as in ``inspect_folder``."""

    def __init__(self, *, read_media: bool, total: int, progress: Progress | None = None) -> None:
        self.faults: list[Fault] = []
        self._read_media, self._progress = read_media, progress
        self._done, self._total = 0, total

    def run(
        self,
        table: Table[Row],
        *,
        entry: Callable[[Row], str],
        problems: Problems[Row],
    ) -> list[str | None]:
        """Check the media of one table.

        ``entry`` returns a row's path or archive entry, empty if it has no medium; ``problems`` the faults of
        its bytes. Returns each row's fingerprint: the SHA-256 of the bytes or, without reading, their place;
        None without content.
        """
        if table.root is None or not table.root.is_dir():
            if table.root is not None:
                expected, step = "root folder must exist", "correct line 1, or put the media there"
                place, got = f"{table.name}:1", str(table.root)
                self.faults.append(fault(place, expected, got, step, code="folder.missing"))
            self._advance(len(table.rows))
            return [None] * len(table.rows)
        prints: list[str | None] = []
        missing_archives: dict[Path, list[str]] = {}
        for place, row in table.placed():
            print_ = None
            if entry(row):
                location = resolve(table.root, entry(row))
                if location.offset is not None and not location.path.exists():
                    missing_archives.setdefault(location.path, []).append(place)
                else:
                    print_ = self._check_one(place, location, row, problems)
            prints.append(print_)
            self._advance(1)
        # Report a missing archive once, however many entries it should hold.
        for path, places in missing_archives.items():
            needed = f"archive is missing, needed by {len(places)} lines from here on"
            message = f"{path}: {needed}; check the root and the path"
            self.faults.append(Fault(places[0], message, "archive.missing"))
        return prints

    def _check_one(
        self,
        place: str,
        location: MediaLocation,
        row: Row,
        problems: Problems[Row],
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

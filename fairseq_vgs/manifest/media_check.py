"""Check the media of a table, and fingerprint their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import MediaLocation, check_present, read_bytes, resolve
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.files.tables import Table

Row = TypeVar("Row")
Problems = Callable[[bytes, Row, str], list[Fault]]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a medium is, as in ``MediaCheck.run``, its faults and bytes, and the archive that it needs."""

    fingerprint: str | None = None
    faults: Sequence[Fault] = ()
    size: int = 0
    missing_archive: Path | None = None


class MediaCheck:
    """Check the media of several tables, and collect their faults; arguments as in ``inspect_folder``.

    ``bytes_read`` are those of all media so far.
    """

    def __init__(
        self, *, read_media: bool, total: int, jobs: int = 1, progress: Progress | None = None
    ) -> None:
        self.faults: list[Fault] = []
        self.bytes_read = 0
        self._read_media, self._jobs, self._progress = read_media, jobs, progress
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
        root = table.root
        prints: list[str | None] = []
        missing_archives: dict[Path, list[str]] = {}

        def look(place: str, row: Row) -> _Found:
            if not entry(row):
                return _Found()
            location = resolve(root, entry(row))
            if location.offset is not None and not location.path.exists():
                return _Found(missing_archive=location.path)
            return self._check_one(place, location, row, problems)

        placed = list(table.placed())
        for (place, _), found in zip(
            placed, map_in_order(lambda item: look(*item), placed, jobs=self._jobs), strict=True
        ):
            if found.missing_archive:
                missing_archives.setdefault(found.missing_archive, []).append(place)
            prints.append(found.fingerprint)
            self.faults += found.faults
            self.bytes_read += found.size
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
    ) -> _Found:
        try:
            if not self._read_media:
                check_present(location)
                return _Found(f"at {os.path.normpath(location.path)}:{location.offset}:{location.length}")
            data = read_bytes(location)
        except FaultError as error:
            return _Found(faults=[Fault(place, str(item), item.code) for item in error.faults])
        # Empty files are all equal, which is no sign of a copy.
        fingerprint = hashlib.sha256(data).hexdigest() if data else None
        return _Found(fingerprint, problems(data, row, place), len(data))

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)

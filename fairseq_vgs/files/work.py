"""Resumable work: settings are recorded, and finished items are not processed again.

``open_work`` yields a hidden folder next to an output. ``.OUTPUT.work/journal.jsonl`` gets a line for every
finished item, once its files are written, and ``.OUTPUT.work/data`` becomes the output. A killed run leaves
both, and the next run with the same settings resumes. Work that resumes in the output itself, such as a
folder of features, records its settings there and checks them with ``refuse_other_settings``.

Other settings start the work again, with a warning. What the version before started is resumed or refused,
never removed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fairseq_vgs.files.atomic import lock
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.output import put_in_place, refuse_output

logger = logging.getLogger(__name__)

VERSION = 3
_FORMER = 2  # its journal has one mapping per item, and its archives are filled as the work goes on
_FORMER_FIELDS = ("kind", "path", "stamp", "sha256", "measures", "target", "length")
JOURNAL, DATA = "journal.jsonl", "data"
FLUSH_SECONDS = 0.2

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identity of a processed file: size in bytes, time of last change in nanoseconds."""

    size: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file."""
        return cls(status.st_size, status.st_mtime_ns)


def differences(before: object, now: Mapping[str, object], *, passed_over: Collection[str] = ()) -> str:
    """Describe in one line how the settings of two runs differ, or return ""; some may be passed over."""
    known: Mapping[str, object] = before if isinstance(before, Mapping) else {}
    plain: Mapping[str, object] = json.loads(json.dumps(now))
    names = sorted({*known, *plain}.difference(passed_over))
    return "; ".join(
        f"{name}: {known.get(name, 'not recorded')} before, {plain.get(name, 'nothing')} now"
        for name in names
        if known.get(name) != plain.get(name)
    )


def refuse_other_settings(place: Path, before: object, now: Mapping[str, object], *, step: str) -> None:
    """Refuse to resume the work in ``place`` if it was started with other settings; list the differences.

    Raises:
        FaultError: ``work.settings``.
    """
    if different := differences(before, now):
        raise FaultError.at(place, f"started with other settings ({different}); {step}", "work.settings")


class WorkFolder:
    """The hidden work folder of one output: ``data`` becomes it, ``finished`` records its items by name."""

    def __init__(self, path: Path, journal: TextIO, finished: dict[str, Record]) -> None:
        self.path = path
        self.data = path / DATA
        self.finished = finished
        self._journal, self._flushed = journal, 0.0

    def add(self, name: str, record: Record) -> None:
        """Record a finished item, which no later run processes again."""
        self.finished[name] = record
        self._write(name, record)

    def forget(self, name: str) -> None:
        """Mark an item as unfinished, so that its files may be overwritten."""
        if self.finished.pop(name, None) is not None:
            self._write(name, None)

    def clear(self, *, keep: Collection[str]) -> None:
        """Remove everything from ``data`` except these names."""
        for path in self.data.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def publish(self, output: Path, *, maker: str, force: bool) -> None:
        """Rename ``data`` to the output and remove the rest."""
        put_in_place(self.data, output, maker=maker, force=force)
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, record: Record | None) -> None:
        self._journal.write(json.dumps([name, record]) + "\n")
        # A flush takes as long as small items do; what is lost with a killed run is made again.
        if (now := time.monotonic()) > self._flushed + FLUSH_SECONDS:
            self._journal.flush()
            self._flushed = now


@contextmanager
def open_work(
    output: Path, settings: Mapping[str, object], *, maker: str, force: bool
) -> Iterator[WorkFolder]:
    """Open the work folder of an output, resuming an earlier run with the same settings.

    Settings are all that finished items depend on; ``maker`` and ``force`` are those of ``refuse_output``.

    Raises:
        FaultError: The output must not be written, another run is working on it, or a former version started
            it and it cannot be resumed (``work.version``, ``work.settings``).
    """
    output = output.absolute()
    path = output.parent / f".{output.name}.work"
    if path.is_dir() and not (path / DATA).exists():
        with _locked_journal(path, output):  # another run may be making it
            shutil.rmtree(path, ignore_errors=True)  # killed when its data had become the output
    refuse_output(output, maker=maker, force=force)
    path.mkdir(parents=True, exist_ok=True)
    with _locked_journal(path, output) as journal:
        (path / DATA).mkdir(exist_ok=True)
        finished = _go_on(path, journal, {"version": VERSION, **settings})
        try:
            yield WorkFolder(path, journal, finished)
        finally:
            if not finished:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked_journal(path: Path, output: Path) -> Iterator[TextIO]:
    with (path / JOURNAL).open("a+", encoding="ascii", errors="replace", newline="\n") as journal:
        lock(journal, path / JOURNAL, place=output, doing="preparing this folder")
        yield journal


def _go_on(path: Path, journal: TextIO, settings: Mapping[str, object]) -> dict[str, Record]:
    """Return the finished items of a journal; start it again if it has other settings."""
    journal.seek(0)
    header = next(journal, "")
    finished: dict[str, Record] = {}
    different = differences(_begun_with(path, header, settings), settings)
    if header and not different:
        end = len(header)
        for line in journal:
            item = _from_former(_parse(line))
            if not isinstance(item, list) or len(item) != 2 or not isinstance(item[1], dict | None):
                break  # the line that a killed run was writing
            name, record = item
            if record is None:
                finished.pop(name, None)
            else:
                finished[name] = record
            end += len(line)
        os.ftruncate(journal.fileno(), end)
        return finished
    if header:
        logger.warning("%s: started with other settings (%s); starting again", path, different)
    os.ftruncate(journal.fileno(), 0)
    shutil.rmtree(path / DATA)
    (path / DATA).mkdir()
    journal.write(json.dumps(settings, sort_keys=True) + "\n")
    journal.flush()
    return finished


def _begun_with(path: Path, header: str, settings: Mapping[str, object]) -> Any:
    """Return the settings in a journal's header; refuse those of a former version that cannot be resumed."""
    begun = _parse(header)
    if not header.endswith("\n") or (isinstance(begun, dict) and begun.get("version") == VERSION):
        return begun
    step = f"remove {path} to start again, or finish it with the version that started it"
    if not isinstance(begun, dict) or begun.get("version") != _FORMER or begun.get("pack"):
        raise FaultError.at(path, f"started by another version; {step}", "work.version")
    begun = {**begun, "version": VERSION}
    refuse_other_settings(path, begun, settings, step=step)
    return begun


def _from_former(item: Any) -> Any:
    """Return name and record of a line of a former journal; any other line as it is."""
    if not isinstance(item, dict):
        return item
    try:
        name, record = f"{item['kind']}/{item['target']}", {field: item[field] for field in _FORMER_FIELDS}
        return [name, None if record["stamp"]["size"] < 0 else record]  # a forgotten one has no stamp
    except (KeyError, TypeError):
        return None


def _parse(line: str) -> Any:
    try:
        return json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None

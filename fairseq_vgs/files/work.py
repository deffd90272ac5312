"""Work that survives an interruption: a hidden folder beside the output, and a journal of what is finished.

``.OUTPUT.work/journal.jsonl`` gets a line for every finished file, after what belongs to it was written;
``.OUTPUT.work/data`` becomes the output. A killed run leaves both, and the next one goes on from there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from fairseq_vgs.files.archives import ShardEntry
from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.output import put_in_place, refuse_output

VERSION = 2
JOURNAL, DATA = "journal.jsonl", "data"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file is still the one that was worked on: bytes, nanoseconds of last change."""

    size: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Returns the stamp of a file."""
        return cls(status.st_size, status.st_mtime_ns)


# That of no file.
NO_STAMP = Stamp(-1, -1)


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished file.

    Attributes:
        kind: ``speech`` or ``pictures``.
        path: the file, below the corpus' root.
        stamp: of the file when it was read.
        sha256: of the bytes that a data folder uses: the converted ones where it was converted.
        measures: length in samples; or width and height in pixels.
        length: bytes of what was written for it; 0 where the file itself is used.
        shard: number of the archive that holds it, -1 for none.
        offset: where in the archive.
        crc: CRC-32 of the content in the archive.
        target: its name in the data folder; where it stays in place, its path.
    """

    kind: str
    path: str
    stamp: Stamp
    sha256: str
    measures: tuple[int, ...]
    length: int = 0
    shard: int = -1
    offset: int = 0
    crc: int = 0
    target: str = ""

    def entry(self) -> ShardEntry:
        """Returns where the archive holds it."""
        return ShardEntry(self.target, self.offset, self.length, self.shard, self.crc)


class WorkFolder:
    """The hidden folder of one output; made by ``open_work``.

    Attributes:
        data: what becomes the output.
        finished: what earlier runs finished, by kind and path, and this one adds to.
    """

    def __init__(self, path: Path, journal: TextIO, finished: dict[tuple[str, str], Finished]) -> None:
        self.path = path
        self.data = path / DATA
        self.finished = finished
        self._journal = journal

    def add(self, item: Finished) -> None:
        """Notes a finished file; from here on it need not be worked on again."""
        self.finished[item.kind, item.path] = item
        self._journal.write(json.dumps(asdict(item)) + "\n")
        self._journal.flush()

    def forget(self, item: Finished) -> None:
        """Notes that what was written for a file may be written over; no later run takes it for finished."""
        self.add(replace(item, stamp=NO_STAMP))

    def clear(self, *, keep: Collection[str]) -> None:
        """Removes from ``data`` what a run that stopped near its end left there, except these names."""
        for path in self.data.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def publish(self, output: Path, *, maker: str, force: bool) -> None:
        """Makes ``data`` the output and removes the rest."""
        put_in_place(self.data, output, maker=maker, force=force)
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def open_work(output: Path, key: Mapping[str, object], *, maker: str, force: bool) -> Iterator[WorkFolder]:
    """Opens the work folder of an output, with what an earlier run finished if it ran with the same key.

    Args:
        output: the folder to be made.
        key: everything that the finished files depend on, such as the rate they are converted to.
        maker: the subcommand of ``prepare`` that makes the output.
        force: the output may exist, if the same subcommand made it.

    Raises:
        FaultError: the output must not be written, or another run is preparing it.
    """
    output = output.absolute()
    refuse_output(output, maker=maker, force=force)
    path = output.parent / f".{output.name}.work"
    (path / DATA).mkdir(parents=True, exist_ok=True)
    with (path / JOURNAL).open("a+", encoding="ascii", errors="replace", newline="\n") as journal:
        _lock(journal, output)
        journal.seek(0)
        header = json.dumps({"version": VERSION, **key}, sort_keys=True)
        lines = iter(journal)
        finished = {}
        if next(lines, "") == header + "\n":
            end = len(header) + 1
            for line in lines:
                item = _parse(line)
                if item is None:  # the line that a killed run was writing, and nothing behind it
                    break
                finished[item.kind, item.path] = item
                end += len(line)
            os.ftruncate(journal.fileno(), end)
        else:
            os.ftruncate(journal.fileno(), 0)
            shutil.rmtree(path / DATA)
            (path / DATA).mkdir()
            journal.write(header + "\n")
            journal.flush()
        try:
            yield WorkFolder(path, journal, finished)
        finally:
            if not finished:
                shutil.rmtree(path, ignore_errors=True)


def _parse(line: str) -> Finished | None:
    try:
        fields = json.loads(line)
        stamp, measures = Stamp(**fields.pop("stamp")), tuple(fields.pop("measures"))
        return Finished(stamp=stamp, measures=measures, **fields) if line.endswith("\n") else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _lock(journal: TextIO, output: Path) -> None:
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        step = "wait for it, or choose another output folder"
        raise FaultError(Fault(str(output), f"another run is preparing this folder; {step}")) from None
    except OSError:
        # Some network file systems have no locks; two runs on one output are then the user's care.
        pass

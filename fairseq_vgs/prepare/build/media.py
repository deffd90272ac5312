"""Measure, convert and pack the media of a corpus, each only once."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairseq_vgs.files.archives import pack_files, packed_sizes, remove_empty_folders, write_whole
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.files.work import Stamp, WorkFolder
from fairseq_vgs.media.content import read_content
from fairseq_vgs.media.encode import to_flac
from fairseq_vgs.media.errors import MediumError, refuse_sound
from fairseq_vgs.media.pictures import inspect_picture
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import decode, header_rate
from fairseq_vgs.prepare.build.medium import SPEECH, Medium, UnusableMedium


@dataclass(frozen=True, slots=True)
class Seen:
    """A file's stamp and, if asked for, the sample rate in its header."""

    stamp: Stamp
    rate: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished file.

    Attributes:
        kind: ``speech`` or ``pictures``.
        path: The file, below the corpus' root.
        stamp: Of the file when it was read.
        sha256: Of the bytes in the data folder, after conversion.
        measures: Length in samples, or width and height in pixels.
        target: Its name in the data folder, or its path if it stays in place.
        length: Bytes written for it; 0 if the file itself is used.
    """

    kind: str
    path: str
    stamp: Stamp
    sha256: str
    measures: tuple[int, ...]
    target: str
    length: int

    @classmethod
    def parse(cls, record: dict[str, Any]) -> Finished:
        """Read a line of the journal."""
        return cls(**{**record, "stamp": Stamp(**record["stamp"]), "measures": tuple(record["measures"])})


def survey(
    root: Path, media: Sequence[Medium], *, rates: bool, jobs: int, progress: Progress | None
) -> tuple[dict[str, Seen], list[UnusableMedium]]:
    """Look at every file without decoding it; return what exists, and the problems of the rest.

    With ``rates``, sample rates are read from the headers.
    """

    def look(medium: Medium) -> Seen | UnusableMedium:
        path = root / medium.path
        try:
            status = path.stat()
        except FileNotFoundError:
            return UnusableMedium(medium, "missing file", "no such file", "file.missing")
        except OSError as error:
            got = error.strerror or type(error).__name__
            return UnusableMedium(medium, "unreadable file", got, "file.unreadable")
        if not stat.S_ISREG(status.st_mode):
            return UnusableMedium(medium, "no regular file", "no regular file", "file.unreadable")
        return Seen(Stamp.of(status), header_rate(path) if rates else None)

    seen, problems = {}, []
    for medium, result in zip(media, map_in_order(look, media, jobs=jobs, progress=progress), strict=True):
        if isinstance(result, UnusableMedium):
            problems.append(result)
        else:
            seen[medium.path] = result
    return seen, problems


class MediaBuilder:
    """Measure, convert and pack media; keep what earlier runs finished.

    Args:
        work: The work folder; media are written to its ``data/speech`` and ``data/pictures``.
        converts: Write recordings as 16 kHz mono FLAC.
        pack: ``zip``, ``tar``, or empty to leave media as files.
        shard_bytes: Size of the archives.
        jobs: Number of threads.
    """

    def __init__(self, work: WorkFolder, *, converts: bool, pack: str, shard_bytes: int, jobs: int) -> None:
        self._work = work
        self._converts = converts
        self._pack = pack
        self._shard_bytes = shard_bytes
        self._jobs = jobs
        self.n_reused = 0

    def run(
        self,
        kind: str,
        root: Path,
        media: Sequence[Medium],
        *,
        seen: Mapping[str, Seen],
        progress: Progress | None,
    ) -> tuple[dict[str, Finished], list[UnusableMedium]]:
        """Process all media of one kind in order; return finished files by path, and problems.

        ``seen`` comes from ``survey``; progress counts what earlier runs finished.
        """
        done = self._reusable(kind, media, seen)
        self.n_reused += len(done)
        left = [medium for medium in media if medium.path not in done]
        n_done = len(done)
        problems = []
        for medium in left:  # its name may now belong to another file
            self._work.forget(_name(kind, medium.target))

        def advance(count: int, _: int) -> None:
            if progress is not None:
                progress(n_done + count, len(media))

        def finish(medium: Medium) -> Finished | UnusableMedium:
            try:
                return self._finish(medium, root, seen[medium.path].stamp)
            except MediumError as error:
                return UnusableMedium(medium, error.reason, error.detail, error.code)

        advance(0, 0)
        for outcome in map_in_order(finish, left, jobs=self._jobs, progress=advance):
            if isinstance(outcome, UnusableMedium):
                problems.append(outcome)
                continue
            self._work.add(_name(kind, outcome.target), asdict(outcome))
            done[outcome.path] = outcome
        return done, problems

    def store(self, kind: str, used: Collection[Finished]) -> dict[str, str]:
        """Remove unused media of a kind, and pack the others if asked to.

        Unused are recordings that the user removed since an interrupted run, and those of a picture that was
        left out later.

        Returns:
            The archive entry of each, by its name in the data folder; empty if media stay files.
        """
        folder = self._work.data / kind
        names = [item.target for item in used if item.length]
        if not folder.is_dir():
            return {}
        kept = {folder / name for name in names}
        for path in folder.rglob("*"):
            if path not in kept and path.suffix != f".{self._pack}" and not path.is_dir():
                path.unlink()
        if self._pack:
            return pack_files(folder, names, kind, pack=self._pack, limit=self._shard_bytes)
        remove_empty_folders(folder)
        return {}

    def _finish(self, medium: Medium, root: Path, stamp: Stamp) -> Finished:
        """Read one whole file; write its copy for the data folder unless it stays in place."""
        content = read_content(root / medium.path, medium.path)
        measures: tuple[int, ...]
        stored: bytes | None = content if self._pack else None
        if medium.kind != SPEECH:
            picture = inspect_picture(content, place=medium.path)
            measures = (picture.width, picture.height)
        elif self._converts:
            stored, n_samples = to_flac(decode(content, place=medium.path), place=medium.path)
            measures = (n_samples,)
        else:
            sound = decode(content, place=medium.path)
            if sound.rate != SAMPLE_RATE:
                got = f"{sound.rate} Hz; --convert auto or always resamples"
                raise refuse_sound(medium.path, "sound.sample_rate", got)
            measures = (len(sound.samples),)
        if stored is not None:
            write_whole(self._work.data / medium.kind / medium.target, stored)
        length = 0 if stored is None else len(stored)
        # of the converted bytes: the same recording may come in two containers
        sha256 = hashlib.sha256(content if stored is None else stored).hexdigest()
        return Finished(medium.kind, medium.path, stamp, sha256, measures, medium.target, length)

    def _reusable(self, kind: str, media: Sequence[Medium], seen: Mapping[str, Seen]) -> dict[str, Finished]:
        """Return what earlier runs finished of unchanged files."""
        folder = self._work.data / kind
        packed = packed_sizes(folder, kind, pack=self._pack) if self._pack else {}
        done = {}
        for medium in media:
            record = self._work.finished.get(_name(kind, medium.target))
            finished = Finished.parse(record) if record else None
            if finished is None or (finished.path, finished.stamp) != (medium.path, seen[medium.path].stamp):
                continue
            path = folder / finished.target
            length = path.stat().st_size if path.is_file() else packed.get(finished.target, -1)
            if finished.length in (0, length):
                done[medium.path] = finished
        return done


def _name(kind: str, target: str) -> str:
    """Return the name of a file in the journal: its unique place in the data folder."""
    return f"{kind}/{target}"

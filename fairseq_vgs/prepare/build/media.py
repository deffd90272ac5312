"""Measure, convert and pack the media of a corpus, each only once."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpus import SPEECH, Medium, UnusableMedium


@dataclass(frozen=True, slots=True)
class Seen:
    """A file's stamp and, if asked for, the sample rate in its header."""

    stamp: Stamp
    rate: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished file; ``path`` is below the corpus' root, ``stamp`` that of the file when it was read.

    Attributes:
        sha256: Of the bytes in the data folder, after conversion.
        measures: Length in samples, or width and height in pixels.
        target: Its name in the data folder, or its path if it stays in place.
        length: Bytes written for it; 0 if the file itself is used.
        is_animated: Whether it is a picture of several frames, of which only the first is used.
    """

    kind: str
    path: str
    stamp: Stamp
    sha256: str
    measures: tuple[int, ...]
    target: str
    length: int
    is_animated: bool = False

    def record(self) -> dict[str, Any]:
        """Return it as a line of the journal; ``asdict`` takes ten times as long."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return {**own, "stamp": {"size": self.stamp.size, "changed": self.stamp.changed}}

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
    """Measure, convert (if ``converts``) and pack media; keep what earlier runs finished.

    Media are written to the work folder's ``data/speech`` and ``data/pictures``. ``n_reused`` files were
    finished by an earlier run; ``n_read`` files of ``bytes_read`` were not.
    """

    def __init__(self, work: WorkFolder, options: BuildOptions, *, converts: bool) -> None:
        self._work, self._options, self._converts = work, options, converts
        self.n_reused = self.n_read = self.bytes_read = 0

    def run(
        self,
        kind: str,
        root: Path,
        media: Sequence[Medium],
        *,
        seen: Mapping[str, Seen],
        progress: Progress | None,
    ) -> tuple[dict[str, Finished], list[UnusableMedium]]:
        """Process all media of one kind, ``seen`` by ``survey``; return finished files by path, and problems.

        Progress counts what earlier runs finished.
        """
        done = self._reusable(kind, media, seen)
        n_done = len(done)
        self.n_reused += n_done
        left = [medium for medium in media if medium.path not in done]
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
        for outcome in map_in_order(finish, left, jobs=self._options.jobs, progress=advance):
            if isinstance(outcome, UnusableMedium):
                problems.append(outcome)
                continue
            self.n_read, self.bytes_read = self.n_read + 1, self.bytes_read + outcome.stamp.size
            self._work.add(_name(kind, outcome.target), outcome.record())
            done[outcome.path] = outcome
        return done, problems

    def store(self, kind: str, used: Collection[Finished]) -> dict[str, str]:
        """Pack media of a kind if asked to; return the archive entry of each by its name in the data folder.

        Others are removed: recordings that the user removed since an interrupted run, and those of a picture
        that was left out later.
        """
        folder, pack = self._work.data / kind, self._options.pack
        if not folder.is_dir():
            return {}
        names = [item.target for item in used if item.length]
        kept = {folder / name for name in names}
        for path in folder.rglob("*"):
            if path not in kept and path.suffix != f".{pack}" and not path.is_dir():
                path.unlink()
        if pack:
            return pack_files(folder, names, kind, pack=pack, limit=self._options.shard_bytes)
        remove_empty_folders(folder)
        return {}

    def _finish(self, medium: Medium, root: Path, stamp: Stamp) -> Finished:
        """Read one whole file; write its copy for the data folder unless it stays in place."""
        content = read_content(root / medium.path, medium.path)
        measures: tuple[int, ...]
        is_animated = False
        stored = content if self._options.pack else None
        if medium.kind != SPEECH:
            picture = inspect_picture(content, place=medium.path)
            measures, is_animated = (picture.width, picture.height), picture.is_animated
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
        return Finished(medium.kind, medium.path, stamp, sha256, measures, medium.target, length, is_animated)

    def _reusable(self, kind: str, media: Sequence[Medium], seen: Mapping[str, Seen]) -> dict[str, Finished]:
        """Return what earlier runs finished of unchanged files."""
        folder = self._work.data / kind
        pack = self._options.pack
        packed = packed_sizes(folder, kind, pack=pack) if pack else {}
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

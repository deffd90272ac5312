"""Works through the media of a corpus: measures, converts and packs them, each only once."""

from __future__ import annotations

import hashlib
import secrets
import stat
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.files.archives import ShardEntry, ShardWriter, whole_entries
from fairseq_vgs.media.medium import (SPEECH, Medium, MediumError, Problem, measure_picture)
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.media.recording import decode, header_rate, to_flac
from fairseq_vgs.files.work import (NO_STAMP, Finished, Stamp, WorkFolder)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a first look at a file tells: its stamp, and the rate in a recording's header if asked for."""

    stamp: Stamp
    rate: int | None


@dataclass(frozen=True)
class Outcome:
    """A finished file; with the bytes to store in an archive, if it goes there."""

    finished: Finished
    content: bytes | None


def survey(
    root: Path, media: Sequence[Medium], *, rates: bool, jobs: int, progress: Progress | None
) -> tuple[dict[str, Seen], list[Problem]]:
    """Looks at every file without decoding it; returns what there is, and what is missing.

    Args:
        root: folder that the media's paths start from.
        media: the files.
        rates: read the sample rates in the headers.
        jobs: number of threads.
        progress: called with (files seen, files in all).
    """

    def look(medium: Medium) -> Seen | Problem:
        path = root / medium.path
        try:
            status = path.stat()
        except FileNotFoundError:
            return Problem(medium, "missing file", "no such file")
        except OSError as error:
            return Problem(medium, "unreadable file", error.strerror or type(error).__name__)
        if not stat.S_ISREG(status.st_mode):
            return Problem(medium, "no regular file", "no regular file")
        return Seen(Stamp.of(status), header_rate(path) if rates else None)

    seen, problems = {}, []
    for medium, result in zip(media, map_in_order(look, media, jobs=jobs, progress=progress), strict=True):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            seen[medium.path] = result
    return seen, problems


class MediaBuilder:
    """Measures, converts and packs; keeps what earlier runs finished.

    Args:
        work: the work folder.
        converts: write recordings as 16 kHz mono FLAC.
        pack: ``zip``, ``tar``, or empty to leave media as files.
        shard_bytes: size of the archives.
        jobs: number of threads.
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
    ) -> tuple[dict[str, Finished], list[Problem]]:
        """Works through all media of one kind, in their order.

        Args:
            kind: ``speech`` or ``pictures``.
            root: folder that the media's paths start from.
            media: the files.
            seen: what ``survey`` saw of each.
            progress: called with (files done, files in all), counting what earlier runs finished.

        Returns:
            What is finished, by path, and what cannot be used.
        """
        shards, done = self._reusable(kind, media, seen)
        self.n_reused += len(done)
        left = [medium for medium in media if medium.path not in done]
        n_done = len(done)
        problems = []

        def advance(count: int, _: int) -> None:
            if progress is not None:
                progress(n_done + count, len(media))

        def finish(medium: Medium) -> Outcome | Problem:
            try:
                return self._finish(medium, root, seen[medium.path].stamp)
            except MediumError as error:
                return Problem(medium, error.reason, str(error))

        advance(0, 0)
        with shards or nullcontext():
            for outcome in map_in_order(finish, left, jobs=self._jobs, progress=advance):
                if isinstance(outcome, Problem):
                    problems.append(outcome)
                    continue
                finished = outcome.finished
                if shards is not None and outcome.content is not None:
                    entry = shards.add(finished.target, outcome.content)
                    finished = replace(finished, shard=entry.shard, offset=entry.offset, crc=entry.crc)
                self._work.add(finished)
                done[finished.path] = finished
        return done, problems

    def _finish(self, medium: Medium, root: Path, stamp: Stamp) -> Outcome:
        """Reads one file to its end; writes what replaces it, unless that goes into an archive."""
        try:
            content = (root / medium.path).read_bytes()
        except OSError as error:
            raise MediumError("unreadable file", error.strerror or type(error).__name__) from error
        measures: tuple[int, ...]
        stored: bytes | None = content if self._pack else None
        if medium.kind != SPEECH:
            measures = measure_picture(content)
        elif self._converts:
            stored, n_samples = to_flac(decode(content))
            measures = (n_samples,)
            if not self._pack:
                _write(self._work.data / SPEECH / medium.target, stored)
        else:
            sound = decode(content)
            if sound.rate != SAMPLE_RATE:
                raise MediumError(
                    "another sample rate than 16 kHz", f"{sound.rate} Hz; --convert auto or always resamples"
                )
            measures = (len(sound.samples),)
        length = 0 if stored is None else len(stored)
        # of what is converted, not of its source: the same recording may come in two wrappings
        sha256 = hashlib.sha256(content if stored is None else stored).hexdigest()
        finished = Finished(medium.kind, medium.path, stamp, sha256, measures, length, target=medium.target)
        return Outcome(finished, stored if self._pack else None)

    def _reusable(
        self, kind: str, media: Sequence[Medium], seen: Mapping[str, Seen]
    ) -> tuple[ShardWriter | None, dict[str, Finished]]:
        """Returns what earlier runs finished of files that are still the same, and where to go on packing."""
        known = []
        for medium in media:
            finished = self._work.finished.get((kind, medium.path))
            if (
                finished is not None
                and finished.stamp == seen[medium.path].stamp
                and finished.target == medium.target
            ):
                known.append(finished)
        folder = self._work.data / kind
        if not self._pack and kind == SPEECH and self._converts:
            known = [item for item in known if _size(folder / item.target) == item.length]
        whole: list[ShardEntry] = []
        if self._pack:
            whole = whole_entries(folder, [item.entry() for item in known], kind, pack=self._pack)
            kept = {(entry.shard, entry.offset) for entry in whole}
            known = [item for item in known if (item.shard, item.offset) in kept]
        done = {item.path: item for item in known}
        for item in list(self._work.finished.values()):
            if item.kind == kind and item.path not in done and item.stamp != NO_STAMP:
                # Other files now get its name, or its place in an archive.
                self._work.forget(item)
        if not self._pack:
            return None, done
        return ShardWriter(folder, kind, pack=self._pack, limit=self._shard_bytes, written=whole), done


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _write(path: Path, content: bytes) -> None:
    # Not flushed to disk one by one, as atomic_write would: whether all of it is there is seen by its size.
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

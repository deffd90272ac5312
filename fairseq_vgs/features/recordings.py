"""Recordings by name: of a split, as item files and alignments name them, or of audio files.

Audio files may have any rate and number of channels: they are read as ``prepare`` would write them.

Shapes: S samples at 16 kHz.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fairseq_vgs.data.bad_items import bad_item
from fairseq_vgs.data.waveform import load_waveform
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.location import MediaLocation, resolve
from fairseq_vgs.files.spelling import PathNames, spelling_key
from fairseq_vgs.files.user_tables import read_table
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import read_audio_list
from fairseq_vgs.media.encode import as_prepared, prepared_length
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.kind import AUDIO_SUFFIXES, given_picture
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE
from fairseq_vgs.media.sound import decode, inspect
from fairseq_vgs.metrics.abx import AbxItem

NAMES_TABLE = "utterances.tsv"
_MAX_KINDS = 4
_NAME_COLUMNS = {"audio_id": "audio_id", "file": "file"}


@dataclass(frozen=True)
class Recording:
    """One utterance of an audio list, or an audio file.

    ``n_samples`` are at 16 kHz, whatever the file's ``rate`` in Hz; ``place`` is list and line, or the file,
    for errors.
    """

    audio_id: str
    location: MediaLocation
    n_samples: int
    place: str
    rate: int = SAMPLE_RATE

    def waveform(self) -> npt.NDArray[np.float32]:
        """Read and check it: f32[S].

        Raises:
            BadItemError: it is unreadable, or not as listed.
        """
        if self.rate == SAMPLE_RATE:
            return load_waveform(self.location, place=self.place, n_samples=self.n_samples)
        try:
            return as_prepared(decode(self.location, place=self.place))
        except MediumError as error:
            raise bad_item(error) from error


def listed_recordings(folder: Path, split: str) -> list[Recording]:
    """List the recordings of a split in the order of its audio list."""
    audio = read_audio_list(ManifestFolder(folder).audio_list(split))
    return [
        Recording(row.audio_id, resolve(audio.root, row.audio_id), row.n_samples, f"{split}.tsv:{line}")
        for line, row in enumerate(audio.rows, start=2)
    ]


def open_recordings(folder: Path, split: str = "test") -> dict[str, Recording]:
    """List the recordings of a split, or of a folder of audio files (``open_folder``), by name.

    Names of a split come from ``utterances.tsv`` (columns ``audio_id`` and ``file``; others are ignored).
    Without it, they are file names without folders and extension, as in the corpora's item files, or, if two
    files share one, audio ids without extension.

    Raises:
        FaultError: a faulty table, two recordings of one name, or archive entries without names; what
            ``open_folder`` raises.
    """
    require_folder(folder)
    if is_audio_folder(folder):
        return open_folder(folder)
    table = Path(folder) / NAMES_TABLE
    named: list[tuple[str, Recording]] = []
    faults: list[Fault] = []
    rows = listed_recordings(folder, split)
    if table.is_file():
        listed = read_table(table, _NAME_COLUMNS, required=tuple(_NAME_COLUMNS), faults=faults)
        names: dict[str, str] = {}
        for line in listed:
            audio_id, file = line.fields["audio_id"], line.fields["file"]
            if names.setdefault(spelling_key(audio_id), file) != file:
                expected, step = "audio_id must have one name", "remove one of the two"
                faults.append(fault(line.place, expected, audio_id, step, code="recording.duplicate"))
        raise_any(faults)
    else:
        names = _short_names(row for row in rows if row.location.offset is None)
    for row in rows:
        if (name := names.get(spelling_key(row.audio_id))) is not None:
            named.append((name, row))
        else:
            expected, step = f"audio_id must have a name in {NAMES_TABLE}", "add a line there"
            faults.append(fault(row.place, expected, row.audio_id, step, code="recording.name"))
    return by_name(named, faults)


def _short_names(recordings: Iterable[Recording]) -> dict[str, str]:
    """Return the names of files by their ids: the last part without ending, or all parts if two share one."""
    ids = [recording.audio_id for recording in recordings]
    stems = [PurePosixPath(audio_id).stem for audio_id in ids]
    if len(set(stems)) < len(stems):
        stems = [PurePosixPath(audio_id).with_suffix("").as_posix() for audio_id in ids]
    return dict(zip(map(spelling_key, ids), stems, strict=True))


def by_name(named: Iterable[tuple[str, Recording]], faults: Iterable[Fault] = ()) -> dict[str, Recording]:
    """Return recordings by name.

    Raises:
        FaultError: ``faults``, and two recordings of one name.
    """
    found: dict[str, Recording] = {}
    repeated = []
    for name, recording in named:
        first = found.setdefault(name, recording)
        if first is not recording:
            expected = f"name must be that of one recording (also {first.place})"
            repeated.append(fault(recording.place, expected, name, "rename one", code="recording.duplicate"))
    raise_any([*faults, *repeated])
    return found


def check_items(items: Sequence[AbxItem], recordings: Mapping[str, Recording], *, name: str) -> list[AbxItem]:
    """Return the items with their files named as the recordings are; each must be inside of its recording.

    An item may name a recording by its audio id, or by the last parts of it that no other has, without
    extension. It may end a frame (20 ms) after its recording, as labels are rounded.

    Raises:
        FaultError: ``item.file``, ``recording.ambiguous``, ``item.length``; every item that is not.
    """
    by_path = {recording.audio_id: key for key, recording in recordings.items()}
    paths = PathNames(by_path)
    faults: list[Fault] = []
    found = []
    for line, item in enumerate(items, start=2):
        place = f"{name}:{line}"
        fits = [item.file] if item.file in recordings else [by_path[path] for path in paths.find(item.file)]
        if not fits:
            expected = f"file must be one of the {len(recordings)} recordings"
            step = "add it to the audio list, or remove the line"
            faults.append(fault(place, expected, item.file, step, code="item.file"))
        elif len(fits) > 1:
            expected = f"file must be one recording, not both {fits[0]} and {fits[1]}"
            step = "name it with its folder"
            faults.append(fault(place, expected, item.file, step, code="recording.ambiguous"))
        elif item.offset * SAMPLE_RATE > recordings[fits[0]].n_samples + FRAME_STRIDE:
            seconds = recordings[fits[0]].n_samples / SAMPLE_RATE
            expected = f"offset must be within the recording's {seconds:.3f} s"
            step = "use the items of these recordings"
            faults.append(fault(place, expected, str(item.offset), step, code="item.length"))
        else:
            found.append(item if item.file == fits[0] else replace(item, file=fits[0]))
    raise_any(faults)
    return found


@dataclass(frozen=True)
class FeatureSource:
    """Recordings by the names of their feature files (relative paths without extension), and their pictures.

    They are of a ``split`` of a data folder, or (None) of audio files.
    """

    recordings: dict[str, Recording]
    paths: tuple[Path, ...]
    split: str | None

    @property
    def has_images(self) -> bool:
        """Whether there are pairs with images."""
        return self.split is not None and ManifestFolder(self.paths[0]).pairs(self.split).is_file()


def open_source(paths: Sequence[Path], *, split: str = "test") -> FeatureSource:
    """List what features are to be extracted from.

    Names in a data folder are those of ``utterances.tsv``. Without it, they are file names without folders
    and extension, as in the corpora's item files, or, if two files share one or an archive holds them, whole
    audio ids without extension (``:`` becomes ``_``). Names in a folder of audio files are relative paths
    without extension; those of single files are their file names, with folders where two are equal.

    Raises:
        FaultError: a missing path, nothing to read, unreadable files, two recordings of one name, or a
            name that points outside the folder of features; every fault of a kind.
    """
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        splits = ManifestFolder(folder).splits()
        if splits and split not in splits:
            expected = f"split must be one of {', '.join(splits)}"
            found = fault(str(folder), expected, split, "choose one with --split", code="split.unknown")
            raise FaultError(found)
        if splits:
            return FeatureSource(_checked(_listed_recordings(folder, split)), (folder,), split)
        return FeatureSource(_checked(list(open_folder(folder).items())), (folder,), None)
    expected, step = "source must be one folder, or files", "check the path"
    wrong = (path for path in paths if not path.is_file())
    raise_any(fault(str(path), expected, "no file", step, code="file.missing") for path in wrong)
    files = [(name, str(path), path) for name, path in zip(_file_names(paths), paths, strict=True)]
    return FeatureSource(_checked(*_look_into(files)), tuple(paths), None)


def is_audio_folder(folder: Path) -> bool:
    """Whether recordings are the files of a folder, as it is there and has no splits."""
    return folder.is_dir() and not ManifestFolder(folder).splits()


def require_folder(folder: Path) -> None:
    """Refuse a path that leads to no folder.

    Raises:
        FaultError: ``file.missing``.
    """
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        step = "check the path; of a single recording, give its folder"
        raise FaultError(fault(str(folder), "must be a folder", got, step, code="file.missing"))


def open_folder(folder: Path) -> dict[str, Recording]:
    """List the audio files anywhere in a folder by their relative paths without extension.

    Files and folders whose names begin with a dot are left out, as are files that are not named as audio.

    Raises:
        FaultError: no audio files, two of one name, or files that are not sound; every one of them.
    """
    there = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    audio = [path.relative_to(folder) for path in there if path.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        expected = f"folder must hold an audio list (SPLIT.tsv) or files {', '.join(AUDIO_SUFFIXES)}"
        message = f"{expected}, got {_kinds_of(there)}; check the path, or convert the files"
        raise FaultError.at(folder, message, "folder.empty")
    files = [(path.with_suffix("").as_posix(), path.as_posix(), folder / path) for path in audio]
    return by_name(*_look_into(files))


def folder_digest(recordings: Mapping[str, Recording]) -> str:
    """Hash paths and lengths of the recordings of a folder, as an audio list would hold them."""
    lines = (f"{one.audio_id}\t{one.n_samples}\t{one.rate}\n" for one in recordings.values())
    return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _kinds_of(paths: Sequence[Path]) -> str:
    """Describe files by their endings, those of most files first."""
    kinds = Counter(path.suffix.lower() or "without ending" for path in paths).most_common(_MAX_KINDS)
    return ", ".join(f"{count} x {suffix}" for suffix, count in kinds) or "no files"


def _listed_recordings(folder: Path, split: str) -> list[tuple[str, Recording]]:
    recordings = listed_recordings(folder, split)
    if (folder / NAMES_TABLE).is_file() or all(row.location.offset is None for row in recordings):
        return list(open_recordings(folder, split).items())
    return [(_whole_name(row), row) for row in recordings]


def _whole_name(recording: Recording) -> str:
    if recording.location.offset is not None:
        return recording.audio_id.replace(":", "_")
    return PurePosixPath(recording.audio_id).with_suffix("").as_posix()


def _file_names(paths: Sequence[Path]) -> list[str]:
    """Name files, with the folders below their common one where two have the same name."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([path.absolute().parent for path in paths])
    return [path.absolute().relative_to(common).with_suffix("").as_posix() for path in paths]


def _look_into(files: Iterable[tuple[str, str, Path]]) -> tuple[list[tuple[str, Recording]], list[Fault]]:
    """Return the recordings of files, given as name, audio id and path, and what is wrong with the others."""
    recordings: list[tuple[str, Recording]] = []
    faults: list[Fault] = []
    for name, audio_id, path in files:
        try:
            info = inspect(path, place=str(path))
        except MediumError as error:
            picture = given_picture(error, path, str(path), step="remove it, or leave it out")
            faults += [picture] if picture else error.faults
        else:
            n_samples = prepared_length(info.n_samples, info.rate)
            location = MediaLocation(path)
            recordings.append((name, Recording(audio_id, location, n_samples, str(path), info.rate)))
    return recordings, faults


def _checked(
    recordings: Sequence[tuple[str, Recording]], faults: Iterable[Fault] = ()
) -> dict[str, Recording]:
    expected, step = "name of a recording must be a path below the folder of features", "rename it"
    outside = [
        fault(recording.place, expected, name, step, code="recording.name")
        for name, recording in recordings
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    ]
    return by_name(recordings, [*faults, *outside])

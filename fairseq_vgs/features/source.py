"""Find what to extract features from: a split of a data folder, a folder of audio files, or files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fairseq_vgs.features.recordings import (
    NAMES_TABLE,
    Recording,
    by_name,
    listed_recordings,
    open_recordings,
)
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.location import MediaLocation, check_present
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.sound import inspect

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")


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


def origins(media: Mapping[str, Sequence[MediaLocation]]) -> dict[str, list[str | int]]:
    """Return what tells whether media have changed: place, size and modification time of each file.

    ``media`` maps a name to the files, or entries of archives, that it is made from.

    Raises:
        FaultError: every missing file.
    """
    found: dict[str, list[str | int]] = {name: [] for name in media}
    faults: list[Fault] = []
    for name, location in ((name, location) for name, locations in media.items() for location in locations):
        try:
            check_present(location)
        except FaultError as error:
            faults += error.faults
            continue
        status = location.path.stat()
        place = replace(location, path=location.path.absolute())
        found[name] += [str(place), status.st_size, status.st_mtime_ns]
    raise_any(faults)
    return found


def open_source(paths: Sequence[Path], *, split: str = "test") -> FeatureSource:
    """List what features are to be extracted from.

    Names in a data folder are those of ``utterances.tsv``. Without it, they are file names without folders
    and extension, as in the corpora's item files, or, if two files share one or an archive holds them, whole
    audio ids without extension (``:`` becomes ``_``). Names in a folder of audio files are relative paths
    without extension; those of single files are their file names.

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
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        if not files:
            expected = f"folder must hold an audio list (SPLIT.tsv) or files {', '.join(AUDIO_SUFFIXES)}"
            raise FaultError.at(folder, f"{expected}, got neither; check the path", "folder.empty")
        named = [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in files]
    else:
        expected, step = "source must be one folder, or files", "check the path"
        wrong = (path for path in paths if not path.is_file())
        raise_any(fault(str(path), expected, "no file", step, code="file.missing") for path in wrong)
        named = [(path.stem, path) for path in paths]
    return FeatureSource(_checked(_file_recordings(named)), tuple(paths), None)


def _listed_recordings(folder: Path, split: str) -> list[tuple[str, Recording]]:
    if (folder / NAMES_TABLE).is_file():
        return list(open_recordings(folder, split).items())
    recordings = listed_recordings(folder, split)
    stems = [PurePosixPath(row.audio_id).stem for row in recordings]
    if len(set(stems)) == len(stems) and all(row.location.offset is None for row in recordings):
        return list(zip(stems, recordings, strict=True))
    return [(_whole_name(row), row) for row in recordings]


def _whole_name(recording: Recording) -> str:
    if recording.location.offset is not None:
        return recording.audio_id.replace(":", "_")
    return PurePosixPath(recording.audio_id).with_suffix("").as_posix()


def _file_recordings(files: Iterable[tuple[str, Path]]) -> list[tuple[str, Recording]]:
    recordings: list[tuple[str, Recording]] = []
    faults: list[Fault] = []
    for name, path in files:
        try:
            n_samples = inspect(path, place=str(path)).n_samples
        except MediumError as error:
            faults += error.faults
        else:
            recordings.append((name, Recording(str(path), MediaLocation(path), n_samples, str(path))))
    raise_any(faults)
    return recordings


def _checked(recordings: Sequence[tuple[str, Recording]]) -> dict[str, Recording]:
    expected, step = "name of a recording must be a path below the folder of features", "rename it"
    faults = [
        fault(recording.place, expected, name, step, code="recording.name")
        for name, recording in recordings
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    ]
    return by_name(recordings, faults)

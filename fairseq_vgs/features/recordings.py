"""List the recordings of a split by the names that item files and alignments use.

Shapes: S samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fairseq_vgs.data.waveform import load_waveform
from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.location import MediaLocation, resolve
from fairseq_vgs.files.user_tables import read_table
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import read_audio_list
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE
from fairseq_vgs.metrics.abx import AbxItem

NAMES_TABLE = "utterances.tsv"
_NAME_COLUMNS = {"audio_id": "audio_id", "file": "file"}


@dataclass(frozen=True)
class Recording:
    """One utterance of an audio list; ``place`` is list and line, for errors."""

    audio_id: str
    location: MediaLocation
    n_samples: int
    place: str

    def waveform(self) -> npt.NDArray[np.float32]:
        """Read and check it: f32[S].

        Raises:
            BadItemError: it is unreadable, or not as listed.
        """
        return load_waveform(self.location, place=self.place, n_samples=self.n_samples)


def listed_recordings(folder: Path, split: str) -> list[Recording]:
    """List the recordings of a split in the order of its audio list."""
    audio = read_audio_list(ManifestFolder(folder).audio_list(split))
    return [
        Recording(row.audio_id, resolve(audio.root, row.audio_id), row.n_samples, f"{split}.tsv:{line}")
        for line, row in enumerate(audio.rows, start=2)
    ]


def open_recordings(folder: Path, split: str = "test") -> dict[str, Recording]:
    """List the recordings of a split by name.

    Names come from ``utterances.tsv`` (columns ``audio_id`` and ``file``; others are ignored). Without it, a
    recording's name is that of its file without folders and extension, as in the corpora's item files.

    Raises:
        FaultError: a faulty table, two recordings of one name, or archive entries without names.
    """
    table = Path(folder) / NAMES_TABLE
    named: list[tuple[str, Recording]] = []
    faults: list[Fault] = []
    names = None
    if table.is_file():
        rows = read_table(table, _NAME_COLUMNS, required=tuple(_NAME_COLUMNS), faults=faults)
        names = {row.fields["audio_id"]: row.fields["file"] for row in rows}
    raise_any(faults)
    for row in listed_recordings(folder, split):
        if names is not None and row.audio_id in names:
            named.append((names[row.audio_id], row))
        elif names is None and row.location.offset is None:
            named.append((PurePosixPath(row.audio_id).stem, row))
        else:
            expected, step = f"audio_id must have a name in {NAMES_TABLE}", "add a line there"
            faults.append(fault(row.place, expected, row.audio_id, step, code="recording.name"))
    return by_name(named, faults)


def by_name(named: Iterable[tuple[str, Recording]], faults: Iterable[Fault]) -> dict[str, Recording]:
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


def check_items(items: Sequence[AbxItem], recordings: Mapping[str, Recording], *, name: str) -> None:
    """Check that every item is inside a recording, to a frame (20 ms), as labels are rounded.

    Raises:
        FaultError: ``item.file``, ``item.length``; every item that is not.
    """
    faults = []
    for line, item in enumerate(items, start=2):
        place, recording = f"{name}:{line}", recordings.get(item.file)
        if recording is None:
            expected = f"file must be one of the {len(recordings)} recordings"
            step = "add it to the audio list, or remove the line"
            faults.append(fault(place, expected, item.file, step, code="item.file"))
        elif item.offset * SAMPLE_RATE > recording.n_samples + FRAME_STRIDE:
            expected = f"offset must be within the recording's {recording.n_samples / SAMPLE_RATE:.3f} s"
            step = "use the items of these recordings"
            faults.append(fault(place, expected, str(item.offset), step, code="item.length"))
    raise_any(faults)

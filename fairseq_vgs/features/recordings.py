"""List the recordings of a split by the names that item files and alignments use.

Shapes: S samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fairseq_vgs.data.waveform import load_waveform
from fairseq_vgs.files.faults import Fault, FaultError, fault
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
    """One utterance of an audio list.

    Attributes:
        audio_id: its id in the list.
        location: where its bytes are.
        n_samples: length according to the list.
        place: list and line, for errors.
    """

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

    Args:
        folder: with ``SPLIT.tsv``.
        split: which list.

    Raises:
        FaultError: a faulty table, two recordings of one name, or archive entries without names.
    """
    table = Path(folder) / NAMES_TABLE
    recordings: dict[str, Recording] = {}
    faults: list[Fault] = []
    names = None
    if table.is_file():
        rows = read_table(table, _NAME_COLUMNS, required=tuple(_NAME_COLUMNS), faults=faults)
        names = {row.fields["audio_id"]: row.fields["file"] for row in rows}
    if faults:
        raise FaultError(faults)
    for row in listed_recordings(folder, split):
        if names is not None and row.audio_id in names:
            name = names[row.audio_id]
        elif names is not None or row.location.offset is not None:
            expected, step = f"audio_id must have a name in {NAMES_TABLE}", "add a line there"
            faults.append(fault(row.place, expected, row.audio_id, step, code="recording.name"))
            continue
        else:
            name = PurePosixPath(row.audio_id).stem
        if name in recordings:
            expected = f"name must be that of one recording (also {recordings[name].place})"
            faults.append(fault(row.place, expected, name, "rename one", code="recording.duplicate"))
        recordings[name] = row
    if faults:
        raise FaultError(faults)
    return recordings


def check_items(items: Sequence[AbxItem], recordings: Mapping[str, Recording], *, name: str) -> None:
    """Check that every item is inside a recording, to a frame (20 ms), as labels are rounded.

    Raises:
        FaultError: ``item.file``, ``item.length``; every item that is not.
    """
    faults = []
    for line, item in enumerate(items, start=2):
        place = f"{name}:{line}"
        if item.file not in recordings:
            expected = f"file must be one of the {len(recordings)} recordings"
            step = "add it to the audio list, or remove the line"
            faults.append(fault(place, expected, item.file, step, code="item.file"))
        elif item.offset * SAMPLE_RATE > recordings[item.file].n_samples + FRAME_STRIDE:
            seconds = recordings[item.file].n_samples / SAMPLE_RATE
            expected = f"offset must be within the recording's {seconds:.3f} s"
            step = "use the items of these recordings"
            faults.append(fault(place, expected, str(item.offset), step, code="item.length"))
    if faults:
        raise FaultError(faults)

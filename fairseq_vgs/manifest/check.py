"""Find all faults of a data folder: tables, references between them, media, leakage between splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.tables import Table, line_number
from fairseq_vgs.manifest.folder import STANDARD_SPLITS, ManifestFolder
from fairseq_vgs.manifest.leakage import audio_leakage, image_leakage
from fairseq_vgs.manifest.media_check import MediaCheck
from fairseq_vgs.manifest.references import (
    feature_rows_out_of_range,
    images_of_nothing,
    images_without_regions,
    paired_utterances,
    unknown_audio,
    unknown_images,
)
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow, UtteranceRow
from fairseq_vgs.manifest.summary import read_summary, refuse_other_regions
from fairseq_vgs.manifest.tables import (
    scan_audio_list,
    scan_images,
    scan_pairs,
    scan_regions,
    scan_utterances,
)
from fairseq_vgs.media.pictures import picture_faults
from fairseq_vgs.media.region_features import non_finite_rows, open_features
from fairseq_vgs.media.sound import sound_faults


@dataclass
class CheckReport:
    """The result of a check: whether media were decoded, faults to repair, notes that need no action, sizes.

    ``bytes_read`` are those of the ``n_media`` recordings and pictures.

    Sizes are ``{"all": {"utterances": ...}, "splits": {"train": {...}}}``.
    """

    media_read: bool
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_media: int = 0
    bytes_read: int = 0


@dataclass(frozen=True)
class _Tables:
    audio: dict[str, Table[AudioRow]]
    pairs: dict[str, Table[PairRow]]
    utterances: dict[str, Table[UtteranceRow]]
    images: Table[ImageRow] | None
    regions: Table[RegionRow] | None

    @property
    def image_rows(self) -> tuple[ImageRow, ...]:
        return self.images.rows if self.images is not None else ()

    @property
    def n_regions(self) -> int:
        return len(self.regions.rows) if self.regions is not None else 0


def inspect_folder(
    folder: Path, *, read_media: bool = True, jobs: int = 1, progress: Progress | None = None
) -> CheckReport:
    """Find every fault of a data folder; none means that training can start.

    Media are read and decoded by ``jobs`` threads; without ``read_media``, they only have to exist, and
    copies are missed.
    ``progress`` is called with (media done, total) after each.
    """
    files = ManifestFolder(folder)
    if not files.path.is_dir():
        message = "must be a folder, got none; build it with fairseq-vgs prepare"
        missing = Fault(str(folder), message, "folder.missing")
        return CheckReport(media_read=read_media, faults=[missing])
    tables = _read_tables(files)
    n_media = len(tables.image_rows) + sum(len(table.rows) for table in tables.audio.values())
    media = MediaCheck(read_media=read_media, total=n_media, jobs=jobs, progress=progress)
    audio_prints = _check_audio(tables, media)
    image_prints = _check_pictures(tables.images, media)
    images = {row.image_id: row for row in tables.image_rows}
    faults = [
        *_table_faults(tables),
        *_missing_files(files, tables),
        *_reference_faults(tables),
        *_feature_faults(files, tables, read_media=read_media),
        *_summary_faults(folder),
        *media.faults,
        *audio_leakage(tables.audio, audio_prints),
        *image_leakage(tables.pairs, images, image_prints),
    ]
    return CheckReport(
        media_read=read_media,
        faults=sorted(faults, key=_reading_order),
        notes=list(_notes(tables, audio_prints)),
        counts=_count(tables),
        n_media=n_media,
        bytes_read=media.bytes_read,
    )


def _read_tables(files: ManifestFolder) -> _Tables:
    splits = files.splits()
    paired = [split for split in splits if files.pairs(split).exists()]
    told = [split for split in splits if files.utterances(split).exists()]
    return _Tables(
        audio={split: scan_audio_list(files.audio_list(split)) for split in splits},
        pairs={split: scan_pairs(files.pairs(split)) for split in paired},
        utterances={split: scan_utterances(files.utterances(split)) for split in told},
        images=scan_images(files.images) if files.images.exists() else None,
        regions=scan_regions(files.regions) if files.regions.exists() else None,
    )


def _table_faults(tables: _Tables) -> Iterator[Fault]:
    splits = (tables.audio, tables.pairs, tables.utterances)
    for table in (*(table for kind in splits for table in kind.values()), tables.images, tables.regions):
        if table is not None:
            yield from table.faults


def _missing_files(files: ManifestFolder, tables: _Tables) -> Iterator[Fault]:
    step = "build it with fairseq-vgs prepare"
    if not tables.audio:
        message = f"must hold an audio list such as train.tsv, got none; {step}"
        yield Fault(str(files.path), message, "file.missing")
    if tables.images is None and (tables.pairs or tables.regions is not None):
        message = f"file is missing, but pairs or regions name images; {step}"
        yield Fault(files.images.name, message, "file.missing")
    if tables.images is not None:
        for split in tables.audio:
            # Lists of other names may be unpaired speech.
            if split in STANDARD_SPLITS and split not in tables.pairs:
                message = f"file is missing next to {split}.tsv; {step}"
                yield Fault(files.pairs(split).name, message, "file.missing")
    if tables.regions is None and files.region_features.exists():
        message = f"file is missing next to {files.region_features.name}; {step}"
        yield Fault(files.regions.name, message, "file.missing")


def _reference_faults(tables: _Tables) -> Iterator[Fault]:
    known_images = {row.image_id for row in tables.image_rows}
    for split, utterances in tables.utterances.items():
        yield from unknown_audio(utterances, tables.audio[split])
        if split in tables.pairs:
            yield from paired_utterances(utterances, tables.pairs[split])
    for split, pairs in tables.pairs.items():
        yield from unknown_audio(pairs, tables.audio[split])
        if tables.images is not None:
            yield from unknown_images(pairs, tables.images)
        if tables.regions is not None:
            yield from images_without_regions(pairs, tables.regions, known_images)
    if tables.images is not None:
        yield from images_of_nothing(tables.images, tables.regions)
        if tables.regions is not None:
            yield from unknown_images(tables.regions, tables.images)


def _feature_faults(files: ManifestFolder, tables: _Tables, *, read_media: bool) -> Iterator[Fault]:
    if tables.regions is None:
        return
    name = files.region_features.name
    try:
        features = open_features(files.region_features)
    except FaultError as error:
        yield from (replace(item, place=name) for item in error.faults)
        return
    yield from feature_rows_out_of_range(tables.regions, len(features))
    if read_media:
        try:
            refuse_other_regions(files.path, files.regions.name, name)
        except FaultError as error:
            own = (item for item in error.faults if item.code == "regions.mismatch")
            yield from (replace(item, place=Path(item.place).name) for item in own)
        for row in non_finite_rows(features):
            message = "features must be finite, got NaN or infinity; compute them again"
            yield Fault(f"{name} row {row}", message, "regions.not_finite")


def _summary_faults(folder: Path) -> Iterator[Fault]:
    try:
        read_summary(folder)
    except FaultError as error:
        yield from error.faults


def _check_audio(tables: _Tables, media: MediaCheck) -> dict[str, list[str | None]]:
    return {
        split: media.run(
            table,
            entry=lambda row: row.audio_id,
            problems=lambda data, row, place: sound_faults(data, place=place, n_samples=row.n_samples),
        )
        for split, table in tables.audio.items()
    }


def _check_pictures(images: Table[ImageRow] | None, media: MediaCheck) -> dict[str, str]:
    def problems(data: bytes, row: ImageRow, place: str) -> list[Fault]:
        return picture_faults(data, place=place, width=row.width, height=row.height)

    if images is None:
        return {}
    prints = zip(images.rows, media.run(images, entry=lambda row: row.path, problems=problems), strict=True)
    return {row.image_id: print_ for row, print_ in prints if print_ is not None}


def _notes(tables: _Tables, audio_prints: Mapping[str, Sequence[str | None]]) -> Iterator[str]:
    for split in STANDARD_SPLITS:
        if split not in tables.audio:
            yield f"there is no {split}.tsv"
    if tables.pairs and not tables.n_regions:
        step = "add them with fairseq-vgs prepare regions, or train on the pictures themselves"
        yield f"there are no regions (regions.tsv, regions.npy); {step}"
    if tables.images is not None:
        paired = {row.image_id for pairs in tables.pairs.values() for row in pairs.rows}
        if n_unused := sum(row.image_id not in paired for row in tables.images.rows):
            yield f"{tables.images.name}: {n_unused:,} of {len(tables.images.rows):,} images are in no pair"
    for split, audio in tables.audio.items():
        prints = [print_ for print_ in audio_prints[split] if print_ is not None]
        if n_copies := len(prints) - len(set(prints)):
            yield f"{audio.name}: {n_copies:,} utterances are copies of others in the same list"
        if split in tables.pairs:
            n_unpaired = len(audio.rows) - len({row.audio_id for row in tables.pairs[split].rows})
            if n_unpaired > 0:
                yield f"{audio.name}: {n_unpaired:,} of {len(audio.rows):,} utterances are in no pair"


def _count(tables: _Tables) -> dict[str, dict[str, Any]]:
    splits = {
        split: {
            "utterances": len(audio.rows),
            "samples": sum(row.n_samples for row in audio.rows),
            "pairs": len(tables.pairs[split].rows) if split in tables.pairs else 0,
        }
        for split, audio in tables.audio.items()
    }
    totals = {
        "utterances": sum(counts["utterances"] for counts in splits.values()),
        "pairs": sum(counts["pairs"] for counts in splits.values()),
        "images": len(tables.image_rows),
        "regions": tables.n_regions,
    }
    return {"all": totals, "splits": splits}


def _reading_order(item: Fault) -> tuple[str, int]:
    name, _, _ = item.place.rpartition(":")
    return name or item.place, line_number(item)

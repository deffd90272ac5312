"""Convert region features that other code computed to the two files that training reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.atomic import partial_path
from fairseq_vgs.files.columns import identifier
from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.output import MADE_BY
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.manifest import ImageRow, ManifestFolder, read_images, read_pairs, write_images
from fairseq_vgs.manifest.summary import read_summary, write_region_summary
from fairseq_vgs.regions.source import BadRegions, ImageRegions, RegionSource
from fairseq_vgs.regions.writer import MADE_BY_REGIONS, RegionWriter, open_region_writer

MATCHES: Mapping[str, Callable[[str], str]] = {
    "exact": str,
    "name": lambda image_id: PurePosixPath(image_id).name,
    "stem": lambda image_id: PurePosixPath(image_id).stem,
}
_ID = identifier("image_id")
FAULTY, MISSING = "faulty", "without regions"


@dataclass(frozen=True)
class WantedImages:
    """The pictures that a folder knows.

    Attributes:
        table: Where their ids come from; empty if every picture is wanted.
        places: File and line of each id.
        sizes: Width and height in pixels, from ``images.tsv``.
        by_key: Ids by what agrees with a source's id.
        key_of: Reduces a source's id to such a key.
    """

    table: str
    places: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    by_key: Mapping[str, str]
    key_of: Callable[[str], str]

    def keep(self, source_id: str) -> str | None:
        """Return the folder's id for a source's, or None if the folder does not know it."""
        return self.by_key.get(self.key_of(source_id)) if self.table else source_id


def read_wanted(folder: Path, *, match: str = "exact") -> WantedImages:
    """Read which pictures a folder wants: those of ``images.tsv``, else of its pairs, else all.

    Args:
        folder: The data folder; may be missing.
        match: The part of an id that must agree: ``exact``, ``name`` (after the last slash) or ``stem``
            (the name without suffix).

    Raises:
        FaultError: A faulty table, or ids that are equal under ``match``.
    """
    files = ManifestFolder(folder)
    places: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    table = ""
    if files.images.exists():
        table = files.images.name
        for line, row in enumerate(read_images(files.images).rows, start=3):
            places[row.image_id] = f"{table}:{line}"
            sizes[row.image_id] = (row.width, row.height)
    else:
        for path in (files.pairs(split) for split in files.splits() if files.pairs(split).exists()):
            table = "the pairs"
            for line, pair in enumerate(read_pairs(path), start=2):
                places.setdefault(pair.image_id, f"{path.name}:{line}")
    key_of = MATCHES[match]
    by_key: dict[str, str] = {}
    faults = []
    for image_id, place in places.items():
        first = by_key.setdefault(key_of(image_id), image_id)
        if first != image_id:
            expected = f"ids must differ in their {match} (the first is at {places[first]})"
            faults.append(fault(place, expected, image_id, "choose another --match", code="setting.conflict"))
    raise_any(faults)
    return WantedImages(table, places, sizes, by_key, key_of)


@dataclass
class _Tally:
    """Counts and faults of a source."""

    faults: list[Fault] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    images: list[ImageRow] = field(default_factory=list)
    faulty: list[str] = field(default_factory=list)
    n_unwanted: int = 0
    n_other_size: int = 0


def prepare_regions(
    source: RegionSource,
    folder: Path,
    *,
    match: str = "exact",
    skip_missing: bool = False,
    skip_bad: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Write the regions of the pictures that a data folder knows, or of all pictures if it knows none.

    A missing ``images.tsv`` is written, with sizes but without pictures. Features are held in memory for one
    picture at a time.

    Args:
        source: Where the regions come from.
        folder: The data folder; made if missing.
        match: See ``read_wanted``.
        skip_missing: Count wanted pictures that the source lacks instead of refusing them.
        skip_bad: Leave out and count pictures with a faulty record.
        force: Replace existing regions.
        progress: Called with (work done, all of it) in the source's unit.

    Returns:
        What ``summary.json`` says under ``regions``.

    Raises:
        FaultError: All faults; nothing is written.
        FileExistsError: There are regions and ``force`` is off.
    """
    wanted = read_wanted(folder, match=match)
    summary = read_summary(folder)
    names = ManifestFolder(folder)
    leftovers = {partial_path(names.regions), partial_path(names.region_features)}
    is_new = not folder.exists() or leftovers.issuperset(folder.iterdir())
    existed = folder.exists()
    tally = _Tally()
    try:
        with open_region_writer(folder, force=force) as writer:
            _read_all(source, wanted, writer, tally, skip_bad=skip_bad, progress=progress)
            missing = {name: place for name, place in wanted.places.items() if name not in tally.places}
            _refuse(tally, missing, wanted, writer, skip_missing=skip_missing)
    except BaseException:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
    if not names.images.exists():
        write_images(names.images, tally.images)
    regions = {**source.describe(), **_counts(writer, tally, missing)}
    # --force may replace a folder that holds only what this command wrote.
    made_by = MADE_BY if is_new else MADE_BY_REGIONS
    write_region_summary(folder, regions, summary=summary, made_by=made_by)
    return regions


def _read_all(
    source: RegionSource,
    wanted: WantedImages,
    writer: RegionWriter,
    tally: _Tally,
    *,
    skip_bad: bool,
    progress: Progress | None,
) -> None:
    def keep(source_id: str) -> str | None:
        image_id = wanted.keep(source_id)
        tally.n_unwanted += image_id is None
        return image_id

    for found in source.read(keep, progress):
        problem = _add(found, wanted, writer, tally)
        if problem is None:
            continue
        if skip_bad:
            tally.faulty.append(str(problem))
        else:
            tally.faults.append(problem)


def _add(
    found: ImageRegions | BadRegions, wanted: WantedImages, writer: RegionWriter, tally: _Tally
) -> Fault | None:
    if isinstance(found, BadRegions):
        tally.places.setdefault(found.image_id, found.fault.place)
        return found.fault
    first = tally.places.setdefault(found.image_id, found.place)
    if first != found.place:
        expected = f"a picture must have one record (the first is {first})"
        step = "remove one, or leave it out with --skip-bad"
        return fault(found.place, expected, found.image_id, step, code="region.duplicate")
    try:
        _ID.parse(_ID.render(found.image_id))
    except ValueError as error:
        return fault(found.place, f"image_id {error}", found.image_id, "correct the id", code="picture.name")
    problem = writer.add(found)
    if problem is None:
        size = (found.width, found.height)
        tally.n_other_size += wanted.sizes.get(found.image_id, size) != size
        tally.images.append(ImageRow(found.image_id, "", found.width, found.height))
    return problem


def _refuse(
    tally: _Tally,
    missing: Mapping[str, str],
    wanted: WantedImages,
    writer: RegionWriter,
    *,
    skip_missing: bool,
) -> None:
    faults = list(tally.faults)
    if missing and not skip_missing:
        step = "give all files, or count such pictures with --skip-missing"
        if len(missing) == len(wanted.places):
            step = "see whether ids agree, and choose --match name or stem if only parts of them do"
        faults += [
            fault(place, "image must be in the source of regions", name, step, code="region.missing")
            for name, place in missing.items()
        ]
    if not faults and not writer.n_images:
        message = "must hold a usable picture, got none; check the files"
        faults.append(Fault("the source of regions", message, "region.missing"))
    raise_any(faults)


def _counts(writer: RegionWriter, tally: _Tally, missing: Mapping[str, str]) -> dict[str, object]:
    return {
        "images": writer.n_images,
        "regions": writer.n_rows,
        "dims": writer.dim,
        "boxes_clipped": writer.n_clipped,
        "largest_overhang_pixels": writer.overhang,
        "boxes_without_area": writer.n_left_out,
        "largest_feature": writer.error.largest,
        "float16_max_absolute_error": writer.error.absolute,
        "float16_max_relative_error": writer.error.relative,
        "images_of_other_size": tally.n_other_size,
        "not_wanted": tally.n_unwanted,
        "excluded": {
            reason: {"count": len(names), "names": list(names)}
            for reason, names in ((FAULTY, tally.faulty), (MISSING, missing))
            if names
        },
    }

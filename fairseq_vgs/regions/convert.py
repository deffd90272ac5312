"""Convert region features that other code computed to the two files that training reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.atomic import partial_path
from fairseq_vgs.files.columns import identifier
from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.output import MADE_BY, refuse_existing, try_output
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.spelling import spelling_key
from fairseq_vgs.manifest import ImageRow, ManifestFolder, read_images, read_pairs, write_images
from fairseq_vgs.manifest.summary import read_summary, write_region_summary
from fairseq_vgs.regions.source import BadRegions, ImageRegions, RegionSource
from fairseq_vgs.regions.writer import MADE_BY_REGIONS, RegionWriter, open_region_writer

MATCHES: Mapping[str, Callable[[str], str]] = {
    "exact": spelling_key,
    "name": lambda image_id: PurePosixPath(spelling_key(image_id)).name,
    "stem": lambda image_id: PurePosixPath(spelling_key(image_id)).stem,
}
_ID = identifier("image_id")


class _Conversion:
    """The pictures that a folder wants: those of ``images.tsv``, else of its pairs, else all."""

    def __init__(self, files: ManifestFolder, match: str) -> None:
        self.wanted: dict[str, str] = {}  # file and line of each id
        self.sizes: dict[str, tuple[int, int]] = {}
        pairs = [path for split in files.splits() if (path := files.pairs(split)).exists()]
        self.takes_all = not (files.images.exists() or pairs)
        if files.images.exists():
            for line, row in enumerate(read_images(files.images).rows, start=3):
                self.wanted[row.image_id] = f"{files.images.name}:{line}"
                self.sizes[row.image_id] = (row.width, row.height)
        else:
            for path in pairs:
                for line, pair in enumerate(read_pairs(path), start=2):
                    self.wanted.setdefault(pair.image_id, f"{path.name}:{line}")
        self._key_of = MATCHES[match]
        self._by_key: dict[str, str] = {}
        self.faults: list[Fault] = []
        for image_id, place in self.wanted.items():
            first = self._by_key.setdefault(self._key_of(image_id), image_id)
            if first != image_id:
                expected = f"ids must differ in their {match} (the first is at {self.wanted[first]})"
                step = "choose another --match"
                self.faults.append(fault(place, expected, image_id, step, code="setting.conflict"))
        raise_any(self.faults)
        self.found: dict[str, str] = {}
        self.images: list[ImageRow] = []
        self.n_unwanted = self.n_other_size = 0

    def keep(self, source_id: str) -> str | None:
        """Return the folder's id for a source's; count it if the folder does not know it."""
        image_id = source_id if self.takes_all else self._by_key.get(self._key_of(source_id))
        self.n_unwanted += image_id is None
        return image_id

    def add(self, found: ImageRegions | BadRegions, writer: RegionWriter) -> None:
        """Write one picture, or note why it cannot be used."""
        problem = found.fault if isinstance(found, BadRegions) else self._write(found, writer)
        if problem is not None:
            self.found.setdefault(found.image_id, problem.place)
            self.faults.append(problem)

    def _write(self, image: ImageRegions, writer: RegionWriter) -> Fault | None:
        first = self.found.setdefault(image.image_id, image.place)
        if first != image.place:
            expected = f"a picture must have one record (the first is {first})"
            step = "remove one, or leave it out with --skip-bad"
            return fault(image.place, expected, image.image_id, step, code="region.duplicate")
        try:
            _ID.parse(_ID.render(image.image_id))
        except ValueError as error:
            step = "correct the id"
            return fault(image.place, f"image_id {error}", image.image_id, step, code="picture.name")
        if (problem := writer.add(image)) is None:
            size = (image.width, image.height)
            self.n_other_size += self.sizes.get(image.image_id, size) != size
            self.images.append(ImageRow(image.image_id, "", *size))
        return problem

    def refuse(self, missing: Mapping[str, str]) -> None:
        """Raise the faults of all pictures, and those of missing ones."""
        step = "give all files, or count such pictures with --skip-missing"
        if len(missing) == len(self.wanted):
            step = "see whether ids agree, and choose --match name or stem if only parts of them do"
        for name, place in missing.items():
            expected = "image must be in the source of regions"
            self.faults.append(fault(place, expected, name, step, code="region.missing"))
        if not self.faults and not self.images:
            message = "must hold a usable picture, got none; check the files"
            self.faults.append(Fault("the source of regions", message, "region.missing"))
        raise_any(self.faults)


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

    A missing folder is made, a missing ``images.tsv`` written, with sizes but without pictures. Features are
    held in memory for one picture at a time.

    ``match`` is the part of an id that must agree: ``exact``, ``name`` (after the last slash) or ``stem``
    (the name without suffix). ``skip_missing`` counts wanted pictures that the source lacks instead of
    refusing them, ``skip_bad`` leaves out and counts those with a faulty record. ``progress`` is called with
    (work done, all of it) in the source's unit.

    Returns:
        What ``summary.json`` says under ``regions``.

    Raises:
        FaultError: All faults; nothing is written.
        OutputExistsError: There are regions and ``force`` is off.
    """
    names = ManifestFolder(folder)
    refuse_existing(names.regions, names.region_features, force=force)
    try_output(folder, option="DATA")
    conversion = _Conversion(names, match)
    summary = read_summary(folder)
    leftovers = {partial_path(names.regions), partial_path(names.region_features)}
    existed = folder.exists()
    is_new = not existed or leftovers.issuperset(folder.iterdir())
    try:
        with open_region_writer(folder, force=force) as writer:
            for found in source.read(conversion.keep, progress):
                conversion.add(found, writer)
            faulty = [str(item) for item in conversion.faults] if skip_bad else []
            if skip_bad:
                conversion.faults.clear()
            wanted = conversion.wanted.items()
            missing = {name: place for name, place in wanted if name not in conversion.found}
            conversion.refuse({} if skip_missing else missing)
    except BaseException:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
    if not names.images.exists():
        write_images(names.images, conversion.images)
    excluded = {
        reason: {"count": len(left_out), "names": list(left_out)}
        for reason, left_out in (("faulty", faulty), ("without regions", missing))
        if left_out
    }
    regions = {
        **source.describe(),
        "images": writer.n_images,
        "regions": writer.n_rows,
        "dims": writer.dim,
        "boxes_clipped": writer.n_clipped,
        "largest_overhang_pixels": writer.overhang,
        "boxes_without_area": writer.n_left_out,
        "largest_feature": writer.largest,
        "float16_max_absolute_error": writer.absolute_error,
        "float16_max_relative_error": writer.relative_error,
        "images_of_other_size": conversion.n_other_size,
        "not_wanted": conversion.n_unwanted,
        "excluded": excluded,
    }
    # --force may replace a folder that holds only what this command wrote.
    made_by = MADE_BY if is_new else MADE_BY_REGIONS
    return write_region_summary(folder, regions, summary=summary, made_by=made_by)

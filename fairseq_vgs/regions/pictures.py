"""Compute region features of a data folder's pictures: cells of a grid, or given boxes.

Every region is cropped, centred on a white square and passed to a frozen network, which the caller provides:
this module works without torch. R regions in all, B of a batch, D dims.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairseq_vgs.arrays import F16, F32
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.location import media_digest, resolve
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.files.spelling import spelling_key
from fairseq_vgs.files.tables import parse_header, parse_rows, read_lines
from fairseq_vgs.manifest import ManifestFolder, RegionRow, read_images, read_regions
from fairseq_vgs.manifest.summary import read_summary, write_region_summary
from fairseq_vgs.manifest.tables import REGIONS
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import open_picture, pad_to_square, say_first_frames
from fairseq_vgs.regions.store import open_store, refuse_regions
from fairseq_vgs.regions.writer import MADE_BY_REGIONS, grid_boxes, region_lines

EDGE_PIXELS = 0.01


class Extractor(Protocol):
    """A frozen network."""

    dim: int

    def describe(self) -> Mapping[str, object]:
        """Return what the features depend on."""
        ...

    def network_input(self, square: Image.Image) -> NDArray[np.uint8]:
        """Return a square picture as the network takes it; called on several threads."""
        ...

    def __call__(self, batch: NDArray[np.uint8]) -> F16:
        """Return the features of a batch of inputs, float16[B, D]."""
        ...


def _box(image_id: str, x0: float, y0: float, x1: float, y1: float) -> RegionRow:
    return RegionRow(image_id, -1, x0, y0, x1, y1)


# A region table without rows of features.
BOXES = replace(
    REGIONS,
    columns=tuple(column for column in REGIONS.columns if column.name != "feature_row"),
    make=_box,
    unique=("image_id", "x0", "y0", "x1", "y1"),
    noun="box",
)


@dataclass(frozen=True)
class _Work:
    """One picture and its boxes; ``first`` is its first row of the features."""

    image_id: str
    path: str
    place: str
    first: int
    boxes: F32


@dataclass(frozen=True)
class PictureRegions:
    """Which regions pictures get: those of a table (``BOXES``, or a ``regions.tsv``), else cells of a grid.

    A table needs at least one box of every picture; ``grid`` is rows and columns, (1, 1) the whole picture.
    """

    extractor: Extractor
    grid: tuple[int, int] = (1, 1)
    boxes: Path | None = None
    batch_size: int = 16

    def faults(self, images: Sequence[tuple[str, str]]) -> Iterator[Fault]:
        """Yield the faults of the boxes of images (id and place), before anything is computed."""
        if self.boxes is not None:
            try:
                boxes = _read_boxes(self.boxes, (image_id for image_id, _ in images))
            except FaultError as error:
                yield from error.faults
            else:
                yield from _box_faults(images, boxes)

    def compute(
        self,
        folder: Path,
        *,
        left_out: Collection[str] = (),
        jobs: int = 1,
        force: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, object]:
        """Write the region features of all pictures of ``images.tsv``; resume an interrupted call.

        Boxes of pictures that were ``left_out`` are ignored; ``jobs`` threads decode and crop; ``progress``
        is called with (pictures done, pictures to do).

        Returns:
            What ``summary.json`` says under ``regions``.

        Raises:
            FaultError: Faulty tables, all pictures that do not decode, another run in the same folder, or
                existing regions.
        """
        extractor, names = self.extractor, ManifestFolder(folder)
        refuse_regions(folder, force=force)
        summary = read_summary(folder)
        images = read_images(names.images)
        if self.boxes is None:
            boxes_of = dict.fromkeys((row.image_id for row in images.rows), grid_boxes(*self.grid))
        else:
            boxes = _read_boxes(self.boxes, [*(row.image_id for row in images.rows), *left_out])
            boxes_of = {name: boxes[name] for name in boxes if name not in left_out}
        plan = _plan([(row.image_id, row.path) for row in images.rows], boxes_of)
        n_rows = sum(len(work.boxes) for work in plan)
        with open_store(folder, _settings(plan, images.root, extractor), n_rows=n_rows) as store:
            n_kept = store.n_done
            todo = [work for work in plan if work.first + len(work.boxes) > n_kept]
            animated: list[str] = []
            read = partial(_read_inputs, images.root, extractor, n_kept, animated)
            firsts = [work.first for work in plan]
            for features in self._features(map_in_order(read, todo, jobs=jobs, progress=progress)):
                store.append(features, lambda row: plan[bisect(firsts, row) - 1].place)
            lines = (region_lines(work.image_id, work.first, work.boxes) for work in plan)
            store.publish(lines)
            say_first_frames(animated)
            where = {"boxes": self.boxes.name} if self.boxes is not None else {"grid": list(self.grid)}
            counts = {"images": len(plan), "regions": n_rows, "dims": extractor.dim, "rows_kept": n_kept}
            regions = {**extractor.describe(), **where, **counts}
            return write_region_summary(folder, regions, summary=summary, made_by=MADE_BY_REGIONS)

    def _features(self, pictures: Iterator[list[NDArray[np.uint8]] | Fault]) -> Iterator[F16]:
        """Compute features batch by batch; if pictures do not decode, find all of them instead."""
        faults: list[Fault] = []
        waiting: list[NDArray[np.uint8]] = []
        for found in pictures:
            if isinstance(found, Fault):
                faults.append(found)
            elif not faults:
                waiting += found
                while len(waiting) >= self.batch_size:
                    yield self.extractor(np.stack(waiting[: self.batch_size]))
                    del waiting[: self.batch_size]
        raise_any(faults)
        if waiting:
            yield self.extractor(np.stack(waiting))


def _plan(images: Sequence[tuple[str, str]], boxes: Mapping[str, F32]) -> list[_Work]:
    plan = []
    placed = [(image_id, f"images.tsv:{line}") for line, (image_id, _) in enumerate(images, start=3)]
    faults = list(_box_faults(placed, boxes))
    first = 0
    for (image_id, place), (_, path) in zip(placed, images, strict=True):
        own = boxes.get(image_id)
        if own is not None and not path:
            what = "path must name a picture, to compute regions from, got none; add it"
            faults.append(Fault(place, what, code="picture.missing"))
        elif own is not None:
            plan.append(_Work(image_id, path, place, first, own))
            first += len(own)
    raise_any(faults)
    return plan


def _box_faults(images: Sequence[tuple[str, str]], boxes: Mapping[str, F32]) -> Iterator[Fault]:
    """Yield pictures, given with their places, without boxes, and boxes without pictures."""
    known = dict(images)
    for name in (name for name in boxes if name not in known):
        expected, step = "image_id must be in images.tsv", "remove its boxes"
        yield fault("the boxes", expected, name, step, code="picture.unknown")
    for image_id, place in images:
        if image_id not in boxes:
            expected = "image must have a box in the table of boxes"
            yield fault(place, expected, image_id, "add one", code="region.missing")


def _read_boxes(path: Path, image_ids: Iterable[str]) -> dict[str, F32]:
    """Return the boxes by image id, which the table may spell otherwise (NFC, NFD, backslashes)."""
    known = {spelling_key(image_id): image_id for image_id in image_ids}
    lines, faults = read_lines(path)
    rows: Sequence[RegionRow] = ()
    if "feature_row" in (lines[0] or "").split("\t"):
        rows = read_regions(path)
    else:
        order, header_faults = parse_header(lines[0] or "", BOXES, place=f"{path.name}:1")
        if not header_faults:
            table = parse_rows(lines, BOXES, name=path.name, start=1, order=order)
            rows, header_faults = table.rows, list(table.faults)
        raise_any([*faults, *header_faults])
    found: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        image_id = known.get(spelling_key(row.image_id), row.image_id)
        found.setdefault(image_id, []).append((row.x0, row.y0, row.x1, row.y1))
    return {name: np.array(boxes, dtype=np.float32) for name, boxes in found.items()}


def _settings(plan: Sequence[_Work], root: Path, extractor: Extractor) -> dict[str, object]:
    """Return what the features depend on."""
    digest = hashlib.sha256(str(root).encode("utf-8", "surrogateescape"))
    for work in plan:
        digest.update(f"{work.image_id}\0{work.path}\0".encode("utf-8", "surrogateescape"))
        digest.update(work.boxes.tobytes())
    pictures = media_digest(root, (work.path for work in plan))
    return {**extractor.describe(), "plan_sha256": digest.hexdigest(), "pictures_sha256": pictures}


def _read_inputs(
    root: Path, extractor: Extractor, n_kept: int, animated: list[str], work: _Work
) -> list[NDArray[np.uint8]] | Fault:
    """Return the network's inputs for those regions of a picture that are still missing."""
    try:
        with open_picture(resolve(root, work.path), place=work.place) as opened:
            if opened.is_animated:
                animated.append(work.path)
            picture = opened.rgb()
    except MediumError as error:
        return error.faults[0]
    return network_inputs(picture, work.boxes[max(0, n_kept - work.first) :], extractor)


def network_inputs(picture: Image.Image, boxes: F32, extractor: Extractor) -> list[NDArray[np.uint8]]:
    """Crop the regions of an RGB picture, boxes float32[R, 4] in fractions of it, for the network."""
    size = np.array([picture.width, picture.height] * 2)
    inputs = []
    for box in boxes:
        # Round outwards, so that no region is empty, but forgive float32 that moved an edge off its pixel.
        left, top = np.floor(box * size + EDGE_PIXELS)[:2].astype(int).tolist()
        right, bottom = np.ceil(box * size - EDGE_PIXELS)[2:].astype(int).tolist()
        crop = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        inputs.append(extractor.network_input(pad_to_square(crop)))
    return inputs

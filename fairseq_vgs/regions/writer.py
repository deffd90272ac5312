"""Write ``regions.npy`` and ``regions.tsv`` one picture at a time.

Shapes: R regions of a picture, D dims of a feature. A box is x0, y0, x1, y1 from the upper left corner.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from fairseq_vgs.arrays import F16, F32, Bool
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.manifest import ManifestFolder, RegionRow
from fairseq_vgs.regions.source import CHECK_SOURCE, ImageRegions

MADE_BY_REGIONS = "fairseq-vgs prepare regions"
REGIONS_HEADER = "\t".join(RegionRow.__slots__) + "\n"
# float16 has its full precision from here on.
MIN_NORMAL = 2.0**-14
# Detectors compute in float32 at another scale: a smaller overhang is rounding.
ROUNDING_PIXELS = 0.01


@dataclass(frozen=True)
class PartBoxes:
    """Boxes float32[R, 4] in fractions of the picture, and whether each has an area inside it.

    ``n_clipped`` boxes exceeded the picture by more than ``ROUNDING_PIXELS``, at most by ``overhang`` pixels.
    """

    boxes: F32
    usable: Bool
    n_clipped: int
    overhang: float


def boxes_in_parts(boxes: F32, *, width: int, height: int) -> PartBoxes:
    """Divide boxes, finite float32[R, 4] in pixels, by the picture's size and clip them to it."""
    size = np.array([width, height, width, height], dtype=np.float32)
    outside = np.maximum(np.maximum(-boxes, boxes - size), 0).max(axis=1, initial=0)
    # float32 by float32, as in FaST-VGS: the model gets the same numbers.
    parts: F32 = np.clip(boxes / size, 0, 1).astype(np.float32)
    usable = (parts[:, 0] < parts[:, 2]) & (parts[:, 1] < parts[:, 3])
    clipped = outside > ROUNDING_PIXELS
    overhang = float(outside.max(initial=0)) if clipped.any() else 0.0
    return PartBoxes(parts, usable, int(np.count_nonzero(clipped)), overhang)


def region_lines(image_id: str, first_row: int, boxes: F32) -> str:
    """Return a picture's lines of ``regions.tsv``; nine digits restore every float32 exactly."""
    return "".join(
        f"{image_id}\t{row}\t{x0:.9g}\t{y0:.9g}\t{x1:.9g}\t{y1:.9g}\n"
        for row, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=first_row)
    )


def grid_boxes(rows: int, columns: int) -> F32:
    """Return the boxes of a grid over the whole picture in reading order, float32[rows * columns, 4]."""
    across, down = np.arange(columns + 1) / columns, np.arange(rows + 1) / rows
    boxes = [(across[x], down[y], across[x + 1], down[y + 1]) for y in range(rows) for x in range(columns)]
    return np.array(boxes, dtype=np.float32)


def npy_header(n_rows: int, dim: int) -> bytes:
    """Return the header of a float16 .npy file; its length depends on ``dim`` only, to be rewritten later."""
    buffer = io.BytesIO()
    shape = {"descr": "<f2", "fortran_order": False, "shape": (n_rows, dim)}
    np.lib.format.write_array_header_1_0(buffer, shape)
    return buffer.getvalue()


class RegionWriter:
    """Write pictures one by one; see ``open_region_writer``.

    It counts pictures, regions (``n_rows``), boxes clipped to their picture (by at most ``overhang`` pixels)
    and regions left out because their box has no area inside it. ``dim`` is 0 before the first picture.
    ``largest`` is the largest absolute feature, the errors are those of float16: the relative one, at most
    2^-11, is that of values from ``MIN_NORMAL`` on.
    """

    def __init__(self, features: BinaryIO, table: TextIO) -> None:
        self._features, self._table = features, table
        self.n_images = self.n_rows = self.dim = self.n_clipped = self.n_left_out = 0
        self.overhang = self.largest = self.absolute_error = self.relative_error = 0.0
        self._dim_place = ""
        table.write(REGIONS_HEADER)

    def add(self, image: ImageRegions) -> Fault | None:
        """Write a picture's regions; if they cannot be used, return why and write nothing."""
        if (problem := self._problem(image)) is not None:
            return problem
        parts = boxes_in_parts(image.boxes, width=image.width, height=image.height)
        if not parts.usable.any():
            got = image.boxes[0].tolist()
            expected = f"a box must have an area within the picture of {image.width} x {image.height}"
            return fault(image.place, expected, got, CHECK_SOURCE, code="region.box")
        half = self._as_half(image.features[parts.usable])
        if not np.isfinite(half).all():
            largest = float(np.abs(image.features).max())
            expected = f"features must be at most {np.finfo(np.float16).max:g}, which float16 can hold"
            return fault(image.place, expected, largest, CHECK_SOURCE, code="region.not_finite")
        if not self.dim:
            self.dim, self._dim_place = half.shape[1], image.place
            self._features.write(npy_header(0, self.dim))
        self._features.write(half.astype("<f2", copy=False).tobytes())
        self._table.write(region_lines(image.image_id, self.n_rows, parts.boxes[parts.usable]))
        self.n_images += 1
        self.n_rows += len(half)
        self.n_clipped += parts.n_clipped
        self.n_left_out += int(np.count_nonzero(~parts.usable))
        self.overhang = max(self.overhang, parts.overhang)
        return None

    def finish(self) -> None:
        """Write the number of rows into the header of the features."""
        self._features.seek(0)
        self._features.write(npy_header(self.n_rows, self.dim))

    def _as_half(self, features: F32) -> F16:
        """Return the features as float16 and measure the error; overflows become infinite."""
        with np.errstate(over="ignore"):
            half = features.astype(np.float16)
        if np.isfinite(half).all():
            size, error = np.abs(features), np.abs(half.astype(np.float32) - features)
            ratios = np.divide(error, size, out=np.zeros_like(error), where=size >= MIN_NORMAL)
            self.largest = max(self.largest, float(size.max(initial=0)))
            self.absolute_error = max(self.absolute_error, float(error.max(initial=0)))
            self.relative_error = max(self.relative_error, float(ratios.max(initial=0)))
        return half

    def _problem(self, image: ImageRegions) -> Fault | None:
        dim = image.features.shape[1]
        if self.dim not in (0, dim):
            expected = f"features must have {self.dim} dims, as in {self._dim_place}"
            return fault(image.place, expected, dim, CHECK_SOURCE, code="region.dims")
        for name, values in (("boxes", image.boxes), ("features", image.features)):
            bad = values[~np.isfinite(values)]
            if len(bad):
                expected = f"{name} must be finite numbers ({len(bad)} are not)"
                return fault(image.place, expected, float(bad[0]), CHECK_SOURCE, code="region.not_finite")
        return None


@contextmanager
def open_region_writer(folder: Path, *, force: bool) -> Iterator[RegionWriter]:
    """Open a writer; both files appear when the block ends, neither if it raises.

    Raises:
        FileExistsError: One of them exists and ``force`` is off.
        FaultError: Another run is writing them.
    """
    names = ManifestFolder(folder)
    # The features come last, so they are put in place first: a full disk shows in the larger file.
    with (
        atomic_write(names.regions, force=force, partial=True) as table,
        atomic_write(names.region_features, mode="wb", force=force, partial=True) as features,
    ):
        writer = RegionWriter(features, table)
        yield writer
        writer.finish()
        for file in (features, table):
            file.flush()
            os.fsync(file.fileno())
        # no moment at which a table lies next to features that are not its own
        names.regions.unlink(missing_ok=True)

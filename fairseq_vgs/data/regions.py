"""Random access to region features and boxes of pictures.

Shapes: R regions of a picture, D dims of a feature, N pictures in images.tsv.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.data.bad_items import BadItemError, raise_or_log, refuse_spoilt
from fairseq_vgs.data.regular_tables import RegionColumns, read_region_columns
from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.files.provenance import sha256_once
from fairseq_vgs.files.tables import IrregularTableError, Table, line_number
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import RegionRow
from fairseq_vgs.manifest.summary import refuse_other_regions
from fairseq_vgs.manifest.tables import scan_regions
from fairseq_vgs.media.region_features import open_features

_FIRST_LINE = 2  # of the rows of regions.tsv, below the header


class RegionStore:
    """The regions of every picture; features stay on disk until requested.

    Args:
        features_path: ``regions.npy``, float16 [rows, D].
        regions: The region table, joined; a picture's regions keep its order.
        n_images: N.
        max_regions: Regions kept per picture, the first ones.
    """

    def __init__(
        self, features_path: Path, regions: RegionColumns, *, n_images: int, max_regions: int
    ) -> None:
        self.path = features_path
        self._features: npt.NDArray[Any] | None = None
        self.dim = int(open_features(features_path).shape[1])
        order, self._offsets = _kept(regions.image_row, n_images, max_regions=max_regions)
        self.n_cut = len(regions.image_row) - len(order)
        """Regions left out because their picture has more than ``max_regions``."""
        self._feature_rows = regions.feature_row[order]
        self._boxes: F32 = regions.boxes[order]

    def n_regions(self, image_index: int) -> int:
        """Return the number of regions of a picture (R)."""
        return int(self._offsets[image_index + 1] - self._offsets[image_index])

    def features(self, image_index: int) -> F32:
        """Read the features of a picture's regions, float32[R, D]; refuse NaN and infinity."""
        if self._features is None:
            self._features = open_features(self.path)
        rows = self._feature_rows[self._slice(image_index)]
        features: F32 = self._features[rows].astype(np.float32)
        if not np.isfinite(features.sum(dtype=np.float64)):
            place = f"{self.path.name}: rows {rows.tolist()}"
            message = "features must be finite numbers, got NaN or infinity; extract them again"
            raise BadItemError(Fault(place, message, "regions.not_finite"))
        return features

    def boxes(self, image_index: int) -> F32:
        """Return the boxes of a picture's regions, float32[R, 4]: x0, y0, x1, y1 as fractions of its size."""
        return self._boxes[self._slice(image_index)]

    def __getstate__(self) -> dict[str, Any]:
        # Do not pickle the content of the memory map; every worker opens its own.
        return {**self.__dict__, "_features": None}

    def _slice(self, image_index: int) -> slice:
        return slice(int(self._offsets[image_index]), int(self._offsets[image_index + 1]))


def load_regions(
    folder: ManifestFolder, *, image_index: Mapping[str, int], max_regions: int, skip_bad: bool = False
) -> RegionStore:
    """Read a folder's regions, at most ``max_regions`` of each picture, the first ones.

    With ``skip_bad``, pictures with a bad line have no regions, and each such line is logged.

    Raises:
        FaultError: Missing or unreadable files, a faulty header; ``regions.mismatch``, one of them is not
            what ``summary.json`` describes; without ``skip_bad`` every bad line.
    """
    both = folder.regions.name, folder.region_features.name
    if all((folder.path / name).is_file() for name in both):  # else what is missing is named below
        refuse_other_regions(folder.path, *both, digest=sha256_once)
    regions = _load_regular(folder, image_index)
    if regions is None:
        regions = _load_by_line(folder, image_index, skip_bad=skip_bad)
    return RegionStore(folder.region_features, regions, n_images=len(image_index), max_regions=max_regions)


def _load_regular(folder: ManifestFolder, image_index: Mapping[str, int]) -> RegionColumns | None:
    """Read a table without faults; return None if it has any."""
    try:
        regions = read_region_columns(folder.regions, image_index)
    except (IrregularTableError, OSError):
        return None
    return regions if regions.feature_row.max() < len(open_features(folder.region_features)) else None


def _load_by_line(folder: ManifestFolder, image_index: Mapping[str, int], *, skip_bad: bool) -> RegionColumns:
    """Read any table line by line, and raise or skip its faults."""
    table = scan_regions(folder.regions)
    refuse_spoilt(table, _FIRST_LINE, skip_bad=skip_bad)
    faults = list(_row_faults(table, image_index, n_rows=len(open_features(folder.region_features))))
    raise_or_log(sorted([*table.faults, *faults], key=line_number), skip_bad=skip_bad)
    bad_lines = {line_number(item) for item in faults}
    bad_images = table.doubtful.union(
        row.image_id for line, row in zip(table.lines, table.rows, strict=True) if line in bad_lines
    )
    rows = [row for row in table.rows if row.image_id not in bad_images]
    boxes = np.array([(row.x0, row.y0, row.x1, row.y1) for row in rows], dtype=np.float32)
    return RegionColumns(
        image_row=np.array([image_index[row.image_id] for row in rows], dtype=np.int64),
        feature_row=np.array([row.feature_row for row in rows], dtype=np.int64),
        boxes=boxes.reshape(-1, 4),
    )


def _kept(image_row: I64, n_images: int, *, max_regions: int) -> tuple[I64, I64]:
    """Return the rows to keep, picture by picture, and their int64[N + 1] boundaries."""
    order = np.argsort(image_row, kind="stable")
    n_regions = np.bincount(image_row, minlength=n_images)
    ends = np.cumsum(n_regions)
    place = np.arange(len(order)) - np.repeat(ends - n_regions, n_regions)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(n_regions, max_regions))])
    return order[place < max_regions], offsets


def _row_faults(table: Table[RegionRow], image_index: Mapping[str, int], *, n_rows: int) -> Iterator[Fault]:
    expected = f"feature_row must be below {n_rows}, the rows of regions.npy"
    for place, row in table.placed():
        if row.image_id not in image_index:
            known, step = "image_id must be one of images.tsv", "correct the id"
            yield fault(place, known, row.image_id, step, code="picture.unknown")
        if row.feature_row >= n_rows:
            step = "rerun fairseq-vgs prepare"
            yield fault(place, expected, row.feature_row, step, code="regions.row")

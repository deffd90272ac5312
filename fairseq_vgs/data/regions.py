"""Region features and boxes of pictures, read at random access.

Shapes: R regions of a picture, D dims of a feature, N pictures in images.tsv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.data.bad_items import log_skipped
from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.manifest.errors import Fault, ManifestError, fault
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.media import open_features
from fairseq_vgs.manifest.parsing import line_number
from fairseq_vgs.manifest.schema import RegionRow
from fairseq_vgs.manifest.tables import read_regions, scan_regions

FloatArray = npt.NDArray[np.float32]
_FIRST_LINE = 2  # of the rows of regions.tsv, below the header


class RegionStore:
    """The regions of every picture; features stay on disk until they are asked for.

    Args:
        features_path: ``regions.npy``, float16 [rows, D].
        rows: The region table; a picture's regions keep this order.
        image_index: Number of every picture by its id.
        max_regions: Regions kept per picture, the first ones.
        table_path: ``regions.tsv``, named in errors.

    Raises:
        ManifestError: Unknown pictures, feature rows beyond the file, or an unreadable file; all of them.
    """

    def __init__(
        self,
        features_path: Path,
        rows: Sequence[RegionRow],
        *,
        image_index: Mapping[str, int],
        max_regions: int,
        table_path: Path,
    ) -> None:
        self.path = features_path
        self.table_name = table_path.name
        self._features: npt.NDArray[Any] | None = None
        features = self._open()
        self.dim = int(features.shape[1])
        faults = _row_faults(
            rows,
            range(_FIRST_LINE, _FIRST_LINE + len(rows)),
            image_index,
            names=(table_path.name, features_path.name),
            n_feature_rows=len(features),
        )
        if faults:
            raise ManifestError(faults)
        images = np.fromiter((image_index[row.image_id] for row in rows), dtype=np.int64, count=len(rows))
        order = np.argsort(images, kind="stable")
        images = images[order]
        starts = np.searchsorted(images, images)
        kept = np.arange(len(images)) - starts < max_regions
        self.n_cut = int(np.count_nonzero(~kept))
        """Regions left out because their picture has more than ``max_regions``."""
        order, images = order[kept], images[kept]
        self._offsets = np.searchsorted(images, np.arange(len(image_index) + 1))
        feature_rows = np.fromiter((row.feature_row for row in rows), dtype=np.int64, count=len(rows))
        self._feature_rows = feature_rows[order]
        boxes = np.array([(row.x0, row.y0, row.x1, row.y1) for row in rows], dtype=np.float32).reshape(-1, 4)
        self._boxes: FloatArray = boxes[order]

    def n_regions(self, image_index: int) -> int:
        """Return how many regions a picture has (R); 0 where it has none."""
        return int(self._offsets[image_index + 1] - self._offsets[image_index])

    def features(self, image_index: int) -> FloatArray:
        """Read the features of a picture's regions, float32[R, D].

        Raises:
            BadItemError: A feature is NaN or infinite.
        """
        if self._features is None:
            self._features = self._open()
        rows = self._feature_rows[self._slice(image_index)]
        features: FloatArray = self._features[rows].astype(np.float32)
        if not np.isfinite(features.sum(dtype=np.float64)):
            place = f"{self.path.name}: rows {rows.tolist()}"
            raise BadItemError(
                Fault(place, "features must be finite numbers, got NaN or infinity; extract them again")
            )
        return features

    def boxes(self, image_index: int) -> FloatArray:
        """Return the boxes of a picture's regions, float32[R, 4]: x0, y0, x1, y1 in parts of the picture."""
        return self._boxes[self._slice(image_index)]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map must not be pickled with its content; every worker opens its own.
        return {**self.__dict__, "_features": None}

    def _slice(self, image_index: int) -> slice:
        return slice(int(self._offsets[image_index]), int(self._offsets[image_index + 1]))

    def _open(self) -> npt.NDArray[Any]:
        try:
            return open_features(self.path)
        except ValueError as error:
            raise ManifestError(Fault(str(self.path), str(error))) from error


def load_regions(
    folder: ManifestFolder, *, image_index: Mapping[str, int], max_regions: int, skip_bad: bool = False
) -> RegionStore:
    """Read a folder's regions.

    Args:
        folder: The manifest folder.
        image_index: Number of every picture by its id.
        max_regions: Regions kept per picture, the first ones.
        skip_bad: Let pictures with a bad line have no regions, with a warning for each such line.

    Raises:
        ManifestError: Missing or unreadable files, a faulty header; without ``skip_bad`` every bad line.
    """
    if not skip_bad:
        rows = read_regions(folder.regions)
    else:
        table = scan_regions(folder.regions)
        if not table.usable or not table.rows or any(line_number(f) < _FIRST_LINE for f in table.faults):
            raise ManifestError(table.faults)
        try:
            n_feature_rows = len(open_features(folder.region_features))
        except ValueError as error:
            raise ManifestError(Fault(str(folder.region_features), str(error))) from error
        faults = _row_faults(
            table.rows,
            table.lines,
            image_index,
            names=(folder.regions.name, folder.region_features.name),
            n_feature_rows=n_feature_rows,
        )
        log_skipped(sorted([*table.faults, *faults], key=line_number))
        bad_lines = {line_number(item) for item in faults}
        bad_images = table.doubtful.union(
            row.image_id for line, row in zip(table.lines, table.rows, strict=True) if line in bad_lines
        )
        rows = tuple(row for row in table.rows if row.image_id not in bad_images)
    return RegionStore(
        folder.region_features,
        rows,
        image_index=image_index,
        max_regions=max_regions,
        table_path=folder.regions,
    )


def _row_faults(
    rows: Sequence[RegionRow],
    lines: Sequence[int],
    image_index: Mapping[str, int],
    *,
    names: tuple[str, str],
    n_feature_rows: int,
) -> list[Fault]:
    table_name, features_name = names
    expected = f"feature_row must be below {n_feature_rows}, the rows of {features_name}"
    faults = []
    for line, row in zip(lines, rows, strict=True):
        place = f"{table_name}:{line}"
        if row.image_id not in image_index:
            faults.append(fault(place, "image_id must be one of images.tsv", row.image_id, "correct the id"))
        if row.feature_row >= n_feature_rows:
            faults.append(fault(place, expected, row.feature_row, "rerun fairseq-vgs prepare"))
    return faults

"""Region features and boxes of pictures, read at random access.

Shapes: R regions of a picture, D dims of a feature, N pictures in images.tsv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.manifest.errors import Fault, ManifestError, fault
from fairseq_vgs.manifest.media import open_features
from fairseq_vgs.manifest.schema import RegionRow

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
        self._check_rows(rows, image_index, n_feature_rows=len(features))
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

    def _check_rows(
        self, rows: Sequence[RegionRow], image_index: Mapping[str, int], *, n_feature_rows: int
    ) -> None:
        faults = []
        for line, row in enumerate(rows, start=_FIRST_LINE):
            place = f"{self.table_name}:{line}"
            if row.image_id not in image_index:
                faults.append(
                    fault(place, "image_id must be one of images.tsv", row.image_id, "correct the id")
                )
            if row.feature_row >= n_feature_rows:
                expected = f"feature_row must be below {n_feature_rows}, the rows of {self.path.name}"
                faults.append(fault(place, expected, row.feature_row, "rerun fairseq-vgs prepare"))
        if faults:
            raise ManifestError(faults)

"""Region by moment: which parts of a picture go with which moments of a caption; see `occlusion`.

Shapes: W moments, R regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HOP_SECONDS = 0.1
"""Length of a moment."""
SILENCED_SECONDS = 0.2
"""How much is silenced around the middle of a moment to see what is missing then."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeatMap:
    """Region by moment.

    Attributes:
        values: f32[R, W] similarity; moment t is the `HOP_SECONDS` from t * `HOP_SECONDS` on.
        boxes: f32[R, 4] x0, y0, x1, y1 in parts of the picture.
        is_cropped: the picture is the square in the middle of the file's (``task.image_fit=crop``).
        loudness: f32[frames of 20 ms] root mean square of the speech, the loudest being 1.
    """

    values: FloatArray
    boxes: FloatArray
    loudness: FloatArray
    is_cropped: bool = False

    @property
    def seconds(self) -> float:
        """Where the last moment ends."""
        return self.values.shape[1] * HOP_SECONDS

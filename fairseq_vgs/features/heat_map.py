"""Heat maps of image regions by moments of a caption; see ``occlusion``.

Shapes: W moments, R regions.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_vgs.arrays import F32

HOP_SECONDS = 0.1
"""Length of a moment."""
SILENCED_SECONDS = 0.2
"""Length of the silence around the middle of a moment."""


@dataclass(frozen=True)
class HeatMap:
    """Region by moment.

    Attributes:
        values: f32[R, W] similarity; moment t starts at t * ``HOP_SECONDS``.
        boxes: f32[R, 4] x0, y0, x1, y1 as fractions of the image.
        is_cropped: the image is the central square of the file's (``task.image_fit=crop``).
        loudness: f32[frames of 20 ms] root mean square of the speech, the loudest being 1.
    """

    values: F32
    boxes: F32
    loudness: F32
    is_cropped: bool = False

    @property
    def seconds(self) -> float:
        """Where the last moment ends."""
        return self.values.shape[1] * HOP_SECONDS

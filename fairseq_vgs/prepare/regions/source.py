"""What a reader of region features hands over, one picture at a time.

Shapes: R regions of a picture, D dims of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.files.parallel import Progress

Keep = Callable[[str], str | None]
"""Gives the data folder's image id for a source's, None for a picture that is not wanted."""

CHECK_SOURCE = "get the file again, or leave such pictures out with --skip-bad"


@dataclass(frozen=True)
class ImageRegions:
    """The regions of one picture as a detector found them, the surest first.

    Attributes:
        image_id: The data folder's id.
        place: File and line, for errors.
        width: The picture's, in pixels.
        height: The picture's, in pixels.
        boxes: float32[R, 4] in pixels.
        features: float32[R, D].
    """

    image_id: str
    place: str
    width: int
    height: int
    boxes: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class BadRegions:
    """A wanted picture that cannot be used, and why; no id where even that could not be read."""

    fault: Fault
    image_id: str = ""


class RegionFaultError(ValueError):
    """One record cannot be used; the place is the caller's to add.

    Args:
        expected: The expectation, a clause.
        got: What was found.
        next_step: What the reader can do about it.
    """

    def __init__(self, expected: str, got: object, next_step: str = CHECK_SOURCE) -> None:
        super().__init__(expected)
        self._parts = (expected, got, next_step)

    def at(self, place: str) -> Fault:
        """Return the fault at a place."""
        expected, got, next_step = self._parts
        return fault(place, expected, got, next_step, code="region.record")


class RegionSource(Protocol):
    """Region features of many pictures in somebody's format."""

    def read(self, keep: Keep, progress: Progress | None) -> Iterator[ImageRegions | BadRegions]:
        """Yield the wanted pictures in the source's order, and what is wrong with others.

        Args:
            keep: Says which pictures are wanted; others are not decoded.
            progress: Called with (work done, all of it).
        """
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what ``summary.json`` says of the source."""
        ...


def surest_first(confidences: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the order of regions by falling confidence, in which FaST-VGS takes the first of them.

    Raises:
        RegionFaultError: A confidence is NaN.
    """
    if np.isnan(confidences).any():
        raise RegionFaultError("objects_conf must be numbers", "NaN")
    return np.argsort(-confidences, kind="stable")

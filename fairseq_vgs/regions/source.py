"""What readers of region features yield, one picture at a time.

Shapes: R regions of a picture, D dims of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.files.parallel import Progress

Keep = Callable[[str], str | None]
"""Returns the data folder's image id for a source's, or None for an unwanted picture."""

CHECK_SOURCE = "get the file again, or leave such pictures out with --skip-bad"


@dataclass(frozen=True)
class ImageRegions:
    """The regions of one picture by falling confidence: boxes float32[R, 4] and features float32[R, D].

    ``image_id`` is the data folder's, ``place`` file and line; width, height and boxes are in pixels.
    """

    image_id: str
    place: str
    width: int
    height: int
    boxes: F32
    features: F32


@dataclass(frozen=True)
class BadRegions:
    """A wanted picture that cannot be used, and why; the id is empty if unreadable."""

    fault: Fault
    image_id: str = ""


class RegionFaultError(ValueError):
    """One record cannot be used: expectation and value found; the caller adds the place with ``at``."""

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(expected)
        self._parts = (expected, got)

    def at(self, place: str) -> Fault:
        """Return the fault at a place."""
        return fault(place, *self._parts, CHECK_SOURCE, code="region.record")


class RegionSource(Protocol):
    """Region features of many pictures in somebody's format."""

    def read(self, keep: Keep, progress: Progress | None) -> Iterator[ImageRegions | BadRegions]:
        """Yield the wanted pictures, usable or not, in the source's order; others are not decoded."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what ``summary.json`` says of the source."""
        ...


def surest_first(confidences: F32) -> I64:
    """Return the order of regions by falling confidence, as FaST-VGS takes them; refuse NaN."""
    if np.isnan(confidences).any():
        raise RegionFaultError("objects_conf must be numbers", "NaN")
    return np.argsort(-confidences, kind="stable")

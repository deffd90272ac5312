"""Compute the regions of any picture as those of a data folder were computed.

Shapes: R regions of a picture, D dims of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairseq_vgs.arrays import F32
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.manifest.summary import read_summary, region_recipe
from fairseq_vgs.regions.objects import OBJECTS_ON_WHITE, object_boxes
from fairseq_vgs.regions.options import GRID, parse_grid
from fairseq_vgs.regions.pictures import Extractor, network_inputs
from fairseq_vgs.regions.writer import grid_boxes

OBJECTS = "objects"
_BATCH = 16


class RegionMaker:
    """Compute regions with a network: cells of a grid, the objects on white, or boxes that are given."""

    def __init__(self, recipe: Mapping[str, Any], extractor: Extractor) -> None:
        self._extractor = extractor
        grid = recipe.get("grid")
        self._cells = grid_boxes(*map(int, grid)) if grid else None
        self._finds_objects = recipe.get("where") == OBJECTS_ON_WHITE
        self.dim = extractor.dim

    def boxes(self, picture: Image.Image) -> F32 | None:
        """Return the boxes of an RGB picture, float32[R, 4]; None where the caller must give them."""
        return object_boxes(picture) if self._finds_objects else self._cells

    def crop(self, picture: Image.Image, boxes: F32) -> list[NDArray[np.uint8]]:
        """Return the regions of an RGB picture as the network takes them."""
        return network_inputs(picture, boxes, self._extractor)

    def features(self, crops: Sequence[Sequence[NDArray[np.uint8]]]) -> list[F32]:
        """Compute the features of pictures, float32[R, D] each, from their crops (at least one each)."""
        inputs = chain.from_iterable(crops)
        found: list[F32] = []
        while batch := list(islice(inputs, _BATCH)):
            # what training reads was rounded to float16
            found.append(self._extractor(np.stack(batch)).astype(np.float32))
        ends = np.cumsum([len(own) for own in crops])[:-1]
        return np.split(np.concatenate(found), ends)


def open_maker(recipe: Mapping[str, Any], *, device: str, place: object) -> RegionMaker:
    """Load the network that made regions, whose weights must be those of the recipe.

    Args:
        recipe: what ``region_recipe`` returns.
        device: where the network runs.
        place: what says so, for errors.

    Raises:
        FaultError: ``regions.extractor``: another network or other weights; ``package.missing``.
    """
    from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

    extractor = EfficientNetFeatures(device=device, precision=str(recipe.get("precision", "float32")))
    own = extractor.describe()
    for key in ("format", "network", "weights_sha256"):
        if recipe.get(key) != own[key]:
            expected = f"{key} of its regions must be {own[key]}, the network that this package runs"
            step = (
                "compute region features of the pictures as the training's, prepare them with fairseq-vgs "
                "prepare regions, and use fairseq-vgs extract or evaluate retrieval"
            )
            raise FaultError(fault(str(place), expected, recipe.get(key), step, code="regions.extractor"))
    return RegionMaker(recipe, extractor)


def parse_recipe(text: str | Path | tuple[int, int]) -> dict[str, Any]:
    """Return the recipe that a user names: ``2x3`` or (2, 3) for a grid, ``objects``, or a data folder.

    Raises:
        FaultError: ``regions.recipe``: it is none of these, or the folder's ``summary.json`` has no regions.
    """
    from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

    ours = dict(EfficientNetFeatures().describe())
    if isinstance(text, tuple):
        return {**ours, "grid": list(text)}
    if str(text) == OBJECTS:
        return {**ours, "where": OBJECTS_ON_WHITE}
    if GRID.fullmatch(str(text)):
        return {**ours, "grid": list(parse_grid(str(text)))}
    recipe = region_recipe(read_summary(Path(text)))
    if not recipe:
        expected = "must be a grid such as 2x3, objects, or a data folder whose summary.json has regions"
        step = "give one of these"
        raise FaultError(fault("regions", expected, str(text), step, code="regions.recipe"))
    return recipe

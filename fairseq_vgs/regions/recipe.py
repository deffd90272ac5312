"""Make the regions of any picture as those of a data folder were made.

Shapes: R regions of a picture, D dims of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fairseq_vgs.arrays import F32
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.manifest.summary import read_summary, region_recipe
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.pictures import read_picture
from fairseq_vgs.regions.objects import OBJECTS_ON_WHITE, object_boxes
from fairseq_vgs.regions.options import GRID, parse_grid
from fairseq_vgs.regions.pictures import Extractor, network_inputs
from fairseq_vgs.regions.writer import grid_boxes

OBJECTS = "objects"
BACKBONE_FOLDER = "backbone_folder"
"""Key of a recipe: the local folder of a backbone, which the user names and no file does."""
_BACKBONE = "hugging-face"
_BATCH = 16


class RegionMaker(Protocol):
    """Make regions of pictures, whose features have ``dim`` dims."""

    dim: int

    def open(self, source: Source, place: str, boxes: F32 | None) -> tuple[list[Any], F32]:
        """Return a picture as the network takes it, and its boxes float32[R, 4] in fractions of it.

        Raises:
            MediumError: the picture cannot be used.
            FaultError: ``regions.boxes``: boxes are needed, or cannot be given.
        """
        ...

    def features(self, opened: Sequence[Sequence[Any]]) -> list[F32]:
        """Compute the features of opened pictures (at least one), float32[R, D] each."""
        ...


class CroppedRegions:
    """Regions that a network sees one by one: cells of a grid, the objects on white, or boxes that are given.

    A picture has at most ``max_regions``, the first ones.
    """

    def __init__(self, recipe: Mapping[str, Any], extractor: Extractor, *, max_regions: int) -> None:
        self.dim = extractor.dim
        self._recipe, self._extractor, self._max_regions = recipe, extractor, max_regions

    def open(self, source: Source, place: str, boxes: F32 | None) -> tuple[list[Any], F32]:
        """Return the crops of a picture and their boxes; see ``RegionMaker``."""
        picture = read_picture(source, place=place)
        boxes = (self._boxes(picture, place) if boxes is None else boxes)[: self._max_regions]
        return network_inputs(picture, boxes, self._extractor), boxes

    def features(self, opened: Sequence[Sequence[Any]]) -> list[F32]:
        """Compute the features of the crops of pictures, rounded as training reads them."""
        crops = chain.from_iterable(opened)
        found: list[F32] = []
        while batch := list(islice(crops, _BATCH)):
            found.append(self._extractor(np.stack(batch)).astype(np.float32))
        return np.split(np.concatenate(found), np.cumsum([len(own) for own in opened])[:-1])

    def _boxes(self, picture: Image.Image, place: str) -> F32:
        if grid := self._recipe.get("grid"):
            return grid_boxes(*grid)
        if self._recipe.get("where") == OBJECTS_ON_WHITE:
            return object_boxes(picture)
        expected = f"needs boxes, as the training took them from a table ({self._recipe.get('boxes')})"
        step = (
            "give boxes=[...], for each picture x0, y0, x1, y1 as fractions of its width and height, or load "
            "with regions='2x3' for the cells of a grid"
        )
        raise FaultError(fault(place, expected, None, step, code="regions.boxes"))


def open_maker(
    recipe: Mapping[str, Any], *, max_regions: int, device: str, place: object, network: Any = None
) -> RegionMaker:
    """Load the network that made regions, whose weights must be those of the recipe.

    Args:
        recipe: what ``region_recipe`` or ``parse_recipe`` return.
        max_regions: regions of a picture at most.
        device: where the network runs.
        place: what holds the recipe, for errors.
        network: this package's network as an exported folder holds it, on the device; None to load it.

    Raises:
        FaultError: ``regions.extractor``: another network or other weights; ``regions.backbone``: the folder
            of a backbone must be given; ``regions.recipe``: a value makes no sense; ``package.missing``.
    """
    _refuse_odd_values(recipe, place)
    if recipe.get("format") == _BACKBONE:
        from fairseq_vgs.regions.backbone import BackboneRegions

        if (folder := recipe.get(BACKBONE_FOLDER)) is None:
            expected = (
                f"needs the folder of {recipe.get('backbone')}, which computed the regions of its training"
            )
            step = "give it, vgs.load(..., regions=FOLDER)"
            raise FaultError(fault(str(place), expected, None, step, code="regions.backbone"))
        return BackboneRegions(recipe, Path(folder), device=device)

    from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

    precision = str(recipe.get("precision", "float32"))
    extractor = EfficientNetFeatures(device=device, precision=precision, network=network)
    own = extractor.describe()
    for key in ("format", "network", "weights_sha256"):
        if recipe.get(key) != own[key]:
            expected = f"{key} of its regions must be {own[key]}, the network that this package runs"
            step = (
                "compute region features of the pictures as the training's, prepare them with fairseq-vgs "
                "prepare regions, and use fairseq-vgs extract or evaluate retrieval"
            )
            raise FaultError(fault(str(place), expected, recipe.get(key), step, code="regions.extractor"))
    return CroppedRegions(recipe, extractor, max_regions=max_regions)


def _refuse_odd_values(recipe: Mapping[str, Any], place: object) -> None:
    """Refuse what a file, which may come from anybody, can say but no command writes."""
    needed = ("grid", "image_size", "dims") if recipe.get("format") == _BACKBONE else ()
    for key, (expected, is_sound) in _VALUES.items():
        value = recipe.get(key)
        if (value is not None or key in needed) and not is_sound(value):
            step = "get the file again, or name the regions with vgs.load(..., regions=...)"
            found = fault(
                str(place), f"{key} of its regions must be {expected}", value, step, code="regions.recipe"
            )
            raise FaultError(found)


def _is_number(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_grid(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(n, 999) for n in value)


_VALUES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "grid": ("rows and columns, from 1 to 999", _is_grid),
    "precision": ("float32 or float64", lambda value: value in ("float32", "float64")),
    "image_size": ("pixels, at most 10,000", lambda value: _is_number(value, 10_000)),
    "dims": ("a positive number", lambda value: _is_number(value, 1_000_000)),
}


def untrusted_recipe(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of its regions, which may come from anybody: it names no folder to read."""
    return {key: value for key, value in said.items() if key != BACKBONE_FOLDER}


def parse_recipe(given: str | Path | tuple[int, int], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe that a user names.

    It is ``2x3`` or (2, 3) for a grid, ``objects``, a data folder, or the folder of the backbone that a
    checkpoint's recipe, ``said``, tells of.

    Raises:
        FaultError: ``regions.recipe``: it is none of these, or the folder's ``summary.json`` has no regions.
    """
    from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

    ours = dict(EfficientNetFeatures().describe())
    if isinstance(given, tuple):
        return {**ours, "grid": list(given)}
    if str(given) == OBJECTS:
        return {**ours, "where": OBJECTS_ON_WHITE}
    if GRID.fullmatch(str(given)):
        return {**ours, "grid": list(parse_grid(str(given)))}
    folder = Path(given).expanduser()
    if said.get("format") == _BACKBONE and (folder / "config.json").is_file():
        return {**said, BACKBONE_FOLDER: str(folder)}
    if recipe := untrusted_recipe(region_recipe(read_summary(folder))):
        return recipe
    expected = "must be a grid such as 2x3, objects, or a data folder whose summary.json has regions"
    raise FaultError(fault("regions", expected, str(given), "give one of these", code="regions.recipe"))

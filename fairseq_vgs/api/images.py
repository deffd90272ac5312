"""Pictures as users have them, and what a model reads of them: pixels, or regions.

Shapes: P pictures, R regions, D dims of a feature, H = W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fairseq_vgs.api.speech import as_numpy
from fairseq_vgs.arrays import F32
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.features.embeddings import picture_options, reads_regions
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.kind import given_sound, require_medium
from fairseq_vgs.media.pictures import encode_image
from fairseq_vgs.regions.recipe import RegionMaker, open_maker

Picture = Any
"""A path (or bytes, or a place in an archive), a Pillow image, or an array uint8[H, W], [H, W, 3 or 4]."""
Pictures = Any
"""One picture, or an iterable of some."""
Boxes = Any
"""Boxes [R, 4] of one picture: x0, y0, x1, y1 as fractions of its width and height."""

Placed = tuple[str, Source, Boxes | None]

_FILES = (str, Path, bytes, MediaLocation)
_PER_BATCH = 32
_DEFAULT_MAX_REGIONS = 36


class ImageReader(Protocol):
    """What a model reads of pictures."""

    def read(self, pictures: Sequence[Placed]) -> Iterator[dict[str, Tensor]]:
        """Yield what the image encoder reads of each picture, given with place and boxes; leading axis 1."""
        ...


def sources(pictures: Pictures) -> Iterator[tuple[str, Source]]:
    """Yield place and content of each picture.

    Raises:
        FaultError: something else than pictures.
    """
    if is_one(pictures):
        pictures = [pictures]
    elif isinstance(pictures, Mapping) or not isinstance(pictures, Iterable):
        raise _unknown("pictures", type(pictures).__name__)
    for number, picture in enumerate(pictures):
        yield _source(picture, f"picture {number}")


def is_one(pictures: Pictures) -> bool:
    """Return whether this is a picture rather than an iterable of some."""
    return isinstance(pictures, (*_FILES, Image.Image)) or _is_array(pictures)


def _is_array(found: Any) -> bool:
    return hasattr(found, "__array__") and getattr(found, "ndim", 0) in (2, 3)


def _source(picture: Picture, place: str) -> tuple[str, Source]:
    if isinstance(picture, str):
        picture = Path(picture).expanduser()
    if isinstance(picture, Path):
        require_medium(picture)
        return str(picture), picture
    if isinstance(picture, bytes | MediaLocation):
        return place, picture
    if _is_array(picture) and not isinstance(picture, Image.Image):
        array = as_numpy(picture)
        if array.dtype != np.uint8 or (array.ndim == 3 and array.shape[2] not in (3, 4)):
            raise _unknown(place, f"{array.dtype} {list(array.shape)}")
        picture = Image.fromarray(array)
    if not isinstance(picture, Image.Image):
        raise _unknown(place, type(picture).__name__)
    return place, encode_image(picture, place=place)


def _unknown(place: str, got: str) -> FaultError:
    expected = "must be paths, Pillow images, or arrays uint8 [height, width, 3]"
    return FaultError(fault(place, expected, got, "give one of these", code="media.kind"))


class RawPictures:
    """Square pictures of pixels."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        task, model = section(checkpoint.config, "task"), section(checkpoint.config, "model")
        self._size, self._fit = picture_options(task, model)

    def read(self, pictures: Sequence[Placed]) -> Iterator[dict[str, Tensor]]:
        """Yield float32[1, 3, H, W] of each picture."""
        for place, source, boxes in pictures:
            if boxes is not None:
                message = "must not be given to a model that reads pixels; leave them out"
                raise FaultError.at("boxes", message, "setting.unused")
            with _as_picture(place, source):
                pixels = load_picture(source, place=place, image_size=self._size, fit=self._fit)
            yield {"pictures": torch.from_numpy(pixels).unsqueeze(0)}


class RegionReader:
    """Regions, computed as those of the training; the network is loaded when the first picture comes."""

    def __init__(self, checkpoint: Checkpoint, recipe: Mapping[str, Any], *, device: str) -> None:
        task, self._model = section(checkpoint.config, "task"), section(checkpoint.config, "model")
        self._max_regions = int(task.get("max_regions") or _DEFAULT_MAX_REGIONS)
        self._data = task.get("data")
        self._checkpoint, self._recipe, self._device = checkpoint, recipe, device

    def read(self, pictures: Sequence[Placed]) -> Iterator[dict[str, Tensor]]:
        """Yield features float32[1, R, D], boxes float32[1, R, 4] and a padding mask of each picture."""
        maker = self._maker
        opened, all_boxes = [], []
        for place, source, given in pictures:
            boxes = None if given is None else _checked_boxes(given, place)
            with _as_picture(place, source):
                inputs, boxes = maker.open(source, place, boxes)
            opened.append(inputs)
            all_boxes.append(boxes)
        for features, boxes in zip(maker.features(opened), all_boxes, strict=True):
            kept = slice(self._max_regions)
            yield {
                "features": torch.from_numpy(features[kept]).unsqueeze(0),
                "boxes": torch.from_numpy(boxes[kept]).unsqueeze(0),
                "padding_mask": torch.zeros(1, len(boxes[kept]), dtype=torch.bool),
            }

    @cached_property
    def _maker(self) -> RegionMaker:
        if set(self._recipe) <= {"reads"}:
            raise self._unknown()
        maker = open_maker(
            self._recipe,
            max_regions=self._max_regions,
            device=self._device,
            place=self._checkpoint.path,
            network=getattr(self._checkpoint.model, "region_network", None),
        )
        if maker.dim != (wanted := self._model.get("image_dim", maker.dim)):
            message = (
                f"its regions must have the network's {maker.dim} dims, got {wanted} (model.image_dim); give "
                "vgs.load the regions of its training, with regions="
            )
            raise CheckpointError.at(self._checkpoint.path, message, "regions.dims")
        return maker

    def _unknown(self) -> CheckpointError:
        expected = "must say how the regions of its training were made, as checkpoints of version 0.1.0 do"
        step = (
            "say it with vgs.load(..., regions=DATA), the data folder of the training "
            f"({self._data}), or regions='2x3' for the cells of a grid"
        )
        return CheckpointError.at(self._checkpoint.path, f"{expected}, does not; {step}", "regions.unknown")


@contextmanager
def _as_picture(place: str, source: Source) -> Iterator[None]:
    """Name a recording that was given as a picture; leave out training's advice about others."""
    try:
        yield
    except FaultError as error:
        if found := given_sound(error, source, place, step="give recordings to embed_speech"):
            raise FaultError(found) from error
        if isinstance(error, BadItemError) and isinstance(error.__cause__, MediumError):
            raise error.__cause__ from None
        raise


def _checked_boxes(boxes: Boxes, place: str) -> F32:
    found = as_numpy(boxes).astype(np.float32)
    is_usable = found.ndim == 2 and found.shape[1:] == (4,) and len(found) > 0 and np.isfinite(found).all()
    if not is_usable or (found < 0).any() or (found > 1).any() or (found[:, :2] >= found[:, 2:]).any():
        expected = "boxes must be [[x0, y0, x1, y1], ...] as fractions of width and height"
        raise FaultError(fault(place, expected, boxes, "correct them", code="regions.boxes"))
    return found


def open_reader(checkpoint: Checkpoint, recipe: Mapping[str, Any], *, device: str) -> ImageReader:
    """Return what a model reads of pictures; ``recipe`` says how its regions are made."""
    task, model = section(checkpoint.config, "task"), section(checkpoint.config, "model")
    if reads_regions(task, model):
        return RegionReader(checkpoint, recipe, device=device)
    return RawPictures(checkpoint)


def in_batches(
    reader: ImageReader, pictures: Pictures, boxes: Iterable[Boxes] | None = None
) -> Iterator[tuple[dict[str, Tensor], list[int]]]:
    """Yield what the image encoder reads of some pictures with as many regions, and their numbers.

    Some are in memory at a time.
    """
    given = sources(pictures)
    placed: Iterator[Placed]
    if boxes is not None and is_one(pictures):
        boxes = [boxes]
    if boxes is None:
        placed = ((place, source, None) for place, source in given)
    else:
        placed = _with_boxes(given, boxes)
    start = 0
    while some := list(islice(placed, _PER_BATCH)):
        read = list(enumerate(reader.read(some), start=start))
        start += len(some)
        read.sort(key=lambda item: _n_regions(item[1]))
        for _, group in groupby(read, key=lambda item: _n_regions(item[1])):
            numbers, images = zip(*group, strict=True)
            yield {key: torch.cat([image[key] for image in images]) for key in images[0]}, list(numbers)


def _with_boxes(given: Iterator[tuple[str, Any]], boxes: Iterable[Boxes]) -> Iterator[Placed]:
    of_each = iter(boxes)
    for place, source in given:
        own = next(of_each, None)
        if own is None:
            expected, step = (
                "boxes must be given for every picture",
                "give a list as long as that of pictures",
            )
            raise FaultError(fault(place, expected, None, step, code="regions.boxes"))
        yield place, source, own


def _n_regions(image: Mapping[str, Tensor]) -> int:
    return image["boxes"].size(1) if "boxes" in image else 0

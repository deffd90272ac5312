"""Compute the features of a frozen image backbone once: regions that training reads instead of pictures.

Shapes: I pictures of images.tsv, R regions each, P pictures of a batch, C dims.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fairseq_vgs.arrays import F16, F32
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.files.faults import FaultError, fault, shown
from fairseq_vgs.files.location import media_digest, resolve
from fairseq_vgs.files.parallel import map_in_order
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.summary import read_summary, write_region_summary
from fairseq_vgs.manifest.tables import read_images
from fairseq_vgs.media.content import Source
from fairseq_vgs.modules.hugging_face import Backbone, read_backbone
from fairseq_vgs.regions.store import open_store, refuse_regions
from fairseq_vgs.regions.writer import grid_boxes, region_lines

FORMAT = "hugging-face"
MADE_BY_FEATURES = "fairseq-vgs prepare image-features"


@dataclass(frozen=True)
class CachedFeatures:
    """What was written: I, R, C, pictures kept from an interrupted run, and wall time without loading."""

    images: int
    regions_per_image: int
    dims: int
    images_kept: int
    seconds: float


class BackboneFeatures:
    """A frozen backbone that gives a picture one region, or the cells of a grid.

    ``grid`` are rows and columns, (0, 0) for the pooled output; ``image_size`` is None for the backbone's.
    """

    def __init__(
        self, folder: Path, *, grid: tuple[int, int], image_size: int | None = None, device: str = AUTO
    ) -> None:
        self.described = read_backbone(folder)
        self._backbone = Backbone(self.described)
        self._backbone.load_pretrained(folder)
        device = resolve_device(device, place="device")
        self._backbone.eval().requires_grad_(False).to(device)
        self._folder, self._grid, self._device = folder, grid, device
        self.size = image_size or self._backbone.size
        self.cells = (max(1, grid[0]), max(1, grid[1]))

    def load(self, source: Source, place: str) -> F32:
        """Return a picture as the backbone reads it, float32[3, H, W]."""
        return load_picture(source, place=place, image_size=self.size)

    def __call__(self, pictures: Sequence[F32]) -> F16:
        """Compute the features of pictures, float16[P, R, C]."""
        with torch.no_grad():
            pooled, tokens = self._backbone(torch.from_numpy(np.stack(pictures)).to(self._device))
            found = _cells(tokens, self._grid) if any(self._grid) else pooled.unsqueeze(1)
        features: F16 = found.half().cpu().numpy()
        return features

    def describe(self) -> dict[str, Any]:
        """Return what ``summary.json`` says of them."""
        files = (path for path in sorted(self._folder.iterdir()) if path.suffix in (".safetensors", ".bin"))
        return {
            "format": FORMAT,
            "backbone": self._folder.resolve().name,
            "model_type": json.loads(self.described)["model"].get("model_type"),
            "weights_sha256": {path.name: sha256_file(path) for path in files},
            "output": "tokens" if any(self._grid) else "pooled",
            "grid": list(self.cells),
            "image_size": self.size,
        }


class BackboneRegions:
    """Make the regions of any picture as ``cache_image_features`` made those of a data folder."""

    def __init__(self, recipe: Mapping[str, Any], folder: Path, *, device: str) -> None:
        grid = (0, 0) if recipe.get("output") == "pooled" else recipe["grid"]
        size = int(recipe["image_size"])
        self._backbone = BackboneFeatures(folder, grid=(grid[0], grid[1]), image_size=size, device=device)
        self.dim = int(recipe["dims"])
        found = self._backbone.describe()
        if (wanted := recipe.get("weights_sha256")) != found["weights_sha256"]:
            expected = (
                f"its weights must be those of the training, {recipe.get('backbone')} ({shown(wanted)})"
            )
            step = "give the folder that the regions were computed with"
            raise FaultError(
                fault(str(folder), expected, found["weights_sha256"], step, code="regions.extractor")
            )

    def open(self, source: Source, place: str, boxes: F32 | None) -> tuple[list[F32], F32]:
        """Return a picture as the backbone reads it, and the boxes of its regions.

        Raises:
            FaultError: ``regions.boxes``: boxes were given, which these regions do not have.
        """
        if boxes is not None:
            expected, step = "regions of a backbone have no boxes to choose", "leave them out"
            raise FaultError(fault(place, expected, boxes.tolist(), step, code="regions.boxes"))
        return [self._backbone.load(source, place)], grid_boxes(*self._backbone.cells)

    def features(self, opened: Sequence[Sequence[F32]]) -> list[F32]:
        """Compute the features of pictures, float32[R, C] each, rounded as training reads them."""
        return list(self._backbone([picture for (picture,) in opened]).astype(np.float32))


def cache_image_features(
    folder: Path,
    backbone_folder: Path,
    *,
    grid: int | tuple[int, int] = 0,
    image_size: int | None = None,
    batch_size: int = 32,
    device: str = AUTO,
    jobs: int = 2,
    force: bool = False,
) -> CachedFeatures:
    """Write ``regions.npy`` and ``regions.tsv`` for all pictures of a data folder.

    Pictures are resized to the backbone's square (``image_size`` pixels if given) without cropping, and
    decoded by ``jobs`` threads. The same call resumes an interrupted run.

    A ``grid`` of 0 gives one region per picture, the backbone's pooled output; otherwise rows and columns of
    a grid over which its tokens (or map) are averaged, each cell a region.

    Raises:
        FaultError: Faulty tables or pictures, features beyond float16, existing regions, or another run in
            the same folder.
        BackboneError: ``backbone_folder``, a local Hugging Face directory, cannot be used.
    """
    manifest = ManifestFolder(folder)
    refuse_regions(folder, force=force)
    summary = read_summary(folder)
    table = read_images(manifest.images)
    rows_columns = (grid, grid) if isinstance(grid, int) else grid
    backbone = BackboneFeatures(backbone_folder, grid=rows_columns, image_size=image_size, device=device)
    n_regions = math.prod(backbone.cells)

    def place_of(picture: int) -> str:
        return f"{manifest.images.name}:{picture + 3}"

    def load(picture: int) -> F32:
        path = table.rows[picture].path
        place = f"{place_of(picture)} ({path})"
        return backbone.load(resolve(table.root, path), place)

    about = backbone.describe()
    key = {
        "backbone": backbone.described,
        "weights": about["weights_sha256"],
        "images": sha256_file(manifest.images),
        "pictures": media_digest(table.root, (row.path for row in table.rows)),
        "grid": list(rows_columns),
        "image_size": backbone.size,
    }
    began = time.monotonic()
    n_images = len(table.rows)
    with open_store(folder, key, n_rows=n_images * n_regions) as store:
        n_kept = store.n_done // n_regions
        pictures = map_in_order(load, range(n_kept, n_images), jobs=jobs)
        with tqdm(total=n_images, initial=n_kept, desc="image features", disable=None) as bar:
            while batch := list(islice(pictures, batch_size)):
                features = backbone(batch)
                store.append(features.reshape(-1, features.shape[2]), lambda row: place_of(row // n_regions))
                bar.update(len(batch))
        dims = store.dim
        boxes = grid_boxes(*backbone.cells)
        rows = enumerate(table.rows)
        store.publish((region_lines(row.image_id, n * n_regions, boxes) for n, row in rows))
        known = {
            **about,
            "images": n_images,
            "regions": n_images * n_regions,
            "dims": dims,
            "images_kept": n_kept,
        }
        write_region_summary(folder, known, summary=summary, made_by=MADE_BY_FEATURES)
    return CachedFeatures(n_images, n_regions, dims, n_kept, time.monotonic() - began)


def _cells(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average tokens [P, L, C], the last of which form a square, or a map [P, C, h, w], to [P, R, C]."""
    if tokens.dim() == 3:
        side = math.isqrt(tokens.size(1))
        tokens = tokens[:, tokens.size(1) - side * side :].transpose(1, 2).unflatten(2, (side, side))
    side = min(tokens.shape[2:])
    if max(grid) > side:
        expected = f"must be at most {side}, the backbone's own cells in a row"
        raise FaultError(fault("--grid", expected, max(grid), "lower it", code="setting.value"))
    return F.adaptive_avg_pool2d(tokens, grid).flatten(2).transpose(1, 2)

"""Compute the features of a frozen image backbone once: regions that training reads instead of pictures.

Shapes: I pictures of images.tsv, R regions each, P pictures of a batch, C dims.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fairseq_vgs.arrays import F16, F32
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.location import media_digest, resolve
from fairseq_vgs.files.parallel import map_in_order
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.summary import read_summary, write_region_summary
from fairseq_vgs.manifest.tables import read_images
from fairseq_vgs.modules.hugging_face import Backbone, read_backbone
from fairseq_vgs.regions.store import open_store, refuse_regions
from fairseq_vgs.regions.writer import grid_boxes, region_lines

MADE_BY_FEATURES = "fairseq-vgs prepare image-features"


@dataclass(frozen=True)
class CachedFeatures:
    """What was written: I, R, C, pictures kept from an interrupted run, and wall time without loading."""

    images: int
    regions_per_image: int
    dims: int
    images_kept: int
    seconds: float


def cache_image_features(
    folder: Path,
    backbone_folder: Path,
    *,
    grid: int | tuple[int, int] = 0,
    image_size: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
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
    cells = [max(1, count) for count in rows_columns]
    n_regions = math.prod(cells)
    described = read_backbone(backbone_folder)
    backbone = Backbone(described)
    backbone.load_pretrained(backbone_folder)
    backbone.eval().requires_grad_(False).to(device)
    size = image_size or backbone.size

    def place_of(picture: int) -> str:
        return f"{manifest.images.name}:{picture + 3}"

    def load(picture: int) -> F32:
        path = table.rows[picture].path
        place = f"{place_of(picture)} ({path})"
        return load_picture(resolve(table.root, path), place=place, image_size=size)

    def embed(pictures: list[F32]) -> F16:
        with torch.no_grad():
            pooled, tokens = backbone(torch.from_numpy(np.stack(pictures)).to(device))
            found = _cells(tokens, rows_columns) if grid else pooled.unsqueeze(1)
        return found.half().flatten(0, 1).cpu().numpy()

    files = (path for path in sorted(backbone_folder.iterdir()) if path.suffix in (".safetensors", ".bin"))
    weights = {path.name: sha256_file(path) for path in files}
    key = {
        "backbone": described,
        "weights": weights,
        "images": sha256_file(manifest.images),
        "pictures": media_digest(table.root, (row.path for row in table.rows)),
        "grid": list(rows_columns),
        "image_size": size,
    }
    began = time.monotonic()
    n_images = len(table.rows)
    with open_store(folder, key, n_rows=n_images * n_regions) as store:
        n_kept = store.n_done // n_regions
        pictures = map_in_order(load, range(n_kept, n_images), jobs=jobs)
        with tqdm(total=n_images, initial=n_kept, desc="image features", disable=None) as bar:
            while batch := list(islice(pictures, batch_size)):
                store.append(embed(batch), lambda row: place_of(row // n_regions))
                bar.update(len(batch))
        dims = store.dim
        boxes = grid_boxes(*cells)
        rows = enumerate(table.rows)
        store.publish((region_lines(row.image_id, n * n_regions, boxes) for n, row in rows))
        known = {
            "format": "hugging-face",
            "backbone": backbone_folder.resolve().name,
            "model_type": json.loads(described)["model"].get("model_type"),
            "weights_sha256": weights,
            "output": "tokens" if grid else "pooled",
            "grid": cells,
            "image_size": size,
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

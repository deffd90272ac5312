"""Features of a frozen image backbone, computed once: regions that training reads in place of pictures.

Shapes: I pictures of images.tsv, R regions of each, G cells in a row, P pictures of a batch, C dims.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.files.atomic import atomic_write, lock
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import media_digest, resolve
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import RegionRow
from fairseq_vgs.manifest.summary import read_summary, write_region_summary
from fairseq_vgs.manifest.tables import read_images, write_regions
from fairseq_vgs.modules.hugging_face import Backbone, read_backbone

PARTIAL_FEATURES, PARTIAL_STATE = ".image-features.partial.npy", ".image-features.partial.json"
MADE_BY_FEATURES = "fairseq-vgs prepare image-features"
_FIRST_LINE = 3  # of the rows of images.tsv
_AHEAD = 2  # batches that are decoded while one is computed

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CachedFeatures:
    """What was written.

    Attributes:
        images: I.
        regions_per_image: R.
        dims: C.
        images_kept: pictures whose features an interrupted run had left.
        seconds: wall time, without reading the backbone.
    """

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
    """Write ``regions.npy`` and ``regions.tsv`` of all pictures of a manifest folder.

    Pictures are squeezed to the backbone's square, nothing is cut off; ``summary.json`` says what was done.
    An interrupted run leaves hidden files in the folder, from which the same command goes on.

    Args:
        folder: manifest folder.
        backbone_folder: local Hugging Face directory.
        grid: 0 for one region per picture, the backbone's pooled output; else its tokens (or map), averaged
            over a grid of that many by that many cells, or of rows and columns, each cell a region and its
            box.
        image_size: pixels; the backbone's if None.
        batch_size: pictures at once.
        device: of the backbone.
        jobs: threads that decode pictures.
        force: replace regions that are there.

    Raises:
        FaultError: faulty tables or pictures, features beyond float16, regions that are there already,
            or another run in the same folder.
        BackboneError: the directory cannot be used.
    """
    manifest = ManifestFolder(folder)
    there = [path for path in (manifest.regions, manifest.region_features) if os.path.lexists(path)]
    if there and not force:
        raise FaultError([Fault(str(path), "already exists; pass --force to replace it") for path in there])
    summary = read_summary(folder)
    table = read_images(manifest.images)
    rows_columns = (grid, grid) if isinstance(grid, int) else grid
    n_regions = max(1, rows_columns[0] * rows_columns[1])
    described = read_backbone(backbone_folder)
    backbone = Backbone(described)
    backbone.load_pretrained(backbone_folder)
    backbone.eval().requires_grad_(False).to(device)
    size = image_size or backbone.size

    def load(row: int) -> FloatArray:
        place = f"{manifest.images.name}:{row + _FIRST_LINE} ({table.rows[row].path})"
        return load_picture(resolve(table.root, table.rows[row].path), place=place, image_size=size)

    def embed(pictures: list[FloatArray]) -> npt.NDArray[np.float16]:
        with torch.no_grad():
            pooled, tokens = backbone(torch.from_numpy(np.stack(pictures)).to(device))
            found = _cells(tokens, rows_columns) if grid else pooled.unsqueeze(1)
        return found.half().cpu().numpy()

    weights = {path.name: sha256_file(path) for path in sorted(backbone_folder.iterdir()) if _weighs(path)}
    key = {
        "backbone": described,
        "weights": weights,
        "images": sha256_file(manifest.images),
        "pictures": media_digest(table.root, (row.path for row in table.rows)),
        "grid": list(rows_columns),
        "image_size": size,
    }
    began = time.monotonic()
    with _open_store(folder, key, n_images=len(table.rows), n_regions=n_regions) as store:
        n_kept = store.n_done
        _fill(store, _loaded(load, range(n_kept, len(table.rows)), batch_size=batch_size, jobs=jobs), embed)
        dims = store.finish(manifest.region_features)
    write_regions(manifest.regions, _regions([row.image_id for row in table.rows], rows_columns), force=True)
    known = {
        "format": "hugging-face",
        "backbone": backbone_folder.resolve().name,
        "model_type": json.loads(described)["model"].get("model_type"),
        "weights_sha256": weights,
        "output": "tokens" if grid else "pooled",
        "grid": [max(1, count) for count in rows_columns],
        "image_size": size,
        "images": len(table.rows),
        "regions": len(table.rows) * n_regions,
        "dims": dims,
        "images_kept": n_kept,
    }
    write_region_summary(folder, known, summary=summary, made_by=MADE_BY_FEATURES)
    return CachedFeatures(len(table.rows), n_regions, dims, n_kept, time.monotonic() - began)


class _Store:
    """Features as they come, float16 [I * R, C] on disk, and how many are there; see ``_open_store``."""

    def __init__(
        self, folder: Path, key: dict[str, Any], file: BinaryIO, *, n_images: int, n_regions: int
    ) -> None:
        self._file = file
        self.path, self._state = folder / PARTIAL_FEATURES, folder / PARTIAL_STATE
        self._key, self._shape = key, (n_images, n_regions)
        self.n_images = n_images
        self._features: np.memmap[tuple[int, ...], np.dtype[np.float16]] | None = None
        self.n_done = self._continue()

    def add(self, features: npt.NDArray[np.float16]) -> None:
        """Append the features of some pictures, [P, R, C]."""
        n_images, n_regions = self._shape
        if self._features is None:
            self._features = np.lib.format.open_memmap(
                self.path, mode="w+", dtype=np.float16, shape=(n_images * n_regions, features.shape[2])
            )
            # Writing to a map where the disk is full would kill the process.
            os.posix_fallocate(self._file.fileno(), 0, self.path.stat().st_size)
        first = self.n_done * n_regions
        self._features[first : first + len(features) * n_regions] = features.reshape(-1, features.shape[2])
        self._features.flush()
        self.n_done += len(features)
        with atomic_write(self._state, force=True) as file:
            json.dump({"of": self._key, "images": self.n_done}, file)

    def finish(self, path: Path) -> int:
        """Give the file its name; return C."""
        if self._features is None:
            raise FaultError(Fault(str(path), "images.tsv must have pictures, got none; add them"))
        dims = int(self._features.shape[1])
        self._features = None
        self.path.replace(path)
        self._state.unlink(missing_ok=True)
        return dims

    def _continue(self) -> int:
        """Take up what an interrupted run of the same command has left; return its number of pictures."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if state["of"] != self._key:
                return 0
            n_done = int(state["images"])
            features = np.lib.format.open_memmap(self.path, mode="r+")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0
        if features.ndim != 2 or len(features) != math.prod(self._shape) or not 0 < n_done <= self._shape[0]:
            return 0
        self._features = features
        return n_done


@contextmanager
def _open_store(folder: Path, key: dict[str, Any], *, n_images: int, n_regions: int) -> Iterator[_Store]:
    """Gives the store of a folder, which no other run can have meanwhile."""
    path = folder / PARTIAL_FEATURES
    path.touch()
    # Not for appending: some file systems could not be asked for the space then.
    with path.open("r+b") as file:
        lock(file, path, place=folder, doing="computing regions of this folder")
        store = _Store(folder, key, file, n_images=n_images, n_regions=n_regions)
        try:
            yield store
        except BaseException:
            if not store.n_done:
                path.unlink(missing_ok=True)
            raise


def _fill(
    store: _Store,
    batches: Iterator[list[FloatArray]],
    embed: Callable[[list[FloatArray]], npt.NDArray[np.float16]],
) -> None:
    bar = tqdm(
        total=store.n_images, initial=store.n_done, desc="image features", file=sys.stderr, disable=None
    )
    with bar:
        for pictures in batches:
            features = embed(pictures)
            for number in np.flatnonzero(~np.isfinite(features).all(axis=(1, 2))).tolist():
                place = f"images.tsv:{store.n_done + number + _FIRST_LINE}"
                step = "use another backbone"
                raise FaultError(fault(place, "features must be within float16", "NaN or infinity", step))
            store.add(features)
            bar.update(len(pictures))


def _loaded(
    load: Callable[[int], FloatArray], rows: range, *, batch_size: int, jobs: int
) -> Iterator[list[FloatArray]]:
    """Yield pictures in batches; the next ones are decoded meanwhile."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[list[Future[FloatArray]]] = deque()
        try:
            for start in range(0, len(rows), batch_size):
                waiting.append([pool.submit(load, row) for row in rows[start : start + batch_size]])
                if len(waiting) > _AHEAD:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _cells(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average tokens [P, L, C], the last of which form a square, or a map [P, C, h, w]: [P, R, C]."""
    if tokens.dim() == 3:
        side = math.isqrt(tokens.size(1))
        tokens = tokens[:, tokens.size(1) - side * side :].transpose(1, 2).unflatten(2, (side, side))
    side = min(tokens.shape[2:])
    if max(grid) > side:
        expected = f"must be at most {side}, the backbone's own cells in a row"
        raise FaultError(fault("--grid", expected, max(grid), "lower it"))
    return F.adaptive_avg_pool2d(tokens, grid).flatten(2).transpose(1, 2)


def _regions(image_ids: list[str], grid: tuple[int, int]) -> Iterator[RegionRow]:
    """Yield the boxes of all pictures in the order of the features: row by row."""
    rows, columns = (max(1, count) for count in grid)
    for number, image_id in enumerate(image_ids):
        for cell in range(rows * columns):
            row, column = divmod(cell, columns)
            box = (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
            yield RegionRow(image_id, number * rows * columns + cell, *box)


def _weighs(path: Path) -> bool:
    return path.suffix in (".safetensors", ".bin")

"""Region features in the HDF5 files of FaST-VGS (Peng & Harwath 2022).

Arrays of N pictures: img_id (text of at most 27 bytes), img_h and img_w int64[N], boxes float32[N, R, 4] in
pixels, features float32[N, R, D], objects_conf float32[N, R], and labels that are not used here. A JSON index
next to each file maps image ids to positions; longer ids, such as those of Places, are complete only there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.regions.source import BadRegions, ImageRegions, Keep, RegionFaultError, surest_first

# Axes of the arrays that are read; features and boxes agree in R.
_AXES = {"img_h": 1, "img_w": 1, "boxes": 3, "features": 3, "objects_conf": 2}
_IDS = "img_id"
_OTHER_FILE = "give files in the layout of FaST-VGS"
_OTHER_INDEX = "give the index of this file"
# A few bytes of HDF5 may declare arrays of any size. 36 regions of 2048 dims take 0.3 MB, an id some dozens
# of bytes; the largest collections have some millions of pictures.
MAX_PICTURE_BYTES, MAX_CHUNK_BYTES, MAX_ID_BYTES = 1 << 26, 1 << 28, 1 << 12
MAX_IMAGES = 1 << 23
MAX_SIDE = 10**9
_IDS_AT_ONCE = 1 << 10


class FastVgsSource:
    """One or several HDF5 files, read in order; a picture may be in one of them only.

    ``indexes`` are the JSON index of each file, in the same order; by default ids come from the files.

    Raises:
        FaultError: All missing files, other layouts and indexes that do not match; or no h5py.
    """

    def __init__(self, paths: Sequence[Path], *, indexes: Sequence[Path] = ()) -> None:
        if indexes and len(indexes) != len(paths):
            expected = f"there must be one index for each of the {len(paths)} files"
            step = "name them in the files' order"
            raise FaultError(fault("--index", expected, len(indexes), step, code="setting.conflict"))
        self._paths = paths
        self._ids: list[Mapping[int, str]] = []
        faults: list[Fault] = []
        for path, index in zip_longest(paths, indexes):
            try:
                with _open(path) as file:
                    n_images = _check_layout(path, file)
                    self._ids.append(_names(path, file[_IDS], _read_index(index, n_images) if index else {}))
            except FaultError as error:
                faults.extend(error.faults)
        raise_any(faults)

    def describe(self) -> Mapping[str, object]:
        """Return format, names and sizes in bytes."""
        return {"format": "fast-vgs", "files": {path.name: path.stat().st_size for path in self._paths}}

    def read(self, keep: Keep, progress: Progress | None = None) -> Iterator[ImageRegions | BadRegions]:
        """Yield wanted pictures in file order, to read disks sequentially. Progress is in pictures."""
        done, total = 0, sum(map(len, self._ids))
        for path, ids in zip(self._paths, self._ids, strict=True):
            with _open(path) as file:
                for position, name in sorted(ids.items()):
                    if (image_id := keep(name)) is not None:
                        yield _read_image(file, position, image_id, f"{path.name}[{position}] ({name})")
                    done += 1
                    if progress is not None:
                        progress(done, total)


def _open(path: Path) -> Any:
    h5py = optional_package("h5py", "hdf5", place=path.name)
    if not path.is_file():
        raise FaultError.at(path, "file is missing; check the path", "file.missing")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        expected, step = "must be an HDF5 file", "get it again"
        raise FaultError(fault(str(path), expected, str(error), step, code="file.unreadable")) from error


def _check_layout(path: Path, file: Any) -> int:
    """Return the number of pictures; raise ``FaultError`` for all arrays of another layout."""
    import h5py

    step, faults = _OTHER_FILE, []
    for name, n_axes in {_IDS: 1, **_AXES}.items():
        # An external link would read another file.
        is_own = isinstance(file.get(name, getlink=True), h5py.HardLink)
        array = file.get(name) if is_own else None
        if not isinstance(array, h5py.Dataset) or array.ndim != n_axes or array.external or array.is_virtual:
            got = None if array is None else str(array)
            expected = f"must hold an array {name} of {n_axes} axes"
            faults.append(fault(path.name, expected, got, step, code="region.layout"))
        elif name != _IDS and array.dtype.kind not in "fiu":
            got = str(array.dtype)
            faults.append(fault(path.name, f"{name} must be numbers", got, step, code="region.layout"))
    if not faults:
        n_images, n_regions, _ = file["features"].shape
        shapes: dict[str, tuple[int, ...]] = {_IDS: (n_images,), "img_h": (n_images,), "img_w": (n_images,)}
        shapes |= {"boxes": (n_images, n_regions, 4), "objects_conf": (n_images, n_regions)}
        for name, shape in shapes.items():
            if (got := file[name].shape) != shape:
                expected = f"{name} must be {list(shape)}, as features"
                faults.append(fault(path.name, expected, list(got), step, code="region.layout"))
        faults = faults or list(_too_large(path, file))
    raise_any(faults)
    return int(n_images)


def _too_large(path: Path, file: Any) -> Iterator[Fault]:
    """Yield arrays too large for memory; the limits leave room for any published file."""
    if len(file[_IDS]) > MAX_IMAGES:
        expected = f"must hold at most {MAX_IMAGES} pictures"
        yield fault(path.name, expected, len(file[_IDS]), _OTHER_FILE, code="region.too_large")
    for name in (_IDS, *_AXES):
        array = file[name]
        limits = [(MAX_ID_BYTES if name == _IDS else MAX_PICTURE_BYTES, "picture", array.shape[1:])]
        limits += [(MAX_CHUNK_BYTES, "chunk", array.chunks)] if array.chunks else []
        for limit, what, shape in limits:
            if (size := math.prod(shape) * array.dtype.itemsize) > limit:
                expected = f"{name} must take at most {limit} bytes per {what}"
                yield fault(path.name, expected, size, _OTHER_FILE, code="region.too_large")


def _read_index(path: Path, n_images: int) -> dict[int, str]:
    index = read_object(path, "give the file that maps image ids to positions")
    names: dict[int, str] = {}
    faults = []
    for name, position in index.items():
        if type(position) is not int or not 0 <= position < n_images:
            expected = f"position of {name!r} must be from 0 to {n_images - 1}"
            faults.append(fault(path.name, expected, position, _OTHER_INDEX, code="region.index"))
        elif position in names:
            expected = f"no two ids may have the same position, as {names[position]!r}"
            faults.append(fault(path.name, expected, name, _OTHER_INDEX, code="region.index"))
        else:
            names[position] = name
    raise_any(faults)
    return names


def _names(path: Path, array: Any, index: Mapping[int, str]) -> Mapping[int, str]:
    """Return the id at each position; check the index against the file's own ids."""
    stored = list(_stored_ids(path, array))
    limit = array.dtype.itemsize if array.dtype.kind == "S" else None
    faults = []
    for position, name in index.items():
        if stored[position] != name.encode("utf-8", "replace")[:limit]:
            expected = f"{path.name}[{position}] must be {name!r}, as the index has it"
            faults.append(fault(path.name, expected, stored[position], _OTHER_INDEX, code="region.index"))
    cut = [name for name in stored if len(name) == limit and not name.startswith(b"COCO_")]
    if cut and not index:
        expected = f"ids must be shorter than {limit} bytes, or they may be cut ({len(cut)} of them)"
        step = "give the JSON index with --index"
        faults.append(fault(path.name, expected, cut[0], step, code="region.index"))
    raise_any(faults)
    return index or {position: name.decode("utf-8", "replace") for position, name in enumerate(stored)}


def _stored_ids(path: Path, array: Any) -> Iterator[bytes]:
    for start in range(0, len(array), _IDS_AT_ONCE):
        for position, name in enumerate(array[start : start + _IDS_AT_ONCE], start=start):
            stored = (name if isinstance(name, bytes) else str(name).encode()).rstrip(b"\0")
            if len(stored) > MAX_ID_BYTES:  # text of variable length
                expected = f"{_IDS} must take at most {MAX_ID_BYTES} bytes per picture"
                place = f"{path.name}[{position}]"
                raise FaultError(fault(place, expected, len(stored), _OTHER_FILE, code="region.too_large"))
            yield stored


def _side(file: Any, name: str, position: int) -> int:
    value = file[name][position]
    if not (np.isfinite(value) and value == int(value) and 0 < value < MAX_SIDE):
        raise RegionFaultError(f"{name} must be a positive integer", value.item())
    return int(value)


def _read_image(file: Any, position: int, image_id: str, place: str) -> ImageRegions | BadRegions:
    try:
        height, width = _side(file, "img_h", position), _side(file, "img_w", position)
        names = ("objects_conf", "boxes", "features")
        confidences, boxes, features = (np.asarray(file[name][position], dtype=np.float32) for name in names)
        order = surest_first(confidences)
        return ImageRegions(image_id, place, width, height, boxes[order], features[order])
    except RegionFaultError as error:
        return BadRegions(error.at(place), image_id)
    except OSError as error:
        expected, step = "must be readable", "get the file again"
        return BadRegions(fault(place, expected, str(error), step, code="file.unreadable"), image_id)

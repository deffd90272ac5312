"""Region features in the TSV of LXMERT (Tan & Bansal 2019), made with bottom-up attention's detector.

A line per picture, without a header: img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf,
num_boxes, boxes, features. The arrays are base64 of little-endian bytes: ids int64[R], confidences
float32[R], boxes float32[R, 4] in pixels, features float32[R, D]; in the published files R = 36, D = 2048.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fairseq_vgs.arrays import F32
from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.regions.source import BadRegions, ImageRegions, Keep, RegionFaultError, surest_first

FIELDS = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
# 36 regions of 2048 dims take 0.4 MB; longer lines would have to fit into memory.
MAX_LINE_BYTES = 1 << 26
# Bytes of one region in each array; all must agree, including those not used here.
_BYTES_PER_REGION = {"objects_id": 8, "objects_conf": 4, "attrs_id": 8, "attrs_conf": 4, "boxes": 16}


class LxmertSource:
    """One or several TSV files, read in order; a picture may be in one of them only.

    Raises:
        FaultError: All missing files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        missing = [path for path in paths if not path.is_file()]
        raise_any(Fault(str(path), "file is missing; check the path", "file.missing") for path in missing)

    def describe(self) -> Mapping[str, object]:
        """Return format, names and sizes in bytes."""
        return {"format": "lxmert", "files": {path.name: path.stat().st_size for path in self._paths}}

    def read(self, keep: Keep, progress: Progress | None = None) -> Iterator[ImageRegions | BadRegions]:
        """Yield wanted pictures; holds one line at a time. Progress is in bytes."""
        done, total = 0, sum(path.stat().st_size for path in self._paths)
        for path in self._paths:
            with path.open("rb") as file:
                for number, line in enumerate(_lines(file), start=1):
                    done += len(line)
                    found = _read_line(line, f"{path.name}:{number}", keep, is_first=number == 1)
                    if found is not None:
                        yield found
                    if progress is not None:
                        progress(done, total)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES):
        yield line
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            # The start of the next line is unknown.
            return


def _read_line(line: bytes, place: str, keep: Keep, *, is_first: bool) -> ImageRegions | BadRegions | None:
    if len(line) == MAX_LINE_BYTES:
        expected = f"line must be shorter than {MAX_LINE_BYTES} bytes (the rest of the file is not read)"
        step = "check that this is an LXMERT TSV"
        return BadRegions(fault(place, expected, line[:40], step, code="region.too_large"))
    # The rest is split only if wanted: most of a file may not be.
    raw_id, _, rest = line.rstrip(b"\r\n").partition(b"\t")
    if is_first and raw_id == b"img_id":
        return None
    image_id: str | None = ""
    try:
        image_id = keep(raw_id.decode("utf-8"))
        return None if image_id is None else _parse(image_id, rest, place)
    except UnicodeDecodeError:
        return BadRegions(RegionFaultError("img_id must be UTF-8 text", raw_id).at(place))
    except RegionFaultError as error:
        return BadRegions(error.at(place), image_id or "")


def _parse(image_id: str, rest: bytes, place: str) -> ImageRegions:
    values = rest.split(b"\t")
    if len(values) != len(FIELDS) - 1:
        expected = f"line must have {len(FIELDS)} fields between tabs ({', '.join(FIELDS)})"
        raise RegionFaultError(expected, f"{len(values) + 1} fields")
    fields = dict(zip(FIELDS[1:], values, strict=True))
    height, width, n_boxes = (_positive(name, fields[name]) for name in ("img_h", "img_w", "num_boxes"))
    arrays = {name: _decode(name, fields[name]) for name in _BYTES_PER_REGION}
    for name, data in arrays.items():
        if len(data) != n_boxes * _BYTES_PER_REGION[name]:
            expected = f"{name} must be {n_boxes * _BYTES_PER_REGION[name]} bytes, num_boxes being {n_boxes}"
            raise RegionFaultError(expected, f"{len(data)} bytes")
    features = _decode("features", fields["features"])
    if not features or len(features) % (4 * n_boxes):
        expected = f"features must be a multiple of {4 * n_boxes} bytes, num_boxes being {n_boxes}"
        raise RegionFaultError(expected, f"{len(features)} bytes")
    order = surest_first(_floats(arrays["objects_conf"]))
    boxes = _floats(arrays["boxes"]).reshape(n_boxes, 4)[order]
    return ImageRegions(image_id, place, width, height, boxes, _floats(features).reshape(n_boxes, -1)[order])


def _positive(name: str, text: bytes) -> int:
    if not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise RegionFaultError(f"{name} must be a positive integer", text.decode("utf-8", "replace"))
    return int(text)


def _decode(name: str, text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise RegionFaultError(f"{name} must be whole base64 ({error})", f"{len(text)} characters") from None


def _floats(data: bytes) -> F32:
    return np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)

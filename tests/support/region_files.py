"""Region features as their authors' scripts write them, value by value with struct and base64."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from pathlib import Path

Box = tuple[float, float, float, float]


def packed(kind: str, values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}{kind}", *values)).decode("ascii")


def lxmert_fields(
    image_id: str,
    *,
    size: tuple[int, int],
    boxes: Sequence[Box],
    features: Sequence[Sequence[float]],
    confidences: Sequence[float] | None = None,
) -> list[str]:
    """Return the ten fields of a line; size is width and height."""
    n_boxes = len(boxes)
    confidences = confidences or [1 - number / n_boxes for number in range(n_boxes)]
    return [
        image_id,
        str(size[1]),
        str(size[0]),
        packed("q", range(n_boxes)),
        packed("f", confidences),
        packed("q", [7] * n_boxes),
        packed("f", [0.5] * n_boxes),
        str(n_boxes),
        packed("f", [value for box in boxes for value in box]),
        packed("f", [value for feature in features for value in feature]),
    ]


def write_lxmert(path: Path, lines: Sequence[Sequence[str]], *, end: str = "\r\n") -> Path:
    """Write lines as the extraction script does: its csv module ends them with CR and LF."""
    path.write_bytes("".join("\t".join(fields) + end for fields in lines).encode())
    return path

"""Tokens and features for ABX tests, drawn by numpy's frozen legacy generator: the same with every version.

Imports numpy alone, so that other toolkits' environments can draw the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

HEADER = "#file onset offset #phone prev-phone next-phone speaker"
Row = tuple[str, str, str, str, str, str, str]


def draw(
    *,
    seed: int,
    n_tokens: int,
    n_phones: int = 4,
    n_speakers: int = 3,
    n_contexts: int = 2,
    n_dims: int = 5,
    max_frames: int = 6,
    noise: float = 1.5,
) -> tuple[list[Row], dict[str, npt.NDArray[np.float64]]]:
    """Draw item rows, tokens side by side in a file per speaker, and features f64[frames, dims] of the files.

    Times are those of 50 frames per second.
    """
    generator = np.random.RandomState(seed)
    centres = generator.standard_normal((n_phones, n_dims))
    rows: list[Row] = []
    features: dict[str, list[npt.NDArray[np.float64]]] = {f"file{s}": [] for s in range(n_speakers)}
    ends = [0] * n_speakers
    for _ in range(n_tokens):
        speaker, phone = int(generator.randint(n_speakers)), int(generator.randint(n_phones))
        context, length = int(generator.randint(n_contexts)), int(generator.randint(1, max_frames + 1))
        onset, offset = (_seconds(frame) for frame in (ends[speaker], ends[speaker] + length))
        ends[speaker] += length
        rows.append((f"file{speaker}", onset, offset, f"p{phone}", f"c{context}", "n", f"s{speaker}"))
        frames = centres[phone] + noise * generator.standard_normal((length, n_dims))
        features[f"file{speaker}"].append(frames)
    return rows, {name: np.concatenate(found) for name, found in features.items() if found}


def write_items(path: Path, rows: list[Row]) -> Path:
    """Write an item file."""
    path.write_text("\n".join([HEADER, *(" ".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def _seconds(frame: int) -> str:
    return f"{frame // 50}.{frame % 50 * 2:02d}"

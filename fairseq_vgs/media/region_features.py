"""Read region features as a memory map of numbers, never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.files.faults import Fault, FaultError, shown

_BLOCK_VALUES = 1 << 22


def open_features(path: Path) -> npt.NDArray[np.float16]:
    """Return region features as a read-only memory map, float16 [n_rows, D]; refuse anything else."""
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        message = "file is missing; build it with fairseq-vgs prepare"
        raise FaultError.at(path, message, "file.missing") from None
    except Exception as error:
        # numpy's header reader lets any exception of its tokenizer through.
        raise _unusable(path, "must be a whole .npy file of numbers", shown(str(error))) from error
    if not isinstance(features, np.ndarray):
        features.close()
        raise _unusable(path, "must be one .npy array", "an archive of several")
    if features.dtype != np.float16 or features.ndim != 2 or features.size == 0:
        raise _unusable(path, "must be float16 [n_rows, D]", f"{features.dtype} {list(features.shape)}")
    return features


def _unusable(path: Path, expected: str, got: str) -> FaultError:
    return FaultError(Fault(str(path), f"{expected}, got {got}; rebuild it", "regions.unreadable"))


def non_finite_rows(features: npt.NDArray[Any]) -> list[int]:
    """Return the rows of features [n_rows, D] that hold NaN or infinity; reads a block of rows at a time."""
    step = max(1, _BLOCK_VALUES // features.shape[1])
    rows: list[int] = []
    for start in range(0, len(features), step):
        bad = ~np.isfinite(features[start : start + step]).all(axis=1)
        rows.extend((start + np.flatnonzero(bad)).tolist())
    return rows

"""Dual encoders of FaST-VGS, FaST-VGS+ and VGS+, converted."""

from __future__ import annotations

from pathlib import Path


def import_fast_vgs(bundle: Path, output: Path, *, force: bool = False) -> None:
    """Convert a bundle of the authors' trainer."""
    raise NotImplementedError(f"{bundle}: conversion to {output} (force={force}) is not written yet")

"""All faults of a manifest folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fairseq_vgs.manifest.errors import Fault


def check_folder(
    folder: Path, *, read_media: bool = True, progress: Callable[[int, int], None] | None = None
) -> list[Fault]:
    """Return every fault of a manifest folder."""
    raise NotImplementedError

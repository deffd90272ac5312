"""Read and write the ``summary.json`` of a data folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.manifest.folder import ManifestFolder


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's ``summary.json``; empty if there is none."""
    path = ManifestFolder(folder).summary
    if not path.exists():
        return {}
    try:
        summary = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        step = "repair or remove it"
        raise FaultError(fault(path.name, "must be JSON", str(error), step, code="json.syntax")) from error
    if not isinstance(summary, dict):
        raise FaultError.at(path.name, "must be a JSON object; repair or remove it", "json.kind")
    return summary


def write_region_summary(
    folder: Path, regions: Mapping[str, object], *, summary: Mapping[str, object], made_by: str
) -> None:
    """Rewrite ``summary.json`` (from ``read_summary``) with an entry ``regions``.

    The command ``made_by`` is added if the summary names none yet.
    """
    content = {"made_by": made_by, **summary, "regions": regions}
    with atomic_write(ManifestFolder(folder).summary, force=True) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")

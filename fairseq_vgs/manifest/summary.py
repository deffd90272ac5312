"""Read and write the ``summary.json`` of a data folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import read_pairs

SHA256 = "sha256"
"""Key of the entry ``regions``: file name -> hash, of the table and the features that belong together."""

_OF_ONE_FOLDER = (
    SHA256, "images", "regions", "rows_kept", "images_kept", "boxes_clipped", "largest_overhang_pixels",
    "boxes_without_area", "largest_feature", "float16_max_absolute_error", "float16_max_relative_error",
    "images_of_other_size", "not_wanted", "excluded",
)  # fmt: skip


def refuse_other_regions(folder: Path, *names: str, digest: Callable[[Path], str] = sha256_file) -> None:
    """Refuse files of regions that are not those which ``summary.json`` describes; older ones have no hash.

    ``digest`` computes the SHA-256 of a file.

    Raises:
        FaultError: ``regions.mismatch``.
    """
    regions = read_summary(folder).get("regions")
    hashes = regions.get(SHA256) if isinstance(regions, dict) else None
    for name in names:
        wanted = hashes.get(name) if isinstance(hashes, dict) else None
        if wanted is not None and wanted != (found := digest(folder / name)):
            expected, step = (
                f"must have the SHA-256 of summary.json, {wanted}",
                "prepare the regions again (--force)",
            )
            raise FaultError(fault(str(folder / name), expected, found, step, code="regions.mismatch"))


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's ``summary.json``; empty if there is none.

    Raises:
        FaultError: Those of ``read_object``.
    """
    path = ManifestFolder(folder).summary
    if not path.exists():
        return {}
    return read_object(path, "repair or remove it")


def write_region_summary(
    folder: Path, regions: Mapping[str, object], *, summary: Mapping[str, object], made_by: str
) -> dict[str, object]:
    """Rewrite ``summary.json`` (from ``read_summary``) with an entry ``regions``; return it.

    The files' hashes are added to it. The command ``made_by`` is added if the summary names none yet.
    """
    entry = hashed_regions(folder, regions)
    content = {"made_by": made_by, **summary, "regions": entry}
    write_text(
        ManifestFolder(folder).summary, json.dumps(content, ensure_ascii=False, indent=1) + "\n", force=True
    )
    return entry


def hashed_regions(folder: Path, regions: Mapping[str, object]) -> dict[str, object]:
    """Return the entry ``regions`` with the hashes of a folder's table and features."""
    names = ManifestFolder(folder)
    hashes = {path.name: sha256_file(path) for path in (names.regions, names.region_features)}
    return {**regions, SHA256: hashes}


def region_recipe(summary: Mapping[str, object]) -> dict[str, object]:
    """Return what the entry ``regions`` of a summary says of how they were made, without counts and lists.

    Empty if there is no such entry.
    """
    entry = summary.get("regions")
    if not isinstance(entry, Mapping):
        return {}
    return {key: value for key, value in entry.items() if key not in _OF_ONE_FOLDER}


def training_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the data that a run's settings name, if they are still there.

    Returns:
        ``corpus``, as ``summary.json`` names it, else what made the folder; numbers of ``captions`` and
        ``images``. What is unknown is left out.
    """
    task, subset = config.get("task") or {}, (config.get("dataset") or {}).get("train_subset")
    folder = Path(str(task.get("data") or ""))
    if not task.get("data") or not folder.is_dir():
        return {}
    found: dict[str, Any] = {}
    with suppress(FaultError):
        summary = read_summary(folder)
        if corpus := summary.get("corpus") or summary.get("made_by"):
            found["corpus"] = str(corpus)
    with suppress(FaultError):
        pairs = read_pairs(ManifestFolder(folder).pairs(str(subset or "train")))
        found |= {"captions": len(pairs), "images": len({pair.image_id for pair in pairs})}
    return found

"""Provenance of files and values: hashes, versions, machine and cost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import resource
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import fairseq_vgs
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.parallel import n_cores

logger = logging.getLogger(__name__)

REMEMBERED_BYTES = 100_000_000  # smaller files are read in a fraction of a second
_PLUGIN = "fairseq_vgs"  # key of ``task_state`` in checkpoints
_PACKAGES = ("fairseq_vgs", "fairseq", "torch", "numpy")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """Return the SHA-256 of a file, computed again only if it has changed.

    Hashes of files from ``REMEMBERED_BYTES`` on are kept in the user's cache folder (``XDG_CACHE_HOME``, else
    ``~/.cache``), next to size, inode and times of the last change of content and of the entry. What alters
    bytes below the file system, such as a failing disk, changes none of these.
    """
    before = path.stat()
    if before.st_size < REMEMBERED_BYTES:
        return sha256_file(path)
    stamp = [before.st_size, before.st_ino, before.st_mtime_ns, before.st_ctime_ns]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairseq_vgs"
    kept = cache / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(kept.read_bytes())
        if found["stamp"] == stamp:
            return str(found["sha256"])
    logger.info("%s: comparing %.1f GB with their hash, once", path, before.st_size / 1e9)
    digest, after = sha256_file(path), path.stat()
    if [after.st_size, after.st_ino, after.st_mtime_ns, after.st_ctime_ns] == stamp:
        with contextlib.suppress(OSError), atomic_write(kept, force=True) as file:
            json.dump({"path": str(path.resolve()), "stamp": stamp, "sha256": digest}, file)
    return digest


def plugin_state(images: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's ``task_state`` keeps: the plugin's version, and how its images were made."""
    return {_PLUGIN: {"version": fairseq_vgs.__version__, "images": dict(images)}}


def read_plugin_state(state: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return version and images that a checkpoint's content names; empty in those of before version 0.1.0."""
    entries: Any = state.get("task_state")
    kept = entries.get(_PLUGIN) if isinstance(entries, Mapping) else None
    kept = kept if isinstance(kept, Mapping) else {}
    images = kept.get("images")
    return str(kept.get("version", "")), dict(images) if isinstance(images, Mapping) else {}


def versions() -> dict[str, str]:
    """Return the versions that can change a number."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Describe the machine without naming it: cores this process may use, memory, platform."""
    try:
        memory_gb = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        memory_gb = None
    system = platform.platform(terse=True)
    return {"cores": n_cores(), "memory_gb": memory_gb, "platform": system, "cpu": _cpu_name()}


def peak_memory_mb() -> float:
    """Return the peak memory of this process so far, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()

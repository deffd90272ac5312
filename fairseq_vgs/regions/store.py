"""Write computed features row by row into a hidden file, from which an interrupted run resumes.

Shapes: N rows in all, n of a batch, D dims of a feature.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fairseq_vgs.arrays import F16
from fairseq_vgs.files.atomic import atomic_write, lock, write_text
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.output import refuse_existing, try_output
from fairseq_vgs.files.work import differences, refuse_other_settings
from fairseq_vgs.manifest import ManifestFolder
from fairseq_vgs.regions.writer import REGIONS_HEADER, npy_header

logger = logging.getLogger(__name__)

PARTIAL_FEATURES, PARTIAL_STATE = ".regions.partial", ".regions.json"
PARTIAL_NAMES = (PARTIAL_FEATURES, PARTIAL_STATE)

_OLD_PARTIAL_NAMES = (".image-features.partial.npy", ".image-features.partial.json")  # of before 0.1.0
_DOING = "computing regions of this folder"


def refuse_regions(folder: Path, *, force: bool) -> None:
    """Refuse a folder that has regions, unless they may be replaced, or that cannot be written.

    Regions that a killed run was putting in place are unfinished work.

    Raises:
        OutputExistsError: ``output.exists``.
        FaultError: ``output.unwritable``.
    """
    names = ManifestFolder(folder)
    refuse_existing(names.regions, names.region_features, force=force or _was_publishing(folder))
    try_output(folder, option="DATA")


def _was_publishing(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / PARTIAL_STATE).read_bytes()).get("publishing"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


# Not a work folder (``files.work``), which becomes a whole output folder: regions are two files that join
# others in a data folder or, with ``prepare CORPUS --regions``, in the work folder of that. Rows come in
# order into one file, for which space is reserved: their number says all that is finished.
class FeatureStore:
    """The features of a folder's regions computed so far, ``n_done`` rows; see ``open_store``.

    ``dim`` is D, 0 before the first row.
    """

    def __init__(self, folder: Path, file: BinaryIO, settings: Mapping[str, object], n_rows: int) -> None:
        self._folder, self._file, self._settings = folder, file, settings
        self._n_rows = n_rows
        self.n_done, self.dim = self._resume()

    def append(self, features: F16, place: Callable[[int], str]) -> None:
        """Write further rows, [n, D]; ``place`` gives file and line of a row by its number among all.

        Raises:
            FaultError: A feature is NaN, infinite, or beyond float16.
        """
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            where = place(self.n_done + int(finite.argmin()))
            expected, got = "features must be finite and within float16", "NaN or infinity"
            raise FaultError(fault(where, expected, got, "use another network", code="regions.not_finite"))
        if not self.dim:
            self.dim = int(features.shape[1])
            header = npy_header(self._n_rows, self.dim)
            self._file.truncate(0)
            # Reserve all space now, so that a full disk shows before the work.
            os.posix_fallocate(self._file.fileno(), 0, len(header) + 2 * self.dim * self._n_rows)
            self._file.seek(0)
            self._file.write(header)
        self._file.seek(self._end(self.n_done))
        self._file.write(features.astype("<f2", copy=False).tobytes())
        self._file.flush()
        self.n_done += len(features)
        self._write_state()

    def publish(self, lines: Iterable[str]) -> None:
        """Write the table, and give the features their final name.

        At no moment does a table lie next to features that are not its own: a former one goes first.
        """
        names = ManifestFolder(self._folder)
        os.fsync(self._file.fileno())
        with atomic_write(names.regions, force=True) as table:
            table.write(REGIONS_HEADER)
            table.writelines(lines)
            table.flush()
            os.fsync(table.fileno())
            self._write_state(publishing=True)
            names.regions.unlink(missing_ok=True)
            (self._folder / PARTIAL_FEATURES).replace(names.region_features)

    def _write_state(self, **more: bool) -> None:
        state = {"of": self._settings, "rows": self.n_done, **more}
        write_text(self._folder / PARTIAL_STATE, json.dumps(state), force=True)

    def _end(self, n_rows: int) -> int:
        """Return the offset where ``n_rows`` rows end."""
        return len(npy_header(self._n_rows, self.dim)) + 2 * self.dim * n_rows

    def _resume(self) -> tuple[int, int]:
        """Return rows and dims that an interrupted run with the same settings left."""
        path = self._folder / PARTIAL_FEATURES
        try:
            before, n_done, is_former = self._read_state()
            np.lib.format.read_magic(self._file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(self._file)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, EOFError):
            return 0, 0
        if is_former:
            step = f"restore them, or remove {path} to start again"
            refuse_other_settings(path, before, self._settings, step=step)
        if differences(before, self._settings):
            logger.warning("%s: started with other settings; starting again", path)
            return 0, 0
        if dtype != np.float16 or len(shape) != 2 or shape[0] != self._n_rows or n_done < 1:
            return 0, 0
        self.dim = int(shape[1])
        size = self._file.seek(0, os.SEEK_END)
        whole = (size - self._end(0)) // (2 * self.dim) if self.dim else 0
        return max(0, min(n_done, whole, self._n_rows)), self.dim if whole > 0 else 0

    def _read_state(self) -> tuple[Any, int, bool]:
        """Return settings, number of rows, and whether a version before 0.1.0 wrote them."""
        state: Any = json.loads((self._folder / PARTIAL_STATE).read_bytes())
        if "plan_sha256" in state:  # of boxes: the file ends with its last row
            return state, self._n_rows, True
        if "images" in state:
            n_regions = max(1, math.prod(state["of"]["grid"]))
            return state["of"], int(state["images"]) * n_regions, True
        return state["of"], int(state["rows"]), False


@contextmanager
def open_store(folder: Path, settings: Mapping[str, object], *, n_rows: int) -> Iterator[FeatureStore]:
    """Open and lock the store of a folder; an interruption leaves its rows for the next run.

    ``settings`` are everything the features depend on; ``n_rows`` is N.

    Raises:
        FaultError: There are no pictures, another run is computing regions of this folder, or a former
            version started them with other settings (``work.settings``).
    """
    if not n_rows:
        expected = "must have pictures, to compute regions from"
        raise FaultError(fault("images.tsv", expected, "none", "add them", code="table.empty"))
    path = folder / PARTIAL_FEATURES
    _take_over(folder)
    _take_back(folder)
    path.touch()
    # Not in append mode: some file systems cannot reserve space then.
    with path.open("r+b") as file:
        lock(file, path, place=folder, doing=_DOING)
        store = FeatureStore(folder, file, settings, n_rows)
        try:
            yield store
        except BaseException:
            if not store.n_done:
                for name in PARTIAL_NAMES:
                    (folder / name).unlink(missing_ok=True)
            raise
        for name in (PARTIAL_STATE, *_OLD_PARTIAL_NAMES):
            (folder / name).unlink(missing_ok=True)


def _take_back(folder: Path) -> None:
    """Rename the features of a run that was killed while it put them in place."""
    partial, features = folder / PARTIAL_FEATURES, ManifestFolder(folder).region_features
    if partial.exists() or not features.exists() or not _was_publishing(folder):
        return
    with features.open("r+b") as file:
        lock(file, features, place=folder, doing=_DOING)  # which a run that goes on has
        if _was_publishing(folder):  # it may have ended since
            features.replace(partial)


def _take_over(folder: Path) -> None:
    """Rename what ``prepare image-features`` of a version before 0.1.0 left."""
    features, state = (folder / name for name in _OLD_PARTIAL_NAMES)
    if not features.exists() or not state.exists() or (folder / PARTIAL_STATE).exists():
        return
    with features.open("r+b") as file:
        lock(file, features, place=folder, doing=_DOING)
        state.replace(folder / PARTIAL_STATE)
        features.replace(folder / PARTIAL_FEATURES)

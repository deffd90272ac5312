"""Checkpoints that fairseq writes appear whole or not at all, and are verified before they are used.

fairseq 0.12.2 truncates ``checkpoint_last.pt`` before it copies a checkpoint there, so a kill or a full disk
at that moment ruins the file that the next run restores.
"""

from __future__ import annotations

import argparse
import collections
import functools
import inspect
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairseq_vgs.compat.run_folder import same_command
from fairseq_vgs.files.atomic import FULL_DISK
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.torch_files import named_errors, refuse_other_files, verify

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
PARTIAL = ".partial"
"""Folder of files under way, next to what they become."""
STARTED_FROM = "started_from"
"""Entry of ``extra_state``: ``sha256`` and ``n_updates`` of the checkpoint that a phase started from."""
# of a run, by epoch, by update, or the best; never crash.pt, which holds weights that are not finite
_BY_UPDATES = re.compile(r"checkpoint_\d+_(\d+)\.pt")
_RESUMABLE = re.compile(r"checkpoint(\d+|_\d+_\d+|_best)\.pt")
last_loaded: list[Path] = []
"""The checkpoint that fairseq has loaded last, if any."""
last_settings: list[Any] = []
"""The settings in it."""


def write_whole_checkpoints() -> bool:
    """Let fairseq write and copy local checkpoints through files that appear when they are complete."""
    from fairseq import checkpoint_utils

    original = checkpoint_utils.torch_persistent_save
    if hasattr(original, "__wrapped__"):
        return False

    class WholeCopies(checkpoint_utils.PathManager):
        @staticmethod
        def copy(src: str, dst: str, overwrite: bool = False) -> bool:
            """Copy a file; the copy replaces another one when it is complete."""
            if not overwrite and Path(dst).exists():
                return False
            with whole(Path(dst)) as partial:
                shutil.copyfile(src, partial)
            return True

    @functools.wraps(original)
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        if async_write or checkpoint_utils.PathManager.path_requires_pathmanager(filename):
            original(obj, filename, async_write=async_write)
            return
        with whole(Path(filename)) as partial, partial.open("wb") as file:
            torch.save(obj, file)

    checkpoint_utils.torch_persistent_save = torch_persistent_save
    checkpoint_utils.PathManager = WholeCopies
    return True


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file that replaces ``path`` when the block ends without an error.

    Raises:
        FaultError: ``output.full``: the disk is full; the file that ``path`` was is left alone.
    """
    partial = path.parent / PARTIAL / path.name
    try:
        partial.parent.mkdir(exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # torch reports that a write failed without the reason, which is the error's context
        if not any(isinstance(one, OSError) and one.errno in FULL_DISK for one in (error, error.__context__)):
            raise
        free = f"{shutil.disk_usage(path.parent).free} bytes free"
        step = f"make room and {same_command()}; earlier checkpoints are whole"
        expected = "disk must have room for a checkpoint"
        raise FaultError(fault(str(path), expected, free, step, code="output.full")) from error
    finally:
        partial.unlink(missing_ok=True)
        with suppress(OSError):  # another file may be under way
            partial.parent.rmdir()


def verify_checkpoints() -> bool:
    """Let fairseq verify every checkpoint that it loads, and name those that it cannot read."""
    from fairseq import checkpoint_utils

    original = checkpoint_utils.load_checkpoint_to_cpu
    if hasattr(original, "__wrapped__"):
        return False

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> Any:
        with named_errors(Path(path)):
            if not checkpoint_utils.PathManager.path_requires_pathmanager(path):
                refuse_other_files(Path(path))
                verify(Path(path))
            state = original(path, *args, **kwargs)
        last_loaded[:] = [Path(path)]
        last_settings[:] = [state.get("cfg") if isinstance(state, Mapping) else None]
        return state

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    return True


def mend_checkpoints(folder: Path, *, start_over: bool = False) -> None:
    """Set damaged copies aside, and replace a missing or damaged last checkpoint by the newest whole one.

    fairseq copies a checkpoint to ``checkpoint_last.pt`` and ``checkpoint_best.pt``. Damaged ones are kept as
    ``NAME.damaged``. What cannot be read for another reason, such as a lack of memory, keeps its name. Do not
    call this while the run is training.

    Args:
        folder: the run's ``checkpoints``.
        start_over: set the last checkpoint aside although none is whole, so that the run starts from nothing.

    Raises:
        FaultError: ``checkpoint.damaged`` or ``checkpoint.kind``: no checkpoint is whole.
        OSError: one cannot be read.
    """
    last, best = folder / LAST, folder / "checkpoint_best.pt"
    damage = _damage(last)
    newest = None
    if damage or not last.exists():
        newest = max(_whole_ones(folder), key=_age, default=None)
    if damage and not newest and not start_over:
        raise damage
    for path, found in ((last, damage), (best, _damage(best))):
        if found:
            logger.warning("%s; kept as %s.damaged", found, path.name)
            path.replace(path.with_name(f"{path.name}.damaged"))
    if newest:
        with whole(last) as partial:
            shutil.copyfile(newest, partial)
        logger.warning("%s: going on from %s, the newest whole checkpoint", last, newest.name)


def _damage(path: Path) -> FaultError | None:
    """Return what the content of a checkpoint shows; torch reads the others, or says why not."""
    try:
        if path.exists():
            refuse_other_files(path)
            verify(path)
    except FaultError as error:
        return error
    return None


def _whole_ones(folder: Path) -> Iterator[Path]:
    """Yield the whole checkpoints that a run can go on from, and warn of the others."""
    for path in folder.glob("checkpoint*.pt"):
        if _RESUMABLE.fullmatch(path.name):
            if error := _damage(path):
                logger.warning("%s", error)
            else:
                yield path


def _age(path: Path) -> tuple[int, int]:
    """Order checkpoints by their updates, which a copy of the run keeps, then by when they were written."""
    named = _BY_UPDATES.fullmatch(path.name)
    try:
        with named_errors(path):
            updates = int(named[1]) if named else n_updates(load_plain(path, mmap=True))
    except FaultError:
        updates = 0
    return updates, path.stat().st_mtime_ns


def load_plain(path: Path, *, mmap: bool = False) -> Any:
    """Load tensors, plain containers and settings; nothing in the file is run."""
    allow_checkpoint_classes()
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def n_updates(state: Mapping[str, Any]) -> int:
    """Return the updates made when a checkpoint was saved; 0 if it does not say."""
    history = state.get("optimizer_history")
    if isinstance(history, list) and history and isinstance(history[-1], Mapping):
        return int(history[-1].get("num_updates", 0))
    return 0


def remove_partial_checkpoints(folder: Path) -> None:
    """Remove what killed runs left half written; no other run may be writing into the folder."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    for path in folder.glob("checkpoint*.pt.tmp"):  # fairseq's own
        path.unlink(missing_ok=True)


def allow_checkpoint_classes() -> bool:
    """Let ``torch.load`` read fairseq checkpoints while it still refuses to run code.

    Since torch 2.6 only tensors and plain containers load by default. fairseq's ``checkpoint_utils`` also
    meets ``argparse.Namespace`` (``args`` of checkpoints before 2021), OmegaConf containers, numpy scalars
    (best metric, meters) and dictionaries of fine-tuned models; ``distributed.utils.broadcast_object`` meets
    a placeholder class whenever several ranks resume. Constructing any of the classes below runs no code of a
    checkpoint's choosing.
    """
    from fairseq.data.dictionary import Dictionary
    from fairseq.distributed import utils as distributed_utils

    torch.serialization.add_safe_globals(
        [
            argparse.Namespace,
            Dictionary,
            distributed_utils._TensorPlaceholder,
            *_omegaconf_classes(),
            *_numpy_classes(),
        ]
    )
    return True


def _omegaconf_classes() -> list[Any]:
    """Return the classes in a pickled ``DictConfig``: containers, nodes, and types named in metadata."""
    from omegaconf import DictConfig, ListConfig, base, nodes

    containers = [DictConfig, ListConfig, base.ContainerMetadata, base.Metadata]
    value_nodes = [
        node for node in vars(nodes).values() if inspect.isclass(node) and issubclass(node, nodes.ValueNode)
    ]
    return [*containers, *value_nodes, collections.defaultdict, Any, bool, dict, float, int, list, str, tuple]


def _numpy_classes() -> list[Any]:
    """Return what pickled numpy scalars and arrays name, in numpy 1 and in numpy 2."""
    core = getattr(np, "_core", None) or np.core
    numbers = (np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64)
    functions = [
        (getattr(core.multiarray, name), f"{package}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for package in ("numpy.core", "numpy._core")
    ]
    return [*functions, np.ndarray, np.dtype, *{type(np.dtype(number)) for number in numbers}]

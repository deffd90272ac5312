"""Find the checkpoints of a run by their updates."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from fairseq_vgs.checkpoints.load import CheckpointError, read_updates

_BY_UPDATES = re.compile(r"checkpoint_\d+_(\d+)\.pt")
_BY_EPOCH = re.compile(r"checkpoint(\d+)\.pt")


def checkpoints_of(run: Path, *, every: int, at: Collection[int] = ()) -> dict[int, Path]:
    """Find a run's checkpoints: updates -> file, in order, those after a multiple of ``every`` updates.

    Those ``at`` other updates are found too. fairseq names a checkpoint by its updates unless an epoch ended
    with it; then the file has to be read.

    Raises:
        CheckpointError: there is none, or one cannot be read.
    """
    folder = run / "checkpoints"
    paths = sorted(folder.glob("checkpoint*.pt"))
    found = {int(named[1]): path for path in paths if (named := _BY_UPDATES.fullmatch(path.name))}
    for path in paths:
        if not _BY_UPDATES.fullmatch(path.name):
            found.setdefault(read_updates(path), path)
    wanted = [n for n in sorted(found) if n > 0 and (n % every == 0 or n in at)]
    chosen = {updates: found[updates] for updates in wanted}
    if not chosen:
        step = f"checkpoint.save_interval_updates={every} checkpoint.keep_interval_updates=-1"
        message = f"must hold checkpoints after a multiple of {every} updates, got none; train with {step}"
        raise CheckpointError.at(folder, message, "checkpoint.missing")
    return chosen


def keep_epoch_checkpoints(run: Path, *, every: int, at: Collection[int] = ()) -> None:
    """Give epoch checkpoints after a multiple of ``every`` updates the name that fairseq gives all others.

    Those ``at`` other updates get it too.

    Where an epoch ends with such an update, fairseq saves ``checkpoint7.pt`` only, and removes it when the
    next epoch ends (``checkpoint.keep_last_epochs=1``, without which every epoch would stay on disk). The
    file gets a second name; fairseq renames finished files into place, so it is never incomplete.
    """
    folder = run / "checkpoints"
    for path in folder.glob("checkpoint*.pt"):
        epoch = _BY_EPOCH.fullmatch(path.name)
        if epoch is None:
            continue
        try:
            updates = read_updates(path)
            target = folder / f"checkpoint_{epoch[1]}_{updates}.pt"
            if (updates % every == 0 or updates in at) and not target.exists():
                _give_name(path, target)
        except (CheckpointError, FileNotFoundError):
            if path.exists():  # else fairseq has just removed it
                raise


def checkpoint_after(run: Path, updates: int) -> Path:
    """Return the checkpoint that fairseq, or ``keep_epoch_checkpoints``, named after this number of updates.

    Before there is one, its epoch is unknown: the path has a ``*`` in place of the epoch.
    """
    pattern = run / "checkpoints" / f"checkpoint_*_{updates}.pt"
    return min(pattern.parent.glob(pattern.name), default=pattern)


def has_ended(run: Path, max_update: int) -> bool:
    """Return whether a run has saved a checkpoint after its last update."""
    return checkpoint_after(run, max_update).is_file()


def _give_name(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        _copy(path, target)


def _copy(path: Path, target: Path) -> None:
    part = target.with_name(f"{target.name}.tmp")
    shutil.copyfile(path, part)
    part.replace(target)

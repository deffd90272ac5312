"""The folder of a run: one run at a time uses it, and a run that ended is started again in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from fairseq_vgs.files.atomic import lock
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.hydra import shell_override

LOCK = ".lock"
_AGAIN = "run the same command again"
_held: list[tuple[IO[Any], Path]] = []


def take(folder: Path) -> None:
    """Lock a folder of checkpoints until ``give_back``, another ``take``, or the end of the process.

    Raises:
        FaultError: ``output.busy``: another process trains there.
    """
    give_back()
    path = folder / LOCK
    try:
        file = path.open("a")  # network file systems lock only what is open for writing
    except OSError:
        return  # nothing can be written there, as saving a checkpoint will tell
    try:
        step = "wait for it or stop it, or give this run a folder of its own (hydra.run.dir=...)"
        lock(file, path, place=folder, doing="training in this folder", step=step)
    except FaultError:
        file.close()
        raise
    _held.append((file, path))


def give_back() -> None:
    """Let other runs use the folder."""
    while _held:
        file, path = _held.pop()
        path.unlink(missing_ok=True)
        file.close()


def _close_in_child() -> None:
    # data workers may outlive a killed run by seconds, and must not lock its folder against the next one
    while _held:
        _held.pop()[0].close()


os.register_at_fork(after_in_child=_close_in_child)


def same_command() -> str:
    """Say how to start this run again; Hydra names its default folder by the time."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    recorded = Path(".hydra/hydra.yaml")
    if HydraConfig.initialized():
        settings = HydraConfig.get()
    elif recorded.is_file():  # in a rank that fairseq has spawned
        settings = OmegaConf.load(recorded).hydra
    else:
        return _AGAIN
    output = Path(settings.runtime.output_dir)
    key = "hydra.run.dir"
    if not OmegaConf.is_missing(settings.job, "num"):  # a job of a sweep
        key, output = "hydra.sweep.dir", output.parents[len(Path(str(settings.sweep.subdir)).parts) - 1]
    overrides: Any = OmegaConf.to_container(settings.overrides.hydra, resolve=False)
    given = [item for item in overrides if item.startswith(f"{key}=") and "${" not in item]
    return _AGAIN if given else f"{_AGAIN} with {shell_override(key, output)}"

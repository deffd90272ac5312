"""Finding relative paths although Hydra has changed the working directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


def resolve_from_launch(path: str | Path) -> Path:
    """Resolve a path against the directory that the command was started in.

    Hydra knows it in the process that it started. In the ranks that fairseq spawns, the shell's ``PWD`` still
    tells it. A path that exists in none of these places is resolved against the first of them.
    """
    path = Path(path).expanduser()
    if path.is_absolute():
        return path
    candidates = [folder / path for folder in _launch_directories()]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])


def make_paths_absolute(cfg: Any, keys: Iterable[str]) -> None:
    """Resolve a task's paths in place, and in the run's configuration, where fairseq looks up ``task.data``.

    Args:
        cfg: The task's configuration; where fairseq made it, its parent is the run's.
        keys: The settings that hold paths; those that are not set stay so.
    """
    run_cfg = cfg._get_parent() if isinstance(cfg, DictConfig) else None
    for key in keys:
        if getattr(cfg, key) is None:
            continue
        path = str(resolve_from_launch(getattr(cfg, key)))
        setattr(cfg, key, path)
        if isinstance(run_cfg, DictConfig) and isinstance(run_cfg.get("task"), DictConfig):
            run_cfg.task[key] = path


def _launch_directories() -> list[Path]:
    directories = []
    if HydraConfig.initialized():
        directories.append(Path(HydraConfig.get().runtime.cwd))
    if os.environ.get("PWD"):
        directories.append(Path(os.environ["PWD"]))
    directories.append(Path.cwd())
    return directories

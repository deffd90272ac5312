"""Finding relative paths although Hydra has changed the working directory."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


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


def _launch_directories() -> list[Path]:
    directories = []
    if HydraConfig.initialized():
        directories.append(Path(HydraConfig.get().runtime.cwd))
    if os.environ.get("PWD"):
        directories.append(Path(os.environ["PWD"]))
    directories.append(Path.cwd())
    return directories

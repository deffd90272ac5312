"""Commands of ``fairseq-hydra-train`` and ``fairseq-vgs``, and what makes a training command what it is."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fairseq_vgs.files.yaml_files import load_yaml


def train_command(config_dir: Path, primary: str, overrides: Sequence[str]) -> list[str]:
    """Return the command of one run; its configurations are found from any folder."""
    program = find_program("fairseq-hydra-train", "fairseq_cli.hydra_train")
    return [*program, "--config-dir", str(config_dir.resolve()), "--config-name", primary, *overrides]


def vgs_command(*words: str) -> list[str]:
    """Return a command of this package."""
    return [*find_program("fairseq-vgs", "fairseq_vgs.cli.main"), *words]


def find_program(script: str, module: str) -> list[str]:
    """Find a console script of this environment, else its module."""
    found = shutil.which(script, path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-m", module]


def overrides_of(command: Sequence[str]) -> Sequence[str]:
    """Return the overrides of a training command."""
    return command[command.index("--config-name") + 2 :]


def command_identity(command: Sequence[str]) -> dict[str, str]:
    """Return a command's overrides by key, and a hash of each of its YAML files without comments."""
    at = command.index("--config-name")
    primary, folder = command[at + 1], Path(command[command.index("--config-dir") + 1])
    overrides = dict(entry.partition("=")[::2] for entry in overrides_of(command))
    files = {name: _content_hash(folder / name) for name in _files_of(folder, primary, overrides)}
    return {"--config-name": primary, **files, **overrides}


def _files_of(folder: Path, primary: str, overrides: Mapping[str, str]) -> list[str]:
    """Name the files of the configuration folder that a primary's defaults and the overrides choose."""
    path = folder / f"{primary}.yaml"
    content: Any = load_yaml(path) if path.is_file() else {}
    names = []
    for entry in content.get("defaults", []):
        if isinstance(entry, str):
            names.append(f"{entry}.yaml")
        else:
            names += [f"{group}/{overrides.get(group, chosen)}.yaml" for group, chosen in entry.items()]
    return [name for name in names if (folder / name).is_file()]


def _content_hash(path: Path) -> str:
    content = OmegaConf.to_container(load_yaml(path), resolve=False)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

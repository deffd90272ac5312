"""Packages and models that not every installation has."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from fairseq_vgs.files.faults import FaultError


def optional_package(module: str, extra: str, *, place: object, error: type[FaultError] = FaultError) -> Any:
    """Import a module that an extra of this package installs.

    Raises:
        error: ``package.missing``.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as problem:
        step = f"pip install 'fairseq_vgs[{extra}]'"
        message = f"needs {module.partition('.')[0]}, which cannot be imported ({problem}); {step}"
        raise error.at(place, message, "package.missing") from problem


def download_step(path: Path) -> str:
    """Say how to get a model whose files are not here; two names without a folder are perhaps the hub's."""
    if path.parent.exists():
        return "check the path, or download the model first"
    name = f"{path.parent.name}/{path.name}"
    return (
        f"if {name} is a name of the Hugging Face hub: nothing is downloaded from here, so run "
        f"hf download {name} --local-dir {path.name} on a machine with access (pip install huggingface_hub), "
        f"and give the path of the folder {path.name}"
    )

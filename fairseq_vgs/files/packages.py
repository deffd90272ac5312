"""Packages that not every installation has."""

from __future__ import annotations

import importlib
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

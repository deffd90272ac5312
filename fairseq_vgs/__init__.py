"""Visually grounded speech models as a fairseq plugin.

Importing this package is cheap: it imports neither torch nor fairseq. Its tasks, models and criterions are
registered as soon as fairseq is imported (at once if it already is, as for ``common.user_dir``), or when
``register`` is called. Without fairseq, ``manifest``, ``prepare``, ``modules``, ``losses`` and the commands
built on them still work; the others say how to install it.

The names in ``__all__`` are imported at their first use.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from fairseq_vgs_compat import allow_config_defaults as _allow_fairseq_import

if TYPE_CHECKING:
    from fairseq_vgs.api.load import load
    from fairseq_vgs.api.model import Model
    from fairseq_vgs.api.mteb_encoder import MtebEncoder
    from fairseq_vgs.api.retrieval import Retrieval, retrieval
    from fairseq_vgs.checkpoints.load import Checkpoint, load_checkpoint
    from fairseq_vgs.manifest.folder import ManifestFolder

__version__ = "0.1.0"
__all__ = [
    "Checkpoint",
    "ManifestFolder",
    "Model",
    "MtebEncoder",
    "Retrieval",
    "load",
    "load_checkpoint",
    "register",
    "retrieval",
]

if __name__ != "fairseq_vgs":
    raise ImportError(
        f"common.user_dir: expected the plugin's folder to be named fairseq_vgs, got {__name__}; rename it"
    )

_PUBLIC = {
    "Checkpoint": "fairseq_vgs.checkpoints.load",
    "ManifestFolder": "fairseq_vgs.manifest.folder",
    "Model": "fairseq_vgs.api.model",
    "MtebEncoder": "fairseq_vgs.api.mteb_encoder",
    "Retrieval": "fairseq_vgs.api.retrieval",
    "load": "fairseq_vgs.api.load",
    "load_checkpoint": "fairseq_vgs.checkpoints.load",
    "retrieval": "fairseq_vgs.api.retrieval",
}

_allow_fairseq_import()

if "torch" not in sys.modules:  # torch reads it once, when it is imported; tasks.host says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fairseq_vgs.compat.registration import register, register_with_fairseq  # noqa: E402

register_with_fairseq()


def __getattr__(name: str) -> Any:
    """Import a public name or a subpackage when it is first used."""
    if name in _PUBLIC:
        return globals().setdefault(name, getattr(importlib.import_module(_PUBLIC[name]), name))
    if not name.startswith("_") and any(module.name == name for module in pkgutil.iter_modules(__path__)):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

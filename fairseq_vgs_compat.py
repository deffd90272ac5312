"""Make official fairseq 0.12.2 importable on Python 3.11 and later.

fairseq writes config fields such as ``common: CommonConfig = CommonConfig()``. Python 3.11 began to refuse
defaults whose class is unhashable, and fairseq (like hydra 1.0) reads the default *instance* back, so a
``default_factory`` would not do. This module lets such fields pass, for the config classes of fairseq, hydra
and omegaconf alone.

It is a top-level module because it must run before fairseq is imported, while importing ``fairseq_vgs``
imports fairseq. It runs in one of three ways:

* installed: ``import torch`` calls ``install`` through the entry point group ``torch.backends`` (torch >=
  2.5), so the unmodified ``fairseq-hydra-train`` works, in spawned ranks too;
* not installed, checkout on ``PYTHONPATH``: ``python -m fairseq_vgs_compat fairseq_cli.hydra_train
  ARGUMENTS...``;
* ``import fairseq_vgs`` calls ``install`` in any case.

Only the standard library is imported, and ``install`` never raises: a failure here would break ``import
torch`` for everything else in the same environment.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any

_PATCHED_PACKAGES = frozenset({"fairseq", "fairseq_cli", "hydra", "omegaconf"})
_MARK = "_fairseq_vgs_compat"

logger = logging.getLogger(__name__)


def install() -> None:
    """Let fairseq's config classes use instances as defaults; does nothing where Python allows it."""
    original = getattr(dataclasses, "_get_field", None)
    if original is None:
        logger.debug(
            "fairseq_vgs_compat: no dataclasses._get_field on Python %s, so nothing is done", sys.version
        )
        return
    if not hasattr(original, _MARK):
        dataclasses._get_field = _allow_config_defaults(original)  # type: ignore[attr-defined]


def _allow_config_defaults(original: Callable[..., Any]) -> Callable[..., Any]:
    """Hide config instances from the check for unhashable defaults in ``dataclasses._get_field``."""

    @functools.wraps(original)
    def get_field(cls: type, name: str, *args: Any, **kwargs: Any) -> Any:
        declared = getattr(cls, name, dataclasses.MISSING)  # may be inherited, as in the original
        default = declared.default if isinstance(declared, dataclasses.Field) else declared
        if not (_is_unhashable_config(default) and _belongs_to_patched_package(cls)):
            return original(cls, name, *args, **kwargs)
        field: dataclasses.Field[Any] = (
            declared if isinstance(declared, dataclasses.Field) else dataclasses.field()
        )
        setattr(cls, name, field)
        field.default = None  # any hashable value; the real default returns below
        try:
            return original(cls, name, *args, **kwargs)
        finally:
            field.default = default

    setattr(get_field, _MARK, True)
    return get_field


def _is_unhashable_config(default: object) -> bool:
    """Whether a default is a dataclass instance without a hash; all others keep Python's own check."""
    return type(default).__hash__ is None and dataclasses.is_dataclass(type(default))


def _belongs_to_patched_package(cls: type) -> bool:
    """Whether a class, or one of its bases, is defined in fairseq, hydra or omegaconf."""
    return any(base.__module__.partition(".")[0] in _PATCHED_PACKAGES for base in cls.__mro__)


def main() -> None:
    """Run ``cli_main()`` of the module that the first argument names, as in ``fairseq_cli.hydra_train``."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m fairseq_vgs_compat fairseq_cli.hydra_train ARGUMENTS...")
    module_name = sys.argv.pop(1)
    install()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in {module_name, module_name.partition(".")[0]}:
            raise
        sys.exit(
            f"fairseq_vgs_compat: module {module_name} must be importable, got '{error}'; "
            f"run bash examples/vgs/setup_environment.sh"
        )
    if not hasattr(module, "cli_main"):
        sys.exit(
            f"fairseq_vgs_compat: expected a module with cli_main(), got {module_name}; "
            f"name one such as fairseq_cli.hydra_train"
        )
    # Imported rather than run as __main__, so that spawned ranks import *this* file first (see below).
    module.cli_main()


if __name__ == "__mp_main__":  # a rank spawned by a process that was started through main()
    install()
elif __name__ == "__main__":
    main()

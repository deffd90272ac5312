"""Register the plugin's classes with fairseq as soon as fairseq is imported, and not before.

Importing fairseq takes seconds, and most of the package does without it. So importing ``fairseq_vgs`` does
not import fairseq. Once it is imported, the fixes are applied and tasks, models and criterions are
registered before that import statement returns.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import types
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

import fairseq_vgs_compat
from fairseq_vgs.compat.availability import fairseq_problem, require_fairseq

# By name, since these rooms import this one. fairseq itself never imports the criterions of a user_dir.
_ROOMS = ("fairseq_vgs.criterions", "fairseq_vgs.models", "fairseq_vgs.tasks")


def register() -> None:
    """Import fairseq, fix it and register tasks, models and criterions; a second call changes nothing.

    Raises:
        FairseqUnavailableError: No usable fairseq is installed.
    """
    require_fairseq()
    fairseq_vgs_compat.install()
    importlib.import_module("fairseq_vgs.compat.fixes").apply()
    for room in _ROOMS:
        importlib.import_module(room)


def register_with_fairseq() -> None:
    """Register now if fairseq is imported already, else as soon as it is.

    Raises:
        FairseqUnavailableError: The fairseq that is imported is not usable.
    """
    if sys.modules.get("fairseq") is not None:
        register()
    elif not any(isinstance(finder, _FairseqFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _FairseqFinder())


class _FairseqFinder(MetaPathFinder):
    """Find fairseq as the other finders do; register the plugin once fairseq is executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of fairseq with another loader; None for any other module."""
        if name != "fairseq":
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _FairseqLoader(self, spec.loader)
                return spec
        return None


class _FairseqLoader(Loader):
    """Load fairseq by its own loader, which is restored before any of fairseq's code runs."""

    def __init__(self, finder: _FairseqFinder, loader: Loader) -> None:
        self._finder, self._loader = finder, loader

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        """Create the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute fairseq, then register with it; an unusable fairseq is left alone."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with _quiet():
            self._loader.exec_module(module)
        with contextlib.suppress(ValueError):  # it may have been removed already
            sys.meta_path.remove(self._finder)
        if fairseq_problem() is None:
            register()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep fairseq's import from setting up the root logger and from advising to install tensorboardX.

    Two of its tasks call ``logging.basicConfig``, which does nothing if the root logger has a handler. Until
    then it gets Python's handler of last resort, so warnings are still printed.
    """
    root, advising = logging.getLogger(), logging.getLogger("fairseq.tasks.text_to_speech")
    level = advising.level
    handler = None if root.handlers else (logging.lastResort or logging.NullHandler())
    advising.setLevel(logging.WARNING)
    if handler is not None:
        root.addHandler(handler)
    try:
        yield
    finally:
        advising.setLevel(level)
        if handler is not None:
            root.removeHandler(handler)

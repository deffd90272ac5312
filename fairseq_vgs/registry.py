"""Registries: named entries that code inside and outside the package can add to.

Extensions are imported before the first look-up in any registry: the modules listed in the environment
variable ``FAIRSEQ_VGS_EXTENSIONS`` (``my_corpus,my_loss``), and the entry points of the group ``fairseq_vgs``
of installed packages.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Generic, TypeVar

from fairseq_vgs.files.faults import FaultError, fault

EXTENSIONS_VARIABLE = "FAIRSEQ_VGS_EXTENSIONS"
EXTENSIONS_GROUP = "fairseq_vgs"

T = TypeVar("T")
Entry = TypeVar("Entry")


class Registry(Mapping[str, T], Generic[T]):
    """Entries of one kind ("speech head") by name, in order of registration.

    ``@LOSSES.register("infonce")`` adds a class or function; looking up an unknown name raises a ``KeyError``
    that lists the known ones. The modules of ``package`` are imported before the first look-up, so that a new
    file is enough to add an entry.
    """

    def __init__(self, kind: str, package: ModuleType | str | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._package = package

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that adds an entry; a ``ValueError`` if another one has this name."""

        def add(entry: Entry) -> Entry:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise ValueError(f"{self.kind} {name!r} is already registered, by {_origin(known)}")
            self._entries[name] = entry  # type: ignore[assignment]
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._entries:
            raise KeyError(f"{self.kind}: expected one of {', '.join(sorted(self._entries))}, got {name!r}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        if self._package is not None:
            package, self._package = self._package, None
            if isinstance(package, str):
                package = importlib.import_module(package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")
        load_extensions(os.environ.get(EXTENSIONS_VARIABLE, ""))


@functools.lru_cache(maxsize=1)
def load_extensions(listed: str) -> None:
    """Import the extensions, which register their entries: ``listed`` modules, and those of entry points.

    Raises:
        FaultError: ``extension.import``, a module cannot be imported.
    """
    names = {name.strip(): EXTENSIONS_VARIABLE for name in listed.split(",") if name.strip()}
    for point in importlib.metadata.entry_points(group=EXTENSIONS_GROUP):
        names.setdefault(point.module, f"entry point {point.name!r} of the group {EXTENSIONS_GROUP}")
    for name, place in names.items():
        try:
            importlib.import_module(name)
        except ImportError as error:
            step = f"put it on PYTHONPATH, or correct its imports ({error})"
            expected = "must name modules that can be imported"
            raise FaultError(fault(place, expected, name, step, code="extension.import")) from error


def _origin(entry: object) -> str:
    return f"{getattr(entry, '__module__', '?')}.{getattr(entry, '__qualname__', type(entry).__qualname__)}"

"""Registries: tables of named entries that anyone can add to, from inside or outside the package.

Code from outside is imported before the first look-up in any registry: modules that the environment variable
``FAIRSEQ_VGS_EXTENSIONS`` lists (``my_corpus,my_loss``), and those that installed packages name as entry
points of the group ``fairseq_vgs``.
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
    """Entries of one kind by name.

    ``@LOSSES.register("infonce")`` above a class or function adds it; looking up an unknown name raises a
    ``KeyError`` that lists the known ones.

    Args:
        kind: What an entry is, in words for messages ("speech head").
        package: A package whose modules are all imported before the first look-up, so that a file in it is
            enough to add an entry; None where entries are added by hand.
    """

    def __init__(self, kind: str, package: ModuleType | str | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._package = package

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that adds what it decorates under ``name``.

        Raises:
            ValueError: The name is taken by another entry.
        """

        def add(entry: Entry) -> Entry:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise ValueError(f"{self.kind} {name!r} is already registered, by {_origin(known)}")
            self._entries[name] = entry  # type: ignore[assignment]
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        """Return an entry.

        Raises:
            KeyError: Unknown; the message lists the known names.
        """
        self._load()
        if name not in self._entries:
            raise KeyError(f"{self.kind}: expected one of {', '.join(sorted(self._entries))}, got {name!r}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order of registration."""
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        """Count the entries."""
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
    """Import modules from outside the package, so that they register their entries.

    Args:
        listed: Names of modules, separated by commas; those of installed packages' entry points are added.

    Raises:
        FaultError: A module cannot be imported.
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

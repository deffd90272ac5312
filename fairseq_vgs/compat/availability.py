"""Finds out whether a usable fairseq is installed, and says in one line what to do if not.

Manifests, data preparation, modules and losses work without fairseq; training and checkpoint loading do not.
So a missing fairseq is no error when ``fairseq_vgs`` is imported, but what needs fairseq calls
:func:`require_fairseq` first.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re

REMEDY = (
    "run: pip install --no-deps --require-hashes -r requirements-fairseq.txt "
    "(without a checkout of fairseq_vgs: pip install --no-deps fairseq==0.12.2)"
)
OLDEST_VERSION = (0, 12)


class FairseqUnavailableError(ImportError):
    """A usable fairseq is missing; the message is one line and names the remedy."""


@functools.cache
def fairseq_problem() -> str | None:
    """Imports fairseq and returns ``None``, or one line that says why it cannot be used and what to do."""
    spec = importlib.util.find_spec("fairseq")
    if spec is None:
        return f"fairseq: expected an installed package, found none; {REMEDY}"
    if spec.origin is None:
        folder = next(iter(spec.submodule_search_locations or ()), "an unknown folder")
        return f"fairseq: expected a package, got the plain folder {folder}; work elsewhere or {REMEDY}"
    version = _installed_version()
    if version is not None and _leading_numbers(version) < OLDEST_VERSION:
        return f"fairseq: expected version 0.12.2 or a later fork, got {version}; {REMEDY}"
    try:
        importlib.import_module("fairseq")
    except Exception as error:  # noqa: BLE001 - a broken or foreign fairseq may raise anything
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return f"fairseq: expected an importable package, got {cause}; {REMEDY}"
    return None


def require_fairseq() -> None:
    """Returns if fairseq is usable.

    Raises:
        FairseqUnavailableError: with one line that names the remedy.
    """
    problem = fairseq_problem()
    if problem is not None:
        raise FairseqUnavailableError(problem)


def _installed_version() -> str | None:
    """Returns the version of the distribution ``fairseq``; ``None`` for a fork of another name."""
    import importlib.metadata  # slow, and not needed by whoever only imports the package

    try:
        return importlib.metadata.version("fairseq")
    except importlib.metadata.PackageNotFoundError:
        return None


def _leading_numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else OLDEST_VERSION

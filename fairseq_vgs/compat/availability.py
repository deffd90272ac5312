"""Find out whether a usable fairseq is installed, and say what to do if not.

Data folders, modules and losses work without fairseq; training and checkpoints do not. So importing
``fairseq_vgs`` without fairseq is fine, and code that needs fairseq calls ``require_fairseq`` first.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re

from fairseq_vgs.files.faults import Fault, FaultError, fault

REMEDY = "run: pip install --no-deps fairseq==0.12.2 (which needs gcc, g++ and Python's headers)"
OLDEST_VERSION = (0, 12)


class FairseqUnavailableError(FaultError, ImportError):
    """There is no usable fairseq."""


@functools.cache
def fairseq_problem() -> Fault | None:
    """Import fairseq; return why it cannot be used, or None.

    Codes: ``package.missing``, ``package.folder``, ``package.version``, ``package.broken``.
    """
    spec = importlib.util.find_spec("fairseq")
    if spec is None:
        return fault("fairseq", "must be an installed package", "none", REMEDY, code="package.missing")
    if spec.origin is None:
        folder = next(iter(spec.submodule_search_locations or ()), "an unknown folder")
        expected = "must be a package and not a plain folder: work elsewhere"
        return fault("fairseq", expected, folder, REMEDY, code="package.folder")
    version = _installed_version()
    if version is not None and _leading_numbers(version) < OLDEST_VERSION:
        expected = "must be version 0.12.2 or a later fork"
        return fault("fairseq", expected, version, REMEDY, code="package.version")
    try:
        importlib.import_module("fairseq")
    except Exception as error:  # noqa: BLE001 - a broken or foreign fairseq may raise anything
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return fault("fairseq", "must be an importable package", cause, REMEDY, code="package.broken")
    return None


def require_fairseq() -> None:
    """Return if fairseq is usable.

    Raises:
        FairseqUnavailableError: See ``fairseq_problem``.
    """
    problem = fairseq_problem()
    if problem is not None:
        raise FairseqUnavailableError(problem)


def _installed_version() -> str | None:
    """Return the version of the distribution ``fairseq``; None for a fork with another name."""
    import importlib.metadata  # slow, and not needed to import the package

    try:
        return importlib.metadata.version("fairseq")
    except importlib.metadata.PackageNotFoundError:
        return None


def _leading_numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else OLDEST_VERSION

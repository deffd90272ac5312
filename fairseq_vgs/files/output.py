"""Check where outputs may be written, and publish folders only when they are complete.

Whoever makes a temporary file or folder holds a lock on it, which the system releases with the process
however it ends. What nobody holds is a leftover, which the next run removes. Where a file system has no
locks, nothing is removed.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError

_SECONDS_TO_LOCK = 1.0  # between making a file and holding it, at most
FILES = r"\.[0-9a-f]{16}\.tmp|\.[0-9a-f]{8}\.partial"
"""Names next to the files that they become: of ``atomic_write``, ``try_output`` and ``staged_files``."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder until the block ends, so that no other run takes it for a leftover."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def hold(descriptor: int) -> None:
    """Hold an open file until it is closed."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def leftovers(folder: Path, names: str) -> Iterator[Path]:
    """Yield what killed runs left in a folder under names that match an expression."""
    pattern = re.compile(names)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if pattern.fullmatch(entry.name) and _is_left(Path(entry.path)):
                yield Path(entry.path)


def remove_leftovers(folder: Path, names: str = FILES) -> None:
    """Remove what killed runs left in a folder."""
    for path in leftovers(folder, names):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(descriptor).st_mtime > _SECONDS_TO_LOCK
    except OSError:
        return False
    finally:
        os.close(descriptor)


MADE_BY_KEY = "made_by"
MADE_BY = "fairseq-vgs prepare"
SUMMARY_NAME = "summary.json"
EXPORT, EXPORT_NAME = "export", "export.json"
MADE_BY_EXPORT = "fairseq-vgs export"
_REPLACE = "pass --force to replace what is there, or choose another output"


class OutputExistsError(FaultError, FileExistsError):
    """An output exists, and the user has not allowed replacing it."""

    def __str__(self) -> str:
        """Return one line per folder."""
        folders: dict[str, list[Fault]] = {}
        for item in self.faults:
            folders.setdefault(str(Path(item.place).parent), []).append(item)
        return "\n".join(
            str(found[0])
            if len(found) == 1
            else f"{folder}: already holds {', '.join(Path(item.place).name for item in found)}; {_REPLACE}"
            for folder, found in folders.items()
        )


def refuse_existing(*paths: Path, force: bool = False) -> None:
    """Refuse, naming all of them, to replace files or folders without ``force``; call this first.

    Raises:
        OutputExistsError: ``output.exists``.
    """
    found = [path for path in paths if os.path.lexists(path)]
    if found and not force:
        message = f"already exists; {_REPLACE}"
        raise OutputExistsError(Fault(str(path), message, "output.exists") for path in found)


@contextmanager
def all_or_none(*paths: Path, force: bool = False) -> Iterator[None]:
    """Remove those of the files that were new if the block, which writes them, fails: it can then run again.

    Raises:
        OutputExistsError: ``output.exists``, as ``refuse_existing``.
    """
    refuse_existing(*paths, force=force)
    new = [path for path in paths if not os.path.lexists(path)]
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def try_output(folder: Path, *, option: str = "") -> None:
    """Refuse a folder that cannot be created or written; call this first. Leaves no empty folder.

    ``option`` is what chooses another one: ``--output``, or the name of an argument.

    Raises:
        FaultError: ``output.unwritable``.
    """
    new = list(itertools.takewhile(lambda place: not os.path.lexists(place), (folder, *folder.parents)))
    probe = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        step = f"free space or change its permissions, or choose another {option or 'output'}"
        message = f"must be a folder that can be written, got {error.strerror or error}; {step}"
        raise FaultError.at(folder, message, "output.unwritable") from error
    finally:
        for place in new:
            with suppress(OSError):
                place.rmdir()


def maker_of(folder: Path) -> str:
    """Return the subcommand of ``prepare`` that made a folder, from its ``summary.json``, or ``""``.

    ``EXPORT`` for a folder with the ``export.json`` of ``fairseq-vgs export``.
    """
    if _record(folder / EXPORT_NAME).get(MADE_BY_KEY) == MADE_BY_EXPORT:
        return EXPORT
    summary = _record(folder / SUMMARY_NAME)
    if summary.get(MADE_BY_KEY) != MADE_BY:
        return ""
    _, _, arguments = str(summary.get("command", "")).partition(f"{MADE_BY} ")
    return str(summary.get("corpus") or arguments.partition(" ")[0])


def _record(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def refuse_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output whose replacement would delete its inputs, as given or with links resolved.

    Raises:
        FaultError: ``output.is_input``.
    """
    try:
        own = folder.stat()
    except OSError:
        return
    seen: set[Path] = set()
    for path in inputs:
        for start in (Path(os.path.normpath(path.absolute())), Path(os.path.realpath(path))):
            for place in (start, *start.parents):
                if place in seen:
                    break
                seen.add(place)
                # Compare inodes, since a path can be written in several ways.
                with suppress(OSError):
                    if os.path.samestat(place.stat(), own):
                        message = f"is, or holds, what the new folder would be made from ({path})"
                        step = "choose another output folder"
                        raise FaultError.at(folder, f"{message}; {step}", "output.is_input")


def refuse_output(folder: Path, *, maker: str, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output folder that must not or cannot be written; call this before all other work.

    What killed runs of its command left next to it is removed.

    Args:
        folder: the output folder.
        maker: the subcommand of ``prepare`` that makes it, or ``EXPORT``; with ``force``, it may replace its
            own folder.
        force: replace an older folder.
        inputs: the folder's inputs, which must not lie inside it, with or without ``force``.

    Raises:
        OutputExistsError: ``output.exists``.
        FaultError: ``output.is_input``, ``output.not_ours`` or ``output.unwritable``.
    """
    _clear_leftovers(folder.absolute())
    refuse_inputs(folder, inputs)
    try_output(folder.absolute().parent, option="OUTPUT")
    is_link = folder.is_symlink()
    if not os.path.lexists(folder) or (folder.is_dir() and not is_link and not any(folder.iterdir())):
        return
    refuse_existing(folder, force=force)
    if is_link or not maker or maker_of(folder) != maker:
        command, record = (
            (MADE_BY_EXPORT, EXPORT_NAME) if maker == EXPORT else (f"{MADE_BY} {maker}", SUMMARY_NAME)
        )
        message = f"not made by {command} (by its {record}), so --force does not replace it"
        raise FaultError.at(folder, f"{message}; choose another output folder", "output.not_ours")


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed runs left next to an output, or put back the output that one was replacing."""
    beginning = re.escape(f".{folder.name}.")
    for retired in leftovers(folder.parent, rf"{beginning}[0-9a-f]{{8}}\.old"):
        if not os.path.lexists(folder):
            retired.rename(folder)
    remove_leftovers(folder.parent, rf"{beginning}[0-9a-f]{{8}}\.(old|partial)")


@contextmanager
def staged_folder(folder: Path, *, maker: str, force: bool) -> Iterator[Path]:
    """Yield a temporary folder to fill, which takes the output's name when the block ends.

    If the block raises or is interrupted, it is removed and an older output is left alone.

    Raises:
        FaultError: as ``refuse_output``.
    """
    # "." has no name, and the working directory may change.
    folder = folder.absolute()
    refuse_output(folder, maker=maker, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    staging.mkdir()
    try:
        with held(staging):
            yield staging
            put_in_place(staging, folder, maker=maker, force=force)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def staged_files(folder: Path, *, last: str) -> Iterator[Path]:
    """Yield a temporary folder to fill, whose files replace those of the output when the block ends.

    Existing files are left alone until all new ones are on disk, and ``last`` is renamed last; others stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    staging = folder / f".{secrets.token_hex(4)}.partial"
    staging.mkdir()
    try:
        with held(staging):
            yield staging
            for path in sorted(staging.iterdir(), key=lambda path: (path.name == last, path.name)):
                path.replace(folder / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def put_in_place(staging: Path, folder: Path, *, maker: str, force: bool) -> None:
    """Rename a complete folder to its final, absolute path on the same disk; an older one is then removed.

    Raises:
        FaultError: The folder exists and ``force`` is off, or another command than ``maker`` made it.
    """
    refuse_output(folder, maker=maker, force=force)
    retired = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.old"
    with ExitStack() as stack:
        try:
            if os.path.lexists(folder):
                stack.enter_context(held(folder))
                folder.rename(retired)
            staging.rename(folder)
        except BaseException:
            if retired.exists() and not folder.exists():
                retired.rename(folder)
            raise
        shutil.rmtree(retired, ignore_errors=True)

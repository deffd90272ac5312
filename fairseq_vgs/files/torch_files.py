"""Files of torch before torch reads them: whether they are what they should be, and whole.

torch writes a zip archive with a checksum of every member, and never reads the checksums.
"""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from fairseq_vgs.files.faults import FaultError, fault

_CHUNK, _WEIGHTS = 1 << 22, "/data/"
_ZIP = b"PK\x03\x04"
_OTHERS = {
    b"\0\0\0\0": "zeros, as a write leaves that was interrupted",
    b"": "an empty file",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
    b"<": "a web page",
    b"{": "a JSON file",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
}
_NEXT = {
    b"version https://git-lfs": "run git lfs pull",
    b"<": "download the file itself (the page may say that a login or another address is needed)",
}
_verified: set[tuple[str, int, int]] = set()
"""Path, size and time of last change of files that need not be read again."""


def refuse_other_files(path: Path, *, error: type[FaultError] = FaultError) -> None:
    """Refuse what is plainly no file of torch, by its first bytes.

    Raises:
        error: ``checkpoint.kind``: a folder, an empty file, a web page, a pointer of Git LFS or the like.
        OSError: it cannot be read.
    """
    if path.is_dir():
        inside = (
            path / part / f"checkpoint_{name}.pt" for name in ("best", "last") for part in ("checkpoints", "")
        )
        found = next((str(file) for file in inside if file.is_file()), "a checkpoint file")
        step = f"give {found}" + (
            ", or use fairseq-vgs evaluate run" if (path / "checkpoints").is_dir() else ""
        )
        raise error(fault(str(path), "must be a file of torch", "a folder", step, code="checkpoint.kind"))
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    for sign, what in _OTHERS.items():
        if start == sign or (sign and start.startswith(sign)):
            step = _NEXT.get(sign, "copy or download the checkpoint again")
            raise error(fault(str(path), "must be a file of torch", what, step, code="checkpoint.kind"))


@contextmanager
def named_errors(path: Path, *, error: type[FaultError] = FaultError) -> Iterator[None]:
    """Convert whatever is raised while a file is loaded into an error of that file.

    Raises:
        error: ``file.missing`` or ``checkpoint.unreadable``.
    """
    try:
        yield
    except FaultError:
        raise
    except FileNotFoundError:
        raise error.at(path, "file must exist; check the path", "file.missing") from None
    except Exception as failure:  # unpicklers raise nearly anything about a broken file
        step = "copy or download it again, and load no file that you do not trust in any other way"
        expected = "must be a torch file of tensors and plain settings"
        message = f"{expected}, could not be read ({_reason(failure)}); {step}"
        raise error.at(path, message, "checkpoint.unreadable") from failure


def _reason(failure: Exception) -> str:
    """Return what torch says, without its advice to let a file run code."""
    text = " ".join(str(failure).split())
    text = text.partition("from a trusted source. ")[2] or text
    text = text.partition(" Check the documentation of torch.load")[0]
    text = text.partition("WeightsUnpickler error: ")[2] or text
    is_word = isinstance(failure, LookupError) or not text
    return shorten(f"{type(failure).__name__}: {text}" if is_word else text, 300)


def require_file(path: Path) -> None:
    """Refuse a checkpoint that is missing or obviously another kind of file, before torch is imported.

    Raises:
        FaultError: ``file.missing``, ``checkpoint.kind`` or ``checkpoint.unreadable``.
    """
    with named_errors(path):
        if path.suffix == ".safetensors":
            path.open("rb").close()
        else:
            refuse_other_files(path)


def verify(path: Path, *, error: type[FaultError] = FaultError, weights: bool = True) -> None:
    """Compare a file's content with its checksums; files of torch before 1.6 have none and pass.

    Without ``weights``, only the rest is read, which is small.

    Raises:
        error: ``checkpoint.damaged``: the file is cut or changed.
        OSError: it cannot be read.
    """
    status = path.stat()
    stamp = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if stamp in _verified:
        return
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
        if start != _ZIP and not _ZIP.startswith(start):  # an empty file is one cut at its first byte
            return
        try:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    if not weights and _WEIGHTS in entry.filename:
                        continue
                    with archive.open(entry) as content:
                        while content.read(_CHUNK):
                            pass
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as problem:
            if isinstance(problem, OSError) and problem.errno != errno.EINVAL:  # which a wild offset gives
                raise
            expected, step = (
                "must be as it was written",
                "copy it again, or use another checkpoint of the run",
            )
            found = str(problem) or "damage"
            raise error(fault(str(path), expected, found, step, code="checkpoint.damaged")) from problem
    if weights:
        _verified.add(stamp)

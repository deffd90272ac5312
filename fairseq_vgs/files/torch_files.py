"""Files of torch before torch reads them: whether they are what they should be, and whole.

torch writes a zip archive with a checksum of every member, and never reads the checksums.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from fairseq_vgs.files.faults import FaultError, fault

_CHUNK = 1 << 22
_ZIP = b"PK\x03\x04"
_OTHERS = {
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
        error: ``checkpoint.kind``: it is an empty file, a web page, a pointer of Git LFS or the like.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    for sign, what in _OTHERS.items():
        if start == sign or (sign and start.startswith(sign)):
            step = _NEXT.get(sign, "copy or download the checkpoint again")
            raise error(fault(str(path), "must be a file of torch", what, step, code="checkpoint.kind"))


def verify(path: Path, *, error: type[FaultError] = FaultError) -> None:
    """Compare a file's content with its checksums; files of torch before 1.6 have none and pass.

    Raises:
        error: ``checkpoint.damaged``: the file is cut or changed.
        OSError: it cannot be read.
    """
    status = path.stat()
    stamp = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if stamp in _verified:
        return
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return
        try:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    with archive.open(entry) as content:
                        while content.read(_CHUNK):
                            pass
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as problem:
            expected, step = (
                "must be as it was written",
                "copy it again, or use another checkpoint of the run",
            )
            found = str(problem) or "damage"
            raise error(fault(str(path), expected, found, step, code="checkpoint.damaged")) from problem
    _verified.add(stamp)

"""Copy authors and licences of the embedded set's media from the unpacked packages."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from fairseq_vgs.files.atomic import atomic_write

STAMPS_DOC = Path("usr/share/doc/tuxpaint-stamps-default")
FESTVOX_DOC = Path("usr/share/doc/festvox-ru")

# "Name <address>"; addresses are left in the changelog, which is shipped whole next to the list of names.
_NAME_AND_ADDRESS = re.compile(r"([^<>()\[\]:*+]*[^\s<>()\[\]:*+])\s*<[^<>\s]+(?:@| )[^<>]*>")
# "+ Russian: Name", as the speakers of one contest are credited.
_LANGUAGE_AND_NAME = re.compile(r"^\s+\+ [A-Z]\w+:\s+(\w[\w .]+)$")
_WORDS_BEFORE_NAME = re.compile(r"^.*\b(?:[Bb]y|[Ff]rom|via|copyright [\d-]+|-)\s+")


def contributor_names(changelog: str) -> list[str]:
    """Return the names a changelog credits, sorted, each once."""
    names = set()
    for line in changelog.splitlines():
        for found in [*_NAME_AND_ADDRESS.findall(line), *_LANGUAGE_AND_NAME.findall(line)]:
            names.add(_WORDS_BEFORE_NAME.sub("", found.strip(" -,.&\"'")).strip())
    return sorted(names - {""})


def write_credits(stamps_folder: Path, festvox_folder: Path, output: Path) -> list[str]:
    """Write the copyright files, the stamps' changelog and the names in it; return what was written."""
    changelog = gzip.decompress((stamps_folder / STAMPS_DOC / "changelog.gz").read_bytes()).decode("utf-8")
    names = "\n".join(contributor_names(changelog))
    contents = {
        "COPYRIGHT.tuxpaint-stamps.txt": (stamps_folder / STAMPS_DOC / "copyright").read_text(
            encoding="utf-8"
        ),
        "CHANGELOG.tuxpaint-stamps.txt": changelog,
        "CONTRIBUTORS.tuxpaint-stamps.txt": (
            "Contributors to the Tux Paint stamps (pictures, recordings, captions, translations and tools),\n"
            "as far as the package's changelog credits them by name; "
            "CHANGELOG.tuxpaint-stamps.txt says for what.\n\n"
            f"{names}\n"
        ),
        "abx/COPYRIGHT.festvox-ru.txt": (festvox_folder / FESTVOX_DOC / "copyright").read_text(
            encoding="utf-8"
        ),
    }
    for name, text in contents.items():
        with atomic_write(output / name, force=True) as file:
            file.write(text)
    return list(contents)

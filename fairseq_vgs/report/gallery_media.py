"""Copies of clips and pictures that a browser can play and show from a local folder."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.location import read_bytes, resolve
from fairseq_vgs.media.cut_out import fit_inside
from fairseq_vgs.media.encode import encode_wav
from fairseq_vgs.media.pictures import encode_jpeg, open_picture
from fairseq_vgs.media.sound import decode

logger = logging.getLogger(__name__)

FOLDER_NAME = "media"
MAX_PICTURE_BYTES = 300_000
MAX_PICTURE_PIXELS = 640  # longer side of large pictures

_OWN_NAME = re.compile(r"(?:caption|picture|plot|heat)-[0-9a-f]{16}\.[a-z0-9]{3,4}")
_AUDIO_FORMATS = re.compile(  # MP3 begins with a tag or a frame of MPEG layer III
    rb"(?P<wav>RIFF....WAVE)|(?P<flac>fLaC)|(?P<ogg>OggS)|(?P<mp3>ID3|\xff[\xe2\xe3\xea\xeb\xf2\xf3\xfa\xfb])",
    re.DOTALL,
)
_SHOWN_FORMATS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "WEBP": "webp"}


@dataclass
class MediaFolder:
    """The ``media`` folder of one gallery; files are named by their content, so each is copied once."""

    path: Path
    n_unreadable_pictures: int = 0
    animated: set[str] = field(default_factory=set)
    _written: dict[str, str] = field(default_factory=dict)

    def add_audio(self, root: Path, entry: str) -> str:
        """Copy a clip, as WAV if browsers do not play its format; return its address.

        Raises:
            FaultError: the clip cannot be read.
        """
        return self._once(f"audio {entry}", lambda: self._copy_audio(root, entry))

    def add_picture(self, root: Path, entry: str) -> str | None:
        """Copy a picture, reduced if it is large; return its address, or None if it cannot be read.

        An unreadable picture is logged and counted: data with region features only has none to show.
        """
        try:
            return self._once(f"picture {entry}", lambda: self._copy_picture(root, entry)) or None
        except FaultError as error:
            logger.warning("picture %s cannot be shown: %s", entry, error)
            self.n_unreadable_pictures += 1
            self._written[f"picture {entry}"] = ""
            return None

    def add_plot(self, path: Path) -> str:
        """Copy a plot; return its address."""
        return self._once(f"plot {path}", lambda: self._write("plot", "png", path.read_bytes()))

    def add_heat_map(self, content: bytes) -> str:
        """Write the PNG of a heat map; return its address."""
        key = f"heat {hashlib.sha256(content).hexdigest()}"
        return self._once(key, lambda: self._write("heat", "png", content))

    def remove_stale(self) -> None:
        """Remove media of an older gallery in the same folder, but no other files."""
        kept = {address.rpartition("/")[2] for address in self._written.values()}
        for path in self.path.glob("*"):
            if _OWN_NAME.fullmatch(path.name) and path.name not in kept:
                path.unlink()

    def _once(self, key: str, copy: Callable[[], str]) -> str:
        if key not in self._written:
            self._written[key] = copy()
        return self._written[key]

    def _copy_audio(self, root: Path, entry: str) -> str:
        content = read_bytes(resolve(root, entry))
        suffix = _audio_suffix(content)
        if suffix is None:
            content, suffix = encode_wav(decode(content, place=entry)), "wav"
        return self._write("caption", suffix, content)

    def _copy_picture(self, root: Path, entry: str) -> str:
        content = read_bytes(resolve(root, entry))
        with open_picture(content, place=entry) as picture:
            suffix = _SHOWN_FORMATS.get(picture.format) if picture.is_plain else None
            if picture.is_animated:
                self.animated.add(entry)
            pixels = picture.rgb()  # finds truncated files
            if suffix is None or len(content) > MAX_PICTURE_BYTES:
                content, suffix = encode_jpeg(fit_inside(pixels, MAX_PICTURE_PIXELS)), "jpg"
        return self._write("picture", suffix, content)

    def _write(self, kind: str, suffix: str, content: bytes) -> str:
        name = f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
        with atomic_write(self.path / name, force=True, mode="wb") as file:
            file.write(content)
        return f"{FOLDER_NAME}/{name}"


def _audio_suffix(content: bytes) -> str | None:
    """Return the format by its first bytes, since entries of archives have no file name."""
    found = _AUDIO_FORMATS.match(content)
    return found.lastgroup if found else None

"""Find the sound in files of chunks or with a fixed header, and compare its stated length with the file.

WAV, RF64, W64, AIFF, 8SVX and CAF consist of chunks; VOC of blocks; AU and NIST SPHERE of a header and
samples. libsndfile reads what is left of a cut file, and nothing behind the stated length.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from fairseq_vgs.media.errors import refuse_sound


@dataclass(frozen=True, slots=True)
class Layout:
    """How chunks follow each other: name and length, from byte ``first``, padded to multiples of ``align``.

    ``sound`` are the names of chunks with samples; ``own`` whether the length includes the chunk's header.
    """

    header: struct.Struct
    first: int
    sound: tuple[bytes, ...] = (b"data",)
    align: int = 2
    own: bool = False

    def chunks(self, content: bytes, start: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield name (4 bytes), offset and stated length of every chunk."""
        size = self.header.size
        while start + size <= len(content):
            name, length = self.header.unpack_from(content, start)
            start += size
            length = max(0, length - size) if self.own else length
            yield name[:4], start, length
            start += length + -length % self.align


@dataclass(frozen=True, slots=True)
class Stated:
    """Where a header says the sound is: offset and bytes (None: it does not say), and what may follow."""

    start: int
    length: int | None
    layout: Layout | None = None


_RIFF = Layout(struct.Struct("<4sI"), 12)
_RIFX = Layout(struct.Struct(">4sI"), 12)
_IFF = Layout(struct.Struct(">4sI"), 12, (b"SSND", b"BODY"))
_CAF = Layout(struct.Struct(">4sQ"), 8, align=1)
_W64 = Layout(struct.Struct("<16sQ"), 40, align=8, own=True)
# Where a whole file may begin: behind the sound, it is a second recording.
_FILES = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"caff")
# Chunks that programs write behind the samples.
_BEHIND_SOUND = re.compile(
    b"LIST|list|bext|iXML|axml|_PMX|id3 |ID3 |cue |fact|smpl|inst|PEAK|JUNK|junk|PAD |FLLR|DISP|afsp"
)
# Programs that write to a pipe cannot know the length and write a number near these limits.
_UNKNOWN_LENGTHS = (
    range(0x7F000000, 0x7F000100), range(0x7FFF0000, 0x80000000), range(0xFFFF0000, 0x100000000),
)  # fmt: skip
_UNKNOWN_LONG = range((1 << 64) - (1 << 16), 1 << 64)
# After the last chunk, taggers write ID3 tags and text-mode transfers add line ends. No sound is this short.
_TAGS, _MAX_TAIL_BYTES = (b"TAG", b"ID3"), 1 << 10
_PADDING = b"\0 \t\r\n\v\f\x1a"
_ADPCM = (0x0002, 0x0011)  # Microsoft's and IMA's


def is_chunked(content: bytes) -> bool:
    """Return whether a file is in one of this module's formats."""
    return _finder(content) is not None


def whole_chunks(content: bytes, place: str) -> bytes:
    """Return a file up to the end of its sound if its header does not say how long that is, else all of it.

    Raises:
        SoundError: There is no sound, or less or more than the header says.
    """
    finder = _finder(content)
    stated = finder(content) if finder else None
    if stated is None:
        raise refuse_sound(place, "sound.unreadable", "a header without the place or length of the sound")
    if stated.length is None:
        return content[: _end_of_unknown(content, stated)]
    held, end = len(content) - stated.start, stated.start + stated.length
    got = f"a header that says {stated.length} bytes of sound where "
    if stated.length > held:
        raise refuse_sound(place, "sound.cut", f"{got}the file holds {held}")
    if not _may_follow(content, end, stated.layout):
        raise refuse_sound(place, "sound.length", f"{got}{held - stated.length} unknown ones follow")
    return content


def adpcm_length(content: bytes) -> int | None:
    """Return the number of samples in the ``fact`` chunk, since the last block of ADPCM is padded."""
    layout = {b"RIFF": _RIFF, b"RIFX": _RIFX, b"riff": _W64}.get(content[:4])
    order: Literal["big", "little"] = "big" if layout is _RIFX else "little"
    is_adpcm = False
    for name, start, length in layout.chunks(content, layout.first) if layout else ():
        if name == b"fmt " and length >= 2:
            is_adpcm = int.from_bytes(content[start : start + 2], order) in _ADPCM
            if not is_adpcm:
                break
        elif name == b"fact" and length >= 4 and is_adpcm:
            return int.from_bytes(content[start : start + 4], order) or None
    return None


def _finder(content: bytes) -> Callable[[bytes], Stated | None] | None:
    """Return the function that finds the sound in a file of this format."""
    for starts, finder in _FINDERS.items():
        if content.startswith(starts):
            return finder
    return None


def _in_chunks(layout: Layout) -> Callable[[bytes], Stated | None]:
    unknown = (_UNKNOWN_LONG,) if layout.header.format.endswith("Q") else _UNKNOWN_LENGTHS

    def find(content: bytes) -> Stated | None:
        for name, start, length in layout.chunks(content, layout.first):
            if name in layout.sound:
                known = None if any(length in numbers for numbers in unknown) else length
                return Stated(start, known, layout)
        return None

    return find


def _in_rf64(content: bytes) -> Stated | None:
    """Find the sound of a WAV of more than 4 GiB, whose length is in the chunk ``ds64``."""
    in_ds64 = None
    for name, start, length in _RIFF.chunks(content, _RIFF.first):
        if name == b"ds64" and length >= 16:
            in_ds64 = int.from_bytes(content[start + 8 : start + 16], "little")
        elif name == b"data":
            return Stated(start, in_ds64 if length == 0xFFFFFFFF else length, _RIFF)
    return None


def _in_au(content: bytes) -> Stated | None:
    if len(content) < 24:
        return None
    start, length = struct.unpack_from(">II" if content.startswith(b".snd") else "<II", content, 4)
    return Stated(start, None if length == 0xFFFFFFFF else length)


def _in_nist(content: bytes) -> Stated | None:
    """Find the sound of a SPHERE file, whose header is text."""
    found = re.match(rb"NIST_1A\s+(\d{1,9})\s", content)
    header = content[: int(found[1])] if found else b""
    if b"embedded" in header:  # compressed, which libsndfile refuses
        return Stated(len(header), None)
    length = 1
    for key in (b"sample_count", b"sample_n_bytes", b"channel_count"):
        value = re.search(rb"^%s -\w+ +(\d{1,12})\s*$" % key, header, re.MULTILINE)
        if value is None:
            return None
        length *= int(value[1])
    return Stated(len(header), length)


def _in_voc(content: bytes) -> Stated | None:
    """Find the one block of sound; libsndfile reads no others, and not those with silence or repeats."""
    start, blocks = int.from_bytes(content[20:22], "little"), []
    while start + 4 <= len(content) and content[start]:
        length = int.from_bytes(content[start + 1 : start + 4], "little")
        blocks.append((content[start], start + 4, length))
        start += 4 + length
    sound = [block for block in blocks if block[0] not in _VOC_WITHOUT_SOUND]
    return Stated(*sound[0][1:]) if len(sound) == 1 and sound == blocks[-1:] else None


_VOC_WITHOUT_SOUND = (4, 5, 8)  # marker, text, and parameters of the next block
_FINDERS: dict[bytes | tuple[bytes, ...], Callable[[bytes], Stated | None]] = {
    b"RIFF": _in_chunks(_RIFF),
    b"RIFX": _in_chunks(_RIFX),
    b"RF64": _in_rf64,
    b"FORM": _in_chunks(_IFF),
    b"caff": _in_chunks(_CAF),
    b"riff": _in_chunks(_W64),
    (b".snd", b"dns."): _in_au,
    b"NIST_1A": _in_nist,
    b"Creative Voice File": _in_voc,
}
MAGIC = tuple(one for key in _FINDERS for one in (key if isinstance(key, tuple) else (key,)))
"""First bytes of all these formats."""


def _end_of_unknown(content: bytes, stated: Stated) -> int:
    """Return the end of sound of unknown length: the first of the chunks with which the file ends."""
    if stated.layout in (_RIFF, _RIFX):
        for found in _BEHIND_SOUND.finditer(content, stated.start):
            at = found.start()
            if not (at - stated.start) % 2 and _may_follow(content, at, stated.layout):
                return at
    return len(content)


def _may_follow(content: bytes, behind: int, layout: Layout | None) -> bool:
    """Return whether only whole chunks without sound, then padding or a tag, follow."""
    behind += -behind % layout.align if layout else 0
    for name, start, length in layout.chunks(content, behind) if layout else ():
        if start + length > len(content) or not (name.isascii() and name.decode("ascii").isprintable()):
            break
        if layout and name in (*_FILES, *layout.sound):
            return False
        behind = start + length + -length % (layout.align if layout else 1)
    tail = content[behind:]
    if len(tail) >= _MAX_TAIL_BYTES:
        return not any(tail)
    rest = tail.lstrip(_PADDING)
    return not rest or rest.startswith(_TAGS)

"""Check the length that a sound file claims to have, and correct estimated lengths in a copy.

libsndfile trusts headers: it stops at the end of a WAV's ``data`` chunk or an MP3's estimate, reads only the
first of chained Ogg or FLAC streams, and refuses FLAC of unknown length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fairseq_vgs.media.chunks import MAGIC, adpcm_length, is_chunked, whole_chunks
from fairseq_vgs.media.errors import refuse_sound

LengthFrom = Literal["header", "frames", "pages"]


@dataclass(frozen=True, slots=True)
class Container:
    """A recording in a form that libsndfile reads to its end.

    Chained streams make several ``pieces``, to decode one after another. ``length_from`` is ``header`` if
    it can be trusted, ``frames`` or ``pages`` if these were counted, ``n_samples`` None if libsndfile knows
    it; ``can_seek`` says whether libsndfile seeks exactly without decoding from the start; ``is_known``
    whether the format is one whose length was verified.
    """

    pieces: tuple[bytes, ...]
    length_from: LengthFrom = "header"
    n_samples: int | None = None
    can_seek: bool = True
    is_known: bool = True


def look_into(content: bytes, place: str) -> Container:
    """Return a recording's pieces with corrected lengths in their headers.

    Raises:
        SoundError: It is cut, or holds more sound than its header says.
    """
    start = _id3_end(content)
    if start and content.startswith(_BEHIND_ID3, start):
        content = content[start:]
    if is_chunked(content):
        return Container((whole_chunks(content, place),), n_samples=adpcm_length(content))
    if content.startswith(_FLAC):
        return _look_into_flac(content)
    if content.startswith(_OGG):
        return _look_into_ogg(content, place)
    if content.startswith(b"ID3") or _mp3_frame(content, 0) is not None:
        return _look_into_mp3(content, place)
    return Container((content,), is_known=False)


# ID3 ------------------------------------------------------------------------------------------------------

_ID3_BYTES, _ID3_FOOTER = 10, 0x10
# Formats whose leading ID3v2 tags are cut off; MP3 keeps them.
_BEHIND_ID3 = (*MAGIC, b"fLaC", b"OggS")


def _id3_end(content: bytes) -> int:
    start = 0
    while content.startswith(b"ID3", start) and len(content) >= start + _ID3_BYTES:
        sizes = content[start + 6 : start + _ID3_BYTES]  # 7 bits each
        has_footer = content[start + 3] >= 4 and content[start + 5] & _ID3_FOOTER
        start += _ID3_BYTES + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3])
        start += _ID3_BYTES if has_footer else 0
    return start


# FLAC -----------------------------------------------------------------------------------------------------

FLAC_HEADER_BYTES = 42
_FLAC = b"fLaC"
_STREAM_INFO = (b"\0\0\0\x22", b"\x80\0\0\x22")  # the header of a stream's first block; 0x80 marks the last
_N_SAMPLES = slice(18, 26)  # the last 36 of these 64 bits
_LENGTH_BITS = (1 << 36) - 1
_FLAC_BLOCKS = {1: 192, **{n: 144 << n for n in range(2, 6)}, **{n: 1 << n for n in range(8, 16)}}


def flac_samples(header: bytes) -> int:
    """Return the number of samples in the header of a FLAC file; 0 if unknown, or for other formats."""
    return int.from_bytes(header[_N_SAMPLES], "big") & _LENGTH_BITS if header.startswith(_FLAC) else 0


def _flac_starts(content: bytes) -> list[int]:
    """Return the offsets of all streams in a FLAC file."""
    starts, at, is_last = [0], 4, False
    while not is_last and at < len(content):  # tags and pictures, which may hold anything
        is_last = content[at] & 0x80 > 0
        at += 4 + int.from_bytes(content[at + 1 : at + 4], "big")
    while (at := content.find(_FLAC, at)) >= 0:
        if content.startswith(_STREAM_INFO, at + 4):
            starts.append(at)
        at += 4
    return starts


def _look_into_flac(content: bytes) -> Container:
    starts = _flac_starts(content)
    if len(starts) > 1:
        pairs = zip(starts, [*starts[1:], len(content)], strict=True)
        pieces = [_look_into_flac(content[start:end]).pieces[0] for start, end in pairs]
        return Container(tuple(pieces), "frames", can_seek=False)
    if flac_samples(content):
        return Container((content,))
    fields = int.from_bytes(content[_N_SAMPLES], "big")
    n_samples = _flac_length(content)
    if not 0 < n_samples <= _LENGTH_BITS:
        return Container((content,))
    header = (fields | n_samples).to_bytes(8, "big")
    return Container((content[:18] + header + content[26:],), "frames")


def _flac_length(content: bytes) -> int:
    """Return the number of samples up to the end of the last frame; 0 if there is no frame."""
    block, end = int.from_bytes(content[8:10], "big"), len(content)
    marks = (b"\xff\xf8", b"\xff\xf9")
    while (start := max(content.rfind(mark, FLAC_HEADER_BYTES, end) for mark in marks)) >= 0:
        if found := _flac_frame(content[start : start + 16]):
            number, size = found
            return number + size if content[start + 1] & 1 else number * block + size
        end = start + 1
    return 0


def _flac_frame(header: bytes) -> tuple[int, int] | None:
    """Return a frame's number (or that of its first sample) and size in samples; None if invalid."""
    if len(header) < 6 or header[3] & 1:
        return None
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # coded like UTF-8
    if ones in (1, 8):
        return None
    number, at = header[4] & (0x7F >> ones), 5
    for byte in header[at : at + max(0, ones - 1)]:
        number, at = number << 6 | byte & 0x3F, at + 1
    block_code, rate_code = header[2] >> 4, header[2] & 15
    n_bytes, size = {6: 1, 7: 2}.get(block_code, 0), _FLAC_BLOCKS.get(block_code, 0)
    if n_bytes:
        size = int.from_bytes(header[at : at + n_bytes], "big") + 1
    at += n_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if not size or at >= len(header) or _crc8(header[:at]) != header[at]:
        return None
    return number, size


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value


# Ogg (RFC 3533) -------------------------------------------------------------------------------------------

_OGG, _PAGE_BYTES, _FLAGS = b"OggS", 27, 5
_BEGINS, _ENDS = 2, 4  # flags of a stream's first and last page


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an Ogg file: its byte range, and whether a stream begins or ends here."""

    start: int
    end: int
    begins: bool
    ends: bool


def read_pages(data: bytes) -> Iterator[Page]:
    """Yield the complete pages from the start of a file up to the first other bytes."""
    start = 0
    while data.startswith(_OGG, start) and start + _PAGE_BYTES <= len(data):
        body = start + _PAGE_BYTES + data[start + _PAGE_BYTES - 1]
        end = body + sum(data[start + _PAGE_BYTES : body])
        if body > len(data) or end > len(data):
            return
        yield Page(start, end, bool(data[start + _FLAGS] & _BEGINS), bool(data[start + _FLAGS] & _ENDS))
        start = end


def _look_into_ogg(content: bytes, place: str) -> Container:
    """Split chained streams, and check that the last page of each is marked as the last."""
    streams: list[list[Page]] = []
    end = 0
    for page in read_pages(content):
        if page.begins and (not streams or not streams[-1][-1].begins):
            streams.append([])
        if not streams:
            return Container((content,), is_known=False)
        streams[-1].append(page)
        end = page.end
    if not streams or len(streams[0]) == 1:
        return Container((content,), is_known=False)  # libsndfile reports the error
    for pages in streams:
        if not any(page.ends for page in pages[-2:]):
            raise refuse_sound(place, "sound.cut", "an Ogg stream without its last page")
    if content.startswith(_OGG, end):
        raise refuse_sound(place, "sound.cut", "an Ogg page that is not whole")
    if len(streams) == 1:
        return Container((content,), "pages")
    pieces = tuple(content[pages[0].start : pages[-1].end] for pages in streams)
    return Container(pieces, "pages", can_seek=False)


# MP3 ------------------------------------------------------------------------------------------------------

_MP3_KBPS = {  # Layer III; MPEG 1, and its extensions to lower rates
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MAX_MP3_JUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Mp3Frame:
    version: int
    rate: int
    n_channels: int
    length: int

    def goes_with(self, other: _Mp3Frame | None) -> bool:
        return other is not None and (self.version, self.rate) == (other.version, other.rate)

    @property
    def info(self) -> int:
        """Offset of the name in an information frame."""
        return 4 + ((32, 17) if self.version == 3 else (17, 9))[self.n_channels == 1]


def _mp3_frame(content: bytes, at: int) -> _Mp3Frame | None:
    """Return the Layer III frame at an offset, or None."""
    if at + 4 > len(content) or content[at] != 0xFF or content[at + 1] & 0xE6 != 0xE2:
        return None
    version, third = content[at + 1] >> 3 & 3, content[at + 2]
    bit_rate, rate = third >> 4, third >> 2 & 3
    if version == 1 or rate == 3 or bit_rate in (0, 15):
        return None
    hertz = _MP3_RATES[version][rate]
    bits = 1000 * _MP3_KBPS[3 if version == 3 else 2][bit_rate]
    length = (144 if version == 3 else 72) * bits // hertz + (third >> 1 & 1)
    return _Mp3Frame(version, hertz, 1 if content[at + 3] >> 6 == 3 else 2, length)


def _look_into_mp3(content: bytes, place: str) -> Container:
    start = _next_mp3_frame(content, _id3_end(content), None)
    if start is None or (first := _mp3_frame(content, start)) is None:
        return Container((content,), is_known=False)
    n_frames = _count_mp3_frames(content, start, first, place)
    name = content[start + first.info : start + first.info + 4]
    if name in (b"Xing", b"Info") and content[start + first.info + 7] & 1:
        at = start + first.info + 8
        promised = int.from_bytes(content[at : at + 4], "big")
        if promised > n_frames - 1:
            found = f"a header that says {promised} frames where the file holds {n_frames - 1}"
            raise refuse_sound(place, "sound.cut", found)
        # Keep the rest of the information frame: it holds the encoder's delay and padding.
        fixed = content[start:at] + (n_frames - 1).to_bytes(4, "big") + content[at + 4 :]
        return Container((fixed,), "frames", can_seek=False)
    if name in (b"Xing", b"Info") or content[start + 36 : start + 40] == b"VBRI":
        start, n_frames = start + first.length, n_frames - 1
    whole = _xing_frame(content[start : start + 4], n_frames) + content[start:]
    return Container((whole,), "frames", can_seek=False)


def _next_mp3_frame(content: bytes, start: int, like: _Mp3Frame | None) -> int | None:
    """Return the offset of the next two consecutive frames; None if there are none nearby."""
    end = min(len(content), start + _MAX_MP3_JUNK)
    while (at := content.find(b"\xff", start, end)) >= 0:
        frame = _mp3_frame(content, at)
        if frame is not None and (like is None or like.goes_with(frame)):
            behind = at + frame.length
            if behind == len(content) or frame.goes_with(_mp3_frame(content, behind)):
                return at
        start = at + 1
    return None


def _count_mp3_frames(content: bytes, start: int, first: _Mp3Frame, place: str) -> int:
    n_frames, at = 0, start
    while True:
        frame = _mp3_frame(content, at)
        if frame is None or not first.goes_with(frame):
            if (found := _next_mp3_frame(content, at, first)) is None:
                return n_frames
            at = found
        elif at + frame.length > len(content):
            raise refuse_sound(place, "sound.cut", "an MP3 frame that is not whole")
        else:
            n_frames, at = n_frames + 1, at + frame.length


def _xing_frame(header: bytes, n_frames: int) -> bytes:
    """Return an information frame with the number of frames that follow."""
    version = header[1] >> 3 & 3
    # No checksum or padding, at 64 kbit/s, which leaves enough room.
    new = bytes([0xFF, header[1] | 1, (5 if version == 3 else 8) << 4 | header[2] & 0x0C, header[3]])
    frame = _mp3_frame(new, 0)
    length, info = (frame.length, frame.info) if frame else (0, 0)
    return (new.ljust(info, b"\0") + b"Xing" + struct.pack(">II", 1, n_frames)).ljust(length, b"\0")

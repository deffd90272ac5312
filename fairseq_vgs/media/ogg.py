"""Find and check the pages of Ogg files, and set their serial number.

libsndfile draws the serial number of every Ogg stream at random and writes it to each page's header, which
has a checksum (RFC 3533, section 6). ``set_serial`` rewrites both, so that encoding is reproducible; the
audio is unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PAGE_MAGIC = b"OggS"
BEGINS, ENDS = 2, 4
"""Flags of a stream's first and last page."""

_HEADER_BYTES = 27
_FLAGS_OFFSET, _SERIAL_OFFSET, _CHECKSUM_OFFSET = 5, 14, 22
_CRC_POLYNOMIAL = 0x04C11DB7


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its byte range in the file, and its flags."""

    start: int
    end: int
    flags: int

    @property
    def begins(self) -> bool:
        """Whether a stream begins here."""
        return bool(self.flags & BEGINS)


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (_CRC_POLYNOMIAL if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


_CRC_TABLE = _crc_table()


def page_checksum(page: bytes) -> int:
    """Return the Ogg checksum of a page whose checksum field is zero.

    Unlike zlib's CRC-32, it is neither reflected nor inverted.
    """
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ _CRC_TABLE[(value >> 24) ^ byte]
    return value


def read_pages(data: bytes) -> Iterator[Page]:
    """Yield the complete pages from the start of a file up to the first other bytes."""
    start = 0
    while data.startswith(PAGE_MAGIC, start) and start + _HEADER_BYTES <= len(data):
        body = start + _HEADER_BYTES + data[start + _HEADER_BYTES - 1]
        end = body + sum(data[start + _HEADER_BYTES : body])
        if body > len(data) or end > len(data):
            return
        yield Page(start, end, data[start + _FLAGS_OFFSET])
        start = end


def iterate_pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) byte range of every page of an Ogg file.

    Raises:
        ValueError: The bytes are not a sequence of whole Ogg pages.
    """
    end = 0
    for page in read_pages(data):
        yield page.start, page.end
        end = page.end
    if end < len(data):
        raise ValueError(f"byte {end}: expected an Ogg page, got {data[end : end + 4]!r} and no whole one")


def set_serial(data: bytes, serial: int) -> bytes:
    """Return the Ogg file with this serial number on every page and matching checksums."""
    output = bytearray(data)
    for start, end in iterate_pages(data):
        struct.pack_into("<I", output, start + _SERIAL_OFFSET, serial)
        struct.pack_into("<I", output, start + _CHECKSUM_OFFSET, 0)
        checksum = page_checksum(bytes(output[start:end]))
        struct.pack_into("<I", output, start + _CHECKSUM_OFFSET, checksum)
    return bytes(output)

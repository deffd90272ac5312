"""Gives Ogg streams a chosen serial number, so that encoding the same samples twice gives the same bytes.

libsndfile draws the serial number of every Ogg stream at random. It stands in each page's header, which
a checksum covers (RFC 3533, section 6): both are rewritten here, the audio itself is untouched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PAGE_MAGIC = b"OggS"
HEADER_BYTES = 27
SERIAL_OFFSET = 14
CHECKSUM_OFFSET = 22
CRC_POLYNOMIAL = 0x04C11DB7


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (CRC_POLYNOMIAL if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


CRC_TABLE = _crc_table()


def page_checksum(page: bytes) -> int:
    """Returns the Ogg checksum of a page whose own checksum field holds zeros.

    Not zlib's CRC-32: the same polynomial, but neither reflected nor inverted.
    """
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ CRC_TABLE[(value >> 24) ^ byte]
    return value


def iterate_pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields the (start, end) byte range of every page of an Ogg file.

    Raises:
        ValueError: the bytes are not a sequence of whole Ogg pages.
    """
    start = 0
    while start < len(data):
        header_end = start + HEADER_BYTES
        if data[start : start + 4] != PAGE_MAGIC or header_end > len(data):
            raise ValueError(f"byte {start}: expected an Ogg page, got {data[start : start + 4]!r}")
        n_segments = data[header_end - 1]
        segments = data[header_end : header_end + n_segments]
        end = header_end + n_segments + sum(segments)
        if len(segments) < n_segments or end > len(data):
            raise ValueError(
                f"byte {start}: expected an Ogg page of {end - start} bytes, got the end of the data"
            )
        yield start, end
        start = end


def set_serial(data: bytes, serial: int) -> bytes:
    """Returns the Ogg file with this serial number on every page and matching checksums."""
    output = bytearray(data)
    for start, end in iterate_pages(data):
        struct.pack_into("<I", output, start + SERIAL_OFFSET, serial)
        struct.pack_into("<I", output, start + CHECKSUM_OFFSET, 0)
        checksum = page_checksum(bytes(output[start:end]))
        struct.pack_into("<I", output, start + CHECKSUM_OFFSET, checksum)
    return bytes(output)

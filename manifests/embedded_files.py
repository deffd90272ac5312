"""Files of the embedded data set that repeat byte for byte: Ogg Vorbis, and uncompressed zips.

libsndfile draws the serial number of every Ogg stream at random and writes it to each page's header, which
has a checksum (RFC 3533, section 6). ``set_serial`` rewrites both; the audio is unchanged.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator

import soundfile

from fairseq_vgs.files.archives import ZIP, StoredEntry, list_entries, write_archive
from fairseq_vgs.media.containers import read_pages
from fairseq_vgs.media.encode import to_int16
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import Samples

_SERIAL_OFFSET, _CHECKSUM_OFFSET = 14, 22
_CRC_POLYNOMIAL = 0x04C11DB7


def build_stored_zip(entries: Iterable[tuple[str, bytes]]) -> tuple[bytes, tuple[StoredEntry, ...]]:
    """Return an uncompressed zip of (name, content) entries, and the position of each.

    Raises:
        ValueError: Two entries have the same name, or a name is not plain ASCII.
    """
    contents: dict[str, bytes] = {}
    for name, content in entries:
        if name in contents or not name.isascii():
            raise ValueError(f"{name!r}: expected an ASCII entry name used once; rename the entry")
        contents[name] = content
    buffer = io.BytesIO()
    write_archive(buffer, contents.items(), pack=ZIP)
    return buffer.getvalue(), tuple(list_entries(buffer, pack=ZIP))


def encode_vorbis(samples: Samples, *, quality: float, serial: int) -> bytes:
    """Return a mono Ogg Vorbis file at ``SAMPLE_RATE``.

    Args:
        samples: the recording, not above full scale.
        quality: 0 (smallest) to 1 (best); 0.4 is what oggenc calls q4.
        serial: serial number of the stream, in place of libsndfile's random one.
    """
    buffer = io.BytesIO()
    settings = {"format": "OGG", "subtype": "VORBIS", "compression_level": 1.0 - quality}
    soundfile.write(buffer, to_int16(samples), SAMPLE_RATE, **settings)
    return set_serial(buffer.getvalue(), serial)


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

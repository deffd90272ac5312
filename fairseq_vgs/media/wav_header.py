"""What a WAV file's header says of its length, beside what the file holds.

libsndfile believes a ``data`` chunk that is shorter than the sound behind it, and quietly shortens one that
is longer, as a copy that broke off has it. It reports both faults of other formats itself.
"""

from __future__ import annotations

import struct

RIFF, WAVE, DATA = b"RIFF", b"WAVE", b"data"
FIRST_CHUNK = 12
CHUNK_HEADER = struct.Struct("<4sI")
# Programs that write to a pipe cannot know the length and put a number near these limits there.
UNKNOWN_LENGTHS = (range(0x7FFF0000, 0x80000000), range(0xFFFF0000, 0x100000000))
# Behind the last chunk, taggers write ID3 tags, and transfers as text add line ends. No sound is so short.
TAGS, MAX_TAIL_BYTES = (b"TAG", b"ID3"), 1 << 10
PADDING = b"\0 \t\r\n\v\f\x1a"


def wrong_length(content: bytes) -> str | None:
    """Returns what is wrong with the length in a WAV file's header, or None; other formats pass."""
    if content[:4] != RIFF or content[8:12] != WAVE:
        return None
    start = FIRST_CHUNK
    while start + CHUNK_HEADER.size <= len(content):
        name, length = CHUNK_HEADER.unpack_from(content, start)
        start += CHUNK_HEADER.size
        if name == DATA:
            return _wrong_data(content, start, length)
        start += length + length % 2
    return None


def _wrong_data(content: bytes, start: int, length: int) -> str | None:
    held = len(content) - start
    if any(length in unknown for unknown in UNKNOWN_LENGTHS):
        return None
    if length > held:
        return f"a header that says {length} bytes of sound where the file holds {held}"
    if not _is_chunks(content, start + length + length % 2):
        return f"a header that says {length} bytes of sound where {held - length} unknown ones follow"
    return None


def _is_chunks(content: bytes, start: int) -> bool:
    """Says whether nothing but whole chunks, then padding or a tag, stands from here on."""
    while start + CHUNK_HEADER.size <= len(content):
        name, length = CHUNK_HEADER.unpack_from(content, start)
        end = start + CHUNK_HEADER.size + length
        if end > len(content) or not (name.isascii() and name.decode("ascii").isprintable()):
            return _is_harmless(content[start:])
        start = end + length % 2
    return _is_harmless(content[start:])


def _is_harmless(tail: bytes) -> bool:
    if len(tail) >= MAX_TAIL_BYTES:
        return not any(tail)
    rest = tail.lstrip(PADDING)
    return not rest or rest.startswith(TAGS)

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from fairseq_vgs.media.ogg import iterate_pages, page_checksum, set_serial


@pytest.fixture(scope="module")
def vorbis() -> bytes:
    buffer = io.BytesIO()
    samples = 0.1 * np.random.default_rng(0).standard_normal(40_000)
    soundfile.write(buffer, samples, 16_000, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def test_checksums_are_those_of_the_encoder(vorbis: bytes) -> None:
    pages = list(iterate_pages(vorbis))
    assert len(pages) > 3
    assert pages[0][0] == 0
    assert pages[-1][1] == len(vorbis)
    for start, end in pages:
        page = bytearray(vorbis[start:end])
        (expected,) = struct.unpack_from("<I", page, 22)
        page[22:26] = bytes(4)
        assert page_checksum(bytes(page)) == expected


def test_serial_is_changed_and_nothing_heard(vorbis: bytes) -> None:
    changed = set_serial(vorbis, 7)
    assert changed != vorbis
    assert {struct.unpack_from("<I", changed, start + 14)[0] for start, _ in iterate_pages(changed)} == {7}
    before, _ = soundfile.read(io.BytesIO(vorbis))
    after, _ = soundfile.read(io.BytesIO(changed))
    np.testing.assert_array_equal(before, after)


def test_own_serial_gives_the_same_bytes(vorbis: bytes) -> None:
    (serial,) = struct.unpack_from("<I", vorbis, 14)
    assert set_serial(vorbis, serial) == vorbis


@pytest.mark.parametrize("cut", [1, 20, 30, 200])
def test_truncated_files_are_refused(vorbis: bytes, cut: int) -> None:
    with pytest.raises(ValueError, match="expected an Ogg page"):
        set_serial(vorbis[:-cut] if cut > 30 else vorbis[:cut], 7)


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="byte 0: expected an Ogg page, got b'RIFF'"):
        set_serial(b"RIFF" + bytes(100), 7)

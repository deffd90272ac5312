"""The files of the embedded data set repeat byte for byte."""

from __future__ import annotations

import importlib.util
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fairseq_vgs.media.sound import inspect

PATH = Path(__file__).parents[3] / "manifests" / "embedded_files.py"
SPEC = importlib.util.spec_from_file_location("embedded_files", PATH)
FILES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FILES)
build_stored_zip, encode_vorbis = FILES.build_stored_zip, FILES.encode_vorbis
iterate_pages, page_checksum, set_serial = FILES.iterate_pages, FILES.page_checksum, FILES.set_serial

ENTRIES = [("b/two.ogg", b"second"), ("a.ogg", b""), ("c", bytes(range(256)))]


def test_entries_lie_where_said() -> None:
    content, places = build_stored_zip(ENTRIES)
    assert [(place.name, content[place.offset : place.offset + place.length]) for place in places] == ENTRIES


def test_is_a_zip_for_others_too() -> None:
    content, _ = build_stored_zip(ENTRIES)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == ENTRIES
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_same_entries_give_the_same_bytes() -> None:
    assert build_stored_zip(ENTRIES)[0] == build_stored_zip(iter(ENTRIES))[0]


@pytest.mark.parametrize("entries", [[("a", b"1"), ("a", b"2")], [("я.ogg", b"1")]])
def test_unusable_names_are_refused(entries: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="expected an ASCII entry name used once"):
        build_stored_zip(entries)


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


def test_vorbis_repeats_exactly_and_keeps_the_length() -> None:
    samples = 0.5 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000)
    content = encode_vorbis(samples, quality=0.4, serial=5)
    assert encode_vorbis(samples, quality=0.4, serial=5) == content
    assert encode_vorbis(samples, quality=0.4, serial=6) != content
    assert inspect(content).n_samples == len(samples)
    decoded, _ = soundfile.read(io.BytesIO(content))
    assert np.corrcoef(decoded, samples)[0, 1] > 0.99

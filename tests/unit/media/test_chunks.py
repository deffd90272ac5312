from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile
from support.tiny_speech import encode, speech, with_data_length, with_flac_samples

from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.sound import decode, inspect

WAVE = encode(speech(1))
FLAC = encode(speech(1), kind="FLAC")
N_BYTES = 2 * 4000
LIST = b"LIST\x04\x00\x00\x00abcd"
# Formats that libsndfile reads, but neither it nor we can tell whether such a file is whole.
NOT_VERIFIABLE = ("AVR", "IRCAM", "MAT4", "MAT5", "MPC2K", "PAF", "PVF", "SDS", "WVE", "XI")
NOT_DETECTED = ("RAW", "SD2")  # without a header, or with one in another file


def code(content: bytes) -> str | None:
    """Return the code of what is wrong with a recording."""
    try:
        decode(content)
    except MediumError as error:
        return error.code
    return None


def n_read(content: bytes) -> int:
    n_samples = len(decode(content).samples)
    assert inspect(content).n_samples == n_samples
    return n_samples


def all_forms() -> list[tuple[str, str]]:
    """Return all formats and codings that soundfile writes."""
    return [
        (kind, subtype)
        for kind in soundfile.available_formats()
        for subtype in soundfile.available_subtypes(kind)
        if kind not in NOT_DETECTED and subtype not in ("MPEG_LAYER_I", "MPEG_LAYER_II")
        if (kind, subtype) != ("WAV", "MPEG_LAYER_III") and "DWVW" not in subtype  # which it cannot write
    ]


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in all_forms()}))
@pytest.mark.parametrize("rest", [b"", LIST])
def test_a_cut_file_is_named_in_every_format(kind: str, rest: bytes) -> None:
    for subtype in [subtype for name, subtype in all_forms() if name == kind]:
        content = encode(speech(1, seconds=1), kind=kind, subtype=subtype)
        if kind in NOT_VERIFIABLE:
            assert code(content) == "sound.format", subtype
            continue
        assert len(decode(content).samples) >= 16_000, subtype
        for share in (0.3, 0.6, 0.95):
            expected = {"FLAC": ("sound.unreadable",), "HTK": ("sound.unreadable",)}
            found = code(content[: int(share * len(content))] + rest)
            assert found in expected.get(kind, ("sound.cut", "sound.unreadable", "sound.length")), subtype
            if kind in ("AIFF", "RF64", "W64", "AU", "NIST", "VOC", "CAF", "SVX", "WAV", "WAVEX"):
                assert found == "sound.cut", subtype


@pytest.mark.parametrize(
    "kind", ["AIFF", "AU", "CAF", "FLAC", "NIST", "OGG", "RF64", "SVX", "VOC", "W64", "WAV", "WAVEX"]
)
def test_a_second_recording_in_a_file_is_read_or_named(kind: str) -> None:
    content = encode(speech(1), kind=kind, subtype=None)
    twice = content + encode(speech(2, seconds=0.5), kind=kind, subtype=None)
    if kind in ("FLAC", "OGG"):
        assert n_read(twice) == 12_000
    else:
        assert code(twice) == code(content + content) == "sound.length"


@pytest.mark.parametrize("first", [FLAC, with_flac_samples(FLAC, 0)], ids=["known", "unknown length"])
def test_flac_behind_flac_is_one_recording(first: bytes) -> None:
    second = encode(speech(2, seconds=0.5), kind="FLAC")
    both = first + with_flac_samples(second, 0)
    expected = np.concatenate([decode(FLAC).samples, decode(second).samples])
    np.testing.assert_array_equal(decode(both).samples, expected)
    assert inspect(both).length_from == "frames"
    assert code(FLAC + encode(speech(2), kind="FLAC", rate=8000)) == "sound.chained"


def test_a_flac_in_the_tags_of_a_flac_is_no_second_recording() -> None:
    tag = b"\x02" + len(FLAC).to_bytes(3, "big") + FLAC  # of an application
    assert FLAC[4:8] == b"\0\0\0\x22"
    assert n_read(FLAC[:42] + tag + FLAC[42:]) == 4000


def test_a_true_header_passes() -> None:
    assert n_read(WAVE) == n_read(encode(speech(1), subtype="FLOAT")) == 4000


@pytest.mark.parametrize("length", [N_BYTES + 2, 3 * N_BYTES, 0x7FFEFFFF])
def test_a_longer_promise_is_found(length: int) -> None:
    assert code(with_data_length(WAVE, length)) == "sound.cut"


@pytest.mark.parametrize("length", [0, 2000])
def test_a_shorter_promise_is_found(length: int) -> None:
    assert code(with_data_length(WAVE, length)) == "sound.length"


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("behind", [b"", LIST, LIST + b"id3 \x03\0\0\0abc\0" + b"\r\n", b"bext" + bytes(4)])
def test_what_pipes_write_is_no_promise_and_chunks_are_no_sound(length: int, behind: bytes) -> None:
    content = with_data_length(WAVE, length) + behind
    np.testing.assert_array_equal(decode(content).samples, decode(WAVE).samples)
    assert n_read(content) == 4000


def test_sound_that_looks_like_a_chunk_is_sound() -> None:
    content = bytearray(with_data_length(WAVE, 0xFFFFFFFF))
    content[2000:2008] = b"LIST" + struct.pack("<I", 700)  # no chunks from there to the end
    assert n_read(bytes(content)) == 4000


def test_big_endian_wav_is_verified_as_well() -> None:
    samples = (speech(1) * 2**15).astype(">i2").tobytes()
    fields = struct.pack(
        ">4sI4s4sIHHIIHH", b"RIFX", 36 + N_BYTES, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16
    )
    content = fields + b"data" + struct.pack(">I", N_BYTES) + samples
    assert n_read(content) == 4000
    assert code(content[:5000]) == "sound.cut"


def test_further_chunks_and_padding_may_follow() -> None:
    assert n_read(WAVE + b"LIST\x03\x00\x00\x00abc\x00") == n_read(WAVE + bytes(512)) == 4000
    assert code(WAVE + b"LIST\xff\x00\x00\x00abc") == "sound.length"


def test_odd_chunks_are_padded() -> None:
    content = encode(speech(1)[:3999], subtype="PCM_U8")
    assert len(content) % 2 == 0
    assert n_read(content + LIST) == 3999
    at = WAVE.index(b"data")
    assert n_read(WAVE[:at] + b"junk\x03\0\0\0abc\0" + WAVE[at:]) == 4000


@pytest.mark.parametrize("odd", [b"", b"LIST\x03\x00\x00\x00abc\0"])
@pytest.mark.parametrize(
    "tail", [b"TAG" + b"title".ljust(125, b"\0"), b"ID3\x04" + b"x" * 600, b"\r\n", b"\n", b" "]
)
def test_a_tag_or_line_ends_may_follow(odd: bytes, tail: bytes) -> None:
    assert n_read(WAVE + odd + tail) == 4000


@pytest.mark.parametrize("tail", [b"TAG" + b"x" * 1100, b"sound" * 20, b"\n" * 1024])
def test_other_tails_are_no_tags(tail: bytes) -> None:
    assert code(WAVE + tail) == "sound.length"


def test_nist_sphere_without_a_length_is_named() -> None:
    content = encode(speech(1), kind="NIST")
    assert code(content.replace(b"sample_count", b"sample_couna")) == "sound.unreadable"


@pytest.mark.parametrize(
    ("kind", "before", "unknown", "expected"),
    [
        ("AIFF", b"SSND", b"\x7f\0\0\x08", None),
        ("AU", b"\0\0\0\x18", b"\xff" * 4, None),
        ("CAF", b"data", b"\xff" * 8, "sound.unreadable"),
    ],
)
def test_other_formats_from_pipes_are_read_to_their_end_or_named(
    kind: str, before: bytes, unknown: bytes, expected: str | None
) -> None:
    content = encode(speech(1), kind=kind)
    at = content.index(before) + 4
    piped = content[:at] + unknown + content[at + len(unknown) :]
    assert code(piped) == expected
    if expected is None:
        assert n_read(piped) == 4000


@pytest.mark.parametrize("footer", [0, 10])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "NIST", "VOC", "MP3"])
def test_the_footer_of_an_id3_tag_belongs_to_the_tag(kind: str, footer: int) -> None:
    content = encode(speech(1), kind=kind, subtype="MPEG_LAYER_III" if kind == "MP3" else "PCM_16")
    header = b"3DI\x04\0\x10\0\0\0\x20" if footer else b""
    tag = b"ID3\x04\0" + (b"\x10" if footer else b"\0") + b"\0\0\0\x20" + bytes(32) + header
    assert n_read(tag + content) == n_read(content)

from __future__ import annotations

import pytest
from support.tiny_speech import encode, speech, with_data_length

from fairseq_vgs.media.containers import wrong_wav_length
from fairseq_vgs.media.sound import decode

WAVE = encode(speech(1))
N_BYTES = 2 * 4000


def test_a_true_header_passes() -> None:
    assert wrong_wav_length(WAVE) is None
    assert wrong_wav_length(encode(speech(1), subtype="FLOAT")) is None


def test_other_formats_pass() -> None:
    assert wrong_wav_length(encode(speech(1), kind="FLAC")) is None
    assert wrong_wav_length(b"") is None
    assert wrong_wav_length(b"RIFF") is None


@pytest.mark.parametrize("length", [N_BYTES + 2, 3 * N_BYTES, 0x7FFEFFFF])
def test_a_longer_promise_is_found(length: int) -> None:
    found = wrong_wav_length(with_data_length(WAVE, length))
    assert found == f"a header that says {length} bytes of sound where the file holds {N_BYTES}"


@pytest.mark.parametrize("length", [0, 2000])
def test_a_shorter_promise_is_found(length: int) -> None:
    found = wrong_wav_length(with_data_length(WAVE, length))
    assert found == f"a header that says {length} bytes of sound where {N_BYTES - length} unknown ones follow"


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_what_pipes_write_is_no_promise(length: int) -> None:
    assert wrong_wav_length(with_data_length(WAVE, length)) is None


def test_further_chunks_and_padding_may_follow() -> None:
    assert wrong_wav_length(WAVE + b"LIST\x03\x00\x00\x00abc\x00") is None
    assert wrong_wav_length(WAVE + bytes(512)) is None
    assert wrong_wav_length(WAVE + b"LIST\xff\x00\x00\x00abc") is not None


@pytest.mark.parametrize("odd", [b"", b"LIST\x03\x00\x00\x00abc\0"])
@pytest.mark.parametrize(
    "tail", [b"TAG" + b"title".ljust(125, b"\0"), b"ID3\x04" + b"x" * 600, b"\r\n", b"\n", b" "]
)
def test_a_tag_or_line_ends_may_follow(odd: bytes, tail: bytes) -> None:
    content = WAVE + odd + tail
    assert wrong_wav_length(content) is None
    assert len(decode(content).samples) == N_BYTES // 2


@pytest.mark.parametrize("tail", [b"TAG" + b"x" * 1100, b"sound" * 20, b"\n" * 1024])
def test_other_tails_are_no_tags(tail: bytes) -> None:
    assert wrong_wav_length(WAVE + tail) is not None

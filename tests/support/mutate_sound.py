"""Damaged recordings, through preparation, check, training and extraction; by path, memory and archive."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import soundfile
from support.mutate import Draws, Kind, agree, attempt, mutate_bytes
from support.tiny_speech import encode, speech, with_data_length, with_flac_samples

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.waveform import load_waveform
from fairseq_vgs.features.recordings import open_source
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media.encode import to_flac
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import decode, decode_part, header_rate, inspect, sound_faults

PLACE = "train.tsv:7"


def kind() -> Kind:
    """Return the kind with recordings in all formats that people have."""
    originals = recordings()
    others = tuple(originals.values())

    def mutate(name: str, content: bytes, draws: Draws) -> bytes:
        result = mutate_bytes(content, draws, others=others)
        return with_page_checksums(result) if name.startswith("OGG") and draws.integers(4) else result

    return Kind(originals, mutate, read, max_bytes=1200 << 20)


def recordings() -> dict[str, bytes]:
    """Return recordings of a quarter of a second, by format."""
    mono = speech(1)
    stereo = np.stack([mono, speech(2)], axis=1)
    made = {
        f"{kind} {subtype}": encode(mono, kind=kind, subtype=subtype)
        for kind, subtypes in {
            "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM",
                    "MS_ADPCM"),
            "WAVEX": ("PCM_16", "PCM_24"), "RF64": ("PCM_16",), "W64": ("PCM_16",), "AU": ("PCM_16",),
            "AIFF": ("PCM_16", "FLOAT"), "CAF": ("PCM_16", "ALAC_16"), "FLAC": ("PCM_16", "PCM_24"),
            "OGG": ("VORBIS", "OPUS"), "NIST": ("PCM_16",), "VOC": ("PCM_16",),
        }.items()
        for subtype in subtypes
    }  # fmt: skip
    for mode in ("VARIABLE", "CONSTANT"):
        buffer = io.BytesIO()
        soundfile.write(buffer, mono, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode)
        made[f"MP3 {mode}"] = buffer.getvalue()
    bare = made["MP3 VARIABLE"]
    parts = [encode(speech(number), kind="OGG", subtype="VORBIS") for number in (1, 2)]
    return made | {
        "MP3 without Xing": bare[bare.index(bare[:2], 4) :],
        "WAV 44.1 kHz": encode(mono, rate=44_100),
        "WAV stereo": encode(stereo),
        "WAV stereo 24": encode(stereo, subtype="PCM_24"),
        "WAV unknown length": with_data_length(encode(mono), 0xFFFFFFFF),
        "WAV unknown length, chunk": with_data_length(encode(mono), 0xFFFFFFFF) + b"LIST\4\0\0\0name",
        "WAV behind ID3": b"ID3\3\0\0\0\0\2\0" + bytes(256) + encode(mono),
        "FLAC stereo": encode(stereo, kind="FLAC"),
        "FLAC unknown length": with_flac_samples(encode(mono, kind="FLAC"), 0),
        "FLAC chained": encode(mono, kind="FLAC") + encode(speech(2), kind="FLAC"),
        "FLAC 8 kHz": encode(mono, kind="FLAC", rate=8000),
        "OGG chained": b"".join(parts),
        "OGG stereo": encode(stereo, kind="OGG", subtype="VORBIS"),
    }


def read(name: str, content: bytes, folder: Path) -> str:
    """Pass a recording through every door; return its form."""
    path = folder / "speech.wav"
    path.write_bytes(content)
    doors = [content, path, MediaLocation(path)]
    if content:
        archive = folder / "speech.zip"
        archive.write_bytes(b"before" + content + b"behind")
        doors.append(MediaLocation(archive, 6, len(content)))
    found = [attempt(decode, door, place=PLACE) for door in doors]
    sound, error = found[0]
    for other, other_error in found[1:]:
        codes = [one and one.codes for one in (error, other_error)]
        agree("doors refuse", holds=codes[0] == codes[1], codes=codes)
        if sound is not None:
            same = sound.rate == other.rate and np.array_equal(sound.samples, other.samples)
            agree("doors decode other samples", holds=same)
    if error is not None:
        see_refused(content, path, error.codes[0])
        raise error
    n_samples = len(sound.samples)
    surveyed = header_rate(path)
    agree("rate that decides conversion", holds=surveyed == sound.rate, survey=surveyed, decode=sound.rate)
    if sound.rate != SAMPLE_RATE:
        flac, n_written = to_flac(sound, place=PLACE)
        agree("converted", holds=sound_faults(flac, place=PLACE, n_samples=n_written) == [], n=n_written)
        agree("converted", holds=len(decode_part(flac, n_samples=n_written)) == n_written, n=n_written)
        codes = [fault.code for fault in sound_faults(content, place=PLACE, n_samples=n_samples)]
        agree("check of another rate", holds=codes == ["sound.sample_rate"], codes=codes)
        return "another rate"
    for door in doors:
        see_accepted(door, sound.samples)
    (recording,) = open_source([path]).recordings.values()
    same = np.array_equal(recording.waveform(), sound.samples.astype(np.float32))
    agree("extraction reads other samples", holds=same)
    return "read"


def see_accepted(door: bytes | Path | MediaLocation, samples: np.ndarray) -> None:
    """Check and training must read what preparation counted."""
    n_samples, expected = len(samples), samples.astype(np.float32)
    faults = sound_faults(door, place=PLACE, n_samples=n_samples)
    agree("check refuses what prepare counted", holds=not faults, codes=[fault.code for fault in faults])
    counted = inspect(door).n_samples
    agree("inspect counts", holds=counted == n_samples, inspect=counted, decode=n_samples)
    trained = decode_part(door, n_samples=n_samples, place=PLACE)
    agree("training reads other samples", holds=np.array_equal(trained, expected))
    if isinstance(door, MediaLocation):
        trained = load_waveform(door, place=PLACE, n_samples=n_samples)
        agree("training loads other samples", holds=np.array_equal(trained, expected))
    for start, end in ((0, n_samples // 3), (n_samples // 2, n_samples - n_samples // 5)):
        if start < end:
            part = decode_part(door, n_samples=n_samples, start=start, n_wanted=end - start, place=PLACE)
            distance = np.abs(part - expected[start:end]).max()
            agree("a part of training differs", holds=distance <= 1e-5, start=start, distance=distance)


def see_refused(content: bytes, path: Path, code: str) -> None:
    """Check must refuse what preparation refuses, and training skip it or read it as listed."""
    info, _ = attempt(inspect, content, place=PLACE)
    listed = [4000] if info is None else [4000, max(1, info.n_samples)]
    for n_samples in listed:
        faults = sound_faults(content, place=PLACE, n_samples=n_samples)
        agree("check accepts what prepare refuses", holds=bool(faults) or code == "sound.too_long", code=code)
        if n_samples > 10_000_000:
            continue
        try:
            waveform = load_waveform(MediaLocation(path), place=PLACE, n_samples=n_samples)
        except BadItemError:
            continue
        agree("training's length", holds=len(waveform) == n_samples, read=len(waveform), listed=n_samples)


def with_page_checksums(content: bytes) -> bytes:
    """Return an Ogg file whose pages have true checksums, so that decoders look further."""
    result, start = bytearray(content), 0
    while (start := result.find(b"OggS", start)) >= 0 and start + 27 <= len(result):
        body = start + 27 + result[start + 26]
        end = body + sum(result[start + 27 : body])
        if end <= len(result):
            result[start + 22 : start + 26] = bytes(4)
            result[start + 22 : start + 26] = _ogg_checksum(result[start:end]).to_bytes(4, "little")
        start += 4
    return bytes(result)


_REVERSED = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))


def _ogg_checksum(page: bytearray) -> int:
    """Return Ogg's CRC-32: zlib's polynomial, bits in the other order, no complements."""
    # zlib's starts from ones: undone by the CRC's linearity, for pages of at least 4 bytes.
    flipped = bytes(page.translate(_REVERSED))
    start = bytes(255 ^ byte for byte in flipped[:4])
    value = zlib.crc32(start + flipped[4:]) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)

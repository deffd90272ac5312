"""Small recordings and pictures as people have them: other rates, several channels, faulty headers."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image


def speech(number: int, *, seconds: float = 0.25, rate: int = 16_000) -> np.ndarray:
    """Return a recording that differs from those of other numbers."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(number).standard_normal(len(time))
    return 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * time) + 0.01 * noise


def encode(
    samples: np.ndarray, *, rate: int = 16_000, kind: str = "WAV", subtype: str | None = "PCM_16"
) -> bytes:
    """Return a sound file's bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def picture(number: int, *, kind: str = "PNG") -> bytes:
    """Return a picture's bytes, 12 x 8 pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def with_data_length(wave: bytes, length: int) -> bytes:
    """Return a WAV file whose header says another length of its sound, in bytes."""
    at = wave.index(b"data") + 4
    return wave[:at] + struct.pack("<I", length) + wave[at + 4 :]


def with_flac_samples(flac: bytes, n_samples: int) -> bytes:
    """Return a FLAC file whose header says another number of samples; 0 means unknown."""
    fields = int.from_bytes(flac[18:26], "big") >> 36 << 36 | n_samples
    return flac[:18] + fields.to_bytes(8, "big") + flac[26:]

"""What is wrong with one recording, one picture, or the region features.

Media are untrusted: sound is decoded in blocks whatever length its header claims, pictures only by decoders
that start no other program (as EPS would) and within Pillow's limit on pixels, features without pickle.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from PIL import Image

from fairseq_vgs.files.faults import FaultError, shown
from fairseq_vgs.files.location import resolve
from fairseq_vgs.media.rates import SAMPLE_RATE

# Half the distance between a silent clip's extremes, full scale 1: half a step of 16-bit sound.
SILENCE_AMPLITUDE = 2.0**-16
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_BLOCK_SAMPLES = 1 << 18
_BLOCK_VALUES = 1 << 22


def audio_problems(data: bytes, *, n_samples: int) -> list[str]:
    """Return what is wrong with a recording: unreadable, rate, length, NaN or infinite samples, silence.

    Args:
        data: The encoded recording.
        n_samples: Its length in the audio list, in samples (per channel).
    """
    if not data:
        return ["audio must not be empty, got 0 bytes; replace or remove it"]
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            n_read, low, high, n_bad = _scan_samples(file, limit=n_samples)
            n_read = max(n_read, file.frames) if n_read > n_samples else n_read
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        return [f"audio must be readable, got {shown(str(error))}; replace or remove it"]
    problems = []
    if rate != SAMPLE_RATE:
        problems.append(f"sample rate must be {SAMPLE_RATE} Hz, got {rate} Hz; resample and list it again")
    if n_read == 0:
        return [*problems, "audio must not be empty, got 0 samples; replace or remove it"]
    if n_read != n_samples:
        problems.append(f"n_samples must be the audio's {n_read} samples, got {n_samples}; rebuild the list")
    if n_bad:
        problems.append(f"samples must be finite, got {n_bad} that are NaN or infinite; replace or remove it")
    elif (high - low) / 2 <= SILENCE_AMPLITUDE:
        level = f"{(high - low) / 2:.2g}"
        problems.append(f"audio must not be silent, got an amplitude of {level} of full scale; remove it")
    return problems


def _scan_samples(file: soundfile.SoundFile, *, limit: int) -> tuple[int, float, float, int]:
    # Stops after the first block beyond the limit: a small file may decode to hours of sound.
    n_read, n_bad = 0, 0
    low, high = np.inf, -np.inf
    while n_read <= limit:
        block = file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        n_read += len(block)
        mono = block.mean(axis=1)
        finite = mono[np.isfinite(mono)]
        n_bad += len(mono) - len(finite)
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return n_read, low, high, n_bad


def open_picture(source: Path | str | BinaryIO) -> Image.Image:
    """Open a picture of one of ``PICTURE_FORMATS``; Pillow decodes it when its pixels are asked for.

    Raises:
        PIL.UnidentifiedImageError: The file is none of these.
    """
    return Image.open(source, formats=PICTURE_FORMATS)


def picture_problems(data: bytes, *, width: int, height: int) -> list[str]:
    """Return what is wrong with a picture's bytes: undecodable, too large, another size than the table's.

    Args:
        data: The encoded picture.
        width: Its width in the table, in pixels as stored (before any rotation by metadata).
        height: Its height.
    """
    if not data:
        return ["picture must not be empty, got 0 bytes; replace or remove it"]
    try:
        with open_picture(io.BytesIO(data)) as picture:
            size = picture.size
            # Up to twice its limit, Pillow only warns.
            is_too_large = size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or math.inf)
            if not is_too_large:
                picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        is_too_large = True
    except Exception as error:  # noqa: BLE001 - broken pictures make Pillow's decoders raise nearly anything
        return [f"picture must decode, got {shown(f'{type(error).__name__}: {error}')}; replace or remove it"]
    if is_too_large:
        return [f"picture must have at most {Image.MAX_IMAGE_PIXELS} pixels, got more; scale it down"]
    if size != (width, height):
        found = f"{width} x {height}"
        return [
            f"width and height must be the picture's {size[0]} x {size[1]}, got {found}; rebuild the table"
        ]
    return []


def media_digest(root: Path, entries: Iterable[str]) -> str:
    """Return a SHA-256 that changes when entries do, or sizes or times of the files that hold their bytes.

    Nothing is read, so that a million pictures take seconds; entries that name no file count as such.
    """
    stamps: dict[Path, str] = {}
    digest = hashlib.sha256()
    for entry in entries:
        try:
            path = resolve(root, entry).path
            if path not in stamps:
                status = path.stat()
                stamps[path] = f"{status.st_size} {status.st_mtime_ns}"
            stamp = stamps[path]
        except (OSError, FaultError):
            stamp = "missing"
        digest.update(f"{entry}\0{stamp}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def open_features(path: Path) -> np.ndarray:
    """Return region features as a read-only memory map, float16 [n_rows, D].

    Raises:
        ValueError: The file is missing, does not load without pickle, is cut short or holds something else.
    """
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError("file is missing; build it with fairseq-vgs prepare") from None
    except Exception as error:
        # numpy's header reader passes on whatever its tokenizer raises.
        raise ValueError(
            f"must be a whole .npy file of numbers, got {shown(str(error))}; rebuild it"
        ) from error
    if not isinstance(features, np.ndarray):
        features.close()
        raise ValueError("must be one .npy array, got an archive of several; rebuild it")
    if features.dtype != np.float16 or features.ndim != 2 or features.size == 0:
        got = f"{features.dtype} {list(features.shape)}"
        raise ValueError(f"must be float16 [n_rows, D], got {got}; rebuild it")
    return features


def non_finite_rows(features: np.ndarray) -> list[int]:
    """Return the rows of features [n_rows, D] that hold NaN or infinity; reads a block of rows at a time."""
    step = max(1, _BLOCK_VALUES // features.shape[1])
    rows: list[int] = []
    for start in range(0, len(features), step):
        bad = ~np.isfinite(features[start : start + step]).all(axis=1)
        rows.extend((start + np.flatnonzero(bad)).tolist())
    return rows

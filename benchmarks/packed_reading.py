"""Compare reading recordings and pictures from uncompressed archives with reading plain files.

    python benchmarks/packed_reading.py                      # 400 recordings and pictures, under a minute
    python benchmarks/packed_reading.py --files 20000 --folder DISK/scratch

Media are noise, packed by the same code as `fairseq-vgs prepare --pack`, and read through what training reads
with: decoding included, in random order. Arms take turns, block by block, so that whatever else the machine
does meets all of them; a ratio is the median over blocks of packed to plain. Files were just written: they
come from the page cache, where the overhead of code shows most. What archives save on disks and network file
systems (opening millions of small files) does not show here.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.data.waveform import load_waveform
from fairseq_vgs.files.archives import KINDS, pack_files
from fairseq_vgs.files.location import MediaLocation, resolve
from fairseq_vgs.media.rates import SAMPLE_RATE

MEAN_SECONDS = 4.4  # of SpokenCOCO's captions
PICTURE_SIZE = (640, 480)  # of most of COCO's pictures
IMAGE_SIZE = 224
BLOCKS = 20


def main() -> None:
    """Write the media, read them in every way, print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=400, help="recordings, and pictures (default: 400)")
    parser.add_argument("--folder", type=Path, help="where to write them (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        kinds = {
            "FLAC": ([_speech(i, "FLAC") for i in range(args.files)], _read_speech),
            "WAV": ([_speech(i, "WAV") for i in range(args.files)], _read_speech),
            "JPEG": ([_picture(i) for i in range(args.files)], _read_picture),
        }
        figures = {
            kind: compare(folder / kind, contents, read=read) for kind, (contents, read) in kinds.items()
        }
    print(json.dumps(figures, indent=1))


def compare(
    folder: Path, contents: list[bytes], *, read: Callable[[MediaLocation], None]
) -> dict[str, float]:
    """Return CPU milliseconds per plain file, and ratios of packed to plain in CPU and wall time."""
    arms = {"plain": _write_plain(folder / "plain", contents)}
    arms |= {kind: _pack(folder / kind, contents, kind) for kind in KINDS}
    order = list(range(len(contents)))
    random.Random(1).shuffle(order)
    blocks = [order[start::BLOCKS] for start in range(BLOCKS)]
    times: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for arm in arms:  # once unmeasured
        for number in blocks[0]:
            read(arms[arm][number])
    for round_number, block in enumerate(blocks):
        for arm in random.Random(round_number).sample(list(arms), len(arms)):
            cpu, wall = time.process_time(), time.perf_counter()
            for number in block:
                read(arms[arm][number])
            times[arm].append((time.process_time() - cpu, time.perf_counter() - wall))
    figures = {"plain_ms": 1000 * sum(cpu for cpu, _ in times["plain"]) / len(contents)}
    for kind in KINDS:
        for index, clock in enumerate(("cpu", "wall")):
            ratios = [
                packed[index] / plain[index]
                for packed, plain in zip(times[kind], times["plain"], strict=True)
            ]
            figures[f"{kind}_to_plain_{clock}"] = statistics.median(ratios)
    return {name: round(value, 3) for name, value in figures.items()}


def _speech(number: int, kind: str) -> bytes:
    draw = np.random.default_rng(number)
    n_samples = round(SAMPLE_RATE * MEAN_SECONDS * draw.uniform(0.5, 1.5))
    # Smoothed, as unfiltered noise compresses worse than speech does.
    noise = np.convolve(draw.standard_normal(n_samples), np.ones(8) / 8, mode="same")
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * noise, SAMPLE_RATE, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def _picture(number: int) -> bytes:
    small = np.random.default_rng(number).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(PICTURE_SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _read_speech(location: MediaLocation) -> None:
    load_waveform(location, place="benchmark", n_samples=_n_samples[str(location)])


def _read_picture(location: MediaLocation) -> None:
    load_picture(location, place="benchmark", image_size=IMAGE_SIZE)


_n_samples: dict[str, int] = {}


def _register(location: MediaLocation, content: bytes) -> MediaLocation:
    if content[:4] in (b"fLaC", b"RIFF"):
        _n_samples[str(location)] = soundfile.info(io.BytesIO(content)).frames
    return location


def _write_plain(folder: Path, contents: list[bytes]) -> list[MediaLocation]:
    folder.mkdir(parents=True)
    locations = []
    for number, content in enumerate(contents):
        # a thousand files to a folder, as corpora have them
        path = folder / f"{number // 1000}" / f"{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        locations.append(_register(resolve(folder, path.relative_to(folder).as_posix()), content))
    return locations


def _pack(folder: Path, contents: list[bytes], kind: str) -> list[MediaLocation]:
    names = [f"{number}" for number in range(len(contents))]
    folder.mkdir(parents=True)
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    entries = pack_files(folder, names, "media", pack=kind)
    return [
        _register(resolve(folder, entries[name]), content)
        for name, content in zip(names, contents, strict=True)
    ]


if __name__ == "__main__":
    main()

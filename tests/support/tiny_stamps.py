"""Trees that mimic the layout of the unpacked tuxpaint-stamps-default package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 44_100


def tone(hertz: float, *, seconds: float = 0.5, level: float = 0.3, rate: int = RATE) -> np.ndarray:
    """Return a tone between quiet ends."""
    time = np.arange(round(seconds * rate)) / rate
    samples = level * np.sin(2 * np.pi * hertz * time)
    edge = len(samples) // 8
    samples[:edge] = samples[-edge:] = 0.0
    return samples


def write_picture(path: Path, *, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    """Write an RGBA cut-out: a coloured block inside a transparent frame of 5 px."""
    width, height = size
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    colours = np.random.default_rng(seed).integers(0, 200, (height - 10, width - 10, 3))
    pixels[5:-5, 5:-5, :3] = colours
    pixels[5:-5, 5:-5, 3] = 255
    Image.fromarray(pixels, "RGBA").save(path)


def write_stamp(
    folder: Path,
    stamp_id: str,
    *,
    number: int,
    english: str | None = None,
    text: str | None = None,
    language: str = "ru",
    samples: np.ndarray | None = None,
) -> None:
    """Write picture, recording and captions of one stamp; ``number`` makes them differ from other stamps'."""
    stem = folder / stamp_id
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_picture(stem.with_name(stem.name + ".png"), seed=number)
    speech = tone(200 + 40 * number) if samples is None else samples
    ending = "_desc" if language == "en" else f"_desc_{language}"
    soundfile.write(stem.with_name(stem.name + f"{ending}.ogg"), np.stack([speech, speech], axis=1), RATE)
    english = f"Thing number {number}." if english is None else english
    text = f"Предмет {number}." if text is None else text
    captions = f"{english}\nde.utf8=Ding {number}.\n{language}.utf8={text}\n"
    stem.with_name(stem.name + ".txt").write_text(captions, encoding="utf-8")


def make_stamps(folder: Path, n_stamps: int = 12) -> Path:
    """Write a tree of stamps that have nothing in common."""
    for number in range(n_stamps):
        write_stamp(folder, f"{('animals', 'food/fruit')[number % 2]}/thing_{number:02d}", number=number)
    return folder


def folder_content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

"""A small sound manifest folder that each test breaks in its own way."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from fairseq_vgs.manifest import (
    AudioRow,
    ImageRow,
    PairRow,
    RegionRow,
    write_audio_list,
    write_images,
    write_pairs,
    write_regions,
)

N_SAMPLES = 800


def encode_wave(
    values: np.ndarray, *, rate: int = 16_000, kind: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def noise(seed: int, n_samples: int = N_SAMPLES) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n_samples).astype(np.float32)


def encode_picture(seed: int, *, width: int = 8, height: int = 6, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def pack_zip(path: Path, members: dict[str, bytes]) -> list[str]:
    """Write a stored zip; return the entries ``name.zip:OFFSET:LENGTH``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    raw = path.read_bytes()
    return [f"{path.name}:{raw.index(data)}:{len(data)}" for data in members.values()]


def pack_tar(path: Path, members: dict[str, bytes]) -> list[str]:
    """Write a tar; return the entries ``name.tar:OFFSET:LENGTH``."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as archive:
        return [f"{path.name}:{member.offset_data}:{member.size}" for member in archive]


@dataclass
class Data:
    """The folder, and ways to break it."""

    path: Path

    def lines(self, name: str) -> list[str]:
        return (self.path / name).read_text(encoding="utf-8").splitlines()

    def set_line(self, name: str, number: int, text: str) -> None:
        lines = self.lines(name)
        lines[number - 1] = text
        (self.path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def set_field(self, name: str, number: int, index: int, text: str) -> None:
        fields = self.lines(name)[number - 1].split("\t")
        fields[index] = text
        self.set_line(name, number, "\t".join(fields))

    def add_line(self, name: str, text: str) -> int:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        return len(self.lines(name))


def build(path: Path) -> Data:
    """Build splits of 2 utterances and images: train in archives, valid and test in files with odd names."""
    path.mkdir()
    (path / "сцены и слова").mkdir()
    seeds = {"train": (0, 1), "valid": (2, 3), "test": (4, 5)}
    images = []
    regions = []
    for split, numbers in seeds.items():
        waves = {f"{n}.wav": encode_wave(noise(n)) for n in numbers}
        pictures = {f"{n}.png": encode_picture(n) for n in numbers}
        if split == "train":
            audio_ids, picture_paths = (
                pack_zip(path / "speech.zip", waves),
                pack_tar(path / "p.tar", pictures),
            )
        else:
            audio_ids = [f"сцены и слова/{name}" for name in waves]
            picture_paths = [f"сцены и слова/{name}" for name in pictures]
            for name, data in {**waves, **pictures}.items():
                (path / "сцены и слова" / name).write_bytes(data)
        write_audio_list(path / f"{split}.tsv", [AudioRow(a, N_SAMPLES) for a in audio_ids], root=".")
        pairs = [
            PairRow(a, f"image {n}", "Анна", f"слово {n}") for a, n in zip(audio_ids, numbers, strict=True)
        ]
        write_pairs(path / f"{split}.pairs.tsv", pairs)
        images += [
            ImageRow(f"image {n}", entry, 8, 6) for entry, n in zip(picture_paths, numbers, strict=True)
        ]
        regions += [RegionRow(f"image {n}", n, 0.0, 0.25, 0.5, 1.0) for n in numbers]
    write_images(path / "images.tsv", images)
    write_regions(path / "regions.tsv", regions)
    np.save(path / "regions.npy", np.arange(6 * 4, dtype=np.float16).reshape(6, 4))
    (path / "summary.json").write_text("{}")
    return Data(path)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return build(tmp_path / "data folder")


class Tools:
    """The encoders above, for test modules, which cannot import a conftest."""

    wave = staticmethod(encode_wave)
    noise = staticmethod(noise)
    picture = staticmethod(encode_picture)
    pack_zip = staticmethod(pack_zip)
    pack_tar = staticmethod(pack_tar)


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()

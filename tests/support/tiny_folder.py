"""Manifest folders of a few synthetic pairs, media included."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow
from fairseq_vgs.manifest.tables import write_audio_list, write_images, write_pairs, write_regions
from fairseq_vgs.tasks import VgsPretrainingConfig, VgsPretrainingTask

LAYERS = "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2"
REGION_DIM = 10
SAMPLE_RATE = 16_000


def noise(n_samples: int, *, seed: int) -> np.ndarray:
    """Draw quiet noise."""
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def make_folder(
    path: Path,
    *,
    lengths: dict[str, list[int]] | None = None,
    n_images: int = 6,
    groups: dict[int, str] | None = None,
) -> ManifestFolder:
    """Write a folder: wav files, PNG pictures, 1 to 3 regions each; pair i shows picture i mod n_images.

    Args:
        path: New folder.
        lengths: Samples of every utterance by split.
        n_images: Number of pictures.
        groups: Group by number of the picture, where it has one.
    """
    lengths = lengths or {
        "train": [6000 + 400 * i for i in range(12)],
        "valid": [7000 + 300 * i for i in range(8)],
    }
    folder = ManifestFolder(path)
    path.mkdir(parents=True)
    for number, (split, split_lengths) in enumerate(lengths.items()):
        write_audio_list(
            folder.audio_list(split), _write_speech(path, split, split_lengths, number), root=path
        )
        pairs = [
            PairRow(f"{split}/{i}.wav", f"image{i % n_images}", "", f"caption {i}")
            for i in range(len(split_lengths))
        ]
        write_pairs(folder.pairs(split), pairs)
    _write_images(folder, n_images, groups or {})
    return folder


def make_unpaired(path: Path, lengths: list[int]) -> Path:
    """Write a folder with an audio list ``train.tsv`` and its speech."""
    path.mkdir(parents=True)
    write_audio_list(
        ManifestFolder(path).audio_list("train"), _write_speech(path, "train", lengths, 9), root=path
    )
    return path


def pack_speech(folder: ManifestFolder, split: str) -> Path:
    """Move a split's speech into a stored zip, with audio ids as fairseq writes them."""
    root = folder.path
    lines = folder.audio_list(split).read_text().splitlines()
    archive, ids = root / f"{split}.zip", {}
    with zipfile.ZipFile(archive, "w") as stored:
        for line in lines[1:]:
            stored.write(root / line.split("\t")[0], line.split("\t")[0])
    with zipfile.ZipFile(archive) as stored:
        for info in stored.infolist():
            offset = info.header_offset + 30 + len(info.filename.encode())
            ids[info.filename] = f"{archive.name}:{offset}:{info.file_size}"
    for table in (folder.audio_list(split), folder.pairs(split)):
        text = table.read_text()
        for old, new in ids.items():
            text = text.replace(f"{old}\t", f"{new}\t")
        table.write_text(text)
    return archive


def task_config(folder: Path, **settings: Any) -> DictConfig:
    """Compose a task configuration as fairseq would, interpolations filled in."""
    values = {
        "data": str(folder),
        "seed": 1,
        "train_subset": "train",
        "mask_prob": 0.5,
        "mask_length": 3,
        "mask_selection": "static",
        "mask_other": 0.0,
        "no_mask_overlap": False,
        "mask_min_space": 1,
        "mask_dropout": 0.0,
        "conv_feature_layers": LAYERS,
        "similarity": "dot",
        "image_size": 16,
        "history_file": None,
    }
    return OmegaConf.merge(OmegaConf.structured(VgsPretrainingConfig), {**values, **settings})


def make_task(folder: Path, *splits: str, **settings: Any) -> VgsPretrainingTask:
    """Set the task up and load splits."""
    task = VgsPretrainingTask.setup_task(task_config(folder, **settings))
    for split in splits:
        task.load_dataset(split)
    return task


def _write_speech(root: Path, split: str, lengths: list[int], number: int) -> list[AudioRow]:
    (root / split).mkdir()
    rows = []
    for i, n_samples in enumerate(lengths):
        name = f"{split}/{i}.wav"
        soundfile.write(root / name, noise(n_samples, seed=1000 * number + i), SAMPLE_RATE, subtype="FLOAT")
        rows.append(AudioRow(name, n_samples))
    return rows


def _write_images(folder: ManifestFolder, n_images: int, groups: dict[int, str]) -> None:
    (folder.path / "images").mkdir()
    images, regions = [], []
    for i in range(n_images):
        colour = tuple(int(value) for value in np.random.default_rng(i).integers(0, 256, 3))
        Image.new("RGB", (20, 10), colour).save(folder.path / f"images/{i}.png")
        images.append(ImageRow(f"image{i}", f"images/{i}.png", 20, 10, groups.get(i, "")))
        for _ in range(1 + i % 3):
            regions.append(RegionRow(f"image{i}", len(regions), 0.1, 0.2, 0.6, 0.9))
    write_images(folder.images, images)
    write_regions(folder.regions, regions)
    features = np.random.default_rng(5).standard_normal((len(regions), REGION_DIM))
    np.save(folder.region_features, features.astype(np.float16))

"""Drawn ABX tokens as items, and folders to evaluate on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from omegaconf import OmegaConf
from support.abx_draw import HEADER, draw
from support.tiny import tiny_model
from support.tiny_folder import LAYERS, REGION_DIM, noise

from fairseq_vgs.manifest.schema import AudioRow
from fairseq_vgs.manifest.tables import write_audio_list
from fairseq_vgs.metrics.abx import AbxItem


def random_material(**options: Any) -> tuple[tuple[AbxItem, ...], dict[str, npt.NDArray[np.float64]]]:
    """Draw items and features; options of `draw`."""
    rows, features = draw(**options)
    items = (AbxItem(file, Decimal(onset), Decimal(offset), *names) for file, onset, offset, *names in rows)
    return tuple(items), features


def write_recordings(folder: Path, *, n_files: int = 3, tokens_per_file: int = 12) -> Path:
    """Write recordings of noise and an item file of three phones by one speaker per file."""
    folder.mkdir(parents=True)
    lines, rows = [HEADER], []
    for number in range(n_files):
        n_samples = 16_000 * tokens_per_file // 10
        soundfile.write(folder / f"r{number}.wav", noise(n_samples, seed=number), 16_000, subtype="PCM_16")
        rows.append(AudioRow(f"r{number}.wav", n_samples))
        lines += [
            f"r{number} {token / 10} {(token + 1) / 10} p{token % 3} a b s{number}"
            for token in range(tokens_per_file)
        ]
    write_audio_list(folder / "test.tsv", rows, root=".")
    (folder / "phones.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_checkpoint(path: Path, *, collapsed: bool = False, **settings: Any) -> Path:
    """Write a tiny checkpoint of fresh weights; a collapsed one maps everything to one point."""
    model = tiny_model(seed=3, **{"conv_feature_layers": LAYERS, "image_dim": REGION_DIM, **settings})
    if collapsed:
        for name, parameter in model.encoder.named_parameters():
            if name.endswith("layer_norm.weight"):
                torch.nn.init.zeros_(parameter)
    found = OmegaConf.to_container(OmegaConf.structured(model.cfg), resolve=True, enum_to_str=True)
    config = {
        "task": {"_name": "vgs_pretraining", "data": "gone", "normalize": True},
        "criterion": {"_name": "vgs_multitask"},
        "model": {**found, "_name": "vgs_wav2vec2"},
    }
    torch.save({"cfg": config, "model": model.state_dict(), "optimizer_history": [{"num_updates": 7}]}, path)
    return path

"""Results folders and a manifest folder with media, for tests of pages and commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from fairseq_vgs.evaluation.evaluators.retrieval import (
    Embedded,
    Pool,
    chance_values,
    rank_items,
    reported,
    write_embedded,
)
from fairseq_vgs.evaluation.results import Scores, write_result
from fairseq_vgs.files.provenance import machine, versions
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow
from fairseq_vgs.manifest.tables import write_audio_list, write_images, write_pairs
from fairseq_vgs.metrics import retrieval

N_IMAGES, N_CAPTIONS = 8, 14
HOSTILE = '<script>alert("x")</script> & "quoted" ${document.title = "x"} {{7*7}}'


def write_results(folder: Path, *, noise: float = 1.5, force: bool = False, folds=None) -> Embedded:
    """Write retrieval results of noisy embeddings: two captions per image, the last image without any."""
    generator = np.random.default_rng(0)
    images = generator.standard_normal((N_IMAGES, 6)).astype(np.float32)
    caption_image = np.arange(N_CAPTIONS) // 2
    speech = images[caption_image] + noise * generator.standard_normal((N_CAPTIONS, 6)).astype(np.float32)
    pool = Pool(caption_image, np.arange(N_IMAGES))
    speech = speech.astype(np.float32)
    found = Embedded(
        audio_ids=[f"speech/{number}.wav" for number in range(N_CAPTIONS)],
        image_ids=[f"picture {number}" for number in range(N_IMAGES)],
        caption_image=caption_image,
        pool=pool,
        speech=speech,
        images=images,
        similarity="dot",
        ranks=retrieval.retrieval_ranks(
            speech, images, speech_groups=caption_image, image_groups=np.arange(N_IMAGES)
        ),
    )
    items = rank_items(found.ranks, pool, audio_ids=found.audio_ids, image_ids=found.image_ids)
    metrics, facts = reported(chance_values(pool)), {}
    if folds is not None:
        fold_items, fold_metrics, facts = folds(found)
        items, metrics = items | fold_items, metrics | fold_metrics
    estimates = Scores(items, metrics).estimates(seed=1)
    model = {
        "title": "trained (42 updates)",
        "n_updates": 42,
        "trained": True,
        "metrics": {name: metric.as_json() for name, metric in estimates.items()},
    }
    content = {
        "kind": "retrieval",
        "split": "test",
        "similarity": "dot",
        "pool": pool.as_json(),
        **facts,
        "checkpoint": {"path": "checkpoint.pt", "sha256": "0" * 64},
        "models": {"trained": model, "untrained": {**model, "trained": False, "n_updates": 0}},
        "provenance": {
            "command": HOSTILE,
            "seed": 1,
            "manifest": {},
            "versions": versions(),
            "machine": machine(),
            "created": "2026-01-01T00:00:00+00:00",
        },
    }
    write_embedded(folder, found, {"untrained_rank": found.ranks}, force=force)
    write_result(folder, content, {"trained": items, "untrained": items}, force=force)
    return found


def write_media_folder(folder: Path) -> Path:
    """Write the manifest folder of `write_results`: tones, coloured pictures, texts that try to be HTML."""
    (folder / "speech").mkdir(parents=True)
    rows, pairs = [], []
    for number in range(N_CAPTIONS):
        tone = 0.2 * np.sin(2 * np.pi * (200 + 40 * number) * np.arange(8000) / 16_000)
        soundfile.write(folder / f"speech/{number}.wav", tone, 16_000, subtype="PCM_16")
        rows.append(AudioRow(f"speech/{number}.wav", 8000))
        text = "" if number == 1 else f"подпись {number} {HOSTILE}"
        pairs.append(PairRow(rows[-1].audio_id, f"picture {number // 2}", f"speaker <{number % 3}>", text))
    write_audio_list(folder / "test.tsv", rows, root=".")
    write_pairs(folder / "test.pairs.tsv", pairs)
    images = []
    for number in range(N_IMAGES):
        colour = (30 * number, 255 - 30 * number, 90)
        Image.new("RGB", (40, 30), colour).save(folder / f"{number}.png")
        images.append(ImageRow(f"picture {number}", f"{number}.png", 40, 30))
    write_images(folder / "images.tsv", images, root=".")
    return folder

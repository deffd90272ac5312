"""Find which regions of an image go with which moments of a caption, by leaving each out.

Let s be a caption's embedding and s_t the one with moment t silenced, v the embedding of an image and v_r
the one without region r, of unit length if the run trained with the cosine. The heat of region and moment:

    H[r, t] = (s - s_t) . (v - v_r) = S(s, v) - S(s_t, v) - S(s, v_r) + S(s_t, v_r)

with the similarity S as in retrieval: what a region adds to the similarity, less what it adds while the
moment is silent, that is, the part that needs both. Positive: they match; negative: they contradict each
other. No attention weights or gradients are used, so it works for every head and image encoder.

A moment lasts ``HOP_SECONDS``; the silence reaches further on both sides (``SILENCED_SECONDS`` in all), since
a shorter gap hardly matters. A region is left out as padding; the cell of a raw picture gets the picture's
mean colour.

Shapes: S samples, W moments, R regions, E embedding dims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.arrays import F32
from fairseq_vgs.checkpoints.load import Checkpoint, section
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.features.embeddings import EvaluationSplit, embedded_speech, reads_regions
from fairseq_vgs.features.heat_map import HOP_SECONDS, SILENCED_SECONDS, HeatMap
from fairseq_vgs.features.speech import diverged
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE
from fairseq_vgs.modules.alone import speech_embeddings

CELLS_PER_SIDE = 7
_ROWS_PER_BATCH = 32
_CACHED = 64


class Occluder:
    """What speech and images lose without a moment or a region, with a model that embeds both."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = AUTO) -> None:
        device = resolve_device(device, place="device")
        self._model: Any = checkpoint.model.eval().to(device)
        self._unit = checkpoint.similarity == "cosine"
        task, model = section(checkpoint.config, "task"), section(checkpoint.config, "model")
        self._is_cropped = not reads_regions(task, model) and task.get("image_fit") == "crop"
        self._pad_to_max = embedded_speech(task)[1]
        self._path, self._device = checkpoint.path, device

    @torch.inference_mode()
    def speech(self, source: Tensor, padding_mask: Tensor) -> tuple[Tensor, F32]:
        """Return f64[W, E] what is missing from the embedding when a moment is silent, and the loudness.

        ``source`` f[1, S] and ``padding_mask`` bool[1, S] are as evaluation embeds them.
        """
        n_samples = int((~padding_mask).sum())
        hop = round(HOP_SECONDS * SAMPLE_RATE)
        reach = round((SILENCED_SECONDS - HOP_SECONDS) / 2 * SAMPLE_RATE)
        variants = [source]
        for start in range(0, n_samples, hop):
            silenced = source.clone()
            silenced[:, max(0, start - reach) : start + hop + reach] = 0.0
            variants.append(silenced)
        rows, padding = torch.cat(variants).to(self._device), padding_mask.to(self._device)
        found = [
            self._embed(part, padding.expand(len(part), -1)).double() for part in rows.split(_ROWS_PER_BATCH)
        ]
        return self._missing(torch.cat(found)), _loudness(source[0, :n_samples])

    @torch.inference_mode()
    def image(self, image: Mapping[str, Tensor]) -> tuple[Tensor, F32]:
        """Return f64[R, E] what is missing from the embedding when a region is, and f32[R, 4] the boxes.

        ``image`` is one image as the image encoder reads it.
        """
        variants, boxes = _without_cells(image) if "pictures" in image else _without_regions(image)
        found = []
        for start in range(0, len(boxes) + 1, _ROWS_PER_BATCH):
            rows = slice(start, start + _ROWS_PER_BATCH)
            part = {name: tensor[rows].to(self._device) for name, tensor in variants.items()}
            found.append(self._model.encode_image(part).double())
        return self._missing(torch.cat(found)), boxes

    def heat_map(self, speech: tuple[Tensor, F32], image: tuple[Tensor, F32], *, name: str) -> HeatMap:
        """Compute the heat from what ``speech`` and ``image`` return; ``name`` is the caption's, for errors.

        Raises:
            CheckpointError: values that are not finite.
        """
        moments, loudness = speech
        regions, boxes = image
        values = (regions @ moments.T).float().cpu().numpy()
        if not np.isfinite(values).all():
            raise diverged(self._path, f"similarities of {name}")
        return HeatMap(values, boxes, loudness, self._is_cropped)

    def _embed(self, source: Tensor, padding_mask: Tensor) -> Tensor:
        return speech_embeddings(self._model, source, padding_mask, pad_to_max=self._pad_to_max)

    def _missing(self, embeddings: Tensor) -> Tensor:
        if self._unit:
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        return embeddings[:1] - embeddings[1:]


class Occlusion:
    """Heat maps of a model with ``encode_speech`` and ``encode_image`` on a split opened with its config."""

    def __init__(self, checkpoint: Checkpoint, split: EvaluationSplit, *, device: str = AUTO) -> None:
        self._occluder = Occluder(checkpoint, device=device)
        self._split = split
        # A caption is used with several images, and an image with several captions.
        self.speech = lru_cache(_CACHED)(self._speech)
        self.image = lru_cache(_CACHED)(self._image)

    def heat_map(self, audio_id: str, image_id: str) -> HeatMap:
        """Compute the heat of an image's regions over a caption.

        Raises:
            CheckpointError: an id that is not in the split, or values that are not finite.
        """
        return self._occluder.heat_map(self.speech(audio_id), self.image(image_id), name=audio_id)

    def _speech(self, audio_id: str) -> tuple[Tensor, F32]:
        return self._occluder.speech(*self._split.speech(audio_id))

    def _image(self, image_id: str) -> tuple[Tensor, F32]:
        return self._occluder.image(self._split.image(image_id))


def _without_regions(image: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], F32]:
    """Repeat one image, whole and then without each of its regions."""
    boxes = image["boxes"][0]
    variants = {name: torch.cat((len(boxes) + 1) * [tensor]) for name, tensor in image.items()}
    variants["padding_mask"][1:].fill_diagonal_(True)
    return variants, boxes.numpy()


def _without_cells(image: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], F32]:
    """Repeat one picture, whole and then with each cell of a grid in the picture's mean colour."""
    pictures = image["pictures"]
    height, width = pictures.shape[2:]
    mean = pictures.mean(dim=(2, 3), keepdim=True)[0]
    rows, columns = (
        [round(size * number / CELLS_PER_SIDE) for number in range(CELLS_PER_SIDE + 1)]
        for size in (height, width)
    )
    variants, boxes = [pictures], []
    for upper, lower in pairwise(rows):
        for left, right in pairwise(columns):
            covered = pictures.clone()
            covered[0, :, upper:lower, left:right] = mean
            variants.append(covered)
            boxes.append((left / width, upper / height, right / width, lower / height))
    return {"pictures": torch.cat(variants)}, np.array(boxes, dtype=np.float32)


def _loudness(source: Tensor) -> F32:
    n_frames = math.ceil(len(source) / FRAME_STRIDE)
    padded = torch.nn.functional.pad(source, (0, n_frames * FRAME_STRIDE - len(source)))
    level = padded.reshape(n_frames, FRAME_STRIDE).square().mean(dim=1).sqrt()
    loudness: F32 = (level / level.max().clamp_min(1e-9)).cpu().numpy()
    return loudness

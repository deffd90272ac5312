"""Speech and image embeddings of a split, unmasked, cut as in the run's validation, in a fixed order.

Shapes: ``C`` captions, ``I`` distinct images, ``P`` captions of a batch, ``S`` samples, ``E`` embedding dims.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.checkpoints.load import CheckpointError, section
from fairseq_vgs.data.captions import TextUnits, units_file
from fairseq_vgs.data.collation import PairItem
from fairseq_vgs.data.paired_dataset import VgsDataset, VgsDatasetOptions
from fairseq_vgs.data.regions import RegionStore, load_regions
from fairseq_vgs.data.tables import SplitTable, load_split
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.features.speech import diverged, progress
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules import IMAGE_ENCODERS
from fairseq_vgs.modules.alone import speech_embeddings
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.settings import find_entry

logger = logging.getLogger(__name__)

DEFAULT_BATCH_SECONDS = 120.0
_MOST_CAPTIONS = 512  # in a batch: images take memory, however short captions are
_DEFAULT_MAX_SECONDS = 10.0
_DEFAULT_MAX_REGIONS = 36


@dataclass(frozen=True)
class EvaluationSplit:
    """A split as a model was validated on it: its data set without masks, and the ids of its embeddings.

    Attributes:
        audio_ids: C ids, in the order of the pair table.
        image_ids: I ids of the distinct images that have a caption here, in the order of images.tsv.
        caption_image: int64[C] number of each caption's image among ``image_ids``.
        image_groups: int64[I] group number of each image.
        n_cut: captions longer than ``max_seconds``, of which the start is used, as in the run's validation.
        n_skipped: pairs that are left out because they cannot be used (``task.skip_bad=true``).
    """

    dataset: VgsDataset
    audio_ids: tuple[str, ...]
    image_ids: tuple[str, ...]
    caption_image: I64
    image_groups: I64
    n_cut: int
    max_seconds: float
    n_skipped: int

    @property
    def speech_groups(self) -> I64:
        """int64[C] group number of each caption's image."""
        return self.image_groups[self.caption_image]

    def speech(self, audio_id: str) -> tuple[Tensor, Tensor]:
        """Return a caption as the model reads it: f[1, S], and bool[1, S] where it is padding.

        Raises:
            CheckpointError: ``item.unknown``.
            BadItemError: a recording that cannot be used.
        """
        net_input = self._read(_position(self.audio_ids, audio_id))
        return net_input["source"], net_input["padding_mask"]

    def image(self, image_id: str) -> dict[str, Tensor]:
        """Return an image as the image encoder reads it, regions or pixels; the leading axis is 1.

        Raises:
            CheckpointError: ``item.unknown``.
            BadItemError: a picture that cannot be used.
        """
        number = _position(self.image_ids, image_id)
        return dict(self._read(int(np.flatnonzero(self.caption_image == number)[0]))["image"])

    def _read(self, pair: int) -> dict[str, Any]:
        return dict(self.dataset.collater([self.dataset[pair]])["net_input"])


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a split, f32[C, E] and f32[I, E], and what they took.

    ``seconds`` is wall time, ``padding_share`` the share of padding among the samples that were encoded.
    """

    speech: F32
    images: F32
    seconds: float
    padding_share: float

    @property
    def seconds_per_caption(self) -> float:
        """Wall time per caption, its image included."""
        return self.seconds / len(self.speech)


def open_split(folder: Path, split: str, *, config: Mapping[str, Any]) -> EvaluationSplit:
    """Open a split of a data folder with the data settings of a run.

    Speech is cut at ``task.valid_max_seconds`` and normalised as there.

    Raises:
        FaultError: missing or faulty tables; every fault of a kind.
        CheckpointError: the pictures or the text units do not fit the model.
    """
    task, model = section(config, "task"), section(config, "model")
    manifest = ManifestFolder(folder)
    layers = parse_conv_layers(str(model["conv_feature_layers"]))
    skip_bad = bool(task.get("skip_bad", False))
    units = _units(manifest, task=task, model=model)
    table = load_split(manifest, split, layers=layers, skip_bad=skip_bad, with_texts=units is not None)
    max_samples, pad_to_max = embedded_speech(task)
    max_seconds = max_samples / SAMPLE_RATE
    image_size, image_fit = picture_options(task, model)
    options = VgsDatasetOptions(
        layers=layers,
        max_samples=max_samples,
        pad_to_max=pad_to_max,
        normalize=bool(task.get("normalize", True)),
        mask=None,
        image_size=image_size,
        image_fit=image_fit,
        training=False,
        skip_bad=skip_bad,
    )
    regions = None
    if reads_regions(task, model):
        regions = open_regions(manifest, table, task=task, model=model)
    dataset = VgsDataset(table, options, regions=regions, units=units)
    if skip_bad:
        dataset = _without_bad_items(dataset)
    table = dataset.table
    n_cut = 0 if units else int(np.count_nonzero(table.n_samples > options.max_samples))
    if n_cut:
        counts = (n_cut, len(table), max_seconds)
        logger.warning("%d of %d captions are longer than %g s: the start is used", *counts)
    image_rows, caption_image = np.unique(table.image_row, return_inverse=True)
    names = {row: image_id for image_id, row in table.images.index.items()}
    return EvaluationSplit(
        dataset=dataset,
        audio_ids=tuple(table.audio.paths[row] for row in table.audio_row.tolist()),
        image_ids=tuple(names[row] for row in image_rows.tolist()),
        caption_image=caption_image.astype(np.int64),
        image_groups=table.images.groups[image_rows],
        n_cut=n_cut,
        max_seconds=max_seconds,
        n_skipped=table.n_skipped,
    )


def embed_split(
    model: nn.Module,
    split: EvaluationSplit,
    *,
    device: str = AUTO,
    batch_seconds: float = DEFAULT_BATCH_SECONDS,
    title: str = "embedding",
) -> Embeddings:
    """Embed all captions and all distinct images of a split.

    Captions are encoded from long to short in batches of similar length, images along with the first of their
    captions; nothing is random. ``batch_seconds`` bounds the speech in a batch, padding included, which has
    no influence unless the run padded all speech to one length. ``title`` is that of the progress bar.

    Raises:
        BadItemError: a clip or picture that cannot be used.
        CheckpointError: an embedding is not finite.
    """
    dataset = split.dataset
    device = resolve_device(device, place="device")
    encoder: Any = model.eval().to(device)
    longest = dataset.options.max_samples if dataset.options.pad_to_max else int(dataset.sizes.max())
    max_tokens = max(int(batch_seconds * SAMPLE_RATE), longest)
    batches = dataset.batch_by_size(
        dataset.ordered_indices(), max_tokens=max_tokens, max_sentences=_MOST_CAPTIONS
    )
    speech: list[Tensor | None] = [None] * len(split.audio_ids)
    images: list[Tensor | None] = [None] * len(split.image_ids)
    n_samples = n_padded = 0
    start = time.perf_counter()
    with torch.inference_mode(), progress(len(split.audio_ids), title, "caption") as bar:
        for batch in batches:
            sample = dataset.collater([dataset[int(index)] for index in batch])
            pairs, net_input = sample["id"].tolist(), sample["net_input"]
            source, padding_mask = net_input["source"].to(device), net_input["padding_mask"].to(device)
            found = speech_embeddings(encoder, source, padding_mask, pad_to_max=dataset.options.pad_to_max)
            for pair, row in zip(pairs, found.float().cpu(), strict=True):
                speech[pair] = row
            numbers = split.caption_image[pairs].tolist()
            _embed_new_images(encoder, net_input["image"], numbers, images, device=device)
            n_samples, n_padded = n_samples + sample["ntokens"], n_padded + sample["n_padded"]
            bar.update(len(pairs))
    embeddings = Embeddings(
        speech=_stacked(speech, split.audio_ids, "caption"),
        images=_stacked(images, split.image_ids, "image"),
        seconds=time.perf_counter() - start,
        padding_share=n_padded / (n_samples + n_padded),
    )
    logger.info(
        "%s: %d captions and %d images in %.1f s (%.4f s per caption, %.1f %% padding)",
        *(title, len(speech), len(images), embeddings.seconds, embeddings.seconds_per_caption),
        100 * embeddings.padding_share,
    )
    return embeddings


def _embed_new_images(
    model: Any, image: Mapping[str, Tensor], numbers: list[int], images: list[Tensor | None], *, device: str
) -> None:
    """Embed the images of a batch that have no embedding yet; an image comes once per caption."""
    rows: dict[int, int] = {}
    for row, number in enumerate(numbers):
        if images[number] is None:
            rows.setdefault(number, row)
    if rows:
        chosen = list(rows.values())
        found = model.encode_image({name: tensor[chosen].to(device) for name, tensor in image.items()})
        for number, embedding in zip(rows, found.float().cpu(), strict=True):
            images[number] = embedding


def embedded_speech(task: Mapping[str, Any]) -> tuple[int, bool]:
    """Return how many samples of an utterance are embedded at most, and whether all are padded to them."""
    max_seconds = float(task.get("valid_max_seconds") or _DEFAULT_MAX_SECONDS)
    return round(max_seconds * SAMPLE_RATE), bool(task.get("pad_to_max", False))


def reads_regions(task: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a run's images are regions: ``task.image_input`` if set, else what its image encoder reads."""
    if (image_input := task.get("image_input")) is None:
        name = model.get("image_encoder") or "regions"
        image_input = find_entry(IMAGE_ENCODERS, "model.image_encoder", name).reads
    return str(image_input) == "regions"


def picture_options(task: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[int, str]:
    """Return side in pixels and fit of the pictures that a run reads."""
    size = task.get("image_size") or model.get("image_size") or VgsDatasetOptions.image_size
    return int(size), str(task.get("image_fit") or VgsDatasetOptions.image_fit)


def open_regions(
    manifest: ManifestFolder, table: SplitTable, *, task: Mapping[str, Any], model: Mapping[str, Any]
) -> RegionStore:
    """Open the region features of a split as a run reads them.

    Raises:
        CheckpointError: ``regions.dims``, features that do not fit the model.
    """
    store = load_regions(
        manifest,
        image_index=table.images.index,
        max_regions=int(task.get("max_regions") or _DEFAULT_MAX_REGIONS),
        skip_bad=bool(task.get("skip_bad", False)),
    )
    if store.dim != (wanted := model.get("image_dim", store.dim)):
        message = (
            f"features must have {wanted} dims (model.image_dim of the checkpoint), got {store.dim}; take "
            "features of the training's extractor"
        )
        raise CheckpointError.at(manifest.region_features, message, "regions.dims")
    return store


def _units(
    manifest: ManifestFolder, *, task: Mapping[str, Any], model: Mapping[str, Any]
) -> TextUnits | None:
    """Open the text units that the model was trained with: the run's file, or a copy in the data folder."""
    if model.get("caption_encoder", "speech") != "text":
        return None
    trained_on = units_file(ManifestFolder(Path(task.get("data") or manifest.path)), task.get("text_units"))
    wanted = model.get("text_units_sha256")
    found = [path for path in (trained_on, units_file(manifest, None)) if path.is_file()]
    for path in found:
        units = TextUnits(path)
        if units.sha256 == wanted:
            return units
    message = (
        f"must be the text units of the training (SHA-256 {wanted}), got "
        f"{'others' if found else 'no file'}; put that file back, here or as {units_file(manifest, None)}"
    )
    raise CheckpointError.at(trained_on, message, "text.mismatch")


def _without_bad_items(dataset: VgsDataset) -> VgsDataset:
    """Read every pair once, so that all models are measured on the same pairs: those that can be used."""
    n_pairs = len(dataset)
    usable = np.fromiter((isinstance(dataset[index], PairItem) for index in range(n_pairs)), bool, n_pairs)
    table = dataset.table.select(usable)
    if table.n_skipped:
        counts = (table.split, table.n_skipped, len(table))
        logger.warning("split %r: %d pairs skipped (task.skip_bad=true in the run), %d evaluated", *counts)
    options = replace(dataset.options, skip_bad=False)
    return VgsDataset(table, options, regions=dataset.regions, units=dataset.units)


def _stacked(rows: list[Tensor | None], ids: tuple[str, ...], noun: str) -> F32:
    missing = [name for name, row in zip(ids, rows, strict=True) if row is None]
    if missing:
        raise ValueError(f"{noun} {missing[0]}: expected an embedding, got none ({len(missing)} such)")
    table = torch.stack([row for row in rows if row is not None]).numpy()
    faulty = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if faulty.size:
        raise diverged(f"{noun} {ids[faulty[0]]}", "embedding", f" ({faulty.size} of {len(ids)} such)")
    return table


def _position(ids: tuple[str, ...], name: str) -> int:
    if name not in ids:
        message = "must be in the split that was opened, is not; give the data that were evaluated"
        raise CheckpointError.at(name, message, "item.unknown")
    return ids.index(name)

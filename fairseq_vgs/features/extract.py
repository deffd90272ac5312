"""Extract features of recordings and images into a folder, batched by length; see ``store``.

Shapes: S samples, T frames, D dims of the transformer, E embedding dims, R regions of an image.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.arrays import F32
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.data.tables import load_split
from fairseq_vgs.data.waveform import normalize_waveform
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.features.embeddings import embedded_speech, open_regions, picture_options, reads_regions
from fairseq_vgs.features.layers import extractor_of, frame_rate, layer_names, refuse_short
from fairseq_vgs.features.recordings import FeatureSource, Recording
from fairseq_vgs.features.speech import (
    autocast,
    diverged,
    padded,
    progress,
    speech_features,
)
from fairseq_vgs.features.store import FeatureStore, origins
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.alone import can_pad, speech_embeddings
from fairseq_vgs.modules.conv_spec import ConvLayers, complete_length

logger = logging.getLogger(__name__)

DEFAULT_BATCH_SECONDS = 60.0
SPEECH_EMBEDDING, IMAGE_EMBEDDING = "speech_embedding", "image_embedding"
_IMAGES_PER_BATCH = 32
_WRITERS = 8


@dataclass(frozen=True)
class Extraction:
    """What an extraction did: counts, names of the layers, frames per second and wall time.

    Of utterances and images, ``n_kept`` were already there, and ``n_changed`` were extracted again because
    their files had changed. ``n_images`` is 0 where no image embeddings were asked for.
    """

    n_utterances: int
    n_images: int
    n_kept: int
    n_changed: int
    frame_rate: float
    layers: tuple[str, ...]
    seconds: float


def extract_features(
    checkpoint: Checkpoint,
    source: FeatureSource,
    output: Path,
    *,
    file_format: str = "npy",
    parts: Collection[str] | None = None,
    layers: Collection[int] | None = None,
    device: str = AUTO,
    bf16: bool = False,
    batch_seconds: float = DEFAULT_BATCH_SECONDS,
    complete_last_frame: bool = False,
) -> Extraction:
    """Write layers and embeddings of recordings, and embeddings of their images.

    Speech is unmasked and normalised as in the run; layers are of the whole utterance, embeddings of what
    evaluation ranks with (cut, and padded by ``task.pad_to_max``). Values are f32 and, up to rounding, those
    of each utterance alone. An unfinished folder is continued: its files are kept, unless what they were made
    from has changed (in size or modification time; for a member, those of its archive).

    ``parts`` (layers, speech, images) default to all on offer; ``layers`` are numbers, 0 being the input of
    the first (all if None). Image ids are percent-encoded in file names. An utterance longer than
    ``batch_seconds``, most speech in a batch with padding, is a batch of its own. With
    ``complete_last_frame``, silence after an utterance gives its layers every frame whose middle lies in it.

    Raises:
        FaultError: speech or pictures that cannot be used, or a folder of something else.
        CheckpointError: the model lacks a part or a layer, or gives values that are not finite.
    """
    start = time.perf_counter()
    extractor = extractor_of(checkpoint)
    chosen = _parts(checkpoint, source, parts)
    names = layer_names(checkpoint, layers) if "layers" in chosen else ()
    refuse_short(source.recordings.values(), extractor)
    images = _Images(checkpoint, source, extractor) if "images" in chosen else None
    rate, embedded = frame_rate(checkpoint), embedded_speech(section(checkpoint.config, "task"))
    store = FeatureStore(
        output,
        file_format,
        settings={
            "checkpoint_sha256": sha256_file(checkpoint.path),
            "trained": checkpoint.trained,
            "source": [str(path.absolute()) for path in source.paths],
            "split": source.split,
            "parts": chosen,
            "layers": list(names),
            "precision": "bf16" if bf16 else "fp32",
            **({"embedded_speech": list(embedded)} if "speech" in chosen else {}),
            **({"complete_last_frame": True} if complete_last_frame else {}),
        },
        description={"frame_rate": rate, "layers": list(names), "sample_rate": SAMPLE_RATE},
    )
    device = resolve_device(device, place="device")
    run = _Run(checkpoint, store, device, bf16, complete=extractor if complete_last_frame else None)
    n_changed = 0
    keys = (*names, SPEECH_EMBEDDING) if "speech" in chosen else names
    if keys:
        speech = {name: (recording.location,) for name, recording in source.recordings.items()}
        n_changed += store.begin("speech", origins(speech), keys)
    if images is not None:
        media = {name: images.media(name) for name in images.rows}
        n_changed += store.begin("images", origins(media), (IMAGE_EMBEDDING,))
    n_kept = run.all(source.recordings if keys else {}, keys, images, max_seconds=batch_seconds)
    counts = {"n_utterances": len(source.recordings), "n_images": len(images.rows) if images else 0}
    store.finish(counts)
    return Extraction(
        **counts,
        n_kept=n_kept,
        n_changed=n_changed,
        frame_rate=rate,
        layers=names,
        seconds=time.perf_counter() - start,
    )


class _Run:
    """A model that fills a store."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        store: FeatureStore,
        device: str,
        bf16: bool,
        *,
        complete: ConvLayers | None,
    ) -> None:
        self.model: Any = checkpoint.model.eval().to(device)
        task = section(checkpoint.config, "task")
        self.normalize = bool(task.get("normalize", True))
        self.max_samples, self.pad_to_max = embedded_speech(task)
        self.path, self.store, self.device, self.bf16 = checkpoint.path, store, device, bf16
        self.complete = complete

    def all(
        self,
        recordings: Mapping[str, Recording],
        keys: Sequence[str],
        images: _Images | None,
        max_seconds: float,
    ) -> int:
        """Write features of recordings and images; return how many were already there."""
        with _Writing(self.store) as self._writing:
            n_kept = self.speech(recordings, keys, max_samples=int(max_seconds * SAMPLE_RATE))
            return n_kept + (self.images(images) if images else 0)

    def speech(self, recordings: Mapping[str, Recording], keys: Sequence[str], *, max_samples: int) -> int:
        """Write features of recordings; return how many were already there."""
        left = [name for name in recordings if not self.store.has("speech", name, keys)]
        n_kept = len(recordings) - len(left)
        with progress(len(recordings), "speech", "utterance", initial=n_kept) as bar:
            for batch in _batches(left, recordings, max_samples=max_samples, mixed=can_pad(self.model)):
                waveforms = [recordings[name].waveform() for name in batch]
                sources = [self._source(waveform) for waveform in waveforms]
                found = speech_features(self.model, self._completed(sources), bf16=self.bf16)
                embeddings: Sequence[Tensor | None] = [features.embedding for features in found]
                is_other = self.pad_to_max or self.complete or len(sources[0]) > self.max_samples
                if SPEECH_EMBEDDING in keys and is_other:
                    embeddings = self._embed(waveforms, at_most=max(1, max_samples // self.max_samples))
                for name, features, embedding in zip(batch, found, embeddings, strict=True):
                    tensors = dict(features.layers)
                    if embedding is not None:
                        tensors[SPEECH_EMBEDDING] = embedding
                    self._write("speech", name, {key: tensors[key] for key in keys})
                bar.update(len(batch))
        return n_kept

    def images(self, images: _Images) -> int:
        """Write embeddings of images; return how many were already there."""
        left = [name for name in images.rows if not self.store.has("images", name, (IMAGE_EMBEDDING,))]
        n_kept = len(images.rows) - len(left)
        # Pictures of one number of regions need no padding.
        left.sort(key=images.size)
        with progress(len(images.rows), "images", "image", initial=n_kept) as bar:
            for _, group in groupby(left, key=images.size):
                names = list(group)
                for start in range(0, len(names), _IMAGES_PER_BATCH):
                    batch = names[start : start + _IMAGES_PER_BATCH]
                    self._write_images(batch, images.inputs(batch))
                    bar.update(len(batch))
        return n_kept

    def _embed(self, waveforms: Sequence[F32], *, at_most: int) -> list[Tensor]:
        """Embed utterances as evaluation does, so many at a time: what is cut is normalized afterwards."""
        found: list[Tensor] = []
        for start in range(0, len(waveforms), at_most):
            batch = waveforms[start : start + at_most]
            cut = [self._source(waveform[: self.max_samples]) for waveform in batch]
            lengths = [len(source) for source in cut]
            source, padding_mask = padded(cut, lengths, to=self.max_samples if self.pad_to_max else 0)
            with torch.inference_mode(), autocast(self.device, enabled=self.bf16):
                embeddings = speech_embeddings(self.model, source, padding_mask, pad_to_max=self.pad_to_max)
                found += embeddings.float().cpu()
        return found

    def _completed(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Return utterances f[S] with silence after them where their last frame would be lost."""
        if self.complete is None:
            return list(sources)
        lacking = [complete_length(len(source), self.complete) - len(source) for source in sources]
        return [torch.nn.functional.pad(source, (0, n)) for source, n in zip(sources, lacking, strict=True)]

    def _source(self, waveform: F32) -> Tensor:
        return torch.from_numpy(normalize_waveform(waveform) if self.normalize else waveform).to(self.device)

    def _write_images(self, names: Sequence[str], inputs: Mapping[str, Tensor]) -> None:
        on_device = {key: value.to(self.device) for key, value in inputs.items()}
        with torch.inference_mode(), autocast(self.device, enabled=self.bf16):
            found = self.model.encode_image(on_device).float().cpu()
        for name, row in zip(names, found, strict=True):
            self._write("images", name, {IMAGE_EMBEDDING: row})

    def _write(self, kind: Any, name: str, tensors: Mapping[str, Tensor]) -> None:
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise diverged(self.path, f"{key} of {name}")
        self._writing.write(kind, name, {key: tensor.numpy() for key, tensor in tensors.items()})


class _Writing:
    """Write to a store while the next batches are computed: most of the time goes into waiting for the disk.

    Files are durable one by one, which takes a disk milliseconds each. Errors are raised at a later write,
    or at the end.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(_WRITERS)
        self._begun: deque[Future[None]] = deque()

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._begun:
                self._begun.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def write(self, kind: Any, name: str, arrays: Mapping[str, F32]) -> None:
        """Begin to write the arrays of an utterance or image; wait if many are being written."""
        self._begun.append(self._pool.submit(self._store.write, kind, name, arrays))
        if len(self._begun) > 2 * _WRITERS:
            self._begun.popleft().result()


class _Images:
    """The images of a split as the model reads them; ``rows``: name of a file -> row in images.tsv."""

    def __init__(self, checkpoint: Checkpoint, source: FeatureSource, extractor: ConvLayers) -> None:
        task, model = section(checkpoint.config, "task"), section(checkpoint.config, "model")
        self._folder = folder = ManifestFolder(source.paths[0])
        self._table = load_split(folder, str(source.split), layers=extractor)
        self._image_size, self._image_fit = picture_options(task, model)
        self._regions = None
        used = set(self._table.image_row.tolist())
        rows = self._table.images.index.items()
        self.rows = {quote(name, safe=""): row for name, row in rows if row in used}  # ids may hold slashes
        if not reads_regions(task, model):
            return
        self._regions = open_regions(folder, self._table, task={**task, "skip_bad": False}, model=model)
        if empty := [row for row in self.rows.values() if self._regions.n_regions(row) == 0]:
            message = "image must have a region in regions.tsv, got none; add one, or remove its pairs"
            places = [self._table.images.place(row) for row in empty]
            raise BadItemError([Fault(place, message, "regions.missing") for place in places])

    def size(self, name: str) -> int:
        """Return the number of an image's regions; 0 for raw pictures."""
        return 0 if self._regions is None else self._regions.n_regions(self.rows[name])

    def media(self, name: str) -> tuple[MediaLocation, ...]:
        """Return the files that an image's input comes from."""
        if self._regions is None:
            return (self._table.images.location(self.rows[name]),)
        return MediaLocation(self._folder.regions), MediaLocation(self._folder.region_features)

    def inputs(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Read images of one ``size``."""
        rows = [self.rows[name] for name in names]
        if self._regions is None:
            located = [(self._table.images.location(row), self._table.images.place(row)) for row in rows]
            pictures = [
                load_picture(location, place=place, image_size=self._image_size, fit=self._image_fit)
                for location, place in located
            ]
            return {"pictures": torch.from_numpy(np.stack(pictures))}
        features = torch.from_numpy(np.stack([self._regions.features(row) for row in rows]))
        boxes = torch.from_numpy(np.stack([self._regions.boxes(row) for row in rows]))
        none = torch.zeros(features.shape[:2], dtype=torch.bool)
        return {"features": features, "boxes": boxes, "padding_mask": none}


def _parts(checkpoint: Checkpoint, source: FeatureSource, wanted: Collection[str] | None) -> list[str]:
    offered = ["layers"]
    if checkpoint.has_embeddings:
        offered += ["speech", "images"] if source.has_images else ["speech"]
    if unknown := sorted(set(wanted or ()) - set(offered)):
        message = (
            f"parts must be of {', '.join(offered)} for this model and source, got {', '.join(unknown)}; "
            "images need a data folder with pairs, and embeddings a model of this plugin"
        )
        raise CheckpointError.at(checkpoint.path, message, "setting.value")
    return [part for part in offered if wanted is None or part in wanted]


def _batches(
    names: Sequence[str], recordings: Mapping[str, Recording], *, max_samples: int, mixed: bool
) -> Iterator[list[str]]:
    """Group names from long to short: up to ``max_samples`` with padding, of one length unless ``mixed``."""
    batch: list[str] = []
    for name in sorted(names, key=lambda name: (-recordings[name].n_samples, name)):
        longest = recordings[batch[0] if batch else name].n_samples
        is_full = (len(batch) + 1) * longest > max_samples
        if batch and (is_full or not (mixed or recordings[name].n_samples == longest)):
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch

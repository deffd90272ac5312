"""A trained model: embeddings, similarities, layers, attention and heat maps of recordings and pictures.

Shapes: N recordings, M pictures, E embedding dims, T frames, D dims of the transformer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.api import images as pictures_in
from fairseq_vgs.api import speech as speech_in
from fairseq_vgs.api.heat_map import PairHeatMap
from fairseq_vgs.api.images import Boxes, Pictures, open_reader
from fairseq_vgs.api.speech import Recording, Recordings
from fairseq_vgs.arrays import F32
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.data.waveform import normalize_waveform
from fairseq_vgs.device import resolve_device
from fairseq_vgs.features.attention import attention_weights
from fairseq_vgs.features.embeddings import embedded_speech
from fairseq_vgs.features.layers import extractor_of, frame_rate
from fairseq_vgs.features.occlusion import Occluder
from fairseq_vgs.features.speech import diverged, padded, speech_features
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.losses.similarity import pairwise_similarity
from fairseq_vgs.media.pictures import read_picture
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.alone import speech_embeddings
from fairseq_vgs.modules.conv_spec import n_frames
from fairseq_vgs.regions.recipe import untrusted_recipe

BATCH_SECONDS = 120.0


class Model:
    """A trained model that reads recordings and pictures as they are; see ``fairseq_vgs.load``.

    Recordings are paths of any rate and format, or arrays with ``sampling_rate`` in Hz; pictures are paths,
    Pillow images or arrays uint8[H, W, 3]. Everywhere, one stands for a list of one, and lists may be
    generators of any length: results keep their order, and a few batches are in memory at a time.

    >>> import fairseq_vgs as vgs
    >>> model = vgs.load("run")
    >>> speech = model.embed_speech(["a.wav", "b.flac"])
    >>> images = model.embed_images(["x.jpg", "y.png"])
    >>> speech.dtype, model.similarity(speech, images).shape
    (dtype('float32'), (2, 2))
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str = "cpu", regions: Mapping[str, Any] | None = None
    ) -> None:
        self._checkpoint = checkpoint
        self._model: Any = checkpoint.model.eval().to(device)
        self._recipe = untrusted_recipe(checkpoint.images) if regions is None else dict(regions)
        self._task = section(checkpoint.config, "task")
        self._max_samples, self._pad_to_max = embedded_speech(self._task)
        self._reader = open_reader(checkpoint, self._recipe, device=device)
        self.device = device
        """Where it runs."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it with its weights, for other processes or machines."""
        return _unpickled, (self._checkpoint, self.device, self._recipe)

    def __repr__(self) -> str:
        return f"<fairseq_vgs model {self.path}, {self._checkpoint.n_updates} updates, on {self.device}>"

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint: network, settings, updates."""
        return self._checkpoint

    @property
    def path(self) -> Path:
        """The checkpoint's file."""
        return self._checkpoint.path

    @property
    def config(self) -> dict[str, Any]:
        """All settings of the run, plain data: sections ``task``, ``model``, ``criterion`` and others."""
        return self._checkpoint.config

    @property
    def measure(self) -> str:
        """The similarity that the run trained with: dot or cosine."""
        return self._checkpoint.similarity

    @property
    def frame_rate(self) -> float:
        """Frames of a layer per second: 50 for wav2vec 2.0."""
        return frame_rate(self._checkpoint)

    @property
    def dim(self) -> int:
        """E, the dims of an embedding."""
        self._require_embeddings()
        return int(self._model.cfg.embed_dim)

    def embed_speech(self, recordings: Recordings, *, sampling_rate: int | None = None) -> F32:
        """Embed recordings as evaluation does: cut, normalised and padded as in the run's validation.

        Args:
            recordings: paths, arrays, or tuples of an array and its rate.
            sampling_rate: rate in Hz of arrays that come without.

        Returns:
            float32[N, E].

        Raises:
            FaultError: a recording that cannot be used, or a model without speech embeddings.
        """
        self._require_speech()
        found: dict[int, F32] = {}
        cut = (
            self._cut(place, one)
            for place, one in speech_in.waveforms(recordings, sampling_rate=sampling_rate)
        )
        to = self._max_samples if self._pad_to_max else 0
        for batch in speech_in.in_batches(cut, max_samples=int(BATCH_SECONDS * SAMPLE_RATE), pad_to=to):
            source, padding_mask = self._padded([waveform for _, waveform in batch])
            rows = self._speech_rows(source, padding_mask)
            found.update(zip((number for number, _ in batch), rows, strict=True))
        return self._table(found, "speech")

    def embed_images(self, pictures: Pictures, *, boxes: Iterable[Boxes] | None = None) -> F32:
        """Embed pictures with the preprocessing that the model was trained with.

        Args:
            pictures: paths, Pillow images, or arrays uint8[H, W, 3].
            boxes: for each picture its regions, where the training took them from a table: [R, 4] with
                x0, y0, x1, y1 as fractions of width and height.

        Returns:
            float32[M, E].

        Raises:
            FaultError: a picture that cannot be used, or regions that cannot be made here.
        """
        self._require_embeddings()
        found: dict[int, F32] = {}
        for image, numbers in pictures_in.in_batches(self._reader, pictures, boxes):
            found.update(zip(numbers, self._image_rows(image), strict=True))
        return self._table(found, "image")

    def similarity(self, speech: Any, images: Any) -> F32:
        """Compare every recording with every picture, by the similarity that the run trained with.

        Both may be embeddings, float[N, E] and float[M, E], or what ``embed_speech`` and ``embed_images``
        take.

        Returns:
            float32[N, M], speech rows x image columns.
        """
        sides = [
            torch.as_tensor(speech_in.as_numpy(given))
            if _is_embedded(given)
            else torch.from_numpy(embed(given))
            for given, embed in ((speech, self.embed_speech), (images, self.embed_images))
        ]
        for name, side in zip(("speech", "images"), sides, strict=True):
            if side.size(1) != self.dim:
                step = f"give embeddings of this model, float[n, {self.dim}], or paths"
                found = fault(
                    name, f"embeddings must have {self.dim} dims", side.size(1), step, code="model.dims"
                )
                raise FaultError(found)
        return pairwise_similarity(sides[0].double(), sides[1].double(), kind=self.measure).float().numpy()

    def heat_map(
        self, speech: Recording, image: Any, *, sampling_rate: int | None = None, boxes: Boxes | None = None
    ) -> PairHeatMap:
        """Find which regions of a picture go with which moments of a recording.

        Each region and each moment is left out in turn, and both: ``fairseq_vgs.features.occlusion`` says
        how. The arguments are one recording and one picture of ``embed_speech`` and ``embed_images``; or the
        image is one of a split (``EvaluationSplit.image``), with the regions of its data folder.
        """
        self._require_speech()
        place, waveform = next(speech_in.waveforms([speech], sampling_rate=sampling_rate))
        source, padding_mask = self._padded([self._cut(place, waveform)])
        name, content = "", None
        if isinstance(image, Mapping):
            read = image
        else:
            name, content = next(pictures_in.sources([image]))
            own = None if boxes is None else [boxes]
            read, _ = next(pictures_in.in_batches(self._reader, [content], own))
        occluder = Occluder(self._checkpoint, device=self.device)
        heat = occluder.heat_map(occluder.speech(source, padding_mask), occluder.image(read), name=place)
        pair = self._speech_rows(source, padding_mask), self._image_rows(read)
        return PairHeatMap(
            **vars(heat),
            similarity=float(self.similarity(*pair)[0, 0]),
            picture=None if content is None else read_picture(content, place=name),
            title=", ".join(Path(part).name for part in (place, name) if part),
        )

    def layers(self, recording: Recording, *, sampling_rate: int | None = None) -> list[F32]:
        """Compute all layers of a recording, whole, unmasked, normalised as in the run.

        >>> import fairseq_vgs as vgs
        >>> layers = vgs.load("run").layers("a.wav")
        >>> [layer.shape for layer in layers[:2]]  # what enters layer 1, and its output
        [(14, 24), (14, 24)]

        Returns:
            float32[T, D] of each layer; the first is what enters layer 1, number 6 the output of layer 6.
        """
        source = self._whole(recording, sampling_rate)
        return [layer.numpy() for layer in speech_features(self._model, [source])[0].layers.values()]

    def attention(self, recording: Recording, layer: int, *, sampling_rate: int | None = None) -> F32:
        """Compute the attention weights of a layer over a whole recording, for every head.

        >>> import fairseq_vgs as vgs
        >>> vgs.load("run").attention("a.wav", layer=2).shape  # 14 frames
        (2, 15, 15)

        Returns:
            float32[heads, T + 1, T + 1], position 0 being the CLS vector, or float32[heads, T, T] of models
            without one (``model.use_cls=false``, stock wav2vec 2.0). Rows sum to 1: how much each position
            takes from each other.

        Raises:
            FaultError: ``setting.value``, the model has no such layer; a recording that cannot be used.
        """
        n_layers = len(self._model.encoder.layers)
        if not isinstance(layer, int | np.integer) or not 1 <= layer <= n_layers:
            expected = f"must be a whole number from 1 to {n_layers}"
            raise FaultError(fault("layer", expected, layer, "choose another", code="setting.value"))
        source = self._whole(recording, sampling_rate)
        return attention_weights(self._model, source, layer).numpy()

    def _whole(self, recording: Recording, sampling_rate: int | None) -> Tensor:
        self._require_waveforms()
        place, waveform = next(speech_in.waveforms([recording], sampling_rate=sampling_rate))
        self._require_frame(place, waveform)
        return torch.from_numpy(self._normalized(waveform)).to(self.device)

    @torch.inference_mode()
    def _speech_rows(self, source: Tensor, padding_mask: Tensor) -> F32:
        rows = speech_embeddings(self._model, source, padding_mask, pad_to_max=self._pad_to_max)
        return rows.float().cpu().numpy()

    @torch.inference_mode()
    def _image_rows(self, image: Mapping[str, Tensor]) -> F32:
        rows: Tensor = self._model.encode_image({name: x.to(self.device) for name, x in image.items()})
        return rows.float().cpu().numpy()

    def _cut(self, place: str, waveform: F32) -> F32:
        self._require_frame(place, waveform)
        return self._normalized(waveform[: self._max_samples])

    def _normalized(self, waveform: F32) -> F32:
        return normalize_waveform(waveform) if self._task.get("normalize", True) else waveform

    def _padded(self, waveforms: list[F32]) -> tuple[Tensor, Tensor]:
        sources = [torch.from_numpy(waveform).to(self.device) for waveform in waveforms]
        return padded(sources, list(map(len, sources)), to=self._max_samples if self._pad_to_max else 0)

    def _table(self, found: Mapping[int, F32], noun: str) -> F32:
        if not found:
            return np.empty((0, self.dim), dtype=np.float32)
        table = np.stack([found[number] for number in range(len(found))])
        if not np.isfinite(table).all():
            raise diverged(self.path, f"{noun} embeddings")
        return table

    def _require_frame(self, place: str, waveform: F32) -> None:
        if n_frames(len(waveform), extractor_of(self._checkpoint)) < 1:
            expected, got = "recording must be long enough for a frame", f"{len(waveform)} samples at 16 kHz"
            raise FaultError(fault(place, expected, got, "give a longer one", code="sound.length"))

    def _require_embeddings(self) -> None:
        if not self._checkpoint.has_embeddings:
            expected = "must embed speech and images, got fairseq's wav2vec2, which has layers only"
            step = "use layers or attention, or load a model of this plugin"
            raise CheckpointError.at(self.path, f"{expected}; {step}", "checkpoint.kind")

    def _require_speech(self) -> None:
        self._require_embeddings()
        self._require_waveforms()

    def _require_waveforms(self) -> None:
        if getattr(self._model, "feature_extractor", None) is None:
            expected = "must be a model of speech, got one of text (model.caption_encoder)"
            step = "load a model that was trained on speech, or use fairseq-vgs evaluate retrieval"
            raise CheckpointError.at(self.path, f"{expected}; {step}", "model.text")


def _unpickled(checkpoint: Checkpoint, device: str, recipe: Mapping[str, Any]) -> Model:
    try:
        device = resolve_device(device)
    except FaultError:  # of the other machine
        device = resolve_device()
    return Model(checkpoint, device=device, regions=recipe)


def _is_embedded(given: Any) -> bool:
    """Whether this is a matrix of embeddings, not recordings or pictures."""
    return getattr(given, "ndim", 0) == 2 and str(getattr(given, "dtype", "")).rpartition(".")[2].startswith(
        "float"
    )

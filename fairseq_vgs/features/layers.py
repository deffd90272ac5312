"""Offer a model's layers, or MFCC, one recording at a time; ``extract`` works in batches.

Shapes: S samples at 16 kHz, T frames, D dims of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.waveform import normalize_waveform
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.features import mfcc
from fairseq_vgs.features.recordings import Recording
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.files.faults import fault
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames, parse_conv_layers

LayerFeatures = Callable[[str], Mapping[str, Tensor]]

MFCC_LAYER = "mfcc"
MFCC_FRAME_RATE = mfcc.FRAME_RATE


def frame_rate(checkpoint: Checkpoint) -> float:
    """Return the frames per second of a model's extractor: 50 for wav2vec 2.0."""
    return SAMPLE_RATE / math.prod(stride for _, _, stride in extractor_of(checkpoint))


def extractor_of(checkpoint: Checkpoint) -> ConvLayers:
    """Return the layers of a model's convolutional extractor."""
    return parse_conv_layers(str(section(checkpoint.config, "model")["conv_feature_layers"]))


def layer_names(checkpoint: Checkpoint, layers: Collection[int] | None) -> tuple[str, ...]:
    """Name layers by their numbers, in their order; all if None.

    Raises:
        CheckpointError: ``setting.value``, the model has no such layer.
    """
    model: Any = checkpoint.model
    n_layers = len(model.encoder.layers)
    if unknown := sorted(set(layers or ()) - set(range(n_layers + 1))):
        message = f"layers must be from 0 to {n_layers}, got {unknown}; choose others with --layers"
        raise CheckpointError.at(checkpoint.path, message, "setting.value")
    return tuple(f"layer_{number}" for number in sorted(set(layers or range(n_layers + 1))))


def refuse_short(recordings: Iterable[Recording], extractor: ConvLayers) -> None:
    """Refuse recordings that are too short for a frame.

    Raises:
        BadItemError: ``sound.length``, every one of them.
    """
    expected, step = "utterance must be long enough for a frame", "remove it"
    faults = [
        fault(one.place, expected, f"{one.n_samples} samples", step, code="sound.length")
        for one in recordings
        if n_frames(one.n_samples, extractor) < 1
    ]
    if faults:
        raise BadItemError(faults)


def layer_features(
    checkpoint: Checkpoint,
    recordings: Mapping[str, Recording],
    *,
    device: str = AUTO,
    layers: Collection[int] | None = None,
) -> LayerFeatures:
    """Offer the unmasked transformer layers of a recording, all in one pass.

    They are as in ``SpeechFeatures``. Nothing is cut; speech is normalised as in the run. ``layers`` are the
    numbers of the wanted layers (all if None); those of many hours may not fit in memory.

    Returns:
        name of a recording -> name of a layer -> f[T, D] on the CPU.

    Raises:
        CheckpointError: the model has no such layer.
    """
    device = resolve_device(device, place="device")
    model: Any = checkpoint.model.eval().to(device)
    extractor = extractor_of(checkpoint)
    names = layer_names(checkpoint, layers)
    normalize = bool(section(checkpoint.config, "task").get("normalize", True))

    def features(name: str) -> dict[str, Tensor]:
        recording = recordings[name]
        refuse_short([recording], extractor)
        waveform = recording.waveform()
        source = torch.from_numpy(normalize_waveform(waveform) if normalize else waveform)
        found = speech_features(model, [source.to(device)])[0].layers
        return {name: found[name] for name in names}

    return features


def mfcc_features(recordings: Mapping[str, Recording]) -> LayerFeatures:
    """Offer MFCC of recordings: name -> ``mfcc`` -> f[T, 39], at ``MFCC_FRAME_RATE``."""

    def features(name: str) -> dict[str, Tensor]:
        return {MFCC_LAYER: torch.from_numpy(mfcc.mfcc(recordings[name].waveform()))}

    return features

"""Compute all layers and the embedding of speech in one pass, independently of the rest of the batch.

Padding has no influence: it is left out of a group norm's statistics, and is zero for the positional
convolution and masked for attention, as in fairseq. Rounding remains, as in any batch.

Shapes: B utterances, S samples at 16 kHz, T frames, C channels of the extractor, D dims of the transformer,
E embedding dims.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fairseq_vgs.checkpoints.load import CheckpointError
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.modules.alone import can_pad, norms_of_valid_frames
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers


@dataclass(frozen=True)
class SpeechFeatures:
    """What a model computes of one utterance, f32 on the CPU: layers [T, D], and [E] if it has a speech head.

    ``layer_0`` is what enters the first layer (after the positional convolution), ``layer_1`` ... are the
    layers' outputs. The CLS vector is in none.
    """

    layers: dict[str, Tensor]
    embedding: Tensor | None


def speech_features(
    model: nn.Module, sources: Sequence[Tensor], *, bf16: bool = False
) -> list[SpeechFeatures]:
    """Encode utterances whole and without masks, all layers in one pass.

    Args:
        model: wav2vec 2.0 or the plugin's, in evaluation mode.
        sources: B times f[S], normalised as the model expects, each long enough for a frame, on the model's
            device. Those of one length are computed by the model as it is.
        bf16: run the model in bf16 autocast.

    Raises:
        FaultError: ``setting.value``, a model of text.
        ValueError: lengths differ, and the model would mix padding into its results (``can_pad``).
    """
    if getattr(model, "feature_extractor", None) is None:
        message = "expected speech, to measure its layers, got text; use fairseq-vgs evaluate retrieval"
        raise FaultError.at("model.caption_encoder", message, "setting.value")
    lengths = [len(source) for source in sources]
    is_padded = len(set(lengths)) > 1
    if is_padded and not can_pad(model):
        raise ValueError(f"sources: must be of one length for this model, got {sorted(set(lengths))}")
    wav2vec: Any = model
    source, padding_mask = padded(sources, lengths)
    layers = parse_conv_layers(str(wav2vec.cfg.conv_feature_layers))
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(autocast(source.device, enabled=bf16))
        if is_padded:
            stack.enter_context(norms_of_valid_frames(wav2vec, lengths, layers))
        encode = getattr(wav2vec, "encode_layers", None) or partial(_encode_layers, wav2vec)
        stacked, embeddings = encode(source, padding_mask if is_padded else None)
    total = stacked[0].size(0)
    found = []
    for row, length in enumerate(lengths):
        # Cut before the batch leaves the device: padding is not a result.
        end = min(total, n_frames(length, layers))
        whole = {f"layer_{number}": layer[:end, row].float().cpu() for number, layer in enumerate(stacked)}
        found.append(SpeechFeatures(whole, None if embeddings is None else embeddings[row].float().cpu()))
    return found


def padded(sources: Sequence[Tensor], lengths: Sequence[int], *, to: int = 0) -> tuple[Tensor, Tensor]:
    """Stack utterances, of ``to`` samples at least: f[B, S] and, true where one is padding, bool[B, S]."""
    source = nn.utils.rnn.pad_sequence(list(sources), batch_first=True)
    source = nn.functional.pad(source, (0, max(0, to - source.size(1))))
    ends = torch.tensor(lengths, device=source.device).unsqueeze(1)
    return source, torch.arange(source.size(1), device=source.device) >= ends


def _encode_layers(
    model: Any, source: Tensor, padding_mask: Tensor | None
) -> tuple[list[Tensor], Tensor | None]:
    """Return what enters the first layer and what each puts out, f[T, B, D], and the embedding if any."""
    inputs: list[Tensor] = []
    shared: list[tuple[Tensor, Tensor | None]] = []
    with _hooks(model, inputs, shared):
        output = model.extract_features(source, padding_mask, mask=False)
    outputs = [result[0] for result in output["layer_results"]]
    # The encoder's input still has the CLS vector in front, and fairseq's padding to a multiple behind.
    n_before = int(getattr(model.encoder, "cls_embedding", None) is not None)
    stacked = [inputs[0][n_before : n_before + outputs[0].size(0)], *outputs]
    if not shared:
        return stacked, None
    frames, cls = shared[0]
    return stacked, model.speech_head(frames, cls=cls, padding_mask=output["padding_mask"])


@contextmanager
def _hooks(model: Any, inputs: list[Tensor], shared: list[tuple[Tensor, Tensor | None]]) -> Iterator[None]:
    """Keep what enters the first layer, f[T, B, D], and what the speech head reads."""

    def keep_input(_module: Any, arguments: Any) -> None:
        inputs.append(arguments[0])

    def keep_shared(encoder: Any, _arguments: Any, _output: Any) -> None:
        shared.append(encoder.take_shared())

    hooks = [model.encoder.layers[0].register_forward_pre_hook(keep_input)]
    if getattr(model, "speech_head", None) is not None:
        hooks.append(model.encoder.register_forward_hook(keep_shared))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def diverged(place: object, what: str, count: str = "") -> CheckpointError:
    """Return the error for values that are not finite."""
    step = "the run has probably diverged: look at its losses"
    message = f"{what} must be finite numbers, got NaN or infinity{count}; {step}"
    return CheckpointError.at(place, message, "checkpoint.not_finite")


def autocast(device: torch.device | str, *, enabled: bool) -> Any:
    """Return a context of bf16 autocast on a device, or one without effect."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16) if enabled else nullcontext()


def progress(total: int, title: str, unit: str, *, initial: int = 0) -> Any:
    """Return a progress bar on stderr; none where that is not a terminal."""
    return tqdm(
        total=total, initial=initial, desc=title, unit=unit, file=sys.stderr, disable=None, leave=False
    )

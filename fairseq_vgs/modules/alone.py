"""Embed the utterances of a batch as if each were alone in it.

Evaluation, extraction, the gallery and validation all embed speech here, so that their numbers agree.

Shapes: B utterances, S samples at 16 kHz, E embedding dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames, parse_conv_layers
from fairseq_vgs.modules.masked_norm import ValidFramesGroupNorm


def can_pad(model: nn.Module) -> bool:
    """Whether utterances of different lengths may share a batch without influencing each other.

    Not where several positional convolutions with norms between them fill the padding, where the number of
    frames is cut to a multiple, or where padding is data by design (``padding=fast_vgs``).
    """
    cfg: Any = model.cfg
    return (
        getattr(cfg, "pos_conv_depth", 1) == 1
        and getattr(cfg, "crop_seq_to_multiple", 1) == 1
        and str(getattr(cfg, "padding", "exact")) != "fast_vgs"
        and str(getattr(cfg, "layer_type", "transformer")) == "transformer"
    )


def mixes_padding(model: nn.Module) -> bool:
    """Whether padding influences what the model's own forward computes of a batch; text has none."""
    extractor: Any = getattr(model, "feature_extractor", None)
    if extractor is None:
        return False
    blocks = extractor.conv_layers
    has_norm = any(isinstance(module, nn.GroupNorm) for block in blocks for module in block)
    return not can_pad(model) or (has_norm and not getattr(model, "exact_padding", False))


def speech_embeddings(
    model: nn.Module, source: Tensor, padding_mask: Tensor, *, pad_to_max: bool = False
) -> Tensor:
    """Embed a padded batch f[B, S] as f[B, E], each utterance as if alone.

    A model that would mix padding into its results (not ``can_pad``) embeds the utterances of each length
    together, without padding, unless ``pad_to_max`` says that padding belongs to its weights. Layers above
    the speech head's are not computed. ``padding_mask``: bool[B, S], true where a sample is padding.
    """
    encoder: Any = model
    embeddings: Tensor
    mixes = mixes_padding(model) and bool(padding_mask.any())
    lengths = (~padding_mask).sum(dim=1)
    if not mixes or (pad_to_max and not can_pad(model)):
        embeddings = encoder.encode_speech(source, padding_mask)
    elif can_pad(model):
        layers = parse_conv_layers(str(encoder.cfg.conv_feature_layers))
        with norms_of_valid_frames(encoder, lengths.tolist(), layers):
            embeddings = encoder.encode_speech(source, padding_mask)
    else:
        groups = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
        found = [encoder.encode_speech(source[rows, : int(lengths[rows[0]])], None) for rows in groups]
        embeddings = torch.cat(found)[torch.cat(groups).argsort()]
    return embeddings


@contextmanager
def norms_of_valid_frames(model: Any, lengths: Sequence[int], layers: ConvLayers) -> Iterator[None]:
    """Let group norms over time see the utterances' frames alone, as in models of ``padding=exact``."""
    found: list[tuple[Any, type]] = []
    if not getattr(model, "exact_padding", False):
        for number, block in enumerate(model.feature_extractor.conv_layers, start=1):
            for norm in block:
                if isinstance(norm, nn.GroupNorm):
                    found.append((norm, type(norm)))
                    norm.__class__ = ValidFramesGroupNorm
                    norm.n_valid = n_frames(torch.tensor(lengths), layers[:number])
    try:
        yield
    finally:
        for norm, its_class in found:
            norm.n_valid = None
            norm.__class__ = its_class

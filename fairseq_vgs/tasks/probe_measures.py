"""Measurements of a cooperation probe: gradients of both losses per shared layer, and frames of every layer.

Shapes: n frames of all utterances without padding, D dims of a layer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from fairseq.modules import GumbelVectorQuantizer
from torch import Tensor, nn

from fairseq_vgs.data.collation import PairItem
from fairseq_vgs.data.paired_dataset import VgsDataset
from fairseq_vgs.losses import GradientAgreement, gradient_agreement
from fairseq_vgs.settings import bad_setting

EXTRACTOR, INPUT = "extractor", "input"
SHARED = "shared"

# These behave as in training while a probe measures gradients: without its noise the quantizer passes no
# gradient on, and at the start of a run the running statistics have nothing to do with the frames.
_AS_IN_TRAINING = (nn.BatchNorm1d, GumbelVectorQuantizer)


def probe_batch(dataset: VgsDataset, n_utterances: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Collate the utterances (fewer if the split has fewer) whose lengths are nearest to the median.

    Training batches are formed by length too, and masks are cut to the shortest utterance's. No two
    utterances have interchangeable pictures, so all others are negatives. Only the data decides. The audio
    ids with the samples used, by which the utterances are recognised, are returned too.

    Raises:
        FaultError: ``setting.value``: fewer than two utterances can be used.
        BadItemError: an utterance cannot be used, and bad items are not skipped.
    """
    table = dataset.table
    order = np.argsort(np.abs(dataset.sizes - np.median(dataset.sizes)), kind="stable")
    chosen: dict[int, PairItem] = {}
    for index in order.tolist():
        if len(chosen) == n_utterances:
            break
        group = int(table.images.groups[table.image_row[index]])
        if group not in chosen and isinstance(item := dataset[index], PairItem):
            chosen[item.image_group] = item
    if len(chosen) < 2:
        expected = f"at least 2 different pictures in split {table.split!r}"
        step = "validate on another split, or set task.probe_interval=0"
        raise bad_setting("task.probe_interval", expected, len(chosen), step)
    items = list(chosen.values())
    names = (f"{table.audio.paths[int(table.audio_row[item.index])]} {len(item.waveform)}" for item in items)
    return dataset.collater(items), tuple(names)


def detached_copy(model: Any) -> Any:
    """Copy a model in fp32, without gradients; nothing done to the copy affects the model."""
    # Weight normalisation leaves the weight of the latest pass in its module, a part of that pass's graph,
    # which deepcopy refuses; the copy's next pass computes it again.
    memo = {
        id(value): value.detach()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor)
    }
    return copy.deepcopy(model, memo).float()


def gradient_agreements(
    model: Any, criterion: Any, sample: Mapping[str, Any]
) -> dict[str, GradientAgreement]:
    """Compare the gradients of the SSL and the VGS loss by group of shared parameters.

    One forward pass as in training (masked, ``model.vgs_forward``), but without dropout. With several ranks
    this is a collective where the speech head has batch normalisation: all ranks must call it together.
    Gradients and statistics of the model, a copy on the sample's device, change.

    The result has, first SSL, second VGS, the groups ``extractor``, ``input`` (between extractor and layers),
    the shared layers ``layer_1``, ``layer_2``, ..., and ``shared``, all of them together.
    """
    for module in model.modules():
        module.training = module is model or isinstance(module, _AS_IN_TRAINING)
    groups = shared_parameters(model)
    ssl_loss, vgs_loss = criterion.separate_losses(model, sample)
    ssl_gradients = _gradients(ssl_loss, model, groups, keep_graph=True)
    vgs_gradients = _gradients(vgs_loss, model, groups, keep_graph=False)
    return {name: gradient_agreement(ssl_gradients[name], vgs_gradients[name]) for name in groups}


def shared_parameters(model: Any) -> dict[str, list[nn.Parameter]]:
    """Sort the trained parameters that both losses reach into groups; empty groups are left out."""
    scalars = [model.logit_scale, model.logit_bias]
    not_shared = {id(parameter) for parameter in (*model.ssl_parameters(), *model.vgs_parameters(), *scalars)}
    layers = {f"encoder.layers.{i}": f"layer_{i + 1}" for i in range(len(model.encoder.layers))}
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in (EXTRACTOR, INPUT, *layers.values())}
    for name, parameter in model.named_parameters():
        if id(parameter) in not_shared or not parameter.requires_grad:
            continue
        layer = layers.get(".".join(name.split(".")[:3]), INPUT)
        groups[EXTRACTOR if name.startswith("feature_extractor.") else layer].append(parameter)
    groups[SHARED] = [parameter for group in groups.values() for parameter in group]
    return {name: group for name, group in groups.items() if group}


@torch.no_grad()
def layer_frames(model: Any, sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute unmasked frames f32[n, D] after the extractor and after every layer, without padding.

    The model, a copy on the sample's device, is switched to evaluation mode.
    """
    inputs = sample["net_input"]
    output = model.eval()(inputs["source"], inputs["padding_mask"], mask=False, features_only=True)
    frames = {EXTRACTOR: output["features"]}
    frames |= {f"layer_{i}": x.transpose(0, 1) for i, (x, *_) in enumerate(output["layer_results"], 1)}
    padding_mask = output["padding_mask"]
    if padding_mask is None:
        return {name: x.flatten(0, 1).float() for name, x in frames.items()}
    return {name: x[~padding_mask].float() for name, x in frames.items()}


def _gradients(
    loss: Tensor, model: Any, groups: Mapping[str, list[nn.Parameter]], *, keep_graph: bool
) -> dict[str, list[Tensor]]:
    """Differentiate with backward(): torch.autograd.grad refuses layers with activation checkpoints."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=keep_graph)
    return {
        name: [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        for name, group in groups.items()
    }

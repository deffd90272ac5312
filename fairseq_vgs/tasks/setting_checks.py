"""Refusing impossible settings of the task, by name, and missing files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fairseq_vgs.data.captions import units_file
from fairseq_vgs.data.masking import MIN_FRAMES
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

logger = logging.getLogger(__name__)


def check_config(cfg: Any) -> None:
    """Refuse impossible settings.

    Raises:
        ValueError: With the setting's name, the expectation and the value.
    """
    layers = parse_conv_layers(cfg.conv_feature_layers)
    for key in ("max_seconds", "valid_max_seconds"):
        seconds = getattr(cfg, key)
        enough = n_frames(round(seconds * SAMPLE_RATE), layers) >= MIN_FRAMES
        _expect(enough, key, f"at least {MIN_FRAMES} frames of model.conv_feature_layers", seconds)
    _expect(str(cfg.crop) in ("start", "random"), "crop", "start or random", cfg.crop)
    _expect(
        str(cfg.image_input) in ("regions", "pictures"), "image_input", "regions or pictures", cfg.image_input
    )
    _expect(str(cfg.similarity) in ("dot", "cosine"), "similarity", "dot or cosine", cfg.similarity)
    _expect(str(cfg.image_fit) in ("squeeze", "crop"), "image_fit", "squeeze or crop", cfg.image_fit)
    _expect(cfg.image_size is None or cfg.image_size >= 1, "image_size", "a positive number", cfg.image_size)
    for key in ("max_regions", "mask_length"):
        _expect(getattr(cfg, key) >= 1, key, "a positive number", getattr(cfg, key))
    _expect(0 < cfg.image_crop_scale <= 1, "image_crop_scale", "above 0, at most 1", cfg.image_crop_scale)
    _expect(0 <= cfg.image_jitter < 1, "image_jitter", "0 or more and below 1", cfg.image_jitter)
    for key in ("seed", "mask_min_space", "unpaired_ratio"):
        _expect(getattr(cfg, key) >= 0, key, "0 or more", getattr(cfg, key))
    for key in ("length_noise", "mask_dropout"):
        _expect(0 <= getattr(cfg, key) < 1, key, "0 or more and below 1", getattr(cfg, key))
    _expect(0 <= cfg.mask_prob <= 1, "mask_prob", "a share between 0 and 1", cfg.mask_prob)
    _expect(cfg.probe_interval >= 0, "probe_interval", "0 or more", cfg.probe_interval)
    _expect(cfg.probe_utterances >= 2, "probe_utterances", "2 or more", cfg.probe_utterances)
    static = str(cfg.mask_selection) == "static" or cfg.mask_prob == 0
    _expect(
        static,
        "mask_selection",
        "static, the only selection that masks repeat exactly for",
        cfg.mask_selection,
    )
    unpaired = cfg.unpaired_ratio == 0 or cfg.unpaired_data is not None
    _expect(
        unpaired,
        "unpaired_data",
        "a folder of audio lists where task.unpaired_ratio is set",
        cfg.unpaired_data,
    )
    _expect(cfg.caption_input in ("speech", "text"), "caption_input", "speech or text", cfg.caption_input)
    if cfg.caption_input == "text":
        for key in ("unpaired_ratio", "probe_interval"):
            got = getattr(cfg, key)
            _expect(got == 0, key, "0 with model.caption_encoder=text, which has no SSL loss", got)
    if cfg.unpaired_data is not None and cfg.unpaired_ratio == 0:
        logger.warning("task.unpaired_data is not used while task.unpaired_ratio is 0")


def missing_files(cfg: Any, folder: ManifestFolder) -> list[Fault]:
    """List the files that training needs and that are not there."""
    step = "build it with fairseq-vgs prepare, or correct task.data"
    if not folder.path.is_dir():
        return [Fault(str(folder.path), f"task.data names no folder; {step}")]
    needed = [folder.audio_list(cfg.train_subset), folder.pairs(cfg.train_subset), folder.images]
    faults = [Fault(str(path), f"file is missing; {step}") for path in needed if not path.is_file()]
    if str(cfg.image_input) == "regions":
        regions = (folder.regions, folder.region_features)
        step = (
            f"compute regions with fairseq-vgs prepare regions efficientnet {folder.path}, or let the model "
            "read pictures: task.image_input=pictures model.image_encoder=patches, or model=pictures "
            "model.image_backbone=DIR (a local Hugging Face folder)"
        )
        faults += [Fault(str(path), f"file is missing; {step}") for path in regions if not path.is_file()]
    units = units_file(folder, cfg.text_units)
    if cfg.caption_input == "text" and not units.is_file():
        step = "make it with fairseq-vgs prepare text, or correct task.text_units"
        faults.append(Fault(str(units), f"text units are missing; {step}"))
    if cfg.unpaired_ratio and cfg.unpaired_data is not None:
        path = ManifestFolder(Path(cfg.unpaired_data)).audio_list(cfg.train_subset)
        if not path.is_file():
            faults.append(Fault(str(path), "audio list is missing; correct task.unpaired_data"))
    return faults


def _expect(condition: bool, key: str, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"task.{key}: expected {expected}, got {got!r}; change the setting")

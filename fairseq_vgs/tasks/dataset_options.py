"""From the task's settings to those of a data set; ``cfg`` is a ``VgsPretrainingConfig``."""

from __future__ import annotations

from typing import Any

from fairseq_vgs.data.augmentation import Augmentation
from fairseq_vgs.data.masking import MaskOptions
from fairseq_vgs.data.paired_dataset import VgsDatasetOptions
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.conv_spec import parse_conv_layers


def dataset_options(cfg: Any, *, training: bool) -> VgsDatasetOptions:
    """Say how a split's items are made and batched."""
    seconds = cfg.max_seconds if training else cfg.valid_max_seconds
    mask = MaskOptions(
        prob=cfg.mask_prob,
        length=cfg.mask_length,
        no_overlap=cfg.no_mask_overlap,
        min_space=cfg.mask_min_space,
        dropout=cfg.mask_dropout,
    )
    augmentation = Augmentation(cfg.image_crop_scale, cfg.image_flip, cfg.image_jitter)
    return VgsDatasetOptions(
        layers=parse_conv_layers(cfg.conv_feature_layers),
        max_samples=round(seconds * SAMPLE_RATE),
        pad_to_max=cfg.pad_to_max,
        random_crop=training and str(cfg.crop) == "random",
        normalize=cfg.normalize,
        mask=mask if mask.prob > 0 else None,
        image_size=cfg.image_size or VgsDatasetOptions.image_size,  # null: no pictures
        image_fit=str(cfg.image_fit),
        augmentation=augmentation if training and augmentation != Augmentation() else None,
        seed=cfg.seed,
        training=training,
        length_noise=cfg.length_noise,
        unpaired_ratio=cfg.unpaired_ratio,
        skip_bad=cfg.skip_bad,
    )

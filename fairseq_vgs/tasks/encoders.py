"""Match the model's encoders with the data: pictures for a backbone, units for text."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairseq.dataclass import ChoiceEnum
from omegaconf import open_dict

from fairseq_vgs.data.captions import TextUnits, units_file
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.modules import IMAGE_ENCODERS
from fairseq_vgs.modules.hugging_face import backbone_size, read_backbone
from fairseq_vgs.settings import bad_setting, find_entry, setting
from fairseq_vgs.tasks.settings import resolve_from_launch

logger = logging.getLogger(__name__)


@dataclass
class PictureConfig:
    """Settings of the task for raw pictures. Mirroring is off, since captions say left and right."""

    image_fit: ChoiceEnum(["squeeze", "crop"]) = setting(  # type: ignore[valid-type]
        "squeeze", "raw pictures become square whole (squeeze) or lose their longer sides (crop)"
    )
    image_crop_scale: float = setting(
        1.0, "training: smallest share of a raw picture that a random crop keeps; 1: no crop"
    )
    image_flip: bool = setting(
        False, "training: mirror half of the raw pictures; captions may say left and right"
    )
    image_jitter: float = setting(
        0.0, "training: raw pictures' brightness, contrast, saturation vary by this share"
    )


def build_with_backbone(
    build: Callable[..., Any], model_cfg: Any, task_cfg: Any, *, from_checkpoint: bool
) -> Any:
    """Build a model; at the start of a run, not ``from_checkpoint``, load ``model.image_backbone``'s weights.

    The backbone's configuration is written into the run's settings, so checkpoints load without the folder;
    a null ``task.image_size`` becomes the model's.

    Raises:
        FaultError: the task does not provide what the encoder reads, or the folder cannot be used.
    """
    encoder = getattr(model_cfg, "image_encoder", None)
    reads = None if encoder is None else find_entry(IMAGE_ENCODERS, "model.image_encoder", encoder).reads
    if reads is not None and reads != str(task_cfg.image_input):
        expected, step = (
            f"{reads} for model.image_encoder={encoder}",
            "leave it null, and it follows the encoder",
        )
        raise bad_setting("task.image_input", expected, str(task_cfg.image_input), step)
    path = getattr(model_cfg, "image_backbone", None)
    if encoder != "hugging_face" or path is None or from_checkpoint:
        return build(model_cfg, from_checkpoint)
    folder = resolve_from_launch(path)
    backbone = read_backbone(folder)
    size = getattr(model_cfg, "image_size", None) or backbone_size(backbone)
    with open_dict(model_cfg):
        model_cfg.image_backbone_config = backbone
        model_cfg.image_size = size
    task_cfg.image_size = task_cfg.image_size or size
    if task_cfg.image_size != size:
        expected, step = f"{size}, as model.image_size", "set model.image_size"
        raise bad_setting("task.image_size", expected, task_cfg.image_size, step, code="setting.mismatch")
    logger.info("%s: made for pictures of %d pixels, gets %d", folder, backbone_size(backbone), size)
    model = build(model_cfg, from_checkpoint)
    model.image_encoder.load_pretrained(folder)
    return model


def load_units(cfg: Any, folder: ManifestFolder) -> TextUnits | None:
    """Load the text units that a task's settings name; None where captions are speech."""
    if str(cfg.caption_input) != "text":
        return None
    return TextUnits(units_file(folder, cfg.text_units))


def name_units(model_cfg: Any, cfg: Any, folder: ManifestFolder) -> None:
    """Fill in which units a model of text learns from; settings that are given must agree.

    Raises:
        FaultError: the units cannot be read, or the model's settings belong to other units.
    """
    if str(getattr(model_cfg, "caption_encoder", "speech")) != "text":
        return
    path = units_file(folder, cfg.text_units)
    if model_cfg.text_vocabulary and model_cfg.text_units_sha256 and not path.is_file():
        return  # a checkpoint without its data
    units = TextUnits(path)
    for key, value in (("text_vocabulary", len(units)), ("text_units_sha256", units.sha256)):
        given = getattr(model_cfg, key)
        if given is None:
            setattr(model_cfg, key, value)
        elif given != value:
            expected, step = (
                f"{value}, as in {path}",
                "leave it null, or name the checkpoint's units with task.text_units",
            )
            raise bad_setting(f"model.{key}", expected, given, step, code="setting.mismatch")

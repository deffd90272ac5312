"""Settings of raw pictures, and those of the model that follow from a backbone's directory."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import ChoiceEnum
from omegaconf import open_dict

from fairseq_vgs.modules.hugging_face import backbone_size, read_backbone
from fairseq_vgs.tasks.launch_directory import resolve_from_launch

logger = logging.getLogger(__name__)

_OF_PICTURES = ("patches", "hugging_face")


@dataclass
class PictureConfig:
    """How raw pictures are read, a part of the task's settings.

    Mirroring is off: captions say left and right.
    """

    image_fit: ChoiceEnum(["squeeze", "crop"]) = field(  # type: ignore[valid-type]
        default="squeeze",
        metadata={"help": "raw pictures become square whole (squeeze) or lose their longer sides (crop)"},
    )
    image_crop_scale: float = field(
        default=1.0,
        metadata={"help": "training: smallest share of a raw picture that a random crop keeps; 1: no crop"},
    )
    image_flip: bool = field(
        default=False,
        metadata={"help": "training: mirror half of the raw pictures; captions may say left and right"},
    )
    image_jitter: float = field(
        default=0.0,
        metadata={"help": "training: raw pictures' brightness, contrast, saturation vary by this share"},
    )


def build_with_backbone(
    build: Callable[..., Any], model_cfg: Any, task_cfg: Any, *, from_checkpoint: bool
) -> Any:
    """Build a model; where a run starts, read ``model.image_backbone`` and load its weights.

    What the directory says is written into the run's own settings, of which fairseq gives the model a copy:
    checkpoints hold all that builds the backbone, and its weights, and load without the directory.

    Args:
        build: fairseq's ``build_model``.
        model_cfg: The model's settings.
        task_cfg: The task's; a null ``image_size`` becomes the model's.
        from_checkpoint: A checkpoint is loaded; directories stay unread.

    Raises:
        ValueError: The directory cannot be used, or the task gives no pictures.
    """
    encoder = getattr(model_cfg, "image_encoder", None)
    if encoder in _OF_PICTURES and str(task_cfg.image_input) != "pictures":
        raise ValueError(
            f"task.image_input: expected pictures for model.image_encoder={encoder}, got "
            f"{task_cfg.image_input}; set task.image_input=pictures"
        )
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
        raise ValueError(
            f"task.image_size: expected model.image_size, {size}, got {task_cfg.image_size}; set the model's"
        )
    logger.info("%s: made for pictures of %d pixels, gets %d", folder, backbone_size(backbone), size)
    model = build(model_cfg, from_checkpoint)
    model.image_encoder.load_pretrained(folder)
    return model

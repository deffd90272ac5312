"""Settings of a pre-trained image backbone."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum


@dataclass
class ImageBackboneConfig:
    """What ``model.image_encoder=hugging_face`` reads, a part of the model's settings."""

    image_backbone: Optional[str] = field(
        default=None, metadata={"help": "local Hugging Face directory, read when training starts"}
    )
    image_backbone_config: Optional[str] = field(
        default=None, metadata={"help": "what builds that model, as JSON; training fills it in"}
    )
    image_backbone_frozen: bool = field(default=True, metadata={"help": "the backbone is not trained"})
    image_backbone_output: ChoiceEnum(["pooled", "tokens"]) = field(  # type: ignore[valid-type]
        default="pooled", metadata={"help": "of the backbone: one vector, or tokens for the transformer"}
    )

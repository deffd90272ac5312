"""Which model a configuration asks for: over speech, or over text in its place."""

from typing import Any

from fairseq.models import BaseFairseqModel, register_model

from fairseq_vgs.models.settings import VgsWav2Vec2Config
from fairseq_vgs.models.vgs_text import VgsTextModel
from fairseq_vgs.models.vgs_wav2vec2 import VgsWav2Vec2Model


@register_model("vgs_wav2vec2", dataclass=VgsWav2Vec2Config)
class VgsModel(BaseFairseqModel):
    """What fairseq finds under the name; it has no instances of its own."""

    @classmethod
    def build_model(cls, cfg: VgsWav2Vec2Config, task: Any = None) -> VgsWav2Vec2Model:
        """Build the model, checking it against the task's data.

        The task has filled in null settings (`image_dim`, text units), so that checkpoints hold the numbers.

        Raises:
            ValueError: a setting is impossible, or does not fit the task's pictures.
        """
        region_dim = getattr(task, "region_dim", None)
        if cfg.image_encoder == "regions" and region_dim is not None and region_dim != cfg.image_dim:
            raise ValueError(
                f"model.image_dim: expected {region_dim}, the dims of the region features in task.data, got "
                f"{cfg.image_dim}; set model.image_dim={region_dim}"
            )
        return VgsTextModel(cfg) if str(cfg.caption_encoder) == "text" else VgsWav2Vec2Model(cfg)

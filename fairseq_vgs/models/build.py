"""Choose the model that a configuration describes: over speech or over text."""

from typing import Any

from fairseq.models import BaseFairseqModel, register_model

from fairseq_vgs.models.settings import VgsWav2Vec2Config
from fairseq_vgs.models.vgs_text import VgsTextModel
from fairseq_vgs.models.vgs_wav2vec2 import VgsWav2Vec2Model
from fairseq_vgs.settings import bad_setting


@register_model("vgs_wav2vec2", dataclass=VgsWav2Vec2Config)
class VgsModel(BaseFairseqModel):
    """The class that fairseq finds by name; it builds another model and has no instances."""

    @classmethod
    def build_model(cls, cfg: VgsWav2Vec2Config, task: Any = None) -> VgsWav2Vec2Model:
        """Build the model, checking it against the task's data.

        The task has already filled in null settings (``image_dim``, text units), so checkpoints hold them.

        Raises:
            FaultError: a setting is impossible, or does not fit the task's pictures.
        """
        region_dim = getattr(task, "region_dim", None)
        if cfg.image_encoder == "regions" and region_dim is not None and region_dim != cfg.image_dim:
            expected = f"{region_dim}, the dims of the region features in task.data"
            step = f"set model.image_dim={region_dim}"
            raise bad_setting("model.image_dim", expected, cfg.image_dim, step, code="setting.mismatch")
        return VgsTextModel(cfg) if str(cfg.caption_encoder) == "text" else VgsWav2Vec2Model(cfg)

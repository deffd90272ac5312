"""Registered models. Importing this package registers them with fairseq."""

# fairseq comes first: importing it registers this package, which must not be half imported then
import fairseq  # noqa: F401

from fairseq_vgs.models.build import VgsModel
from fairseq_vgs.models.settings import VgsWav2Vec2Config
from fairseq_vgs.models.vgs_text import VgsTextModel
from fairseq_vgs.models.vgs_wav2vec2 import VgsWav2Vec2Model

__all__ = ["VgsModel", "VgsTextModel", "VgsWav2Vec2Config", "VgsWav2Vec2Model"]

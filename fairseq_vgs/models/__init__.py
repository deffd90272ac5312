"""Registered models. Importing this package registers them with fairseq."""

from fairseq_vgs.models.vgs_wav2vec2 import VgsWav2Vec2Config, VgsWav2Vec2Model

__all__ = ["VgsWav2Vec2Config", "VgsWav2Vec2Model"]

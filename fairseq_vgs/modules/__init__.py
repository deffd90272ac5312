"""Image encoders and speech heads: plain torch, usable in a notebook."""

from fairseq_vgs.modules.registry import (
    IMAGE_ENCODERS,
    SPEECH_HEADS,
    ImageEncoderSettings,
    SpeechHeadSettings,
)

__all__ = ["IMAGE_ENCODERS", "SPEECH_HEADS", "ImageEncoderSettings", "SpeechHeadSettings"]

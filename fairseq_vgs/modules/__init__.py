"""Image encoders and speech heads: plain torch, usable in a notebook.

Every file of this package is imported, so that one file with a `register_...` decorator adds a module.
"""

import importlib
import pkgutil

from fairseq_vgs.modules.config import ImageEncoderConfig, SpeechHeadConfig
from fairseq_vgs.modules.registry import (
    IMAGE_ENCODERS,
    SPEECH_HEADS,
    build_image_encoder,
    build_speech_head,
    register_image_encoder,
    register_speech_head,
)

__all__ = [
    "IMAGE_ENCODERS",
    "SPEECH_HEADS",
    "ImageEncoderConfig",
    "SpeechHeadConfig",
    "build_image_encoder",
    "build_speech_head",
    "register_image_encoder",
    "register_speech_head",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

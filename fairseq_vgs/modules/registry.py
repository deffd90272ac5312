"""Registries of image encoders and speech heads.

A further one is one file in this package (all its files are imported), or anywhere that is imported before
the model is built:

    @register_image_encoder("mine")
    class MyEncoder(nn.Module):
        def __init__(self, config: ImageEncoderConfig) -> None: ...
        def forward(self, image: dict[str, Tensor]) -> Tensor: ...  # [P, config.output_dim]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from fairseq_vgs.modules.config import ImageEncoderConfig, SpeechHeadConfig

__all__ = [
    "IMAGE_ENCODERS",
    "SPEECH_HEADS",
    "build_image_encoder",
    "build_speech_head",
    "register_image_encoder",
    "register_speech_head",
]

ModuleClass = TypeVar("ModuleClass", bound=type[nn.Module])

IMAGE_ENCODERS: dict[str, type[nn.Module]] = {}
SPEECH_HEADS: dict[str, type[nn.Module]] = {}


def register_image_encoder(name: str) -> Callable[[ModuleClass], ModuleClass]:
    """Class decorator: makes an image encoder available under `name`.

    The class takes an `ImageEncoderConfig`; its forward takes the batch's image dictionary and returns
    `[P, output_dim]`.
    """
    return _registrar(IMAGE_ENCODERS, "image encoder", name)


def register_speech_head(name: str) -> Callable[[ModuleClass], ModuleClass]:
    """Class decorator: makes a speech head available under `name`.

    The class takes a `SpeechHeadConfig` and has a class attribute `needs_cls: bool`; its forward takes
    `(frames [P, T, D], *, cls [P, D] | None, padding_mask [P, T] | None)` and returns `[P, output_dim]`.
    """
    return _registrar(SPEECH_HEADS, "speech head", name)


def build_image_encoder(name: str, config: ImageEncoderConfig) -> nn.Module:
    """Builds the image encoder registered under `name`; ValueError lists the known ones."""
    return _lookup(IMAGE_ENCODERS, "image encoder", name)(config)


def build_speech_head(name: str, config: SpeechHeadConfig) -> nn.Module:
    """Builds the speech head registered under `name`; ValueError lists the known ones."""
    return _lookup(SPEECH_HEADS, "speech head", name)(config)


def _registrar(
    registry: dict[str, type[nn.Module]], kind: str, name: str
) -> Callable[[ModuleClass], ModuleClass]:
    def register(module_class: ModuleClass) -> ModuleClass:
        if name in registry:
            raise ValueError(f"{kind} {name!r}: is registered already ({registry[name].__qualname__})")
        registry[name] = module_class
        return module_class

    return register


def _lookup(registry: dict[str, type[nn.Module]], kind: str, name: str) -> type[nn.Module]:
    if name not in registry:
        raise ValueError(f"{kind}: expected one of {', '.join(sorted(registry))}, got {name!r}")
    return registry[name]

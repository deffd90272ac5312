"""Registries of image encoders and speech heads, and the settings that all of them share.

To add one, write a file in this package or in an extension (see docs/extend.md):

```python
@IMAGE_ENCODERS.register("mine")
class MyEncoder(nn.Module):
    reads = "pictures"
    Settings = ImageEncoderSettings  # or a dataclass derived from it

    def __init__(self, settings: ImageEncoderSettings) -> None: ...
    def forward(self, image: dict[str, Tensor]) -> Tensor: ...  # f[P, settings.output_dim]
```

A speech head has ``needs_cls: bool`` in place of ``reads``, and its forward takes ``(frames f[P, T, D], *,
cls f[P, D] | None, padding_mask bool[P, T] | None)``.
"""

from __future__ import annotations

import typing
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from fairseq_vgs.registry import Registry
from fairseq_vgs.settings import SettingError, from_config

IMAGE_ENCODERS: Registry[Any] = Registry("image encoder", "fairseq_vgs.modules")
SPEECH_HEADS: Registry[Any] = Registry("speech head", "fairseq_vgs.modules")


@dataclass(frozen=True)
class ImageEncoderSettings:
    """Settings that every image encoder gets: dimensions of its embedding."""

    output_dim: int = from_config("embed_dim", default=768)


@dataclass(frozen=True)
class SpeechHeadSettings:
    """Settings that every speech head gets: dimensions of frames and CLS vector, and of its embedding."""

    input_dim: int = from_config("encoder_embed_dim", default=768)
    output_dim: int = from_config("embed_dim", default=768)


def check_fields(settings: Any, *, may_be_zero: Collection[str] = ()) -> None:
    """Refuse integers that are not positive, dropouts outside [0, 1), and unknown choices (SettingError)."""
    hints = typing.get_type_hints(type(settings))
    for field in fields(settings):
        value, kind = getattr(settings, field.name), hints[field.name]
        if typing.get_origin(kind) is typing.Literal:
            if value not in typing.get_args(kind):
                raise SettingError(field.name, " or ".join(typing.get_args(kind)), value)
        elif "dropout" in field.name:
            if not 0.0 <= value < 1.0:
                raise SettingError(field.name, "0 <= p < 1", value)
        elif type(value) is int and value < (least := int(field.name not in may_be_zero)):
            raise SettingError(field.name, f"at least {least}", value)


def expect_divisor(settings: Any, divisor: str, of: str, value: int) -> None:
    """Refuse a size that does not divide another: SettingError of the field ``divisor``."""
    if value % getattr(settings, divisor):
        raise SettingError(divisor, f"a divisor of {of} ({value})", getattr(settings, divisor))

"""Initial weights of the image branch and of the speech head, as in the authors' code."""

from __future__ import annotations

from torch import nn

__all__ = ["init_like_bert"]

LINEAR_STD = 0.02


def init_like_bert(module: nn.Module) -> None:
    """Draws linear weights from N(0, 0.02), sets biases to 0 and layer norms to identity; for `nn.Module.apply`.

    The public FaST-VGS-Family and scheduled_VGS_plus code applies this to the whole dual encoder.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=LINEAR_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)

"""Registries: known names, readable errors, a third module from one file."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fairseq_vgs import modules
from fairseq_vgs.modules import (
    IMAGE_ENCODERS,
    SPEECH_HEADS,
    ImageEncoderConfig,
    SpeechHeadConfig,
    build_image_encoder,
    build_speech_head,
    register_image_encoder,
    register_speech_head,
)


def test_known_names() -> None:
    assert {"regions", "patches"} <= set(IMAGE_ENCODERS)
    assert {"resdavenet", "attention"} <= set(SPEECH_HEADS)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"image encoder: expected one of .*patches, regions, got 'clip'"):
        build_image_encoder("clip", ImageEncoderConfig())
    with pytest.raises(ValueError, match=r"speech head: expected one of attention, .*resdavenet, got 'mean'"):
        build_speech_head("mean", SpeechHeadConfig())


def test_a_third_one_is_a_decorated_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairseq_vgs.modules.registry.IMAGE_ENCODERS", dict(IMAGE_ENCODERS))

    @register_image_encoder("mean_colour")
    class MeanColour(nn.Module):
        def __init__(self, config: ImageEncoderConfig) -> None:
            super().__init__()
            self.linear = nn.Linear(3, config.output_dim)

        def forward(self, image: dict[str, Tensor]) -> Tensor:
            embedding: Tensor = self.linear(image["pictures"].mean(dim=(2, 3)))
            return embedding

    encoder = build_image_encoder("mean_colour", ImageEncoderConfig(output_dim=5))
    assert encoder({"pictures": torch.zeros(2, 3, 8, 8)}).shape == (2, 5)
    with pytest.raises(ValueError, match="'mean_colour': is registered already"):
        register_image_encoder("mean_colour")(MeanColour)


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="speech head 'attention': is registered already"):
        register_speech_head("attention")(nn.Linear)


def test_every_file_of_the_package_is_imported() -> None:
    """So that a new file registers itself."""
    files = Path(modules.__file__).parent.glob("*.py")
    names = {f"fairseq_vgs.modules.{file.stem}" for file in files if file.stem != "__init__"}
    assert "fairseq_vgs.modules.attention_pooling" in names
    assert names <= set(sys.modules)

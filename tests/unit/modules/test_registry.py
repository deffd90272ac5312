"""Registries of modules: known names, and another one from a decorated class."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from fairseq_vgs import modules
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.modules import IMAGE_ENCODERS, SPEECH_HEADS, ImageEncoderSettings
from fairseq_vgs.settings import build_entry


@pytest.fixture
def mean_colour() -> Iterator[None]:
    @IMAGE_ENCODERS.register("mean_colour")
    class MeanColour(nn.Module):
        @dataclass(frozen=True)
        class Settings(ImageEncoderSettings):
            brightness: float = 1.0

        def __init__(self, settings: Settings) -> None:
            super().__init__()
            self.brightness = settings.brightness
            self.linear = nn.Linear(3, settings.output_dim)

        def forward(self, image: dict[str, Tensor]) -> Tensor:
            embedding: Tensor = self.linear(image["pictures"].mean(dim=(2, 3)) * self.brightness)
            return embedding

    yield
    del IMAGE_ENCODERS._entries["mean_colour"]


def test_known_names() -> None:
    assert {"regions", "patches", "hugging_face"} <= set(IMAGE_ENCODERS)
    assert {"resdavenet", "attention"} <= set(SPEECH_HEADS)


def test_another_one_is_a_decorated_class_with_settings_of_its_own(mean_colour: None) -> None:
    del mean_colour
    cfg = SimpleNamespace(image_encoder="mean_colour", embed_dim=5, image_encoder_settings={"brightness": 2})
    encoder = build_entry(IMAGE_ENCODERS, "model.image_encoder", cfg)
    assert encoder.brightness == 2.0
    assert encoder({"pictures": torch.zeros(2, 3, 8, 8)}).shape == (2, 5)
    cfg.image_encoder_settings = {"brightnes": 2}
    with pytest.raises(FaultError) as caught:
        build_entry(IMAGE_ENCODERS, "model.image_encoder", cfg)
    assert caught.value.codes == ("setting.unknown",)
    assert caught.value.faults[0].place == "model.image_encoder_settings.brightnes"


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="speech head 'attention' is already registered"):
        SPEECH_HEADS.register("attention")(nn.Linear)


def test_every_file_of_the_package_is_imported() -> None:
    """So that a new file registers itself."""
    assert IMAGE_ENCODERS["regions"]
    files = Path(modules.__file__).parent.glob("*.py")
    names = {f"fairseq_vgs.modules.{file.stem}" for file in files if file.stem != "__init__"}
    assert "fairseq_vgs.modules.attention_pooling" in names
    assert names <= set(sys.modules)

"""Settings of image encoders and speech heads: the paper's defaults, and errors that name the field."""

from typing import Any

import pytest

from fairseq_vgs.modules.patches import PatchEncoder
from fairseq_vgs.modules.regions import RegionEncoder
from fairseq_vgs.modules.resdavenet import ResDavenetSettings
from fairseq_vgs.settings import SettingError


def test_defaults_are_the_papers() -> None:
    image, speech = RegionEncoder.Settings(), ResDavenetSettings()
    assert (image.input_dim, image.embed_dim, image.layers, image.heads) == (2048, 768, 6, 12)
    assert (speech.bottleneck_dim, speech.widths, speech.kernel_size) == (128, (128, 256, 512, 768), 9)
    assert (speech.norm, speech.blocks_per_stage) == ("batch", 2)


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({"heads": 7}, "heads", "a divisor of embed_dim (768)"),
        ({"patch_size": 15}, "patch_size", "a divisor of image_size (224)"),
        ({"embed_dim": 0}, "embed_dim", "at least 1"),
        ({"layers": -1}, "layers", "at least 0"),
        ({"dropout": 1.0}, "dropout", "0 <= p < 1"),
        ({"embed_dim": 6, "heads": 2}, "embed_dim", "a multiple of 4 for patches"),
    ],
)
def test_image_errors(settings: dict[str, Any], name: str, expected: str) -> None:
    with pytest.raises(SettingError) as caught:
        PatchEncoder.Settings(**settings)
    assert (caught.value.name, caught.value.expected) == (name, expected)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (8, 0)}, "widths"),
        ({"kernel_size": 8}, "kernel_size"),
        ({"norm": "layer"}, "norm"),
        ({"padding": "zero"}, "padding"),
        ({"attention_dropout": -0.1}, "attention_dropout"),
        ({"heads": 0}, "heads"),
        ({"widths": (8, 16), "heads": 3}, "heads"),
    ],
)
def test_speech_errors(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(SettingError) as caught:
        ResDavenetSettings(**settings)
    assert caught.value.name == name

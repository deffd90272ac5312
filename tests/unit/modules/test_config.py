"""Sizes: the paper's defaults, and errors that name the field."""

import pytest

from fairseq_vgs.modules import ImageEncoderConfig, SpeechHeadConfig


def test_defaults_are_the_papers() -> None:
    image, speech = ImageEncoderConfig(), SpeechHeadConfig()
    assert (image.input_dim, image.embed_dim, image.layers, image.heads) == (2048, 768, 6, 12)
    assert (speech.bottleneck_dim, speech.widths, speech.kernel_size) == (128, (128, 256, 512, 768), 9)
    assert (speech.norm, speech.blocks_per_stage) == ("batch", 2)


def test_widths_become_a_tuple() -> None:
    assert SpeechHeadConfig(widths=[8, 16]).widths == (8, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 7}, "ImageEncoderConfig.heads: expected a divisor of embed_dim .768., got 7"),
        ({"patch_size": 15}, "ImageEncoderConfig.patch_size: expected a divisor of image_size"),
        ({"embed_dim": 0}, "ImageEncoderConfig.embed_dim: expected a positive integer, got 0"),
        ({"layers": -1}, "ImageEncoderConfig.layers: expected at least 0, got -1"),
        ({"dropout": 1.0}, "ImageEncoderConfig.dropout: expected 0 <= p < 1, got 1.0"),
    ],
)
def test_image_errors(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageEncoderConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "SpeechHeadConfig.widths: expected at least one positive width"),
        ({"widths": (8, 0)}, "SpeechHeadConfig.widths: expected at least one positive width"),
        ({"kernel_size": 8}, "SpeechHeadConfig.kernel_size: expected an odd number, got 8"),
        ({"norm": "layer"}, "SpeechHeadConfig.norm: expected batch or group, got 'layer'"),
        ({"padding": "zero"}, "SpeechHeadConfig.padding: expected exact or fast_vgs, got 'zero'"),
        ({"attention_dropout": -0.1}, "SpeechHeadConfig.attention_dropout: expected 0 <= p < 1"),
        ({"heads": 0}, "SpeechHeadConfig.heads: expected a positive integer"),
    ],
)
def test_speech_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechHeadConfig(**settings)  # type: ignore[arg-type]

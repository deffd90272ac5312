import logging

import pytest
from support.tiny_folder import task_config

from fairseq_vgs.tasks.settings import check_config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_seconds", 0.01, "at least 3 frames"),
        ("valid_max_seconds", -1.0, "at least 3 frames"),
        ("similarity", "euclidean", "dot or cosine"),
        ("image_size", 0, "positive"),
        ("max_regions", 0, "positive"),
        ("mask_length", 0, "positive"),
        ("seed", -1, "0 or more"),
        ("mask_min_space", -1, "0 or more"),
        ("unpaired_ratio", -0.5, "0 or more"),
        ("length_noise", 1.0, "below 1"),
        ("mask_dropout", 1.0, "below 1"),
        ("mask_prob", 1.5, "between 0 and 1"),
        ("mask_selection", "poisson", "static, the only selection"),
        ("conv_feature_layers", "__import__('os')", "conv_feature_layers"),
    ],
)
def test_impossible_settings_are_named(key, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_config(task_config("data", **{key: value}))
    assert key in str(caught.value)


def test_unpaired_speech_needs_its_folder(caplog):
    with pytest.raises(ValueError, match=r"task\.unpaired_data: expected a folder"):
        check_config(task_config("data", unpaired_ratio=0.5))
    with caplog.at_level(logging.WARNING):
        check_config(task_config("data", unpaired_data="speech"))
    assert "task.unpaired_data is not used" in caplog.text


def test_the_defaults_pass():
    check_config(task_config("data"))
    check_config(task_config("data", mask_prob=0.0, mask_selection="poisson"))

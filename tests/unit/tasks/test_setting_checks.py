import logging

import pytest
from support.faults import raises_fault
from support.tiny_folder import task_config

from fairseq_vgs.tasks.settings import check_config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_seconds", 0.01),
        ("valid_max_seconds", -1.0),
        ("similarity", "euclidean"),
        ("image_size", 0),
        ("max_regions", 0),
        ("mask_length", 0),
        ("seed", -1),
        ("mask_min_space", -1),
        ("unpaired_ratio", -0.5),
        ("train_pairs", -1),
        ("length_noise", 1.0),
        ("mask_dropout", 1.0),
        ("mask_prob", 1.5),
        ("mask_selection", "poisson"),
        ("conv_feature_layers", "__import__('os')"),
    ],
)
def test_impossible_settings_are_named(key, value):
    with raises_fault("setting.value", f".{key}"):
        check_config(task_config("data", **{key: value}))


def test_unpaired_speech_needs_its_folder(caplog):
    with raises_fault("setting.value", "task.unpaired_data"):
        check_config(task_config("data", unpaired_ratio=0.5))
    with caplog.at_level(logging.WARNING):
        check_config(task_config("data", unpaired_data="speech"))
    assert "task.unpaired_data is not used" in caplog.text


def test_the_defaults_pass():
    check_config(task_config("data"))
    check_config(task_config("data", mask_prob=0.0, mask_selection="poisson"))

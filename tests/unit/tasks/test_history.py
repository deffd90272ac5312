import json

import pytest
import torch

from fairseq_vgs.tasks.history import TrainingHistory, unfinished


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_appends_numbers_only(tmp_path):
    path = tmp_path / "run" / "history.jsonl"
    history = TrainingHistory(path)
    history.append("train", 1, {"loss": torch.tensor(2.5), "_hidden": 1, "name": "x", "nan": float("nan")})
    history.append("valid", 1, {"speech_to_image_r10": 80})
    assert records(path) == [
        {"split": "train", "update": 1, "loss": 2.5, "nan": None},
        {"split": "valid", "update": 1, "speech_to_image_r10": 80.0},
    ]


def test_goes_on_after_a_line_that_a_kill_cut_off(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"split": "train", "update": 1}\n{"split": "tr')
    TrainingHistory(path).append("train", 2, {"loss": 1})
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["update"] == 1
    assert json.loads(lines[2]) == {"split": "train", "update": 2, "loss": 1.0}


@pytest.mark.parametrize(
    ("recalls", "chance", "said"),
    [
        ([(80, 10.0), (160, 11.0)], 10.0, "11.0 % at update 160, near chance (10.0 %)"),
        ([(320, 4.9)], 5.0, "has not left its plateau"),
        ([(240, 61.0), (320, 86.5)], 10.0, "from 61.0 to 86.5 % up to the last update, 320"),
        ([(240, 99.5), (320, 100.0)], 10.0, ""),
        ([(320, 64.0)], 10.0, ""),
        ([(4, 100.0)], 100.0, ""),  # ten pictures, of which any order has all among the first ten
    ],
)
def test_runs_that_have_not_learned_enough_are_told_so(recalls, chance, said):
    warning = unfinished(recalls, chance=chance)
    assert said in warning
    assert bool(warning) == bool(said)
    assert not said or "common.seed" in warning

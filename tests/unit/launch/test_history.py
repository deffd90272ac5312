"""A run followed by its history."""

import json

from fairseq_vgs.launch.history import read_position


def test_position_is_the_last_whole_record_of_training(tmp_path):
    history = tmp_path / "history.jsonl"
    assert read_position(history) == (0, "")
    records = [
        {"split": "train", "update": update, "ssl_loss": 4.0, "pad": "x" * 99} for update in range(1, 200)
    ]
    records.append({"split": "train", "update": 200, "ssl_loss": 2.5, "vgs_loss": 1.25, "lr": 0.1})
    records.append({"split": "valid", "update": 200, "ssl_loss": 9.0})
    history.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"split": "train", "upd')
    assert read_position(history) == (200, "SSL 2.500 VGS 1.250")
    history.write_text(json.dumps({"split": "valid", "update": 5}) + "\n")
    assert read_position(history) == (0, "")

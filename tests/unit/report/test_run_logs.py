"""fairseq's logs: JSON and text, repeated lines, resumed runs, foreign lines; and probes."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
from fairseq.logging import progress_bar as fairseq_bars
from support.faults import raises_fault

from fairseq_vgs.report import run_logs
from fairseq_vgs.tasks.history import TrainingHistory


def _inner(update, **values):
    numbers = {name: str(value) for name, value in values.items()}
    return (
        json.dumps({"epoch": 1, "update": 0.5, **numbers, "num_updates": str(update), "lr": "0.001"}) + "\n"
    )


def _valid(update, **values):
    numbers = {f"valid_{name}": str(value) for name, value in values.items()}
    return json.dumps({"epoch": 1, **numbers, "valid_num_updates": str(update)}) + "\n"


def _curve(log, part, name):
    curve = log.curve(part, name)
    return list(zip(curve.updates.tolist(), curve.values.tolist(), strict=True))


def test_json_lines_become_curves():
    log = run_logs.parse_training_log(
        [
            _inner(10, loss=5.5, vgs_loss=3, alpha=0.5),
            _inner(20, loss=4.5, vgs_loss=2, alpha=0.5),
            _valid(20, loss=5, speech_to_image_r10=12.5),
            json.dumps({"epoch": 1, "train_loss": "5", "train_wall": "7", "train_num_updates": "20"}),
        ]
    )
    assert _curve(log, "train", "loss") == [(10, 5.5), (20, 4.5)]
    assert _curve(log, "train", "wall") == [(20, 7.0)]
    assert _curve(log, "valid", "speech_to_image_r10") == [(20, 12.5)]
    assert log.validation_parts == ["valid"]
    assert log.last("train", "vgs_loss") == 2
    assert log.last("train", "absent") is None


def test_repeats_are_read_once_and_resumed_runs_replace_what_they_redo():
    log = run_logs.parse_training_log(
        [
            *[_inner(10, loss=5)] * 3,
            _inner(20, loss=4),
            _valid(20, loss=4.2),
            _inner(30, loss=3),
            _inner(35, loss=2.9),
            _valid(35, loss=2.8),
            _inner(30, loss=3.1),
            _inner(40, loss=2.5),
        ]
    )
    assert _curve(log, "train", "loss") == [(10, 5.0), (20, 4.0), (30, 3.1), (40, 2.5)]
    assert _curve(log, "valid", "loss") == [(20, 4.2)]
    assert log.n_rewinds == 1


def test_other_lines_are_passed_over():
    log = run_logs.parse_training_log(
        [
            "[2025-01-01 10:00:00,000][fairseq_cli.train][INFO] - {'model': 1}\n",
            "[2025-01-01 10:00:00,000][train_inner][INFO] - " + _inner(10, loss=1.5),
            "{broken json\n",
            "[1, 2]\n",
            '{"no": "updates"}\n',
            _inner(20, loss="nan", note="text"),
        ]
    )
    curve = log.curve("train", "loss")
    assert curve.updates.tolist() == [10, 20]
    assert np.isnan(curve.values[1])
    assert log.curve("train", "note") is None


def test_history_of_the_task(tmp_path):
    history = TrainingHistory(tmp_path / "history.jsonl")
    history.append("train", 1, {"loss": 5.0, "alpha": 0.5})
    history.append("train", 2, {"loss": float("nan"), "alpha": 0.5})
    history.append("valid", 2, {"speech_to_image_r1": 10.0, "num_updates": 2})
    history.append("train", 2, {"loss": 4.0})  # resumed
    history.append("valid", 2, {"speech_to_image_r1": 11.0})
    log = run_logs.read_training_log(tmp_path / "history.jsonl")
    assert _curve(log, "train", "loss") == [(1, 5.0), (2, 4.0)]
    assert _curve(log, "valid", "speech_to_image_r1") == [(2, 11.0)]
    assert log.curve("train", "split") is None


def test_damaged_lines_of_a_history_are_named(tmp_path, caplog):
    path = tmp_path / "history.jsonl"
    whole = [json.dumps({"split": "train", "update": update, "loss": 1.0}) for update in (1, 2, 3, 4)]
    path.write_text("\n".join([whole[0], whole[1][:20], "\0" * 30, "", whole[2].replace("{", "k"), whole[3]]))
    log = run_logs.read_training_log(path)
    assert _curve(log, "train", "loss") == [(1, 1.0), (4, 1.0)]
    assert f"{path}: damaged lines are left out: 2, 3, 5;" in caplog.text
    caplog.clear()
    path.write_text('text\n{"epoch": 1, "train_loss": "2", "train_num_updates": "5"}\n{"cut\n')  # of fairseq
    run_logs.read_training_log(path)
    assert f"{path}: damaged lines are left out: 3;" in caplog.text


def test_text_log():
    log = run_logs.parse_training_log(
        [
            "epoch 001:     10 / 50 loss=6.1, alpha=0.5, wps=1,200, num_updates=10, lr=0.0001\n",
            "epoch 001 | valid on 'valid' subset | loss 5.1 | speech_to_image_r1 2.5 | num_updates 50",
            "epoch 001 | loss 5.4 | vgs_loss 5.2 | num_updates 50 | lr 0.0001 | train_wall 9\n",
        ]
    )
    assert _curve(log, "train", "loss") == [(10, 6.1)]
    assert _curve(log, "train", "train_wall") == [(50, 9.0)]
    assert _curve(log, "valid", "speech_to_image_r1") == [(50, 2.5)]


@pytest.mark.parametrize("log_format", ["json", "simple"])
def test_what_fairseq_itself_writes_is_read(tmp_path, log_format):
    path = tmp_path / "train.jsonl"
    logger = logging.getLogger("fairseq.logging.progress_bar")
    before, level = list(logger.handlers), logger.level
    logger.setLevel(logging.INFO)
    try:
        for epoch in (1, 2):  # every epoch adds a handler: lines of the second are written twice
            bar = fairseq_bars.progress_bar(
                list(range(4)), log_format=log_format, log_interval=1, log_file=str(path), epoch=epoch
            )
            for index, _ in enumerate(bar):
                update = 4 * (epoch - 1) + index + 1
                bar.log({"loss": 10.0 - update, "num_updates": update}, tag="train_inner", step=update)
            bar.print({"loss": 7.0, "num_updates": 4 * epoch}, tag="train", step=4 * epoch)
    finally:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
    log = run_logs.read_training_log(path)
    assert _curve(log, "train", "loss") == [(update, 10.0 - update) for update in range(1, 9)]


def test_logs_without_updates_are_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text("nothing here\n")
    for name, code in (("train.jsonl", "log.empty"), ("absent.jsonl", "log.unreadable")):
        with raises_fault(code, str(tmp_path / name), error=run_logs.TrainingLogError):
            run_logs.read_training_log(tmp_path / name)


def probe(update, cosine=0.5):
    return json.dumps({
        "update": update,
        "gradient_cosine": {"layer_1": cosine},
        "gradient_norm_ssl": {"layer_1": 2},
        "gradient_norm_vgs": {"layer_1": 0.0},
        "cka": {},
    })  # fmt: skip


def read_lines(tmp_path, *lines):
    (tmp_path / "probes.jsonl").write_text("\n".join(lines) + "\n")
    return run_logs.read_probes(tmp_path / "probes.jsonl")


def test_numbers_and_null(tmp_path):
    first, second = read_lines(tmp_path, probe(0), probe(10, cosine=None))
    assert (first.update, first.gradient_cosine, first.gradient_norm_ssl) == (
        0,
        {"layer_1": 0.5},
        {"layer_1": 2.0},
    )
    assert math.isnan(second.gradient_cosine["layer_1"])
    assert second.cka == {}


def test_the_later_record_of_an_update_counts(tmp_path):
    records = read_lines(tmp_path, probe(0), probe(10), probe(20, 0.1), probe(20, 0.2), probe(30))
    assert [(r.update, r.gradient_cosine["layer_1"]) for r in records] == [
        (0, 0.5),
        (10, 0.5),
        (20, 0.2),
        (30, 0.5),
    ]


def test_what_lies_beyond_the_point_of_resumption_counts_no_more(tmp_path):
    assert [r.update for r in read_lines(tmp_path, probe(0), probe(10), probe(20), probe(10))] == [0, 10]


def test_cut_and_foreign_lines_are_named_and_passed_over(tmp_path, caplog):
    lines = [probe(0), '{"update": 10, "gra', "", "[1]", '{"split": "train"}', probe(20)]
    assert [r.update for r in read_lines(tmp_path, *lines)] == [0, 20]
    assert "damaged lines are left out: 2, 4, 5;" in caplog.text


def test_logs_without_probes_are_refused(tmp_path):
    with raises_fault("log.unreadable", "absent.jsonl", error=run_logs.TrainingLogError):
        run_logs.read_probes(tmp_path / "absent.jsonl")
    with raises_fault("log.empty", "probes.jsonl", error=run_logs.TrainingLogError):
        read_lines(tmp_path, "{}")

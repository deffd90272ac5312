"""Reading probes: cut lines, resumed runs, numbers that are none."""

import json
import math

import pytest

from fairseq_vgs.report.probe_log import read_probes
from fairseq_vgs.report.training_log import TrainingLogError


def line(update, cosine=0.5):
    return json.dumps({
        "update": update,
        "gradient_cosine": {"layer_1": cosine},
        "gradient_norm_ssl": {"layer_1": 2},
        "gradient_norm_vgs": {"layer_1": 0.0},
        "cka": {},
    })  # fmt: skip


def read(tmp_path, *lines):
    (tmp_path / "probes.jsonl").write_text("\n".join(lines) + "\n")
    return read_probes(tmp_path / "probes.jsonl")


def test_numbers_and_null(tmp_path):
    first, second = read(tmp_path, line(0), line(10, cosine=None))
    assert (first.update, first.gradient_cosine, first.gradient_norm_ssl) == (
        0,
        {"layer_1": 0.5},
        {"layer_1": 2.0},
    )
    assert math.isnan(second.gradient_cosine["layer_1"])
    assert second.cka == {}


def test_the_later_record_of_an_update_counts(tmp_path):
    records = read(tmp_path, line(0), line(10), line(20, 0.1), line(20, 0.2), line(30))
    assert [(r.update, r.gradient_cosine["layer_1"]) for r in records] == [
        (0, 0.5),
        (10, 0.5),
        (20, 0.2),
        (30, 0.5),
    ]


def test_what_lies_beyond_the_point_of_resumption_counts_no_more(tmp_path):
    assert [r.update for r in read(tmp_path, line(0), line(10), line(20), line(10))] == [0, 10]


def test_cut_and_foreign_lines_are_passed_over(tmp_path):
    lines = [line(0), '{"update": 10, "gra', "", "[1]", '{"split": "train"}', line(20)]
    assert [r.update for r in read(tmp_path, *lines)] == [0, 20]


def test_nothing_to_read(tmp_path):
    with pytest.raises(TrainingLogError, match=r"absent\.jsonl: probes must be readable"):
        read_probes(tmp_path / "absent.jsonl")
    with pytest.raises(
        TrainingLogError, match=r"at least one probe, got none; train with task\.probe_interval"
    ):
        read(tmp_path, "{}")

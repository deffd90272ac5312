import os

import torch
from support.faults import raises_fault

from fairseq_vgs.checkpoints.load import CheckpointError
from fairseq_vgs.checkpoints.runs import checkpoints_of, has_ended, keep_epoch_checkpoints


def save(run, name, updates):
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    state = {"model": {"w": torch.zeros(2)}, "cfg": {}, "optimizer_history": [{"num_updates": updates}]}
    torch.save(state, folder / name)


def test_multiples_in_order_whatever_the_names(tmp_path):
    for name, updates in [
        ("checkpoint_1_20.pt", 20),
        ("checkpoint_1_100.pt", 100),
        ("checkpoint_2_110.pt", 110),
        ("checkpoint1.pt", 60),
        ("checkpoint_last.pt", 140),
        ("checkpoint_best.pt", 100),
    ]:
        save(tmp_path, name, updates)
    found = checkpoints_of(tmp_path, every=20)
    assert {updates: path.name for updates, path in found.items()} == {
        20: "checkpoint_1_20.pt",
        60: "checkpoint1.pt",
        100: "checkpoint_1_100.pt",
        140: "checkpoint_last.pt",
    }
    assert list(found) == [20, 60, 100, 140]


def test_none_is_an_error(tmp_path):
    save(tmp_path, "checkpoint_1_30.pt", 30)
    with raises_fault("checkpoint.missing", "checkpoints", error=CheckpointError) as caught:
        checkpoints_of(tmp_path, every=20)
    assert "save_interval_updates=20" in str(caught.value)


def test_epoch_checkpoint_of_a_point_outlives_the_epoch(tmp_path):
    save(tmp_path, "checkpoint3.pt", 60)
    keep_epoch_checkpoints(tmp_path, every=20)
    keep_epoch_checkpoints(tmp_path, every=20)
    (tmp_path / "checkpoints" / "checkpoint3.pt").unlink()  # as fairseq does
    assert list(checkpoints_of(tmp_path, every=20)) == [60]


def test_other_epoch_checkpoints_are_left_to_fairseq(tmp_path):
    save(tmp_path, "checkpoint3.pt", 61)
    keep_epoch_checkpoints(tmp_path, every=20)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint3.pt"]


def test_broken_epoch_checkpoint_is_an_error(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint3.pt").write_bytes(b"x")
    with raises_fault("checkpoint.unreadable", "checkpoint3.pt", error=CheckpointError):
        keep_epoch_checkpoints(tmp_path, every=20)


def test_run_without_checkpoints_yet(tmp_path):
    keep_epoch_checkpoints(tmp_path, every=20)


def test_epoch_checkpoint_is_copied_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, "checkpoint3.pt", 60)
    keep_epoch_checkpoints(tmp_path, every=20)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "checkpoint3.pt",
        "checkpoint_3_60.pt",
    ]


def test_run_has_ended_with_the_checkpoint_of_its_last_update(tmp_path):
    save(tmp_path, "checkpoint_2_40.pt", 40)
    assert has_ended(tmp_path, 40)
    assert not has_ended(tmp_path, 60)

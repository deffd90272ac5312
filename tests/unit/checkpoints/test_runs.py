import os

import torch
from support.faults import raises_fault

from fairseq_vgs.checkpoints.load import CheckpointError, read_updates
from fairseq_vgs.checkpoints.runs import checkpoints_of, has_ended, keep_epoch_checkpoints, mend_copies


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


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_copies_that_are_cut_off_are_mended(tmp_path):
    for name, updates in (("checkpoint_1_20.pt", 20), ("checkpoint_1_40.pt", 40), ("checkpoint1.pt", 30)):
        save(tmp_path, name, updates)
    folder = tmp_path / "checkpoints"
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        save(tmp_path, name, 40)
        cut(folder / name)
    with raises_fault("checkpoint.damaged", "checkpoint_best.pt", error=CheckpointError):
        checkpoints_of(tmp_path, every=20)
    mend_copies(tmp_path)
    assert read_updates(folder / "checkpoint_last.pt") == 40
    assert not (folder / "checkpoint_best.pt").exists()
    assert list(checkpoints_of(tmp_path, every=20)) == [20, 40]
    # fairseq writes into the last one: it must not share its bytes with the snapshot
    assert not (folder / "checkpoint_last.pt").samefile(folder / "checkpoint_1_40.pt")


def test_whole_copies_are_left_alone(tmp_path):
    save(tmp_path, "checkpoint_1_40.pt", 40)
    save(tmp_path, "checkpoint_last.pt", 20)
    mend_copies(tmp_path)
    assert read_updates(tmp_path / "checkpoints" / "checkpoint_last.pt") == 20


def test_without_a_whole_checkpoint_the_run_begins_anew(tmp_path):
    save(tmp_path, "checkpoint_last.pt", 20)
    cut(tmp_path / "checkpoints" / "checkpoint_last.pt")
    mend_copies(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_last.pt.damaged"]


def test_checkpoints_that_cannot_be_read_now_keep_their_names(tmp_path, monkeypatch):
    """Memory or file handles may be short, or a disk away."""
    for name in ("checkpoint_1_40.pt", "checkpoint_best.pt", "checkpoint_last.pt"):
        save(tmp_path, name, 40)

    def fail(*arguments, **settings):
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    before = sorted((tmp_path / "checkpoints").iterdir())
    mend_copies(tmp_path)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


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

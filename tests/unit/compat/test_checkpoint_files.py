"""Checkpoints appear whole or not at all, and damage is found before anything is loaded."""

import errno
import os
import shutil

import pytest
import torch
from fairseq import checkpoint_utils
from support.faults import raises_fault

from fairseq_vgs.compat.checkpoint_files import (
    LAST,
    mend_checkpoints,
    n_updates,
    remove_partial_checkpoints,
    whole,
)
from fairseq_vgs.files import torch_files
from fairseq_vgs.files.torch_files import verify


def checkpoint(path, value=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint_utils.torch_persistent_save({"model": {"w": torch.full((64,), value)}}, str(path))
    return path


def value_of(path):
    return float(torch.load(path)["model"]["w"][0])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_nothing_but_the_checkpoint_is_left(tmp_path):
    checkpoint(tmp_path / LAST)
    assert names(tmp_path) == [LAST]


def test_a_copy_replaces_another_whole(tmp_path, monkeypatch):
    source, last = checkpoint(tmp_path / "checkpoint_1_4.pt", 4.0), checkpoint(tmp_path / LAST, 2.0)
    copy = shutil.copyfile

    def killed(src, dst):
        dst.write_bytes(source.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_utils.PathManager.copy(str(source), str(last), overwrite=True)
    assert value_of(last) == 2.0
    monkeypatch.setattr(shutil, "copyfile", copy)
    assert checkpoint_utils.PathManager.copy(str(source), str(last), overwrite=True)
    assert value_of(last) == 4.0
    assert not checkpoint_utils.PathManager.copy(str(source), str(last))


@pytest.mark.parametrize("where", ["saving", "copying"])
def test_a_full_disk_leaves_the_checkpoint_before(where, tmp_path, monkeypatch):
    last, other = checkpoint(tmp_path / LAST, 2.0), checkpoint(tmp_path / "checkpoint_1_4.pt", 4.0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def save(state, file):
        try:
            full()
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904 - as torch does

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(torch, "save", save)
    with raises_fault("output.full", str(last)):
        if where == "saving":
            checkpoint(last, 3.0)
        else:
            checkpoint_utils.PathManager.copy(str(other), str(last), overwrite=True)
    assert value_of(last) == 2.0
    assert names(tmp_path) == ["checkpoint_1_4.pt", LAST]


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="something else"), whole(tmp_path / LAST):
        raise RuntimeError("something else")


def test_every_flipped_byte_of_the_weights_is_found(tmp_path):
    path = checkpoint(tmp_path / LAST)
    content = path.read_bytes()
    start = content.index(torch.full((64,), 1.0).numpy().tobytes())
    for position in range(start, start + 256, 7):
        flip(path, position)
        os.utime(path, ns=(position, position))
        with raises_fault("checkpoint.damaged", str(path)):
            checkpoint_utils.load_checkpoint_to_cpu(str(path))
        path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    verify(path)


@pytest.mark.parametrize("content", [b"hello\n", b"\x80\x02not a pickle", b"PK\3\5"])
def test_what_torch_cannot_read_is_named_in_training(content, tmp_path):
    (tmp_path / LAST).write_bytes(content)
    with raises_fault("checkpoint.unreadable", str(tmp_path / LAST)):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / LAST))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_checkpoint_is_found(share, tmp_path):
    path = checkpoint(tmp_path / LAST)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with raises_fault("checkpoint.damaged", str(path)):
        verify(path)


def test_a_verified_file_is_read_again_only_if_it_changed(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / LAST)
    verify(path)
    monkeypatch.setattr(torch_files.zipfile, "ZipFile", None)
    verify(path)
    os.utime(path, ns=(5, 5))
    with pytest.raises(TypeError):
        verify(path)


def test_files_without_checksums_pass(tmp_path):
    torch.save({"model": {}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    verify(tmp_path / "old.pt")


def aged(path, seconds):
    os.utime(path, ns=(seconds * 10**9, seconds * 10**9))
    return path


@pytest.mark.parametrize("last", ["missing", "cut", "empty", "zeros", "whole"])
def test_the_newest_whole_checkpoint_is_restored(last, tmp_path, caplog):
    aged(checkpoint(tmp_path / "checkpoint_best.pt", 1.0), 1)
    aged(checkpoint(tmp_path / "checkpoint_1_4.pt", 4.0), 4)
    cut = aged(checkpoint(tmp_path / "checkpoint_1_6.pt", 6.0), 6)
    aged(checkpoint(tmp_path / "crash.pt", 9.0), 9)
    cut.write_bytes(cut.read_bytes()[:500])
    if last != "missing":
        checkpoint(tmp_path / LAST, 5.0)
    if last == "cut":
        (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:700])
    if last in ("empty", "zeros"):
        (tmp_path / LAST).write_bytes(bytes(0 if last == "empty" else 4096))
    mend_checkpoints(tmp_path)
    assert value_of(tmp_path / LAST) == (5.0 if last == "whole" else 4.0)
    assert (tmp_path / f"{LAST}.damaged").exists() == (last in ("cut", "empty", "zeros"))
    assert ("checkpoint_1_4.pt" in caplog.text) == (last != "whole")


def test_no_whole_checkpoint(tmp_path):
    mend_checkpoints(tmp_path)
    assert not names(tmp_path)
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 cut")
    with raises_fault("checkpoint.damaged", str(tmp_path / LAST)):
        mend_checkpoints(tmp_path)
    assert (tmp_path / LAST).exists()
    mend_checkpoints(tmp_path, start_over=True)
    assert names(tmp_path) == [f"{LAST}.damaged"]


def save(folder, name, updates):
    torch.save({"model": {}, "optimizer_history": [{"num_updates": updates}]}, folder / name)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_copies_that_are_cut_off_are_mended(tmp_path):
    for name, updates in (("checkpoint_1_20.pt", 20), ("checkpoint_1_40.pt", 40), ("checkpoint1.pt", 30)):
        save(tmp_path, name, updates)
    for name in ("checkpoint_best.pt", LAST):
        save(tmp_path, name, 40)
        cut(tmp_path / name)
    mend_checkpoints(tmp_path)
    assert n_updates(torch.load(tmp_path / LAST)) == 40
    assert not (tmp_path / "checkpoint_best.pt").exists()
    assert (tmp_path / "checkpoint_best.pt.damaged").exists()
    # fairseq writes into the last one: it must not share its bytes with the snapshot
    assert not (tmp_path / LAST).samefile(tmp_path / "checkpoint_1_40.pt")


def test_an_epochs_checkpoint_after_more_updates_is_restored(tmp_path):
    save(tmp_path, "checkpoint2.pt", 60)
    save(tmp_path, "checkpoint_1_40.pt", 40)
    mend_checkpoints(tmp_path)
    assert n_updates(torch.load(tmp_path / LAST)) == 60


@pytest.mark.parametrize("first", range(5))
def test_a_checkpoint_cut_at_its_first_bytes_is_damaged(first, tmp_path):
    save(tmp_path, "checkpoint_1_40.pt", 40)
    (tmp_path / LAST).write_bytes(b"PK\x03\x04\x00"[:first])
    mend_checkpoints(tmp_path)
    assert n_updates(torch.load(tmp_path / LAST)) == 40


def test_whole_copies_are_left_alone(tmp_path):
    save(tmp_path, "checkpoint_1_40.pt", 40)
    save(tmp_path, LAST, 20)
    mend_checkpoints(tmp_path)
    assert n_updates(torch.load(tmp_path / LAST)) == 20


@pytest.mark.parametrize("failure", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_checkpoints_that_cannot_be_read_now_keep_their_names(failure, tmp_path, monkeypatch):
    """Memory or file handles may be short, or a disk away."""
    for name in ("checkpoint_1_40.pt", "checkpoint_best.pt", LAST):
        save(tmp_path, name, 40)

    def fail(*arguments, **settings):
        raise failure

    monkeypatch.setattr(torch, "load", fail)
    monkeypatch.setattr(torch_files.zipfile, "ZipFile", fail)
    before = names(tmp_path)
    with pytest.raises(type(failure)):
        mend_checkpoints(tmp_path, start_over=True)
    assert names(tmp_path) == before


def test_leftovers_of_killed_runs_go(tmp_path):
    checkpoint(tmp_path / LAST)
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / LAST).write_bytes(b"half")
    (tmp_path / "checkpoint_1_4.pt.tmp").write_bytes(b"half")
    remove_partial_checkpoints(tmp_path)
    assert names(tmp_path) == [LAST]

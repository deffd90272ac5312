"""What a killed run leaves is removed by the next one, unless somebody is still writing it."""

import os
import signal
import time

import pytest

from fairseq_vgs.files import atomic, output
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.output import (
    OutputExistsError,
    put_in_place,
    refuse_output,
    staged_files,
    staged_folder,
)


def killed(work):
    """Run something in another process, which kills itself when it is to."""
    if (child := os.fork()) == 0:
        work(lambda: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(output, "_SECONDS_TO_LOCK", -1.0)
    monkeypatch.setattr(atomic, "_SWEPT", set())


def stage(folder):
    def work(die):
        with staged_folder(folder, maker="x", force=False) as staging:
            (staging / "file").touch()
            die()

    return work


def test_a_killed_run_leaves_nothing_that_the_next_does_not_remove(tmp_path):
    def write(die):
        with atomic_write(tmp_path / "file") as file:
            file.write("half")
            file.flush()
            die()

    def several(die):
        with staged_files(tmp_path, last="b") as staging:
            (staging / "a").touch()
            die()

    killed(stage(tmp_path / "out"))
    for work in (write, several):
        killed(work)
        assert len(hidden(tmp_path)) == 2
        with atomic_write(tmp_path / "another", force=True):
            pass
        assert len(hidden(tmp_path)) == 1  # of the folder out, which only a run for out removes
        atomic._SWEPT.clear()  # as in a process of its own
    refuse_output(tmp_path / "out", maker="x", force=False)
    assert hidden(tmp_path) == []


def test_what_a_living_run_is_writing_stays(tmp_path):
    with staged_folder(tmp_path / "out", maker="x", force=False), atomic_write(tmp_path / "a") as file:
        before = hidden(tmp_path)
        output.remove_leftovers(tmp_path)
        refuse_output(tmp_path / "out", maker="x", force=False)
        assert hidden(tmp_path) == before
        file.write("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert (tmp_path / "out").is_dir()


def test_what_was_just_made_is_not_yet_held(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "_SECONDS_TO_LOCK", 1.0)
    path = tmp_path / f".{'0' * 16}.tmp"
    path.touch()
    output.remove_leftovers(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - 5,) * 2)
    output.remove_leftovers(tmp_path)
    assert not path.exists()


def test_the_output_comes_back_if_a_run_dies_while_replacing_it(tmp_path):
    out, staging = tmp_path / "out", tmp_path / ".out.01234567.partial"
    for folder in (out, staging):
        folder.mkdir()
    (out / "summary.json").write_text('{"made_by": "fairseq-vgs prepare", "corpus": "x"}')

    def replace(die):
        rename = type(out).rename
        type(out).rename = lambda self, target: die() if self == staging else rename(self, target)
        put_in_place(staging, out, maker="x", force=True)

    killed(replace)
    assert not out.exists()
    with pytest.raises(OutputExistsError):
        refuse_output(out, maker="x", force=False)
    assert (out / "summary.json").exists()
    assert hidden(tmp_path) == []

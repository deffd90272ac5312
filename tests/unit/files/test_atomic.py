from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from support.faults import raises_fault

from fairseq_vgs.files.atomic import atomic_write, lock, write_array
from fairseq_vgs.files.output import OutputExistsError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_text_with_unix_line_ends_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "имя.txt"
    with atomic_write(path) as file:
        file.write("а\nb\n")
        assert not path.exists()
    assert path.read_bytes() == "а\nb\n".encode()
    assert names_in(path.parent) == ["имя.txt"]


def test_writes_bytes(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x", mode="wb") as file:
        file.write(b"\0\r\n")
    assert (tmp_path / "x").read_bytes() == b"\0\r\n"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "x") as file:
            file.write("x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_refuses_an_existing_file_before_writing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with (
        raises_fault("output.exists", "x", error=OutputExistsError),
        atomic_write(tmp_path / "x"),
    ):
        pytest.fail("the block must not run")
    assert (tmp_path / "x").read_text() == "old"


def test_refuses_a_file_that_appears_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "x"):
        (tmp_path / "x").write_text("other")
    assert (tmp_path / "x").read_text() == "other"
    assert names_in(tmp_path) == ["x"]


def test_force_replaces(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with atomic_write(tmp_path / "x", force=True) as file:
        file.write("new")
    assert (tmp_path / "x").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_middle_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "x").write_text("old")

    def write_half() -> None:
        with atomic_write(tmp_path / "x", force=True) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (tmp_path / "x").read_text() == "old"
    assert names_in(tmp_path) == ["x"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    program = """
        import os, signal, sys
        from pathlib import Path
        from fairseq_vgs.files.atomic import atomic_write
        with atomic_write(Path(sys.argv[1]), force=True) as file:
            file.write("half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "x")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "x").read_text() == "old"
    # What a kill leaves behind is hidden and is never mistaken for a table.
    assert all(name == "x" or (name.startswith(".") and name.endswith(".tmp")) for name in names_in(tmp_path))


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with atomic_write(path) as file:
        file.write("x")
    assert path.read_text() == "x"


def test_a_block_may_close_the_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x") as file:
        file.write("x")
        file.close()
    assert (tmp_path / "x").read_text() == "x"


def test_refuses_a_folder_and_other_modes(tmp_path: Path) -> None:
    with raises_fault("output.folder") as caught, atomic_write(tmp_path, force=True):
        pass
    assert isinstance(caught.value, IsADirectoryError)
    with pytest.raises(ValueError, match="mode must be"), atomic_write(tmp_path / "x", mode="a"):  # type: ignore[call-overload]
        pass


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from fairseq_vgs.files.atomic import atomic_write
    with atomic_write(Path(sys.argv[1]), force=True, partial=True) as file:
        file.write("half of something long")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_run_takes_what_a_killed_one_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "x")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert names_in(tmp_path) == [".x.partial"]
    with atomic_write(tmp_path / "x", partial=True) as file:
        file.write("new")
        file.seek(0)
        file.write("N")
    assert (tmp_path / "x").read_text() == "New"
    assert names_in(tmp_path) == ["x"]


def test_a_partial_file_is_removed_after_an_exception(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_write(tmp_path / "x", mode="wb", partial=True) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert names_in(tmp_path) == []


def test_two_runs_do_not_write_one_partial_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x", partial=True) as first:
        first.write("first")
        with (
            raises_fault("output.busy", "x"),
            atomic_write(tmp_path / "x", partial=True),
        ):
            pytest.fail("the block must not run")
    assert (tmp_path / "x").read_text() == "first"
    assert names_in(tmp_path) == ["x"]


def test_a_file_that_was_renamed_meanwhile_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "partial").open("a") as file:
        (tmp_path / "partial").rename(tmp_path / "finished")
        with raises_fault("output.busy"):
            lock(file, tmp_path / "partial", place=tmp_path, doing="at it")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / ".x.partial").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic link"), atomic_write(tmp_path / "x", partial=True):
        pytest.fail("the block must not run")
    assert (tmp_path / "mine").read_text() == "years of work"


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_write(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "x")
    assert names_in(tmp_path) == []


def test_a_full_disk_is_named_as_such_where_numpy_writes(tmp_path, monkeypatch):
    def save(*_, **__):
        raise OSError("8064 requested and 992 written")

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(OSError, match="No space left") as caught:
        write_array(tmp_path / "a.npy", np.zeros(3))
    assert caught.value.filename == str(tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())

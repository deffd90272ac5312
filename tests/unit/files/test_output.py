from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.output import (
    all_or_none,
    maker_of,
    refuse_existing,
    refuse_output,
    staged_folder,
    try_output,
)
from fairseq_vgs.manifest import AudioRow, ImageRow, PairRow, RegionRow
from fairseq_vgs.prepare.build.tables import (
    CaptionedAudio,
    command_line,
    write_region_tables,
    write_summary,
    write_tables,
)


def make(folder: Path, text: str, *, force: bool = False) -> None:
    with staged_folder(folder, maker="mine", force=force) as staging:
        (staging / "file").write_text(text)
        write_summary(staging, {"corpus": "mine"})


def test_folder_appears_when_complete_and_nothing_stays_beside(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "deep/data", maker="mine", force=False) as staging:
        (staging / "file").write_text("x")
        assert not (tmp_path / "deep/data").exists()
        assert staging.parent == tmp_path / "deep"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["data"]
    assert (tmp_path / "deep/data/file").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interruption_leaves_the_older_folder(tmp_path: Path, error: type[BaseException]) -> None:
    make(tmp_path / "data", "old")

    def fail_half_way() -> None:
        with staged_folder(tmp_path / "data", maker="mine", force=True) as staging:
            (staging / "file").write_text("new")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data/file").read_text() == "old"


def test_existing_outputs_are_refused_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("none", "file", "link")]
    paths[1].write_text("x")
    paths[2].symlink_to(tmp_path / "nowhere")
    refuse_existing(paths[0])
    refuse_existing(*paths, force=True)
    with pytest.raises(FileExistsError) as caught:
        refuse_existing(*paths)
    assert isinstance(caught.value, FaultError)
    assert [(fault.place, fault.code) for fault in caught.value.faults] == [
        (str(path), "output.exists") for path in paths[1:]
    ]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}: already holds file, link; ")
    assert "\n" not in str(caught.value)


def test_an_output_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    try_output(tmp_path)
    try_output(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with raises_fault("output.unwritable", folder.name):
            try_output(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with raises_fault("output.unwritable", "folder") as caught:
        try_output(tmp_path / "new" / "folder")
    assert "got No space left on device; free space" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_command_that_writes_several_files_can_run_again(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in ("old", "new", "other"))
    old.write_text("before")

    @all_or_none(old, new, other, force=True)
    def fail() -> None:
        new.write_text("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with all_or_none(new, other):
        new.write_text("whole")
    assert new.read_text() == "whole"
    with raises_fault("output.exists", "new"), all_or_none(new, other):
        pass


def test_existing_folder_needs_force(tmp_path: Path) -> None:
    make(tmp_path / "data", "old")
    with raises_fault("output.exists", "data"):
        make(tmp_path / "data", "new")
    make(tmp_path / "data", "new", force=True)
    assert (tmp_path / "data/file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("summary", [None, "{", "[" * 100_000, "[]", "{}", '{"made_by": "somebody else"}'])
def test_force_replaces_no_folder_of_others(tmp_path: Path, summary: str | None) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/thesis.txt").write_text("years of work")
    if summary is not None:
        (tmp_path / "data/summary.json").write_text(summary)
    with raises_fault("output.not_ours"):
        make(tmp_path / "data", "new", force=True)
    assert (tmp_path / "data/thesis.txt").read_text() == "years of work"


def test_force_follows_no_link_and_replaces_no_file(tmp_path: Path) -> None:
    make(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("text")
    for name in ("link", "file"):
        with raises_fault("output.not_ours"):
            make(tmp_path / name, "new", force=True)


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    make(tmp_path / "data", "new")
    assert maker_of(tmp_path / "data") == "mine"


@pytest.mark.parametrize(
    ("summary", "maker"),
    [
        ({"corpus": "pairs", "command": "fairseq-vgs prepare pairs TABLE OUTPUT --seed 1"}, "pairs"),
        ({"command": "fairseq-vgs prepare text DATA --unit-type char"}, "text"),
        ({"command": "python anything.py"}, ""),
        ({}, ""),
    ],
)
def test_force_replaces_only_a_folder_of_the_same_subcommand(
    tmp_path: Path, summary: dict[str, str], maker: str
) -> None:
    write_summary(tmp_path, summary)
    assert maker_of(tmp_path) == maker
    for name in ("pairs", "text", "scenes", ""):
        if name and name == maker:
            refuse_output(tmp_path, maker=name, force=True)
        else:
            with raises_fault("output.not_ours"):
                refuse_output(tmp_path, maker=name, force=True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("place", ["data", "data/file", "data/a/b", "data/link/x", "linked/file", "out.csv"])
def test_an_output_that_holds_what_it_is_made_from_is_refused(
    tmp_path: Path, place: str, force: bool
) -> None:
    make(tmp_path / "data", "old")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    (tmp_path / "out.csv").symlink_to(tmp_path / "data/file")
    inputs = [tmp_path / "other", tmp_path / place]
    with raises_fault("output.is_input", "data"):
        refuse_output(tmp_path / "data", maker="mine", force=force, inputs=inputs)
    refuse_output(tmp_path / "data", maker="mine", force=True, inputs=[tmp_path, tmp_path / "data2/file"])


def test_formats_are_exact(tmp_path: Path) -> None:
    rows = [CaptionedAudio(AudioRow("a/ж.flac", 160), PairRow("a/ж.flac", "im", "ru", "Ёж, слон"))]
    write_tables(tmp_path, {"train": rows}, images=[ImageRow("im", "im.webp", 4, 3)], root=Path("/data"))
    write_region_tables(tmp_path, [RegionRow("im", 0, 0.25, 0.0, 1.0, 0.5)], np.ones((1, 2), np.float16))
    assert (tmp_path / "train.tsv").read_text("utf-8") == "/data\na/ж.flac\t160\n"
    assert (tmp_path / "train.pairs.tsv").read_text("utf-8") == (
        "audio_id\timage_id\tspeaker\ttext\na/ж.flac\tim\tru\tЁж, слон\n"
    )
    assert (tmp_path / "images.tsv").read_text("utf-8") == (
        "#root\t.\nimage_id\tpath\twidth\theight\tgroup\nim\tim.webp\t4\t3\t\n"
    )
    assert (tmp_path / "regions.tsv").read_text("utf-8") == (
        "image_id\tfeature_row\tx0\ty0\tx1\ty1\nim\t0\t0.25\t0.0\t1.0\t0.5\n"
    )
    features = np.load(tmp_path / "regions.npy", mmap_mode="r", allow_pickle=False)
    assert (features.dtype, features.shape) == (np.float16, (1, 2))


def test_summary_says_who_made_the_folder(tmp_path: Path) -> None:
    write_summary(tmp_path, {"слово": 1})
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == {
        "made_by": "fairseq-vgs prepare",
        "слово": 1,
    }


def test_command_line_lists_all_settings() -> None:
    settings = {
        "language": "ru",
        "max_seconds": 2.5,
        "include_symbols": True,
        "force": False,
        "sizes": (2, 4),
    }
    assert command_line("tuxpaint", "IN OUT", settings) == (
        "fairseq-vgs prepare tuxpaint IN OUT --language ru --max-seconds 2.5 --include-symbols --sizes 2 4"
    )

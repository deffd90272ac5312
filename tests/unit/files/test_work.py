from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.files.work import Record, differences, open_work, refuse_other_settings

ITEMS: dict[str, Record] = {f"ж {i}.wav": {"length": 100 + i, "sha256": "0" * 64} for i in range(4)}
KEY = {"pack": "", "converts": True}


def first(count: int) -> dict[str, Record]:
    return dict([*ITEMS.items()][:count])


def interrupted_run(output: Path, items: dict[str, Record]) -> Path:
    def run() -> None:
        with open_work(output, KEY, maker="mine", force=False) as work:
            for name, record in items.items():
                (work.data / f"{record['length']}").write_text("x")
                work.add(name, record)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    return output.parent / f".{output.name}.work"


def found(output: Path, key: dict[str, object] | None = None) -> dict[str, Record]:
    with open_work(output, key or KEY, maker="mine", force=False) as work:
        return dict(work.finished)


def test_finished_work_is_found_again(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    assert not (tmp_path / "out").exists()
    assert found(tmp_path / "out") == ITEMS
    assert (tmp_path / ".out.work/data/103").exists()


@pytest.mark.parametrize("torn", ['{"kind": "speech", "path"', "{}\n", "null\n", "ж"])
def test_a_torn_line_is_dropped_and_written_over(tmp_path: Path, torn: str) -> None:
    journal = interrupted_run(tmp_path / "out", first(2)) / "journal.jsonl"
    with journal.open("a", encoding="utf-8") as file:
        file.write(torn)
    interrupted_run(tmp_path / "out", dict([*ITEMS.items()][2:3]))
    assert found(tmp_path / "out") == first(3)


def test_other_settings_begin_anew_and_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    assert found(tmp_path / "out", {**KEY, "pack": "zip"}) == {}
    assert "started with other settings (pack:  before, zip now); starting again" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_where_nothing_was_finished(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "deep/out", {})
    assert list((tmp_path / "deep").iterdir()) == []


def test_publishing_leaves_the_output_alone(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    with open_work(tmp_path / "out", KEY, maker="mine", force=False) as work:
        work.publish(tmp_path / "out", maker="mine", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["100", "101", "102", "103"]


def test_two_runs_on_one_output_are_refused(tmp_path: Path) -> None:
    with open_work(tmp_path / "out", KEY, maker="mine", force=False) as work:
        work.add(*next(iter(ITEMS.items())))
        with (
            raises_fault("output.busy", "out"),
            open_work(tmp_path / "out", KEY, maker="mine", force=False),
        ):
            pass
    assert found(tmp_path / "out") == first(1)


def test_work_that_another_run_is_beginning_or_ending_is_left_to_it(tmp_path: Path) -> None:
    with open_work(tmp_path / "out", KEY, maker="mine", force=False) as work:
        work.data.rmdir()
        with (
            raises_fault("output.busy", "out"),
            open_work(tmp_path / "out", KEY, maker="mine", force=False),
        ):
            pass
        assert (work.path / "journal.jsonl").exists()


@pytest.mark.parametrize("refused", [False, True])
def test_what_a_run_left_that_was_killed_after_publishing_goes(tmp_path: Path, refused: bool) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    (tmp_path / ".out.work/data").rename(tmp_path / "out")
    if refused:
        with raises_fault("output.exists", "out"):
            found(tmp_path / "out")
    else:
        (tmp_path / "out").rename(tmp_path / "elsewhere")
        assert found(tmp_path / "out") == {}
    assert not (tmp_path / ".out.work").exists()


def test_an_existing_output_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis").write_text("x")
    with (
        raises_fault("output.exists", "out"),
        open_work(tmp_path / "out", KEY, maker="mine", force=False),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def former_run(output: Path, settings: dict[str, object], *, version: int = 2) -> Path:
    """What an interrupted run of the former version leaves: two recordings, of which one was forgotten."""
    folder = output.parent / f".{output.name}.work"
    (folder / "data/speech").mkdir(parents=True)
    (folder / "data/speech/a.wav").write_text("x")
    item = {"kind": "speech", "path": "a.wav", "stamp": {"size": 5, "changed": 7}, "sha256": "0" * 64}
    item |= {"measures": [100], "length": 1, "shard": -1, "offset": 0, "crc": 0, "target": "a.wav"}
    other = {**item, "path": "b.wav", "target": "b.wav"}
    forgotten = {**other, "stamp": {"size": -1, "changed": -1}}
    lines = [{"version": version, **settings}, item, other, forgotten]
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    (folder / "journal.jsonl").write_text(f'{text}{{"kind": "spe')
    return folder


def test_what_the_former_version_began_goes_on(tmp_path: Path) -> None:
    former_run(tmp_path / "out", KEY)
    expected = {
        "speech/a.wav": {
            "kind": "speech",
            "path": "a.wav",
            "stamp": {"size": 5, "changed": 7},
            "sha256": "0" * 64,
            "measures": [100],
            "target": "a.wav",
            "length": 1,
        }
    }
    assert found(tmp_path / "out") == expected
    interrupted_run(tmp_path / "out", first(1))
    assert found(tmp_path / "out") == expected | first(1)
    assert (tmp_path / ".out.work/data/speech/a.wav").exists()


@pytest.mark.parametrize(
    ("settings", "version", "now", "code"),
    [
        (KEY, 2, {**KEY, "converts": False}, "work.settings"),
        ({**KEY, "pack": "zip"}, 2, {**KEY, "pack": "zip"}, "work.version"),
        (KEY, 1, KEY, "work.version"),
        (KEY, 4, KEY, "work.version"),
    ],
)
def test_what_another_version_began_is_never_removed(
    tmp_path: Path, settings: dict[str, object], version: int, now: dict[str, object], code: str
) -> None:
    folder = former_run(tmp_path / "out", settings, version=version)
    before = (folder / "journal.jsonl").read_bytes()
    with raises_fault(code, str(folder)) as caught:
        found(tmp_path / "out", now)
    assert f"remove {folder} to start again" in str(caught.value)
    assert (folder / "journal.jsonl").read_bytes() == before
    assert (folder / "data/speech/a.wav").exists()


def test_a_journal_whose_header_is_unreadable_is_never_removed(tmp_path: Path) -> None:
    folder = interrupted_run(tmp_path / "out", ITEMS)
    (folder / "journal.jsonl").write_text("rubbish\n")
    with raises_fault("work.version", str(folder)):
        found(tmp_path / "out")
    assert (folder / "data/103").exists()


def test_a_forgotten_piece_is_not_finished(tmp_path: Path) -> None:
    def run() -> None:
        with open_work(tmp_path / "out", KEY, maker="mine", force=False) as work:
            for name, record in ITEMS.items():
                work.add(name, record)
            work.forget(next(iter(ITEMS)))
            work.forget("never there")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert found(tmp_path / "out") == dict([*ITEMS.items()][1:])


def test_work_with_other_settings_is_refused(tmp_path: Path) -> None:
    refuse_other_settings(tmp_path, {"rate": 1}, {"rate": 1}, step="remove it")
    with raises_fault("work.settings", str(tmp_path)) as caught:
        refuse_other_settings(tmp_path, {"rate": 1}, {"rate": 2}, step="remove it")
    assert "rate: 1 before, 2 now" in str(caught.value)


def test_differences_are_one_line() -> None:
    before = {"rate": 16000, "parts": ["a", "b"], "gone": 1, "where": "here"}
    now = {"rate": 8000, "parts": ("a", "b"), "new": None, "where": "there"}
    assert differences(before, now, passed_over=("where",)) == (
        "gone: 1 before, nothing now; rate: 16000 before, 8000 now"
    )
    assert differences(before, before) == ""
    assert differences("rubbish", {"rate": 1}) == "rate: not recorded before, 1 now"

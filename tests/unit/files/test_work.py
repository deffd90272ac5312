from __future__ import annotations

from pathlib import Path

import pytest

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.work import Finished, Stamp, open_work

ITEMS = [Finished("speech", f"ж {i}.wav", Stamp(5, i), "0" * 64, (100 + i,), 40) for i in range(4)]
KEY = {"pack": "", "converts": True}


def interrupted_run(output: Path, items: list[Finished]) -> Path:
    def run() -> None:
        with open_work(output, KEY, maker="mine", force=False) as work:
            for item in items:
                (work.data / f"{item.measures[0]}").write_text("x")
                work.add(item)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    return output.parent / f".{output.name}.work"


def found(output: Path, key: dict[str, object] | None = None) -> list[Finished]:
    with open_work(output, key or KEY, maker="mine", force=False) as work:
        return list(work.finished.values())


def test_finished_work_is_found_again(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    assert not (tmp_path / "out").exists()
    assert found(tmp_path / "out") == ITEMS
    assert (tmp_path / ".out.work/data/103").exists()


@pytest.mark.parametrize("torn", ['{"kind": "speech", "path"', "{}\n", "null\n", "ж"])
def test_a_torn_line_is_dropped_and_written_over(tmp_path: Path, torn: str) -> None:
    journal = interrupted_run(tmp_path / "out", ITEMS[:2]) / "journal.jsonl"
    with journal.open("a", encoding="utf-8") as file:
        file.write(torn)
    interrupted_run(tmp_path / "out", ITEMS[2:3])
    assert found(tmp_path / "out") == ITEMS[:3]


def test_other_settings_begin_anew(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    assert found(tmp_path / "out", {**KEY, "pack": "zip"}) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_where_nothing_was_finished(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "deep/out", [])
    assert list((tmp_path / "deep").iterdir()) == []


def test_publishing_leaves_the_output_alone(tmp_path: Path) -> None:
    interrupted_run(tmp_path / "out", ITEMS)
    with open_work(tmp_path / "out", KEY, maker="mine", force=False) as work:
        work.publish(tmp_path / "out", maker="mine", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["100", "101", "102", "103"]


def test_two_runs_on_one_output_are_refused(tmp_path: Path) -> None:
    with open_work(tmp_path / "out", KEY, maker="mine", force=False) as work:
        work.add(ITEMS[0])
        with (
            pytest.raises(FaultError, match="another run is preparing this folder"),
            open_work(tmp_path / "out", KEY, maker="mine", force=False),
        ):
            pass
    assert found(tmp_path / "out") == ITEMS[:1]


def test_an_existing_output_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis").write_text("x")
    with (
        pytest.raises(FaultError, match="already exists"),
        open_work(tmp_path / "out", KEY, maker="mine", force=False),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

from __future__ import annotations

import dataclasses
import pickle

import pytest

from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow


def test_an_image_without_group_is_its_own_group() -> None:
    assert ImageRow("a", "a.png", 1, 1).group_id == "a"
    assert ImageRow("a", "a.png", 1, 1, "g").group_id == "g"


def test_speaker_and_text_are_optional() -> None:
    assert PairRow("a", "b") == PairRow("a", "b", "", "")


@pytest.mark.parametrize(
    "row",
    [AudioRow("a", 1), PairRow("a", "b"), ImageRow("a", "b", 1, 1), RegionRow("a", 0, 0.0, 0.0, 1.0, 1.0)],
)
def test_rows_are_frozen_and_travel_between_processes(row: object) -> None:
    assert pickle.loads(pickle.dumps(row)) == row
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(row, dataclasses.fields(row)[0].name, "x")  # type: ignore[arg-type]

"""Commands run on the GPU of a machine that has one; a stand-in says so where there is none."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.abx_material import write_checkpoint, write_recordings

from fairseq_vgs.cli.main import build_parser, main
from fairseq_vgs.device import AUTO, visible_gpus


class Chosen(Exception):
    """What a command was about to use."""


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for group in groups:
        for child in group.choices.values():
            child.format_help()  # which fills it
            yield from leaves(child)
    if not groups:
        yield parser


def test_every_command_chooses_unless_told() -> None:
    defaults = {
        leaf.prog: leaf.get_default("device")
        for leaf in leaves(build_parser())
        if "--device" in leaf.format_help()
    }
    assert {"fairseq-vgs extract", "fairseq-vgs evaluate run", "fairseq-vgs gallery"} <= set(defaults)
    assert set(defaults.values()) == {AUTO}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    write_recordings(folder / "abx")
    (folder / "run/checkpoints").mkdir(parents=True)
    write_checkpoint(folder / "run/checkpoints/checkpoint_1_7.pt")
    return folder


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize(
    ("command", "function"),
    [
        (
            "extract {run}/checkpoints/checkpoint_1_7.pt {abx} --output {out}",
            "features.extract.extract_features",
        ),
        (
            "evaluate abx {run}/checkpoints/checkpoint_1_7.pt {abx} --output {out}",
            "evaluation.evaluator.Model.features",
        ),
        (
            "evaluate run {run} {abx} --abx {abx} --output {out}",
            "evaluation.evaluators.retrieval.Retrieval.measure",
        ),
    ],
)
def test_the_gpu_is_taken_where_there_is_one(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    function: str,
    *,
    available: bool,
) -> None:
    def stop(*arguments: Any, **named: Any) -> None:
        device = named.get("device") or next(one.device for one in arguments if hasattr(one, "seed"))
        raise Chosen(device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(f"fairseq_vgs.{function}", stop)
    words = {"run": place / "run", "abx": place / "abx", "out": tmp_path / "out"}
    with pytest.raises(Chosen, match="cuda" if available else "cpu"):
        main([*command.format(**words).split(), "--debug"])


def test_a_study_takes_all_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert visible_gpus() == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]

"""Phases of a training: named as in the paper where files tell them, unknown where they do not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.abx_material import write_checkpoint

from fairseq_vgs.checkpoints.phases import read_phases
from fairseq_vgs.configs.scenarios import SCENARIOS, base_of, phases_of, scenario_of, scenario_title
from fairseq_vgs.files.provenance import sha256_file

ALPHA = {"w2v2": 0.0, "vgs_plus": 0.5, "vgs": 1.0}


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> dict[str, Any]:
    return torch.load(write_checkpoint(tmp_path_factory.mktemp("model") / "model.pt"))


def written(
    path: Path,
    state: dict[str, Any],
    criterion: dict[str, Any],
    *,
    start: Path | None = None,
    updates: int = 7,
    is_recorded: bool = True,
) -> Path:
    """Write a checkpoint of a run with these losses."""
    config = {**state["cfg"], "criterion": {"_name": "vgs_multitask", **criterion}}
    config["checkpoint"] = {"finetune_from_model": None if start is None else str(start)}
    extra = dict(state.get("extra_state", {}))
    if start is not None and is_recorded:
        extra["started_from"] = {"sha256": sha256_file(start), "n_updates": 7}
    history = [{"num_updates": updates}]
    torch.save({**state, "cfg": config, "optimizer_history": history, "extra_state": extra}, path)
    return path


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_of_the_nine(scenario, state, tmp_path):
    bases = [base for base in phases_of(scenario) if base]
    start = None
    for number, base in enumerate(bases):
        criterion = {"alpha_schedule": "constant", "alpha_values": [ALPHA[base]], "alpha_boundaries": []}
        start = written(tmp_path / f"{number}.pt", state, criterion, start=start, updates=10 * (number + 1))
    assert start is not None
    found = read_phases(start)
    assert (found.scenario, found.title) == (scenario, scenario_title(scenario))
    assert [phase.bases for phase in found.known] == [(base,) for base in bases]
    assert [phase.n_updates for phase in found.known] == [10, 20][: len(bases)]
    assert found.files == ((tmp_path / "0.pt",) if len(bases) == 2 else ())
    assert found.origin == ""


def test_jumps_within_a_run_are_no_scenario_of_two_runs(state, tmp_path):
    jump = {"alpha_schedule": "piecewise", "alpha_values": [0.0, 1.0], "alpha_boundaries": [5]}
    found = read_phases(written(tmp_path / "a.pt", state, jump))
    assert (found.scenario, found.title) == (None, "")
    assert (found.known[0].bases, found.known[0].title) == (("w2v2", "vgs"), "W2V2, then VGS")


def test_three_phases_are_none_of_the_nine(state, tmp_path):
    start = None
    for number in range(3):
        start = written(tmp_path / f"{number}.pt", state, {"alpha_values": [0.5]}, start=start)
    assert start is not None
    found = read_phases(start)
    assert (len(found.known), found.scenario, found.is_whole) == (3, None, True)


@pytest.mark.parametrize(
    "change", ["gone", "another run", "no checkpoint", "relative", "itself", "no record"]
)
def test_an_earlier_phase_that_is_not_the_recorded_one_is_unknown(change, state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = written(tmp_path / "first.pt", state, {"alpha_values": [0.0]})
    if change == "no checkpoint":
        first.write_bytes(b"")
    start = Path(first.name) if change == "relative" else first
    is_recorded = change != "no record"
    second = written(
        tmp_path / "second.pt", state, {"alpha_values": [1.0]}, start=start, is_recorded=is_recorded
    )
    if change == "gone":
        first.unlink()
    elif change == "another run":  # as old as the recorded one
        written(first, state, {"alpha_values": [0.5]})
        os.utime(first, (0, 0))
    elif change == "itself":
        written(second, state, {"alpha_values": [1.0]}, start=second)
    found = read_phases(second)
    assert (found.scenario, found.is_whole) == (None, False)
    assert ("second.pt" if change == "itself" else "first.pt") in found.origin


def test_converted_weights_are_no_phase(state, tmp_path):
    origin = {"format": "wav2vec2", "source": "base`.pt"}
    imported = written(tmp_path / "start.pt", {**state, "extra_state": {"imported": origin}}, {}, updates=0)
    found = read_phases(imported)
    assert (found.known, found.scenario) == ((), None)
    assert found.origin == "the weights of wav2vec 2.0 (`base.pt`)"
    trained = written(tmp_path / "run.pt", state, {"alpha_values": [1.0]}, start=imported)
    after = read_phases(trained)
    assert (after.scenario, after.origin) == ("vgs", found.origin)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ({"alpha_schedule": "mine", "alpha_values": [0.5]}, "alpha by the schedule mine [0.5]"),
        ({"alpha_schedule": "constant", "alpha_values": ["|`\n"]}, "alpha by the schedule constant"),
        ({}, "the checkpoint does not say"),
        ({"_name": "vgs_contrastive", "alpha_values": [0.5]}, "the VGS loss alone"),
    ],
)
def test_losses_in_words(criterion, words, state, tmp_path):
    (phase,) = read_phases(written(tmp_path / "a.pt", state, criterion)).known
    assert phase.losses.startswith(words)
    assert not set("`|\n") & set(phase.losses)


def test_scenarios_from_bases():
    assert [scenario_of(bases) for bases in (["vgs"], ["w2v2", "vgs"], ["vgs", "vgs"], [])] == [
        "vgs",
        "w2v2_then_vgs",
        None,
        None,
    ]
    assert [base_of(alpha) for alpha in (0, 0.1, 1)] == ["w2v2", "vgs_plus", "vgs"]

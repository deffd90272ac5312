"""Arms and sweeps of a study file: what is run for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.study.launch import training_command
from fairseq_vgs.study.plan import RunFolder, plan_runs, points_of, stops_of
from fairseq_vgs.study.read import read_settings

TEXT = """
data: d
whole_updates: 70
first_updates: 20
second_updates: 50
evaluate_every: 10
seeds: [1]
scenarios: [vgs_plus]
"""


def read(tmp_path, more):
    path = tmp_path / "study.yaml"
    path.write_text(TEXT + more)
    return read_settings(path)


def test_an_arm_has_its_own_lengths_and_settings(tmp_path):
    settings = read(
        tmp_path,
        "arms:\n  short:\n    scenario: vgs_plus\n    updates: [40]\n    overrides: [criterion.margin=2]\n",
    )
    assert settings.names == ("vgs_plus", "short")
    assert settings.title("short") == "VGS+ short"
    runs = plan_runs(settings)
    assert [(run.name, run.primary, run.max_update, run.schedule_updates) for run in runs] == [
        ("vgs_plus-seed1", "vgs_plus", 70, 70),
        ("short-seed1", "vgs_plus", 40, 40),
    ]
    command = training_command(runs[1], settings, data=Path("d"), folder=RunFolder(tmp_path), start=None)
    assert "criterion.margin=2" in command


def test_scheduled_arms_share_the_first_phase_that_they_name(tmp_path):
    settings = read(
        tmp_path,
        """
arms:
  long_w2v2: {scenario: w2v2, updates: [100]}
  a: {scenario: w2v2_then_vgs, updates: [60, 30], first: long_w2v2}
  b: {scenario: w2v2_then_vgs, updates: [10, 30], overrides: ["optimization.lr=[1e-4]"]}
""",
    )
    runs = {run.name: run for run in plan_runs(settings)}
    assert runs["a-seed1"].start == "long_w2v2-seed1"
    assert (runs["a-seed1"].start_update, runs["a-seed1"].max_update) == (60, 30)
    assert runs["b-seed1"].start == "w2v2-seed1"
    assert runs["w2v2-seed1"].max_update == 10  # as far as it is needed
    assert runs["w2v2-seed1"].schedule_updates == 70
    assert runs["long_w2v2-seed1"].max_update == 100
    assert list(runs)[-2:] == ["a-seed1", "b-seed1"]


def test_a_sweep_is_an_arm_per_value(tmp_path):
    settings = read(
        tmp_path,
        "sweeps:\n  margin: {arms: [vgs_plus, w2v2_then_vgs], setting: criterion.margin, values: [0.5, 2]}\n",
    )
    assert settings.names == (
        "vgs_plus",
        "vgs_plus.margin-0.5",
        "w2v2_then_vgs.margin-0.5",
        "vgs_plus.margin-2",
        "w2v2_then_vgs.margin-2",
    )
    runs = {run.name: run for run in plan_runs(settings)}
    assert runs["w2v2_then_vgs.margin-2-seed1"].overrides == ("criterion.margin=2",)
    assert runs["w2v2_then_vgs.margin-2-seed1"].start == "w2v2-seed1"
    assert settings.title("vgs_plus.margin-2") == "VGS+, margin 2"


def test_a_sweep_of_both_phases_has_first_phases_of_its_own(tmp_path):
    settings = read(
        tmp_path,
        "sweeps:\n  m: {arms: [w2v2_then_vgs], setting: criterion.margin, values: [2], both_phases: true}\n",
    )
    runs = {run.name: run for run in plan_runs(settings)}
    assert runs["w2v2_then_vgs.m-2-seed1"].start == "w2v2.m-2-seed1"
    assert runs["w2v2.m-2-seed1"].overrides == ("criterion.margin=2",)
    assert "w2v2.m-2" not in settings.names


def test_early_points_of_a_second_phase_are_ends_of_processes(tmp_path):
    settings = read(tmp_path, "arms:\n  a: {scenario: w2v2_then_vgs}\nevaluate_at: [3, 15]\n")
    runs = {run.name: run for run in plan_runs(settings)}
    second = runs["a-seed1"]
    assert points_of(second, settings) == [3, 10, 15, 20, 30, 40, 50]
    assert stops_of(second, settings) == [(3, 3), (10, 10), (15, 15), (50, 10)]
    assert stops_of(runs["vgs_plus-seed1"], settings) == [(70, 10)]
    for stop in stops_of(second, settings):
        command = training_command(
            second, settings, data=Path("d"), folder=RunFolder(tmp_path), start=None, stop=stop
        )
        assert f"optimization.max_update={stop.max_update}" in command
        assert f"checkpoint.save_interval_updates={stop.every}" in command
        assert "lr_scheduler.total_num_update=50" in command  # the same whatever the stop


@pytest.mark.parametrize(
    "text",
    [
        "arms: {vgs: {scenario: vgs}}\n",
        "arms: {a/b: {scenario: vgs}}\n",
        "arms: {a: {scenario: vgz}}\n",
        "arms: {a: {scenario: vgs, updates: [10, 20]}}\n",
        "arms: {a: {scenario: vgs, updates: [15]}}\n",
        "arms: {a: {scenario: vgs, first: w2v2}}\n",
        "arms: {a: {scenario: w2v2_then_vgs, first: b}}\n",
        "arms: {a: {scenario: w2v2_then_vgs, updates: [70, 10]}}\n",
        "sweeps: {s: {arms: [vgs_plsu], setting: criterion.margin, values: [1]}}\n",
        "sweeps: {s: {arms: [vgs_plus], setting: criterion.margin, values: [1, 1]}}\n",
        "sweeps: {s: {arms: [vgs_plus], setting: margin, values: [1]}}\n",
        "evaluate_at: [5]\n",
        "questions: [{finding: none}]\n",
        "questions: [{claim: c, better: vgs_plus, worse: vgs_plus}]\n",
        "questions: [{finding: vgs_transfers_better, measure: abc}]\n",
        "questions: [{finding: vgs_transfers_better, margin: 0}]\n",
        "questions: [{finding: vgs_transfers_better, better: x}]\n",
        "questions: [{finding: vgs_transfers_better}, {finding: vgs_transfers_better}]\n",
        "pilot: {precision: 0}\n",
        "pilot: {seeds: []}\n",
    ],
)
def test_faults_are_named(tmp_path, text):
    with raises_fault("setting.value", str(tmp_path / "study.yaml")):
        read(tmp_path, text)


def test_unknown_key_of_an_arm(tmp_path):
    with raises_fault("study.file", str(tmp_path / "study.yaml")):
        read(tmp_path, "arms: {a: {scenario: vgs, update: [10]}}\n")


def test_pilot_has_its_own_seeds_and_split(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(TEXT + "pilot: {seeds: [7, 8]}\n")
    settings = read_settings(path, pilot=True)
    assert (settings.split, settings.seeds) == ("valid", [7, 8])
    assert read_settings(path).seeds == [1]

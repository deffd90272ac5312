"""What is compared when folders are given, and how it is called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.evaluation.compare import find_results, short_titles
from fairseq_vgs.evaluation.results import ResultsError


def _measured(folder):
    (folder / "retrieval").mkdir(parents=True)
    (folder / "retrieval" / "metrics.json").touch()


@pytest.fixture
def places(tmp_path):
    """Two runs, the second shorter, beside two results folders."""
    for run, updates in (("long", (0, 7, 14)), ("short", (7,))):
        (tmp_path / run / "evaluation").mkdir(parents=True)
        for number in updates:
            _measured(tmp_path / run / "evaluation" / f"{number}")
        (tmp_path / run / "evaluation" / "notes.json").touch()
    for name in ("a", "b"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "metrics.json").touch()
    (tmp_path / "results" / "empty").mkdir()
    return tmp_path


def test_results_and_folders_of_results(places):
    results = places / "results"
    both = [results / "a", results / "b"]
    assert find_results([results]) == find_results(both) == both
    assert find_results([results / "b" / "metrics.json", results / "a"]) == both[::-1]


def test_checkpoints_of_runs(places):
    long, short = places / "long", places / "short"
    files = {number: long / "evaluation" / f"{number}" for number in (0, 7, 14)}
    only = short / "evaluation" / "7"
    assert find_results([long]) == find_results([long / "evaluation"]) == [files[7], files[14]]
    assert find_results([long, short]) == [files[7], only]  # the last of both
    assert find_results([long], updates=[14, 0]) == [files[0], files[14]]
    assert find_results([files[14], only]) == [files[14], only]
    with raises_fault("results.updates", "short", error=ResultsError) as caught:
        find_results([long, short], updates=[14])
    assert "7;" in str(caught.value)
    only.rename(only.with_name("8"))
    with raises_fault("results.updates", "fairseq-vgs compare", error=ResultsError) as caught:
        find_results([long, short])
    assert "long: 0, 7, 14; " in str(caught.value)


def test_checkpoints_of_version_0_1_0(places):
    folder = places / "older" / "evaluation"
    folder.mkdir(parents=True)
    for number in (0, 7):
        (folder / f"{number}.json").touch()
    assert find_results([places / "older"]) == find_results([folder / "7.json"]) == [folder / "7"]


def test_models_before_training_are_not_compared_in_place_of_trained_ones(places):
    long, short = places / "long", places / "short"
    (short / "evaluation" / "7").rename(short / "evaluation" / "8")
    _measured(short / "evaluation" / "0")
    command = rf"compare {long}/evaluation/14 {short}/evaluation/8"
    with pytest.raises(ResultsError, match=rf"long: 0, 7, 14; .*short: 0, 8; .*{command}"):
        find_results([long, short])
    assert find_results([long, short], updates=[0]) == [run / "evaluation" / "0" for run in (long, short)]


def test_only_untrained_weights(places):
    for number in (7, 14):
        shutil.rmtree(places / "long" / "evaluation" / f"{number}")
    assert find_results([places / "long"]) == [places / "long" / "evaluation" / "0"]


@pytest.mark.parametrize(
    ("name", "state"),
    [("results/empty", "got a place without results"), ("absent", "got no such file or folder")],
)
def test_places_without_results(places, name, state):
    with raises_fault("file.missing", name, error=ResultsError) as caught:
        find_results([places / "results" / "a", places / name])
    assert state in str(caught.value)


def test_all_places_without_results_are_named(places):
    with pytest.raises(ResultsError) as caught:
        find_results([places / "one", places / "two"])
    assert [Path(fault.place).name for fault in caught.value.faults] == ["one", "two"]


def test_updates_are_of_runs(places):
    with raises_fault("setting.value", "--updates", error=ResultsError):
        find_results([places / "results" / "a"], updates=[7])


@pytest.mark.parametrize(
    ("paths", "titles"),
    [
        (["/x/y/a", "/x/y/b"], ["a", "b"]),
        (["x/a/checkpoints/best", "x/b/checkpoints/best"], ["a", "b"]),
        (["x/a/one", "x/b/two"], ["a/one", "b/two"]),
        (["x/y/a"], ["a"]),
        (["a/b", "a/b/b"], ["b", "b/b"]),
        (["a", "b/a"], ["a", "b/a"]),
        (["."], ["."]),
        (["x/a/evaluation/7", "x/a/evaluation/14"], ["update 7", "update 14"]),
        (["x/a/evaluation/7", "x/b/evaluation/7"], ["a, update 7", "b, update 7"]),
        (["a", "a"], ["a", "a"]),
    ],
)
def test_titles_are_what_distinguishes_the_paths(paths, titles):
    assert short_titles([Path(path) for path in paths]) == titles

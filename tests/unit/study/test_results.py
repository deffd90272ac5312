"""From hand-written run folders to the results of a study."""

import json

import pytest
from support.faults import raises_fault

from fairseq_vgs.evaluation.results import Metric, write_result
from fairseq_vgs.metrics.intervals import Interval
from fairseq_vgs.study.markers import StudyError
from fairseq_vgs.study.plan import StudyFolder
from fairseq_vgs.study.results import collect
from fairseq_vgs.study.settings import StudySettings


def metric(value, chance):
    return Metric(Interval(value, value - 1, value + 1), 8, chance, "%").as_json()


def write_checkpoint(folder, update, recall):
    """Write the results of one checkpoint."""
    model, common = ("trained" if update else "untrained"), {"split": "test", "made_from": {"data": {}}}
    layers = {"layer_1": metric(30.0 - update / 10, 50.0), "layer_2": metric(40.0, 50.0)}
    models = {model: {"metrics": layers, "counts": {"items": 7}}}
    if update == 0:
        models["mfcc"] = {"metrics": {"mfcc": metric(6.0, 50.0)}}
    provenance = {"provenance": {"seed": 1, "manifest": {}, "machine": {"cores": 2}}}
    abx = {"kind": "abx", "condition": {"speaker": "within"}, "models": models}
    recalls = {model: {"metrics": {"speech_to_image_r10": metric(recall, 2.0)}}}
    retrieval = {"kind": "retrieval", "pool": {"images": 50}, "models": recalls}
    for content in (abx, retrieval):
        write_result(folder / str(update) / content["kind"], {**common, **content, **provenance}, {})


def write_run(folder, name, *, points, losses, marked=True):
    """Write what training and evaluation leave: ``points`` updates -> R@10, ``losses`` update -> SSL loss."""
    run = folder.run(name)
    run.evaluation.mkdir(parents=True)
    run.run.mkdir()
    for update, recall in points.items():
        write_checkpoint(run.evaluation, update, recall)
    lines = []
    for update, loss in losses.items():
        lines.append({"split": "train", "update": update, "ssl_loss": loss})
        lines.append({"split": "valid", "update": update, "ssl_loss": loss + 0.5, "vgs_loss": 9.0})
    run.history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if marked:
        run.trained.write_text("{}")


@pytest.fixture
def settings():
    return StudySettings(
        data="d",
        whole_updates=40,
        first_updates=20,
        second_updates=30,
        evaluate_every=10,
        config_dir="c",
        scenarios=["w2v2", "w2v2_then_vgs"],
        seeds=[1],
    )


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path)
    losses = {10: 3.0, 20: 2.0, 30: 1.5, 40: 1.0}
    write_run(folder, "w2v2-seed1", points={0: 1.0, 10: 2.0, 20: 3.0, 30: 4.0, 40: 5.0}, losses=losses)
    write_run(
        folder, "w2v2_then_vgs-seed1", points={10: 50.0, 20: 60.0}, losses={10: 2.5, 20: 2.4}, marked=False
    )
    return folder


def by_update(results, scenario):
    return {point.update: point for point in results.points if point.scenario == scenario}


def test_scheduled_scenario_continues_the_base_run_it_left(settings, folder):
    points = by_update(collect(settings, folder), "w2v2_then_vgs")
    assert {update: point.retrieval["speech_to_image_r10"] for update, point in points.items()} == {
        10: 2.0,
        20: 3.0,
        30: 50.0,
        40: 60.0,
    }
    assert [points[update].phase for update in (10, 20, 30, 40)] == ["first", "first", "second", "second"]


def test_base_scenario(settings, folder):
    results = collect(settings, folder)
    points = by_update(results, "w2v2")
    assert list(points) == [10, 20, 30, 40]
    assert points[20].losses == {"ssl_loss": 2.5, "vgs_loss": 9.0}
    assert points[20].best_layer("abx") == "layer_1"
    assert points[20].best_abx == pytest.approx(28.0)
    assert points[20].items.is_dir()


def test_ends_and_what_is_missing(settings, folder):
    results = collect(settings, folder)
    assert results.finals("w2v2")[1].update == 40
    assert results.finals("w2v2_then_vgs") == {}
    assert results.missing == ("w2v2_then_vgs-seed1: not fully trained, 2 of 3 checkpoints evaluated",)


def test_untrained_model_chance_and_baselines(settings, folder):
    results = collect(settings, folder)
    assert results.untrained[1].retrieval["speech_to_image_r10"] == 1.0
    assert results.chance == {"speech_to_image_r10": 2.0, "abx": 50.0}
    assert results.baselines == {"mfcc": 6.0}


def test_losses_of_both_phases_are_joined_at_the_boundary(settings, folder):
    training = collect(settings, folder).training["w2v2_then_vgs", 1]
    updates, values = training.losses["ssl_loss"]
    assert updates.tolist() == [10, 20, 30, 40]
    assert values.tolist() == [3.0, 2.0, 2.5, 2.4]


def test_measured_on_different_data(settings, folder):
    for update, digest in ((10, "a"), (20, "b")):
        path = folder.run("w2v2-seed1").evaluation / f"{update}" / "retrieval" / "metrics.json"
        made_from = {"data": {"test.tsv": "same", "test.pairs.tsv": digest}}
        path.write_text(json.dumps({**json.loads(path.read_text()), "made_from": made_from}))
    with raises_fault("study.mismatch", str(folder.path), error=StudyError) as caught:
        collect(settings, folder)
    assert "test.pairs.tsv" in str(caught.value)


def test_phones_across_speakers(settings, folder):
    for path in folder.run("w2v2-seed1").evaluation.glob("*/abx/metrics.json"):
        content = json.loads(path.read_text())
        name = next(iter(content["models"]))
        across = {
            **content,
            "condition": {"speaker": "across"},
            "models": {name: {"metrics": {"layer_2": metric(33.0, 50.0)}}},
        }
        target = path.parent.with_name("abx_across") / path.name
        target.parent.mkdir()
        target.write_text(json.dumps(across))
    results = collect(settings, folder)
    assert by_update(results, "w2v2")[10].abx_across == {"layer_2": 33.0}
    assert results.chance == {"speech_to_image_r10": 2.0, "abx": 50.0, "abx_across": 50.0}
    assert results.facts["phone ABX across speaker"] == {"speaker": "across"}
    assert results.recipe == {}  # there is no checkpoint


def test_empty_folder_is_a_study_with_everything_missing(settings, tmp_path):
    results = collect(settings, StudyFolder(tmp_path / "nothing"))
    assert results.points == ()
    assert len(results.missing) == 2

"""Every checkpoint of a run measured: on what, when again, and as the single evaluations measure."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation import compare, over_training, results
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.over_training import Evaluation, checkpoints_in, evaluate_run, read_checkpoint
from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.metrics.abx import AbxError

LENGTHS = {"test": [7000 + 300 * number for number in range(8)]}
BOTH = ("untrained", "mfcc")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run with a checkpoint after 7 updates, pairs of which two pictures are one group, ABX recordings."""
    root = tmp_path_factory.mktemp("places")
    (root / "run" / "checkpoints").mkdir(parents=True)
    write_checkpoint(root / "run" / "checkpoints" / "checkpoint_1_7.pt")
    make_folder(root / "data", lengths=LENGTHS, n_images=5, groups={3: "g", 4: "g"})
    write_recordings(root / "abx")
    return root


def evaluations(root, *, abx=True, speakers=("within",)):
    found = [("retrieval", {"data": root / "data"})]
    found += [("abx", {"data": root / "abx", "speaker": speaker}) for speaker in speakers if abx]
    return [Evaluation(one := EVALUATORS[name](), one.Settings(**given)) for name, given in found]


@pytest.fixture(scope="module")
def evaluated(places):
    """The folder of results."""
    run, output = places / "run", places / "evaluation"
    steps = list(evaluate_run(run, evaluations(places), output, every=7, baselines=BOTH))
    assert [(updates, n) for updates, _, n in steps] == [(0, 2), (7, 2)]
    assert list(checkpoints_in(output)) == [0, 7]
    return output


def test_results_agree_with_the_single_evaluations(places, evaluated, tmp_path, capsys):
    checkpoint = str(places / "run" / "checkpoints" / "checkpoint_1_7.pt")
    for kind, data in (("retrieval", places / "data"), ("abx", places / "abx")):
        command = ["evaluate", kind, checkpoint, str(data), "--json", "--output", str(tmp_path / kind)]
        assert main(command) == 0
        single = json.loads(capsys.readouterr().out)["models"]
        for update, model in ((7, "trained"), (0, "untrained")):
            ours = read_checkpoint(evaluated / str(update))[kind].content["models"][model]["metrics"]
            # the input of the first layer is not measured over training
            assert ours == {
                name: value for name, value in single[model]["metrics"].items() if name != "layer_0"
            }
    mfcc = read_checkpoint(evaluated / "0")["abx"].content["models"]["mfcc"]["metrics"]
    assert mfcc == single["mfcc"]["metrics"]


def test_every_number_has_its_chance_and_certain_recalls_are_marked(evaluated):
    results = read_checkpoint(evaluated / "7")
    for result in results.values():
        assert all(metric.chance is not None for metric in result.models["trained"].values())
    metrics = results["retrieval"].models["trained"]
    certain = {name for name, metric in metrics.items() if metric.is_certain}
    assert {
        "speech_to_image_r5",
        "speech_to_image_r10",
        "image_to_speech_r10",
    } <= certain  # 5 images, 8 captions
    assert {metrics[name].value.value for name in certain} == {100.0}


def test_a_checkpoint_is_compared_beside_baselines_of_its_folder(evaluated):
    (run,) = compare.read_runs([evaluated / "7"])
    assert (run.title, run.kind) == ("update 7", "run")
    assert list(run.models) == ["trained", "untrained", "mfcc"]
    assert all(metric.chance is not None for found in run.models.values() for metric in found.values())
    fresh = compare.read_runs([evaluated / "0"])[0]
    assert list(fresh.models) == ["trained", "mfcc"]
    assert fresh.models["trained"] == run.models["untrained"]


def test_differences_between_checkpoints_are_theirs_and_paired(evaluated):
    runs = compare.read_runs([evaluated / "0", evaluated / "7"])
    comparison = compare.compare_runs(runs, seed=1)
    first, second = (run.models["trained"] for run in runs)
    found = comparison.differences["update 7"]
    assert set(found) == set(first) == set(second)
    for name, metric in found.items():
        assert metric.value.value == pytest.approx(second[name].value.value - first[name].value.value)
        assert metric.value.low <= metric.value.value <= metric.value.high
    same = compare.compare_runs([runs[1], replace(runs[1], title="same")], seed=1).differences["same"]
    assert {(metric.value.low, metric.value.high) for metric in same.values()} == {(0.0, 0.0)}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_checkpoints_measured_on_other_data_or_broken_are_refused(copy):
    folder, other = copy / "evaluation", copy / "other"
    shutil.copytree(folder, other)
    edit(other / "7" / "abx" / "metrics.json", lambda content: content["items"].update(sha256="else"))
    runs = compare.read_runs([folder / "7", other / "7"])
    assert "abx_mfcc" not in runs[1].models.get("mfcc", {})  # the baselines are of the first data
    comparison = compare.compare_runs(runs, seed=1, allow_different_data=True)
    assert any(
        note.endswith(f"no baselines: {other / '0'} was measured on other data (abx)")
        for note in comparison.notes
    )
    with raises_fault("results.other_data", "metrics.json", error=ResultsError) as caught:
        compare.compare_runs(runs, seed=1)
    assert "(abx)" in str(caught.value)
    edit(other / "7" / "abx" / "metrics.json", lambda content: content.pop("condition"))
    with raises_fault("results.broken", "metrics.json", error=ResultsError):
        compare.read_runs([other / "7"])


def test_a_run_without_abx_is_compared_in_what_it_has(copy):
    folder, other = copy / "evaluation", copy / "other"
    shutil.copytree(folder, other)
    for number in (0, 7):
        shutil.rmtree(other / str(number) / "abx")
    runs = compare.read_runs([folder / "7", other / "7"])
    comparison = compare.compare_runs(runs, seed=1)
    found = comparison.differences["other, update 7"]
    assert "speech_to_image_r1" in found and not any(name.startswith("abx") for name in found)
    assert "other, update 7: no abx; fairseq-vgs evaluate run adds it" in comparison.notes


def test_ranks_stand_beside_their_groups(evaluated):
    result = read_checkpoint(evaluated / "7")["retrieval"]
    for way, n_items in (("speech_to_image", 8), ("image_to_speech", 5)):
        items = result.items["trained"][way]
        ranks, metrics = items.values[f"{way}_median_rank"], result.models["trained"]
        assert len(ranks) == len(items.units) == n_items
        assert metrics[f"{way}_r1"].value.value == pytest.approx(100 * float(np.mean(ranks <= 1)))
        assert metrics[f"{way}_mrr"].value.value == pytest.approx(float(np.mean(1 / ranks)))
    images = result.items["trained"]["image_to_speech"].units.tolist()
    # caption i shows picture i mod 5
    groups = result.items["trained"]["speech_to_image"].units.tolist()
    assert groups == [images[number % 5] for number in range(8)]
    assert images[3] == images[4]
    assert len(set(images)) == 4


def test_images_without_captions_are_no_queries_and_have_no_group(places, tmp_path):
    make_folder(tmp_path / "data", lengths=LENGTHS, n_images=9)
    ((_, found, _),) = evaluate_run(
        places / "run", evaluations(tmp_path, abx=False), tmp_path / "evaluation", every=7
    )
    assert len(found["retrieval"].items["trained"]["image_to_speech"].units) == 8


def test_phone_errors_average_to_the_number(evaluated):
    result = read_checkpoint(evaluated / "7")["abx"]
    (items,) = result.items["trained"].values()
    assert list(items.values) == list(result.models["trained"]) == ["layer_1", "layer_2", "layer_3"]
    for layer, metric in result.models["trained"].items():
        assert items.values[layer].mean() == pytest.approx(metric.value.value)
    pairs = list(zip(items.ids["phone_a"], items.ids["phone_b"], strict=True))
    names = sorted(set(items.ids["phone_a"]))
    assert sorted(pairs) == [(a, b) for a in names for b in names if a != b]


def test_untrained_model_is_update_0_with_mfcc(evaluated):
    untrained, trained = (read_checkpoint(evaluated / update)["abx"] for update in ("0", "7"))
    assert list(untrained.models) == ["untrained", "mfcc"]
    assert list(trained.models) == ["trained"]
    assert untrained.content["made_from"]["checkpoint"]["untrained_seed"] == 1
    assert untrained.models["untrained"] != trained.models["trained"]


@pytest.fixture
def copy(places, evaluated, tmp_path):
    """Everything once more, to be changed."""
    for name in ("run", "data", "abx", "evaluation"):
        shutil.copytree(places / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """Updates and evaluations that are measured; numbers are those of an earlier evaluation."""
    seen = []
    measure = over_training.measure

    def counted(evaluator, models, settings, output, **given):
        seen.append(f"{output.parent.name} {output.name}")
        return measure(evaluator, models, settings, output, **given)

    monkeypatch.setattr(over_training, "measure", counted)
    return seen


def again(root, *, force=False, baselines=BOTH, **changes):
    steps = evaluate_run(
        root / "run",
        evaluations(root, **changes),
        root / "evaluation",
        every=7,
        baselines=baselines,
        force=force,
    )
    assert len(list(steps)) == 1 + ("untrained" in baselines)


def hashes(folder):
    return {path: sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_what_is_there_is_kept(copy, measured):
    before = hashes(copy / "evaluation")
    again(copy)
    again(copy, abx=False)  # what is not asked for stays
    assert measured == []
    assert hashes(copy / "evaluation") == before


def test_goes_on_after_a_kill_at_any_moment(copy, measured):
    folder = copy / "evaluation" / "7" / "abx"
    (folder / "metrics.json").unlink()  # between items and numbers
    again(copy)
    assert measured == ["7 abx"]
    (folder / ".0123.tmp").write_text("half")
    shutil.rmtree(copy / "evaluation" / "0" / "retrieval")
    again(copy)
    assert measured == ["7 abx", "0 retrieval"]
    again(copy)
    assert measured == ["7 abx", "0 retrieval"]


def test_mfcc_is_added_where_it_was_not_asked_for(copy, measured):
    shutil.rmtree(copy / "evaluation")
    again(copy, baselines=("untrained",))
    assert list(read_checkpoint(copy / "evaluation" / "0")["abx"].models) == ["untrained"]
    measured.clear()
    again(copy)
    assert measured == ["0 abx"]


def test_what_is_made_from_something_else_is_replaced_by_force_only(copy, measured):
    def refused(said, **changes):
        before = hashes(copy / "evaluation")
        measured.clear()
        with pytest.raises(FileExistsError, match=said):
            again(copy, **changes)
        assert measured == []
        assert hashes(copy / "evaluation") == before

    path = copy / "run" / "checkpoints" / "checkpoint_1_7.pt"
    old = sha256_file(path)[:12]
    write_checkpoint(path, collapsed=True)
    new = sha256_file(path)[:12]
    refused(rf"metrics\.json: .*checkpoint sha256: {old}, now {new}\); 1 of 2 .*--force .* another --output")
    refused(rf"checkpoint sha256: {old}, now {new}", abx=False)  # the ABX results are of another checkpoint
    again(copy, force=True)
    assert measured == ["7 retrieval", "7 abx"]  # fresh weights are drawn from the same settings
    for path, said, anew in (
        (copy / "data" / "test.pairs.tsv", r"retrieval data test\.pairs\.tsv: .*2 of 2", "retrieval"),
        (copy / "abx" / "phones.item", r"\(abx items phones\.item: ", "abx"),
        (copy / "abx" / "utterances.tsv", r"\(abx data utterances\.tsv: none, now ", "abx"),
    ):
        lines = path.read_text().splitlines(keepends=True) if path.exists() else names_of(copy / "abx")
        path.write_text("".join(lines[:-1]))
        refused(said)
        again(copy, force=True)
        assert measured == [f"0 {anew}", f"7 {anew}"]
    measured.clear()
    again(copy, speakers=("within", "across"))
    assert measured == ["0 abx_across", "7 abx_across"]
    measured.clear()
    again(copy, force=True, speakers=("within", "across"))
    assert measured == []  # --force keeps what would be the same


def test_a_failure_loses_no_result_that_is_to_be_replaced(copy, monkeypatch):
    (copy / "run" / "checkpoints" / "checkpoint_1_7.pt").unlink()
    write_checkpoint(copy / "run" / "checkpoints" / "checkpoint_1_7.pt", collapsed=True)
    before = hashes(copy / "evaluation")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space left on device")

    for place, name in ((over_training, "measure"), (np, "savez_compressed"), (results, "write_metrics")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            with pytest.raises(OSError, match="no space left"):
                again(copy, force=True)
        assert hashes(copy / "evaluation") == before


def test_stale_results_that_are_not_asked_for_are_removed_after_the_others(copy, measured):
    write_checkpoint(copy / "run" / "checkpoints" / "checkpoint_1_7.pt", collapsed=True)
    again(copy, abx=False, force=True)
    assert measured == ["7 retrieval"]
    assert list(read_checkpoint(copy / "evaluation" / "7")) == ["retrieval"]


def names_of(folder):
    names = [f"r{number}.wav\tr{number}\n" for number in range(3)]
    return ["audio_id\tfile\n", *names, ""]


def test_fresh_weights_are_the_same_when_an_earlier_checkpoint_is_gone(copy, measured):
    folder = copy / "run" / "checkpoints"
    (folder / "checkpoint_1_7.pt").unlink()
    write_checkpoint(folder / "checkpoint_1_14.pt", collapsed=True)
    again(copy)
    assert measured == ["14 retrieval", "14 abx"]


def test_one_speaker_cannot_be_compared_across(copy, measured):
    path = copy / "abx" / "phones.item"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line for line in lines[1:] if line.endswith(" s0"))]) + "\n")
    with raises_fault("item.unusable", "phones.item: items", error=AbxError) as caught:
        again(copy, speakers=("within", "across"))
    assert "across speaker" in str(caught.value)
    assert measured == []


def test_across_speakers_stands_beside_within(places, tmp_path):
    ((_, found, _),) = evaluate_run(
        places / "run", evaluations(places, speakers=("within", "across")), tmp_path, every=7
    )
    assert list(found) == ["retrieval", "abx", "abx_across"]
    assert [found[key].content["condition"]["speaker"] for key in ("abx", "abx_across")] == [
        "within",
        "across",
    ]
    assert found["abx"].models != found["abx_across"].models


def test_numbers_of_another_schema_are_refused(copy):
    path = copy / "evaluation" / "7" / "abx" / "metrics.json"
    for text, said in (("[", "must be JSON"), ('{"schema_version": 0}', "schema_version must be 1 or 2")):
        path.write_text(text)
        with pytest.raises(ResultsError, match=said):
            read_checkpoint(copy / "evaluation" / "7")

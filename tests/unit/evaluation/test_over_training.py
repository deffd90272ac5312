"""Every checkpoint of a run measured: on what, when anew, and as the single evaluations measure."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.tiny_folder import make_folder

from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation import compare, run_figures
from fairseq_vgs.evaluation import over_training as run_evaluation
from fairseq_vgs.evaluation.metrics.abx import AbxError
from fairseq_vgs.evaluation.over_training import Measurement, evaluate_run, measure
from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.evaluation.run_figures import read_figures
from fairseq_vgs.files.provenance import sha256_file

LENGTHS = {"test": [7000 + 300 * number for number in range(8)]}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run with a checkpoint after 7 updates, pairs of which two pictures are one group, ABX recordings."""
    root = tmp_path_factory.mktemp("places")
    (root / "run" / "checkpoints").mkdir(parents=True)
    write_checkpoint(root / "run" / "checkpoints" / "checkpoint_1_7.pt")
    make_folder(root / "data", lengths=LENGTHS, n_images=5, groups={3: "g", 4: "g"})
    write_recordings(root / "abx")
    return root


@pytest.fixture(scope="module")
def measurement(places):
    return Measurement(places / "data", abx=places / "abx", abx_items="phones.item")


@pytest.fixture(scope="module")
def evaluated(places, measurement):
    """The folder of figures."""
    run, output = places / "run", places / "evaluation"
    steps = list(evaluate_run(run, measurement, output, every=7, untrained_seed=1))
    assert [(updates, n) for updates, _, n in steps] == [(0, 2), (7, 2)]
    return output


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_figures_agree_with_the_single_evaluations(places, evaluated, tmp_path, capsys):
    checkpoint = str(places / "run" / "checkpoints" / "checkpoint_1_7.pt")
    figures = read_figures(evaluated / "7.json")
    for kind, data, options in (
        ("retrieval", places / "data", []),
        ("abx", places / "abx", ["--items", "phones.item"]),
    ):
        command = ["evaluate", kind, checkpoint, str(data), "--json", "--output", str(tmp_path / kind)]
        assert main([*command, *options]) == 0
        single = json.loads(capsys.readouterr().out)["models"]["trained"]["metrics"]
        metrics = run_figures.read_checkpoint(evaluated / "7.json").metrics(seed=1)
        named = {name.removeprefix("abx_"): metric.as_json() for name, metric in metrics.items()}
        # the input of the first layer is not measured over training
        assert {name: named[name] for name in single if name != "layer_0"} == {
            name: pytest.approx(value) if isinstance(value, float) else value
            for name, value in single.items()
            if name != "layer_0"
        }
        ours = figures["retrieval"] if kind == "retrieval" else figures["abx"]["error"]
        shared = sorted(ours.keys() & single.keys())
        assert len(shared) == (10 if kind == "retrieval" else 3)
        assert [ours[name] for name in shared] == pytest.approx([single[name]["value"] for name in shared])


def test_every_figure_has_its_chance_and_certain_recalls_are_marked(evaluated):
    figures = read_figures(evaluated / "7.json")
    recalls = figures["retrieval"]
    assert recalls["chance"].keys() <= recalls.keys()
    assert len(recalls["chance"]) == 10
    assert figures["abx"]["chance"] == 50.0
    certain = {name for name, value in recalls["chance"].items() if "_r" in name[-4:] and value == 100.0}
    assert set(recalls["notes"]) == certain
    assert {
        "speech_to_image_r5",
        "speech_to_image_r10",
        "image_to_speech_r10",
    } <= certain  # 5 images, 8 captions
    assert {recalls[name] for name in certain} == {100.0}


def test_a_checkpoint_is_compared_beside_baselines_of_its_folder(evaluated):
    (run,) = compare.read_runs([evaluated / "7.json"])
    assert (run.title, run.kind) == ("update 7", "run")
    assert list(run.models) == ["trained", "untrained", "mfcc"]
    assert all(metric.chance is not None for found in run.models.values() for metric in found.values())
    fresh = compare.read_runs([evaluated / "0.json"])[0]
    assert list(fresh.models) == ["trained", "mfcc"]
    assert fresh.models["trained"] == run.models["untrained"]


def test_differences_between_checkpoints_are_theirs_and_paired(evaluated):
    runs = compare.read_runs([evaluated / "0.json", evaluated / "7.json"])
    comparison = compare.compare_runs(runs, seed=1)
    first, second = (run.models["trained"] for run in runs)
    found = comparison.differences["update 7"]
    assert set(found) == set(first) == set(second)
    for name, metric in found.items():
        assert metric.value.value == pytest.approx(second[name].value.value - first[name].value.value)
        assert metric.value.low <= metric.value.value <= metric.value.high
    same = compare.compare_runs([runs[1], replace(runs[1], title="same")], seed=1).differences["same"]
    assert {(metric.value.low, metric.value.high) for metric in same.values()} == {(0.0, 0.0)}


def test_checkpoints_measured_on_other_data_or_broken_are_refused(copy):
    folder, other = copy / "evaluation", copy / "other"
    shutil.copytree(folder, other)
    figures = read_figures(other / "7.json")
    figures["made_from"]["abx"]["items"] = {"phones.item": "else"}
    (other / "7.json").write_text(json.dumps(figures))
    runs = compare.read_runs([folder / "7.json", other / "7.json"])
    assert list(runs[1].models) == ["trained"]  # the baselines are of the first data
    comparison = compare.compare_runs(runs, seed=1, allow_different_data=True)
    assert any(
        note.endswith(f"no baselines: {other / '0.json'} was measured on other data (abx)")
        for note in comparison.notes
    )
    with pytest.raises(ResultsError, match=r"other, update 7 \(abx\)"):
        compare.compare_runs(runs, seed=1)
    (other / "7.npz").unlink()
    with pytest.raises(ResultsError, match=r"7\.npz: must be arrays beside 7\.json"):
        compare.read_runs([other / "7.json"])
    del figures["made_from"]
    (folder / "7.json").write_text(json.dumps(figures))
    with pytest.raises(ResultsError, match="must be what fairseq-vgs evaluate run wrote"):
        compare.read_runs([folder / "7.json"])


def test_a_run_without_abx_is_compared_in_what_it_has(copy):
    folder, other = copy / "evaluation", copy / "other"
    shutil.copytree(folder, other)
    for number in (0, 7):
        figures = read_figures(other / f"{number}.json")
        del figures["abx"], figures["made_from"]["abx"]
        for name in ("baselines", "baseline_counts"):  # MFCC, which only ABX measures
            figures.pop(name, None)
        (other / f"{number}.json").write_text(json.dumps(figures))
    runs = compare.read_runs([folder / "7.json", other / "7.json"])
    comparison = compare.compare_runs(runs, seed=1)
    found = comparison.differences["other, update 7"]
    assert "speech_to_image_r1" in found and not any(name.startswith("abx") for name in found)
    assert "other, update 7: no abx; fairseq-vgs evaluate run --abx adds it" in comparison.notes


def test_ranks_stand_beside_their_groups(evaluated):
    figures, found = read_figures(evaluated / "7.json"), arrays(evaluated / "7.npz")
    for way, side, n_items in (("speech_to_image", "speech", 8), ("image_to_speech", "image", 5)):
        ranks, groups = found[f"{way}_ranks"], found[f"{side}_groups"]
        assert len(ranks) == len(groups) == n_items
        assert figures["retrieval"][f"{way}_r1"] == pytest.approx(100 * float(np.mean(ranks <= 1)))
        assert figures["retrieval"][f"{way}_mrr"] == pytest.approx(float(np.mean(1 / ranks)))
    images = found["image_groups"].tolist()
    # caption i shows picture i mod 5
    assert found["speech_groups"].tolist() == [images[number % 5] for number in range(8)]
    assert images[3] == images[4]
    assert len(set(images)) == 4


def test_images_without_captions_are_no_queries_and_have_no_group(places, measurement, tmp_path):
    make_folder(tmp_path / "data", lengths=LENGTHS, n_images=9)
    _, found = measure(load_checkpoint(places / "run" / "checkpoints" / "checkpoint_1_7.pt"),
                       replace(measurement, data=tmp_path / "data", abx=None))  # fmt: skip
    assert len(found["image_to_speech_ranks"]) == len(found["image_groups"]) == 8


def test_phone_errors_average_to_the_figure(evaluated):
    figures, found = read_figures(evaluated / "7.json"), arrays(evaluated / "7.npz")
    assert found["abx_layers"].tolist() == list(figures["abx"]["error"]) == ["layer_1", "layer_2", "layer_3"]
    means = 100 * found["abx_errors"].mean(axis=1)
    assert means == pytest.approx(np.array(list(figures["abx"]["error"].values())))
    names = found["abx_phone_names"]
    pairs = [tuple(names[pair]) for pair in found["abx_phones"]]
    assert sorted(pairs) == [(a, b) for a in names for b in names if a != b]


def test_untrained_model_is_update_0_with_mfcc(evaluated):
    untrained, trained = (read_figures(evaluated / f"{update}.json") for update in (0, 7))
    assert set(untrained["baselines"]) == {"mfcc"}
    assert "baselines" not in trained
    assert untrained["made_from"]["checkpoint"]["untrained_seed"] == 1
    assert untrained["abx"]["error"] != trained["abx"]["error"]


@pytest.fixture
def copy(places, evaluated, tmp_path):
    """Everything once more, to be changed."""
    for name in ("run", "data", "abx", "evaluation"):
        shutil.copytree(places / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """Names of the checkpoints that are measured; nothing is."""
    seen = []

    def pretend(checkpoint, _):
        seen.append(checkpoint.n_updates)
        return {"schema_version": run_evaluation.SCHEMA_VERSION}, {"a": np.zeros(1)}

    monkeypatch.setattr(run_evaluation, "measure", pretend)
    monkeypatch.setattr(run_evaluation, "_mfcc", lambda _: (1.0, {}))
    return seen


def again(root, measurement, *, force=False, **changes):
    moved = replace(measurement, data=root / "data", abx=root / "abx", **changes)
    steps = evaluate_run(root / "run", moved, root / "evaluation", every=7, untrained_seed=1, force=force)
    assert len(list(steps)) == 2


def test_what_is_there_is_kept(copy, measurement, measured):
    before = {path.name: sha256_file(path) for path in (copy / "evaluation").iterdir()}
    again(copy, measurement)
    assert measured == []
    assert {path.name: sha256_file(path) for path in (copy / "evaluation").iterdir()} == before


def test_goes_on_after_a_kill_between_arrays_and_figures(copy, measurement, measured):
    (copy / "evaluation" / "7.json").unlink()
    again(copy, measurement)
    assert measured == [7]
    again(copy, measurement)
    assert measured == [7]


def test_what_is_made_from_something_else_is_replaced_by_force_only(copy, measurement, measured):
    def refused(said, **changes):
        before = {path.name: sha256_file(path) for path in (copy / "evaluation").iterdir()}
        measured.clear()
        with pytest.raises(FileExistsError, match=said):
            again(copy, measurement, **changes)
        assert measured == []
        assert {path.name: sha256_file(path) for path in (copy / "evaluation").iterdir()} == before

    path = copy / "run" / "checkpoints" / "checkpoint_1_7.pt"
    old = sha256_file(path)[:12]
    write_checkpoint(path, collapsed=True)
    new = sha256_file(path)[:12]
    refused(rf"7\.json: .*\(checkpoint sha256: {old}, now {new}\); 1 of 2 .*--force .* another --output")
    again(copy, measurement, force=True)
    assert measured == [7]  # fresh weights are drawn from the same settings
    for path, said in (
        (copy / "data" / "test.pairs.tsv", r"0\.json: .*\(data test\.pairs\.tsv: .*2 of 2"),
        (copy / "abx" / "phones.item", r"\(abx items phones\.item: "),
        (copy / "abx" / "utterances.tsv", r"\(abx recordings utterances\.tsv: none, now "),
    ):
        lines = path.read_text().splitlines(keepends=True) if path.exists() else ["audio_id\tfile\n", ""]
        path.write_text("".join(lines[:-1]))
        refused(said)
        again(copy, measurement, force=True)
        assert measured == [0, 7]
    refused(r"\(abx_across: none, now measured\)", abx_speakers=("within", "across"))
    again(copy, measurement, force=True, abx_speakers=("within", "across"))
    assert measured == [0, 7]
    refused(r"\(abx_across: measured, now none\)")
    measured.clear()
    again(copy, measurement, force=True, abx_speakers=("within", "across"))
    assert measured == []  # --force keeps what would be the same


def test_fresh_weights_are_the_same_when_an_earlier_checkpoint_is_gone(copy, measurement, measured):
    folder = copy / "run" / "checkpoints"
    (folder / "checkpoint_1_7.pt").unlink()
    write_checkpoint(folder / "checkpoint_1_14.pt", collapsed=True)
    again(copy, measurement)
    assert measured == [7]  # what the file says, whose name says 14


def test_mfcc_on_other_cells_says_so(evaluated):
    figures = read_figures(evaluated / "0.json")
    assert run_figures.other_cells(figures) == []
    assert figures["baseline_counts"]["mfcc"]["cells"] == figures["abx"]["counts"]["cells"]
    figures["baseline_counts"]["mfcc"]["cells"] = 90
    found = run_figures.read_checkpoint(evaluated / "0.json")
    metrics = replace(found, figures=figures).baseline_metrics()
    assert metrics["mfcc"]["abx_mfcc"].n == 90
    (line,) = run_figures.other_cells(figures)
    assert line.startswith(f"MFCC has 90 ABX cells, the model {figures['abx']['counts']['cells']} ")


def test_one_speaker_cannot_be_compared_across(copy, measurement, measured):
    path = copy / "abx" / "phones.item"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line for line in lines[1:] if line.endswith(" s0"))]) + "\n")
    with pytest.raises(AbxError, match=r"phones\.item: .*across speaker"):
        again(copy, measurement, abx_speakers=("within", "across"))
    assert measured == []


def test_across_speakers_stands_beside_within(places, measurement):
    checkpoint = load_checkpoint(places / "run" / "checkpoints" / "checkpoint_1_7.pt")
    figures, found = measure(checkpoint, replace(measurement, abx_speakers=("within", "across")))
    assert figures["abx"]["protocol"]["speaker"] == "within"
    assert figures["abx_across"]["protocol"]["speaker"] == "across"
    assert figures["abx"]["error"] != figures["abx_across"]["error"]
    for name in ("abx", "abx_across"):
        errors = 100 * found[f"{name}_errors"].mean(axis=1)
        assert errors == pytest.approx(np.array(list(figures[name]["error"].values())))


@pytest.mark.parametrize(
    ("text", "said"), [("[", "must be JSON"), ('{"schema_version": 0}', "schema_version must be 1")]
)
def test_faulty_figures(tmp_path, text, said):
    path = tmp_path / "7.json"
    assert read_figures(path) is None
    path.write_text(text)
    with pytest.raises(ResultsError, match=said):
        read_figures(path)

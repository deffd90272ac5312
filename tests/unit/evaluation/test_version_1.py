"""Results of ``evaluate run`` in an earlier form are read, and go on."""

import json
import shutil

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault
from support.tiny_folder import make_folder

from fairseq_vgs.evaluation import compare, over_training
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.over_training import Evaluation, evaluate_run, read_checkpoint
from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.evaluation.version_1 import read_arrays
from fairseq_vgs.study.results import load_items


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run that was evaluated today, and the same results as version 0.1.0 wrote them."""
    root = tmp_path_factory.mktemp("root")
    (root / "run" / "checkpoints").mkdir(parents=True)
    write_checkpoint(root / "run" / "checkpoints" / "checkpoint_1_7.pt")
    make_folder(root / "data", lengths={"test": [7000, 7300, 7600]}, n_images=3)
    write_recordings(root / "abx")
    list(
        evaluate_run(root / "run", evaluations(root), root / "new", every=7, baselines=("untrained", "mfcc"))
    )
    (root / "old").mkdir()
    for update in (0, 7):
        _write_old(root / "old" / f"{update}", read_checkpoint(root / "new" / str(update)), update)
    return root


def evaluations(root):
    given = (("retrieval", root / "data"), ("abx", root / "abx"))
    return [Evaluation(one := EVALUATORS[name](), one.Settings(data=data)) for name, data in given]


def _write_old(stem, results, update):
    retrieval, abx = results["retrieval"], results["abx"]
    own = retrieval.models[retrieval.evaluated]
    sets = retrieval.items[retrieval.evaluated]
    (pairs,) = abx.items[abx.evaluated].values()
    made = abx.content["made_from"]
    condition = {name: value for name, value in made["condition"].items() if name != "librilight_slicing"}
    protocol = {**condition, "seed": made["seed"]}
    numbers = {
        "schema_version": 1,
        "retrieval": {
            "split": "test",
            "pool": retrieval.content["pool"],
            **{name: metric.value.value for name, metric in own.items()},
            "chance": {name: metric.chance for name, metric in own.items()},
        },
        "abx": {
            "error": {name: metric.value.value for name, metric in abx.models[abx.evaluated].items()},
            "protocol": protocol,
            "counts": abx.content["models"][abx.evaluated]["counts"],
        },
        "made_from": {
            "checkpoint": made["checkpoint"],
            "data": retrieval.content["made_from"]["data"],
            "abx": {"protocol": protocol, "items": made["items"], "recordings": made["data"]},
        },
        "versions": {"python": "3"},
        "machine": {"cores": 2},
    }
    if not update:
        numbers["baselines"] = {"mfcc": abx.models["mfcc"]["mfcc"].value.value}
    stem.with_suffix(".json").write_text(json.dumps(numbers))
    arrays = {f"{way}_ranks": sets[way].values[f"{way}_median_rank"] for way in sets}
    arrays |= {
        f"{side}_groups": found.units for side, found in zip(("speech", "image"), sets.values(), strict=True)
    }
    names = sorted(set(pairs.ids["phone_a"]) | set(pairs.ids["phone_b"]))
    np.savez(
        stem.with_suffix(".npz"),
        **arrays,
        abx_layers=np.array(list(pairs.values)),
        abx_errors=np.stack(list(pairs.values.values())) / 100,
        abx_phones=pairs.units,
        abx_phone_names=np.array(names),
    )


def test_numbers_and_intervals_are_those_of_today(root):
    for update in ("0", "7"):
        new, old = (read_checkpoint(root / name / update) for name in ("new", "old"))
        assert list(old) == ["retrieval", "abx"]
        for key, result in old.items():
            for name, metric in result.models[result.evaluated].items():
                assert str(metric) == str(new[key].models[new[key].evaluated][name])
    assert old["retrieval"].content["provenance"]["versions"] == {"python": "3"}


def test_they_are_compared(root):
    runs = compare.read_runs([root / "old" / "0", root / "old" / "7"])
    assert list(runs[1].models) == ["trained", "untrained", "mfcc"]
    found = compare.compare_runs(runs, seed=1).differences["update 7"]
    assert set(found) == set(runs[1].models["trained"])


def test_an_evaluation_that_they_began_goes_on(root, monkeypatch):
    monkeypatch.setattr(over_training, "measure", None)
    steps = evaluate_run(
        root / "run", evaluations(root), root / "old", every=7, baselines=("untrained", "mfcc")
    )
    assert [updates for updates, _, _ in steps] == [0, 7]


def test_one_stale_result_is_replaced_and_the_others_of_its_file_stay(root, tmp_path, monkeypatch):
    for name in ("run", "data", "abx", "old"):
        shutil.copytree(root / name, tmp_path / name)
    before = read_checkpoint(tmp_path / "old" / "7")
    table = tmp_path / "data" / "test.pairs.tsv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    seen, measure = [], over_training.measure

    def counted(evaluator, models, settings, output, **given):
        seen.append(f"{output.parent.name} {output.name}")
        assert list(read_checkpoint(output.parent)) == ["retrieval", "abx"]  # as long as it takes
        return measure(evaluator, models, settings, output, **given)

    monkeypatch.setattr(over_training, "measure", counted)
    for _ in range(2):
        steps = evaluate_run(
            tmp_path / "run",
            evaluations(tmp_path),
            tmp_path / "old",
            every=7,
            baselines=("untrained", "mfcc"),
            force=True,
        )
        assert len(list(steps)) == 2
        assert seen == ["0 retrieval", "7 retrieval"]
    after = read_checkpoint(tmp_path / "old" / "7")
    assert after["abx"].content == before["abx"].content
    assert after["retrieval"].path == tmp_path / "old" / "7" / "retrieval" / "metrics.json"
    items = load_items(tmp_path / "old" / "7")
    assert set(items) == {"retrieval", "abx"}
    assert len(items["retrieval"]["speech_to_image"].units) == 2
    # Without retrieval, a result of another checkpoint leaves the file, and nothing else does.
    write_checkpoint(tmp_path / "run" / "checkpoints" / "checkpoint_1_7.pt", collapsed=True)
    only = evaluations(tmp_path)[:1]
    list(evaluate_run(tmp_path / "run", only, tmp_path / "old", every=7, force=True))
    assert set(read_checkpoint(tmp_path / "old" / "7")) == {"retrieval"}
    assert set(read_checkpoint(tmp_path / "old" / "0")) == {"retrieval", "abx"}


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "7.json"
    for text, said in (("[", "must be JSON"), ('{"schema_version": 0}', "schema_version must be 1 or 2")):
        path.write_text(text)
        with pytest.raises(ResultsError, match=said):
            read_checkpoint(tmp_path / "7")
    path.write_text('{"schema_version": 1, "retrieval": {}}')
    with raises_fault("results.broken", "7.npz", error=ResultsError):
        read_checkpoint(tmp_path / "7")
    np.savez(tmp_path / "7.npz", abx_errors=np.zeros(1))
    with raises_fault("results.items_missing", "7.npz", error=ResultsError):
        read_arrays(tmp_path / "7.npz")
    np.savez(tmp_path / "7.npz", a=np.zeros(1))
    with raises_fault("results.broken", "7.json", error=ResultsError):
        read_checkpoint(tmp_path / "7")

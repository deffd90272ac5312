"""fairseq-vgs evaluate retrieval: table, files, refusals."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.tiny import tiny_model
from support.tiny_folder import LAYERS, REGION_DIM, make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.files.provenance import sha256_file


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    lengths = {"test": [7000 + 300 * number for number in range(12)]}
    return make_folder(tmp_path_factory.mktemp("data") / "set", lengths=lengths, groups={4: "g", 5: "g"}).path


def _checkpoint(folder, *, collapsed=False):
    model = tiny_model(seed=1, conv_feature_layers=LAYERS, image_dim=REGION_DIM)
    if collapsed:
        for name, parameter in model.named_parameters():
            if name.startswith(("speech_head", "image_encoder")) and name.endswith("weight"):
                torch.nn.init.zeros_(parameter)
    settings = OmegaConf.to_container(OmegaConf.structured(model.cfg), resolve=True, enum_to_str=True)
    config = {
        "task": {
            "_name": "vgs_pretraining",
            "data": "gone",
            "valid_max_seconds": 0.6,
            "image_input": "regions",
        },
        "criterion": {"_name": "vgs_multitask", "similarity": "cosine"},
        "model": {**settings, "_name": "vgs_wav2vec2"},
    }
    state = {"cfg": config, "model": model.state_dict(), "optimizer_history": [{"num_updates": 7}]}
    torch.save(state, folder / "checkpoint_best.pt")
    return folder / "checkpoint_best.pt"


def test_table_and_files(data, tmp_path, capsys):
    checkpoint = _checkpoint(tmp_path)
    assert main(["evaluate", "retrieval", str(checkpoint), str(data), "--output", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert "12 captions of 6 images" in table
    assert "a hit if any caption of its image is within the top k" in table
    for title in ("speech -> image", "image -> speech"):
        assert title in table
    for row in ("trained (7 updates)", "untrained (seed 1)", "chance"):
        assert table.count(f"  {row} ") == 2
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["similarity"] == "cosine"
    assert metrics["checkpoint"]["sha256"] == sha256_file(checkpoint)
    assert metrics["pool"]["captions_cut"] == 3
    assert metrics["pool"]["captions_skipped"] == 0
    assert set(metrics["models"]) == {"trained", "untrained"}
    assert set(metrics["differences"]) == {"trained minus untrained"}
    figure = metrics["models"]["trained"]["metrics"]["speech_to_image_r1"]
    assert figure["n"] == 12
    assert figure["chance"] == pytest.approx(100 * (8 * 1 + 4 * 2) / (12 * 6))  # two pictures are one group
    assert figure["interval"]["low"] <= figure["value"] <= figure["interval"]["high"]
    provenance = metrics["provenance"]
    assert provenance["command"].startswith(f"fairseq-vgs evaluate retrieval {checkpoint} {data} --output ")
    assert {"command", "seed", "manifest", "versions", "machine", "created"} <= set(provenance)
    assert {"test.tsv", "test.pairs.tsv", "images.tsv", "regions.tsv", "regions.npy"} == set(
        provenance["manifest"]
    )
    with (tmp_path / "out" / "speech_to_image.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["audio_id"] for row in rows] == [f"test/{number}.wav" for number in range(12)]
    assert np.load(tmp_path / "out" / "image_embeddings.npy").shape == (6, 20)


def test_a_run_folder_stands_for_its_best_checkpoint(data, tmp_path, caplog):
    """In evaluate, extract and gallery; which one it is, is said in one line."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    best = _checkpoint(run / "checkpoints")
    (run / "checkpoints/checkpoint_last.pt").write_bytes(b"another")
    assert main(["evaluate", "retrieval", str(run), str(data), "--baseline", "none"]) == 0
    said = [record.message for record in caplog.records if "using" in record.message]
    assert said == [f"{run}: using checkpoint_best.pt"]
    results = run / "checkpoints/checkpoint_best_retrieval_test"
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["checkpoint"]["sha256"] == sha256_file(best)
    features = ["--output", str(tmp_path / "features"), "--layers", "1"]
    assert main(["extract", str(run), str(data), *features]) == 0
    assert len(list((tmp_path / "features/layer_1").rglob("*.npy"))) == 12
    gallery = ["gallery", str(results), str(data), str(tmp_path / "gallery"), "--queries", "1"]
    assert main([*gallery, "--checkpoint", str(run)]) == 0
    assert (tmp_path / "gallery/index.html").is_file()
    best.unlink()
    (run / "checkpoints/checkpoint_last.pt").unlink()
    for command in (
        ["evaluate", "retrieval", str(run), str(data)],
        ["extract", str(run), str(data), *features],
    ):
        with raises_fault("model.kind", "run"):
            main([*command, "--debug"])


def test_json_and_repeatability(data, tmp_path, capsys):
    checkpoint = _checkpoint(tmp_path)
    arguments = [
        "evaluate",
        "retrieval",
        str(checkpoint),
        str(data),
        "--baseline",
        "none",
        "--json",
        "--force",
    ]
    found = []
    for batch_seconds in ("120", "120", "0.1"):
        assert main([*arguments, "--batch-seconds", batch_seconds]) == 0
        printed = capsys.readouterr().out
        folder = tmp_path / "checkpoint_best_retrieval_test"
        assert printed == (folder / "metrics.json").read_text(encoding="utf-8")
        found.append(json.loads(printed)["models"])
    assert set(found[0]) == {"trained"}
    assert found[0]["trained"]["metrics"] == found[1]["trained"]["metrics"]
    assert (tmp_path / "checkpoint_best_retrieval_test" / "metrics.json").is_file()


def test_collapsed_model_is_reported_and_scores_no_better_than_chance(data, tmp_path, capsys, caplog):
    checkpoint = _checkpoint(tmp_path, collapsed=True)
    arguments = ["evaluate", "retrieval", str(checkpoint), str(data), "--baseline", "none", "--json"]
    assert main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)["models"]["trained"]["metrics"]
    assert figures["speech_to_image_r1"]["value"] <= figures["speech_to_image_r1"]["chance"]
    assert figures["speech_to_image_median_rank"]["value"] == pytest.approx(3.5, abs=0.5)
    assert "collapsed" in caplog.text


def test_one_pair_is_not_said_to_be_collapsed(tmp_path, capsys, caplog):
    data = make_folder(tmp_path / "data", lengths={"test": [7000]}, n_images=1).path
    command = ["evaluate", "retrieval", str(_checkpoint(tmp_path)), str(data)]
    assert main([*command, "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["models"]["trained"]
    assert model["speech_spread"] is None
    assert model["image_spread"] is None
    assert "collapsed" not in caplog.text
    assert main([*command, "--force", "--folds", "2"]) == 1
    assert "folds: split must have at least 2 image groups" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "absent.pt"}, "absent.pt: file must exist"),
        ({"split": "valid"}, "valid"),
        ({"data": "nowhere"}, "nowhere"),
    ],
)
def test_what_is_not_there_is_one_readable_line(data, tmp_path, capsys, change, message):
    checkpoint = _checkpoint(tmp_path)
    given = {"checkpoint": str(checkpoint), "data": str(data), "split": "test", **change}
    code = main(["evaluate", "retrieval", given["checkpoint"], given["data"], "--split", given["split"]])
    captured = capsys.readouterr()
    assert code == 1
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_existing_results_are_refused_before_the_work(data, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("mine")
    # The checkpoint does not exist either: the refusal must come first.
    code = main(
        ["evaluate", "retrieval", str(tmp_path / "absent.pt"), str(data), "--output", str(tmp_path / "out")]
    )
    assert code == 1
    assert "already exists; pass --force" in capsys.readouterr().err
    assert (tmp_path / "out" / "metrics.json").read_text() == "mine"


def test_wrong_usage(capsys):
    for arguments in (["evaluate"], ["evaluate", "retrieval", "x", "y", "--batch-seconds", "0"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "retrieval", "--help"])
    assert stop.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_folds(data, tmp_path, capsys):
    checkpoint = _checkpoint(tmp_path)
    arguments = ["evaluate", "retrieval", str(checkpoint), str(data), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--folds", "2"]) == 0
    assert "within 2 disjoint pools of " in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    folds = metrics["folds"]
    assert (folds["n"], sum(folds["images"]), sum(folds["captions"])) == (2, 6, 12)
    within = {
        model: [name for name in found["metrics"] if name.startswith("speech_to_image_r1, within 2 disjoint")]
        for model, found in metrics["models"].items()
    }
    assert [len(names) for names in within.values()] == [1, 1]
    with (tmp_path / "out" / "speech_to_image.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    hits = [float(row["fold_rank"]) <= 1 for row in rows]
    figure = metrics["models"]["trained"]["metrics"][within["trained"][0]]
    assert figure["value"] == pytest.approx(100 * np.mean(hits))
    assert all(float(row["fold_rank"]) <= float(row["rank"]) for row in rows)
    assert main([*arguments, "--folds", "6", "--force"]) == 1
    assert "folds: must be from 2 to 5" in capsys.readouterr().err

"""The extensions of docs/extend.md work as they are: each is one file outside of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.train import CHECKOUT, environment, history, train_command

EXTENSIONS = CHECKOUT / "examples" / "extensions"
FILES = sorted((EXTENSIONS / "my_extension").glob("*.py"))
TRAINING = [
    "model.image_encoder=windows",
    "model.image_encoder_settings={window: 8}",
    "model.speech_head=mean",
    "criterion.vgs_loss=triplet",
    "criterion.vgs_loss_settings={triplet_margin: 0.5}",
    "criterion.alpha_schedule=triangle",
    "criterion.alpha_schedule_settings={period: 4}",
    "criterion.alpha_values=[0.25,0.75]",
    "optimization.max_update=2",
    "dataset.batch_size=6",
]


def extended(*modules: str) -> dict[str, str]:
    """Return an environment in which some of the extensions are known."""
    path = os.pathsep.join([str(EXTENSIONS), os.environ.get("PYTHONPATH", "")])
    listed = ",".join(f"my_extension.{name}" for name in modules)
    return {**environment(), "PYTHONPATH": path, "FAIRSEQ_VGS_EXTENSIONS": listed}


def run(command: list[str], env: dict[str, str], *, code: int = 0) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == code, process.stdout[-3000:] + process.stderr[-5000:]
    return process


def fairseq_vgs(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("fairseq-vgs")), *map(str, arguments)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An album of 9 pictures with two descriptions each, prepared by the corpus of the example."""
    album = tmp_path_factory.mktemp("album")
    noise = np.random.default_rng(0)
    for picture in range(9):
        colours = noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(colours).save(album / f"p{picture}.png")
        for speaker in ("ada", "bo"):
            sound = 0.1 * noise.standard_normal(16_000)
            soundfile.write(album / f"p{picture}_{speaker}.wav", sound, 16_000)
    folder = tmp_path_factory.mktemp("prepared") / "data"
    run(fairseq_vgs("prepare", "album", album, folder, "--valid-pictures", 3), extended("corpus"))
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Two updates with the encoder, the loss, the head and the schedule of the example."""
    run_dir = tmp_path_factory.mktemp("run")
    command = train_command("vgs_plus", run_dir, f"task.data={data}", *TRAINING)
    run(command, extended("encoder", "loss", "speech_head", "schedule"))
    return run_dir


def test_the_corpus_is_prepared(data):
    summary = json.loads((data / "summary.json").read_text())
    assert summary["settings"]["valid_pictures"] == 3
    assert len((data / "train.pairs.tsv").read_text().splitlines()) == 1 + 12
    assert len((data / "valid.pairs.tsv").read_text().splitlines()) == 1 + 6


def test_encoder_loss_head_and_schedule_train(trained):
    logged = history(trained)
    assert logged[2]["vgs_loss"] > 0
    assert logged[1]["alpha"] == pytest.approx(0.25)
    assert logged[2]["alpha"] == pytest.approx(0.5)


def test_a_checkpoint_needs_its_extension_to_be_evaluated(data, trained, tmp_path):
    checkpoint = trained / "checkpoints" / "checkpoint_last.pt"
    arguments = ("evaluate", "retrieval", checkpoint, data, "--split", "valid", "--output")
    run(fairseq_vgs(*arguments, tmp_path / "known"), extended("encoder", "speech_head"))
    assert (tmp_path / "known" / "metrics.json").is_file()
    process = run(fairseq_vgs(*arguments, tmp_path / "unknown"), extended("encoder"), code=1)
    assert "model.speech_head" in process.stderr and "FAIRSEQ_VGS_EXTENSIONS" in process.stderr


def test_the_metric_is_a_command(data, trained, tmp_path):
    checkpoint = trained / "checkpoints" / "checkpoint_last.pt"
    arguments = (
        "choice",
        checkpoint,
        data,
        "--split",
        "valid",
        "--trials",
        4,
        "--output",
        tmp_path / "choice",
    )
    run(fairseq_vgs("evaluate", *arguments), extended("encoder", "speech_head", "metric"))
    content = json.loads((tmp_path / "choice" / "metrics.json").read_text())
    assert (content["kind"], content["condition"]) == ("choice", {"trials": 4})
    assert content["models"]["trained"]["metrics"]["choice"]["chance"] == 50.0
    assert content["models"]["untrained"]["metrics"]["choice"]["n"] == 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("windwo: 8", "model.image_encoder_settings.windwo: its settings are window"),
        ("window: 0", "model.image_encoder_settings.window: expected at least 1"),
    ],
)
def test_impossible_settings_are_named(data, tmp_path, setting, message):
    others = [override for override in TRAINING if "image_encoder_settings" not in override]
    settings = f"model.image_encoder_settings={{{setting}}}"
    command = train_command("vgs_plus", tmp_path, f"task.data={data}", *others, settings)
    process = run(command, extended("encoder", "loss", "speech_head", "schedule"), code=1)
    assert message in process.stdout + process.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_documentation_shows_the_file(path):
    shown = (CHECKOUT / "docs" / "extend.md").read_text(encoding="utf-8")
    assert f"```python\n{path.read_text(encoding='utf-8')}```\n" in shown


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_one_file(path):
    """It imports nothing of the other examples."""
    assert "my_extension" not in path.read_text(encoding="utf-8")

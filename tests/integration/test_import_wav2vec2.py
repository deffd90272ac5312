"""From files of public models to the first updates of a run, as the command line prints it."""

import shlex
import sys
from pathlib import Path

import pytest
import torch
from support.tiny_backbones import make_backbone, vision_part
from support.train import EMBEDDED, ODD, environment, history, run_command
from support.wav2vec2_files import SMALL, old_state, stock_model

from fairseq_vgs.cli.main import main
from fairseq_vgs.files.hydra import override

# to be faster; layers and dims that a file or the data determine are left to the import
SMALLER = {
    "speech_head": "attention", "speech_head_heads": 2, "embed_dim": 32, "image_embed_dim": 32,
    "image_layers": 1, "image_heads": 2, "image_ffn_dim": 32,
}  # fmt: skip


@pytest.fixture
def source(tmp_path):
    """A file of wav2vec 2.0 with three small layers, and its model."""
    stock, path = stock_model(SMALL), tmp_path / "wav2vec_tiny.pt"
    torch.save(old_state(stock, SMALL), path)
    return path, stock


def train_as_printed(capsys, run_dir, *overrides):
    """Run the last line that was printed, with few updates; return the last checkpoint."""
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    command[0] = str(Path(sys.executable).with_name(command[0]))
    command += [
        "run_config=cpu", "model.autocast=none", override("hydra.run.dir", run_dir), "dataset.batch_size=8",
        "dataset.disable_validation=true", "common.log_format=simple", "lr_scheduler.warmup_updates=2",
        *overrides,
    ]  # fmt: skip
    done = run_command(command, environment(), cwd=run_dir.parent)  # not the checkout
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "loading pretrained model from" in done.stdout + done.stderr
    return run_dir / "checkpoints" / "checkpoint_last.pt"


def test_printed_command_starts_from_the_imported_weights(source, tmp_path, capsys):
    path, stock = source
    odd = tmp_path / ODD
    settings = [f"--set={key}={value}" for key, value in SMALLER.items()]
    assert main(["import", "wav2vec2", str(path), str(odd / f"start {ODD}.pt"), *settings]) == 0

    (odd / "data").symlink_to(EMBEDDED)
    data = override("task.data", odd / "data")
    last = train_as_printed(capsys, odd / "run", "optimization.max_update=2", data)
    assert sorted(history(odd / "run")) == [1, 2]
    state = torch.load(last)
    assert state["cfg"]["task"]["normalize"] is False
    assert state["cfg"]["model"]["feature_grad_mult"] == 0.1
    assert state["cfg"]["model"]["vgs_layer"] == 3
    assert state["cfg"]["model"]["image_dim"] == 1280  # of the embedded data
    # the first update has learning rate 0, the second at most 0.0005: weights have moved, and not far
    difference = state["model"]["encoder.layers.0.fc1.weight"] - stock.encoder.layers[0].fc1.weight
    assert 0 < difference.abs().max() < 0.01


def test_with_an_image_backbone_in_one_command(source, small_data, tmp_path, capsys):
    backbone = vision_part(make_backbone(tmp_path / "dinov2", "dinov2"))
    command = ["import", "wav2vec2", str(source[0]), str(tmp_path / "start.pt"), "--data", str(small_data)]
    settings = [f"--set={key}={value}" for key, value in SMALLER.items()]
    assert main([*command, "--image-backbone", str(tmp_path / "dinov2"), *settings]) == 0

    (tmp_path / "dinov2").rename(tmp_path / "elsewhere")  # its weights are in the checkpoint
    last = train_as_printed(capsys, tmp_path / "run", "optimization.max_update=1")
    trained = torch.load(last)["model"]
    for name, weight in backbone.state_dict().items():
        assert torch.equal(trained[f"image_encoder.backbone.model.{name}"], weight)
    found = tmp_path / "found"
    command = ["evaluate", "retrieval", str(last), str(small_data), "--split", "valid"]
    assert main([*command, "--baseline", "none", "--output", str(found)]) == 0
    assert (found / "metrics.json").is_file()

"""From a wav2vec 2.0 file to the first updates of a run, as the command line prints it."""

import shlex
import subprocess
import sys
from pathlib import Path

import torch
from support.train import CHECKOUT, environment, history
from support.wav2vec2_files import SMALL, old_state, stock_model

from fairseq_vgs.cli.main import main

# the embedded data's region features have 1280 dims
SETTINGS = {"image_dim": 1280, "vgs_layer": 2, "speech_head": "attention", "speech_head_heads": 2}
IMAGE = {"embed_dim": 32, "image_embed_dim": 32, "image_layers": 1, "image_heads": 2, "image_ffn_dim": 32}


def test_printed_command_starts_from_the_imported_weights(small_data, tmp_path, capsys):
    source = tmp_path / "wav2vec_tiny.pt"
    stock = stock_model(SMALL)
    torch.save(old_state(stock, SMALL), source)
    settings = [f"--set={key}={value}" for key, value in {**SETTINGS, **IMAGE}.items()]
    assert main(["import", "wav2vec2", str(source), str(tmp_path / "from here" / "start.pt"), *settings]) == 0

    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    command[0] = str(Path(sys.executable).with_name(command[0]))
    command += [
        "run_config=cpu", "model.autocast=none",
        f"task.data={small_data}", f"hydra.run.dir={tmp_path / 'run'}",
        "optimization.max_update=2", "dataset.batch_size=8", "dataset.disable_validation=true",
        "common.log_format=simple", "lr_scheduler.warmup_updates=2",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "loading pretrained model from" in done.stdout + done.stderr
    assert sorted(history(tmp_path / "run")) == [1, 2]
    state = torch.load(tmp_path / "run" / "checkpoints" / "checkpoint_last.pt")
    assert state["cfg"]["task"]["normalize"] is False
    assert state["cfg"]["model"]["feature_grad_mult"] == 0.1
    # the first update has learning rate 0, the second at most 0.0005: weights have moved, and not far
    difference = state["model"]["encoder.layers.0.fc1.weight"] - stock.encoder.layers[0].fc1.weight
    assert 0 < difference.abs().max() < 0.01

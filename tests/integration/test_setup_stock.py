"""Stock fairseq trains, saves and resumes on current torch and numpy once the plugin is loaded."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

CHECKOUT = Path(__file__).parents[2]
# num_batch_buckets and no_mask_overlap use numpy names that are gone
SETTINGS = [
    "common.cpu=true",
    "common.log_interval=1",
    "common.log_format=simple",
    "task=audio_pretraining",
    "task.max_sample_size=16000",
    "task.min_sample_size=2000",
    "task.normalize=true",
    "task.enable_padding=true",
    "task.num_batch_buckets=2",
    "criterion=wav2vec",
    "criterion.infonce=true",
    "criterion.loss_weights=[0.1,10]",
    "model=wav2vec2",
    "model.quantize_targets=true",
    "model.final_dim=16",
    "model.latent_vars=8",
    "model.num_negatives=5",
    "model.encoder_layers=1",
    "model.encoder_embed_dim=16",
    "model.encoder_ffn_embed_dim=16",
    "model.encoder_attention_heads=2",
    "model.conv_pos=8",
    "model.conv_pos_groups=2",
    "model.mask_prob=0.4",
    "model.mask_length=3",
    "model.no_mask_overlap=true",
    "dataset.num_workers=1",
    "dataset.max_tokens=32000",
    "optimizer=adam",
    "lr_scheduler=fixed",
    "optimization.lr=[0.001]",
    "checkpoint.no_epoch_checkpoints=true",
]
LAYERS = "model.conv_feature_layers='[(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] * 2'"


def make_lists(folder):
    noise = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 4)):
        rows = []
        for number in range(count):
            n_samples = int(noise.integers(9000, 16000))
            name = f"speech{split}{number}.wav"
            soundfile.write(folder / name, noise.standard_normal(n_samples) * 0.1, 16000)
            rows.append(f"{name}\t{n_samples}")
        (folder / f"{split}.tsv").write_text("\n".join([str(folder), *rows]) + "\n")


def train(folder, max_update):
    """Run as one does without installing the plugin: checkout on the path, plugin named as user_dir."""
    command = [sys.executable, "-m", "fairseq_vgs_compat", "fairseq_cli.hydra_train", *SETTINGS, LAYERS]
    command += [
        f"task.data={folder}",
        f"common.user_dir={CHECKOUT / 'fairseq_vgs'}",
        f"hydra.run.dir={folder}/run",
    ]
    command += [f"checkpoint.save_dir={folder}/checkpoints", f"optimization.max_update={max_update}"]
    settings = {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-5000:]
    return log


def test_stock_task_trains_and_resumes(tmp_path):
    make_lists(tmp_path)
    first = train(tmp_path, max_update=2)
    assert "2 bucket(s) for the audio dataset" in first
    second = train(tmp_path, max_update=3)
    assert re.search(r"Loaded checkpoint .*checkpoint_last\.pt \(epoch \d+ @ 2 updates\)", second)
    assert "num_updates: 3 >= max_update: 3" in second

"""The genuine fairseq-hydra-train, on real pictures and real speech."""

import math
import re
import shutil
import signal
import subprocess
import time

import pytest
import torch
from support.train import CHECKOUT, EMBEDDED, environment, history, train, train_command

from fairseq_vgs.report.run_logs import read_probes

RECALLS = {f"{direction}_r{k}" for direction in ("speech_to_image", "image_to_speech") for k in (1, 5, 10)}


@pytest.mark.parametrize("config", ["w2v2", "vgs", "vgs_plus"])
def test_scenarios_train_and_validate(config, small_data, tmp_path):
    train(config, tmp_path, f"task.data={small_data}", "optimization.max_update=4", "dataset.batch_size=8")
    updates = history(tmp_path)
    assert sorted(updates) == [1, 2, 3, 4]
    logged = set(updates[4])
    assert {"alpha", "loss", "lr", "pairs_per_second", "padding_share"} <= logged
    assert ("ssl_loss" in logged) == (config != "vgs")
    assert ("vgs_loss" in logged) == (config != "w2v2")
    valid = history(tmp_path, "valid")[4]
    assert RECALLS | {"ssl_loss", "vgs_loss"} <= set(valid)  # both losses in every scenario
    assert valid["retrieval_images"] == 10
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_last.pt", weights_only=False)
    assert state["cfg"]["model"]["_name"] == "vgs_wav2vec2"


def test_bare_command_runs_on_the_embedded_set(tmp_path):
    """Only the length is cut; everything else is as in the README."""
    command = [train_command("vgs_plus", tmp_path)[0], "--config-dir", "examples/vgs"]
    command += ["--config-name", "vgs_plus", "optimization.max_update=2", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert history(tmp_path)[2]["loss"] > 0


def test_best_checkpoint_by_recall(small_data, tmp_path):
    overrides = [
        "checkpoint.best_checkpoint_metric=speech_to_image_r10",
        "checkpoint.maximize_best_checkpoint_metric=true",
    ]
    done = train(
        "vgs",
        tmp_path,
        f"task.data={small_data}",
        "optimization.max_update=6",
        "dataset.batch_size=8",
        *overrides,
    )
    assert (tmp_path / "checkpoints" / "checkpoint_best.pt").exists()
    assert "best_speech_to_image_r10" in done.stdout + done.stderr


def test_kill_9_in_mid_epoch_then_resume_repeats_the_losses(small_data, tmp_path):
    overrides = [
        f"task.data={small_data}",
        "dataset.batch_size=3",  # 8 updates per epoch
        "optimization.max_update=14",
        "checkpoint.save_interval_updates=5",
        "task.crop=random",
        "task.max_seconds=0.9",
        "criterion.alpha_schedule=draw",
    ]
    train("vgs_plus", tmp_path / "whole", *overrides)
    expected = history(tmp_path / "whole")

    overrides.append("task.probe_interval=4")  # the other run has none, yet the same losses
    process = subprocess.Popen(
        train_command("vgs_plus", tmp_path / "killed", *overrides),
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    last = tmp_path / "killed" / "checkpoints" / "checkpoint_last.pt"
    log = tmp_path / "killed" / "history.jsonl"
    deadline = time.monotonic() + 120
    while not (last.exists() and log.exists() and log.read_text().count('"train"') >= 6):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = max(history(tmp_path / "killed"))
    assert 6 <= killed_at < 14
    start = (tmp_path / "killed" / "probe_reference.npz").read_bytes()

    done = train("vgs_plus", tmp_path / "killed", *overrides)
    assert "Loaded checkpoint" in done.stdout + done.stderr
    actual = history(tmp_path / "killed")
    assert sorted(actual) == sorted(expected)
    for update, record in expected.items():
        for key in ("loss", "alpha", "ssl_loss", "vgs_loss", "lr", "gnorm"):
            assert actual[update].get(key) == record.get(key), (update, key)
    valid, expected_valid = history(tmp_path / "killed", "valid"), history(tmp_path / "whole", "valid")
    assert {k: valid[14][k] for k in RECALLS} == {k: expected_valid[14][k] for k in RECALLS}
    assert (tmp_path / "killed" / "probe_reference.npz").read_bytes() == start
    probes = read_probes(tmp_path / "killed" / "probes.jsonl")
    assert [probe.update for probe in probes] == [0, 4, 8, 12]
    assert probes[0].cka["layer_4"] == pytest.approx(1.0)
    assert probes[3].cka["layer_4"] < 1 - 1e-6


def test_stock_audio_pretraining_reads_the_same_audio_list(small_data, tmp_path):
    """fairseq's own task and model, on our manifest, archives included."""
    script = train_command("vgs_plus", tmp_path)[0]
    command = [
        script, "task=audio_pretraining", f"task.data={small_data}", "task.normalize=true",
        "task.max_sample_size=16000", "task.min_sample_size=1600",
        "model=wav2vec2", "model.quantize_targets=true", "model.encoder_layers=1",
        "model.encoder_embed_dim=32", "model.encoder_ffn_embed_dim=32", "model.encoder_attention_heads=2",
        "model.conv_feature_layers='[(16,10,5)]+[(16,3,2)]*4+[(16,2,2)]*2'", "model.conv_pos=8",
        "model.conv_pos_groups=2", "model.latent_vars=8", "model.final_dim=16", "criterion=wav2vec",
        "criterion.infonce=true", "optimizer=adam", "lr_scheduler=fixed", "optimization.max_update=3",
        "optimization.lr=[0.001]", "dataset.batch_size=8", "dataset.num_workers=1", "common.cpu=true",
        "common.log_format=json", "common.log_interval=1", f"hydra.run.dir={tmp_path}",
        "dataset.skip_invalid_size_inputs_valid_test=true",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "done training" in done.stdout + done.stderr


def test_unpaired_speech_joins_the_ssl_loss(small_data, tmp_path):
    train(
        "vgs_plus",
        tmp_path,
        f"task.data={small_data}",
        f"task.unpaired_data={EMBEDDED}",
        "task.unpaired_ratio=0.5",
        "optimization.max_update=2",
        "dataset.batch_size=8",
    )
    assert history(tmp_path)[2]["bsz"] == pytest.approx(12)


@pytest.mark.parametrize("without", [(), ("alpha_schedule", "alpha_values", "alpha_boundaries", "seed")])
def test_vgs_contrastive_alone(small_data, tmp_path, without):
    """Settings of SSL and alpha stay or are taken out, as it once had to be done."""
    train(
        "vgs", tmp_path, f"task.data={small_data}", "criterion._name=vgs_contrastive",
        *(f"~criterion.{key}" for key in without), "optimization.max_update=2", "dataset.batch_size=8",
    )  # fmt: skip
    assert "vgs_loss" in history(tmp_path)[2]
    assert set(history(tmp_path, "valid")[2]) >= RECALLS


def test_raw_pictures(small_data, tmp_path):
    train(
        "vgs",
        tmp_path,
        f"task.data={small_data}",
        "model.image_encoder=patches",
        "optimization.max_update=2",
        "dataset.batch_size=8",
    )
    assert "vgs_loss" in history(tmp_path)[2]


def test_bad_items_stop_a_run_or_are_skipped_and_counted(small_data, tmp_path):
    """With batches of three a whole batch and a part of another cannot be read."""
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    audio_list = data / "train.tsv"
    lines = audio_list.read_text(encoding="utf-8").splitlines()
    pairs = (data / "train.pairs.tsv").read_text(encoding="utf-8")
    for number in (1, 2, 3, 4):
        path, n_samples = lines[number].split("\t")
        broken = f"{path.rsplit(':', 2)[0]}:{number}:100"
        lines[number] = f"{broken}\t{n_samples}"
        pairs = pairs.replace(path + "\t", broken + "\t")
    audio_list.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (data / "train.pairs.tsv").write_text(pairs, encoding="utf-8")

    overrides = [f"task.data={data}", "optimization.max_epoch=1", "dataset.batch_size=3"]
    overrides += ["optimization.max_update=100"]
    stopped = train("vgs_plus", tmp_path / "stopped", *overrides, check=False)
    assert stopped.returncode != 0
    assert "train.tsv:" in stopped.stderr

    skipped = train("vgs_plus", tmp_path / "skipped", *overrides, "task.skip_bad=true")
    log = skipped.stdout + skipped.stderr
    assert "4 items skipped so far" in log
    records = history(tmp_path / "skipped").values()
    assert all(math.isfinite(record["loss"]) for record in records if "loss" in record)
    # A pair that lost all its negatives to skipping is left out, and the log says so.
    left_out = sum(int(number) for number in re.findall(r"left out a batch of \d+ items: only (\d+)", log))
    assert sum(record["bsz"] for record in records) + left_out == 20


def test_unreadable_data_is_one_clear_error(tmp_path):
    done = train("vgs_plus", tmp_path, "task.data=/nowhere/at/all", check=False)
    assert done.returncode != 0
    assert "fairseq-vgs prepare" in done.stdout + done.stderr

"""fairseq's own CTC fine-tuning, from a checkpoint of this plugin."""

import json
import re
import subprocess
import sys
from pathlib import Path

import torch
from fairseq import checkpoint_utils
from support.tiny import SIZES, VGS_SIZES
from support.train import CHECKOUT, ODD, environment

from fairseq_vgs.checkpoints.load import build_untrained
from fairseq_vgs.checkpoints.save import with_overrides, write_import
from fairseq_vgs.files.hydra import override
from fairseq_vgs.prepare.text import prepare_text


def finetune_command(run_dir, *overrides):
    script = Path(sys.executable).with_name("fairseq-hydra-train")
    return [
        str(script), "--config-dir", str(CHECKOUT / "examples" / "vgs"), "--config-name", "finetune_ctc",
        override("hydra.run.dir", run_dir), "common.log_interval=1", *overrides,
    ]  # fmt: skip


def logged(output, key):
    """Values of a key in fairseq's JSON lines."""
    lines = [line for line in output.splitlines() if f'"{key}"' in line]
    return [float(json.loads(re.search(r"\{.*\}", line)[0])[key]) for line in lines]


def test_a_checkpoint_is_finetuned_on_the_stamps_texts(small_data, tmp_path):
    """It has a CLS vector, which no stock wav2vec 2.0 has: fairseq builds the plugin's own model."""
    settings = with_overrides({**SIZES, **VGS_SIZES}, (), Path("start.pt"))
    odd = tmp_path / ODD
    odd.mkdir()
    start = odd / f"start {ODD}.pt"
    model = build_untrained(settings, seed=3, path=start)
    write_import(
        start, model, model_settings=settings, task_settings={}, criterion_settings={}, origin={}, images={}
    )
    prepare_text(small_data, odd / "text")
    done = subprocess.run(
        finetune_command(
            odd / "run", override("task.data", odd / "text"), override("model.w2v_path", start),
            "optimization.max_update=6", "dataset.batch_size=12", "model.mask_channel_prob=0.5",
            "dataset.validate_interval_updates=6", "lr_scheduler.phase_ratio=[0.34,0.33,0.33]",
        ),
        cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    losses = logged(done.stdout + done.stderr, "train_loss")
    assert losses
    assert logged(done.stdout + done.stderr, "valid_uer")

    before = model.state_dict()
    saved = torch.load(odd / "run" / "checkpoints" / "checkpoint_last.pt")["model"]
    frozen = [key for key in saved if ".feature_extractor." in key]
    assert frozen
    for key in frozen:
        assert torch.equal(saved[key], before[key.removeprefix("w2v_encoder.w2v_model.")]), key
    trained = "w2v_encoder.w2v_model.encoder.layers.2.fc1.weight"
    change = (saved[trained] - before[trained.removeprefix("w2v_encoder.w2v_model.")]).abs().max()
    assert 0 < change < 0.1  # started from the checkpoint's weights
    assert "w2v_encoder.w2v_model.encoder.cls_embedding" in saved
    assert not [key for key in saved if "image_encoder" in key or "quantizer" in key]

    # the fine-tuned model loads again, without the checkpoint it started from
    start.unlink()
    models, _ = checkpoint_utils.load_model_ensemble(
        [str(odd / "run" / "checkpoints" / "checkpoint_last.pt")],
        arg_overrides={"data": str(odd / "text")},
    )
    output = models[0].eval()(source=torch.randn(1, 8000), padding_mask=None)
    n_units = len((odd / "text" / "dict.ltr.txt").read_text(encoding="utf-8").splitlines())
    assert output["encoder_out"].shape[1:] == (1, n_units + 4)

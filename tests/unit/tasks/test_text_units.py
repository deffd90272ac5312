"""Captions as text: the task hands the model its units' number and name, and the data set the units."""

import shutil

import pytest
import torch
from fairseq import tasks
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.tiny import SIZES, VGS_SIZES
from support.tiny_folder import LAYERS, REGION_DIM, make_folder, make_task, task_config

from fairseq_vgs.checkpoints.load import CheckpointError, load_checkpoint
from fairseq_vgs.features.embeddings import embed_split, open_split
from fairseq_vgs.models.vgs_text import VgsTextModel
from fairseq_vgs.prepare.text import TextConfig, prepare_text
from fairseq_vgs.tasks.settings import check_config, missing_files

TEXT = {"caption_encoder": "text", "text_vocabulary": None, "text_units_sha256": None}


@pytest.fixture
def folder(tmp_path):
    folder = make_folder(tmp_path / "data")
    prepare_text(folder.path)
    return folder


def run_config(data, **model):
    """Return settings as fairseq-hydra-train hands them over."""
    task = OmegaConf.to_container(task_config(data, caption_input="text"), resolve=False)
    sizes = {**SIZES, **VGS_SIZES, "conv_feature_layers": LAYERS, "image_dim": REGION_DIM}
    settings = {"_name": "vgs_wav2vec2", **sizes, **TEXT, **model}
    return OmegaConf.create({"task": {**task, "_name": "vgs_pretraining"}, "model": settings})


def saved_checkpoint(folder, path):
    cfg = run_config(folder.path)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    saved = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    torch.save({"cfg": saved, "model": model.state_dict()}, path)
    return path


def test_the_model_learns_from_the_tasks_units(folder):
    cfg = run_config(folder.path)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    assert isinstance(model, VgsTextModel)
    task.load_dataset("valid")
    dataset = task.dataset("valid")
    assert len(dataset.units) == cfg.model.text_vocabulary == model.unit_embedding.num_embeddings
    assert cfg.model.text_units_sha256 == dataset.units.sha256
    sample = dataset.collater([dataset[0], dataset[1]])
    assert sample["net_input"]["source"].dtype == torch.int64


def test_a_checkpoint_is_evaluated_with_the_units_of_its_training(folder, tmp_path):
    checkpoint = load_checkpoint(saved_checkpoint(folder, tmp_path / "checkpoint.pt"))
    split = open_split(folder.path, "valid", config=checkpoint.config)
    assert split.n_cut == 0
    embedded = embed_split(checkpoint.model, split)
    assert embedded.speech.shape == (8, VGS_SIZES["embed_dim"])
    with torch.no_grad():
        units = torch.from_numpy(split.dataset[5].waveform).unsqueeze(0)
        alone = checkpoint.model.encode_speech(units)[0].numpy()
    assert embedded.speech[5] == pytest.approx(alone, abs=1e-5)

    # the folder was copied elsewhere, and the original is gone
    moved = tmp_path / "moved"
    shutil.move(folder.path, moved)
    open_split(moved, "valid", config=checkpoint.config)
    prepare_text(moved, config=TextConfig(normalization="identity"), force=True)
    with raises_fault("text.mismatch", "spm.model", error=CheckpointError):
        open_split(moved, "valid", config=checkpoint.config)
    shutil.rmtree(moved / "text")
    with raises_fault("text.mismatch", "spm.model", error=CheckpointError):
        open_split(moved, "valid", config=checkpoint.config)


def test_units_that_disagree_are_refused(folder):
    for key, value in (("text_vocabulary", 3), ("text_units_sha256", "0" * 64)):
        cfg = run_config(folder.path, **{key: value})
        with raises_fault("setting.mismatch", f"model.{key}") as caught:
            tasks.setup_task(cfg.task).build_model(cfg.model)
        assert "spm.model" in str(caught.value)


def test_missing_units_are_named(tmp_path):
    folder = make_folder(tmp_path / "data")
    (fault,) = missing_files(task_config(folder.path, caption_input="text"), folder)
    assert fault.place.endswith("text/spm.model")
    assert "fairseq-vgs prepare text" in fault.message
    with raises_fault("file.missing", "spm.model"):
        make_task(folder.path, "valid", caption_input="text")
    assert missing_files(task_config(folder.path), folder) == []


@pytest.mark.parametrize(("key", "value"), [("unpaired_ratio", 0.5), ("probe_interval", 4)])
def test_what_needs_ssl_is_refused(key, value):
    with raises_fault("setting.value", f"task.{key}"):
        check_config(task_config("data", caption_input="text", unpaired_data="speech", **{key: value}))


def test_other_inputs_are_refused():
    with raises_fault("setting.value", "task.caption_input"):
        check_config(task_config("data", caption_input="braille"))

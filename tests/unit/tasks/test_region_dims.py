"""A null model.image_dim: taken from the data, kept in the checkpoint, and refused where nothing gives it."""

import shutil

import torch
from fairseq import tasks
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.tiny import SIZES, VGS_SIZES
from support.tiny_folder import LAYERS, REGION_DIM, make_folder

from fairseq_vgs.checkpoints.load import load_checkpoint


def run_config(data, **model):
    """Return settings as ``fairseq-hydra-train`` hands them to ``train.main``: one plain tree."""
    sizes = {**SIZES, **VGS_SIZES, "conv_feature_layers": LAYERS, "image_dim": None}
    copied = ("mask_prob", "mask_length", "mask_selection", "mask_other", "no_mask_overlap", "mask_min_space")
    masking = dict(zip(copied, (0.65, 10, "static", 0.0, False, 1), strict=True))
    task = {
        "_name": "vgs_pretraining",
        "data": str(data),
        "conv_feature_layers": LAYERS,
        "seed": 1,
        "train_subset": "train",
        "similarity": "dot",
        "mask_dropout": 0.0,
        "history_file": None,
        **masking,
    }
    cfg = OmegaConf.create({"task": task, "model": {"_name": "vgs_wav2vec2", **sizes, **model}})
    OmegaConf.set_struct(cfg, True)
    return cfg


def test_the_checkpoint_holds_the_number_and_loads_without_data(tmp_path):
    folder = make_folder(tmp_path / "data").path
    cfg = run_config(folder)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    assert cfg.model.image_dim == model.cfg.image_dim == REGION_DIM
    shutil.rmtree(folder)
    saved = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # as fairseq's trainer does
    torch.save({"cfg": saved, "model": model.state_dict()}, tmp_path / "checkpoint.pt")
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    assert loaded.config["model"]["image_dim"] == REGION_DIM


def test_a_number_that_disagrees_is_refused(tmp_path):
    cfg = run_config(make_folder(tmp_path / "data").path, image_dim=REGION_DIM + 1)
    with raises_fault("setting.mismatch", "model.image_dim") as caught:
        tasks.setup_task(cfg.task).build_model(cfg.model)
    assert f"model.image_dim={REGION_DIM}" in str(caught.value)


def test_missing_data_is_named(tmp_path):
    cfg = run_config(tmp_path / "nowhere")
    with raises_fault("folder.missing", "nowhere"):
        tasks.setup_task(cfg.task).build_model(cfg.model)


def test_pictures_give_no_number(tmp_path):
    cfg = run_config(make_folder(tmp_path / "data").path)
    OmegaConf.update(cfg, "task.image_input", "pictures", force_add=True)
    with raises_fault("setting.missing", "model.image_dim"):
        tasks.setup_task(cfg.task).build_model(cfg.model)

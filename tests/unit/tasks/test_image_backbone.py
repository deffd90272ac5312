"""Training with a backbone of a local directory, and checkpoints that need the directory no more."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from fairseq import tasks
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.tiny import SIZES, VGS_SIZES
from support.tiny_backbones import IMAGE_SIZE, make_backbone
from support.tiny_folder import LAYERS, make_folder

from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.criterions import VgsMultitaskCriterion
from fairseq_vgs.features.embeddings import open_split

PICTURES = {"image_input": "pictures", "image_crop_scale": 0.5, "image_jitter": 0.1}


def run_config(data, backbone, *, task=None, **model):
    """Return settings as ``fairseq-hydra-train`` hands them to ``train.main``: one plain tree."""
    masking = {"mask_prob": 0.65, "mask_length": 3, "mask_selection": "static", "mask_other": 0.0}
    masking |= {"no_mask_overlap": False, "mask_min_space": 1, "mask_dropout": 0.0}
    settings = {"_name": "vgs_pretraining", "data": str(data), "conv_feature_layers": LAYERS, "seed": 1}
    settings |= {"train_subset": "train", "similarity": "dot", "history_file": None, "image_size": None}
    sizes = {**SIZES, **VGS_SIZES, "conv_feature_layers": LAYERS, "image_size": None, "dropout": 0.0}
    sizes |= {
        "_name": "vgs_wav2vec2",
        "image_encoder": "hugging_face",
        "image_backbone": str(backbone),
        **model,
    }
    cfg = OmegaConf.create({"task": {**settings, **masking, **PICTURES, **(task or {})}, "model": sizes})
    OmegaConf.set_struct(cfg, True)
    return cfg


def train(task, model, *, updates):
    """Train as fairseq's trainer does: what requires gradients is optimised."""
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)
    optimizer = SimpleNamespace(
        backward=lambda loss: loss.backward(), step=adam.step, optimizer=adam, param_groups=adam.param_groups
    )
    task.load_dataset("train")
    criterion = VgsMultitaskCriterion(task, alpha_values=[0.5])
    iterator = task.get_batch_iterator(task.dataset("train"), max_sentences=4, seed=1, num_workers=0)
    model.train()
    losses = []
    for update, sample in enumerate(iterator.next_epoch_itr()):
        if update == updates:
            break
        adam.zero_grad()
        loss, _, _ = task.train_step(sample, model, criterion.train(), optimizer, update)
        task.optimizer_step(optimizer, model, update)
        losses.append(loss.item())
    return losses


def save(cfg, model, path):
    """Write a checkpoint with what evaluation reads, as fairseq's trainer does."""
    saved = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    torch.save({"cfg": saved, "model": model.state_dict()}, path)


@pytest.mark.parametrize(
    ("kind", "frozen", "output"),
    [("vit", True, "tokens"), ("resnet", True, "pooled"), ("dinov2", False, "pooled")],
)
def test_training_and_its_checkpoint(tmp_path, kind, frozen, output):
    folder, directory = make_folder(tmp_path / "data").path, tmp_path / kind
    make_backbone(directory, kind)
    cfg = run_config(folder, directory, image_backbone_frozen=frozen, image_backbone_output=output)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    backbone = model.image_encoder.backbone
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    head = model.image_encoder.projection[0].weight.clone()
    losses = train(task, model, updates=3)
    assert len(losses) == 3 and all(torch.isfinite(torch.tensor(losses)))
    assert not torch.equal(model.image_encoder.projection[0].weight, head)
    moved = {name for name, value in backbone.state_dict().items() if not torch.equal(value, start[name])}
    with_gradients = {name for name, p in backbone.named_parameters() if p.grad is not None}
    if frozen:
        assert not moved and not with_gradients
        assert not any(p.requires_grad for p in backbone.parameters())
    else:
        assert (
            moved == with_gradients == {n for n, p in backbone.named_parameters() if p.requires_grad} != set()
        )

    save(cfg, model, tmp_path / "checkpoint.pt")
    shutil.rmtree(directory)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    model.eval()
    split = open_split(folder, "valid", config=loaded.config)
    assert split.dataset.options.image_size == IMAGE_SIZE
    inputs = split.dataset.collater([split.dataset[i] for i in range(3)])["net_input"]["image"]
    assert inputs["pictures"].shape == (3, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.no_grad():
        assert torch.equal(loaded.model.encode_image(inputs), model.encode_image(inputs))
    again = tasks.setup_task(OmegaConf.create(loaded.config).task)
    assert again.build_model(OmegaConf.create(loaded.config).model, from_checkpoint=True) is not None


def test_a_run_starts_from_the_directorys_weights(tmp_path):
    folder, directory = make_folder(tmp_path / "data").path, tmp_path / "vit"
    original = make_backbone(directory, "vit")
    cfg = run_config(folder, directory)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    weights = original.vit.state_dict()
    found = model.image_encoder.backbone.model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert cfg.model.image_size == IMAGE_SIZE


def test_settings_that_do_not_fit_are_refused(tmp_path):
    folder, directory = make_folder(tmp_path / "data").path, tmp_path / "vit"
    make_backbone(directory, "vit")
    for changes, code, place in [
        ({"task": {"image_input": "regions"}}, "setting.value", "task.image_input"),
        ({"task": {"image_size": 16}}, "setting.mismatch", "task.image_size"),
        ({"image_size": 64, "task": {"image_size": 64}}, "setting.value", "model.image_size"),
        ({"image_backbone": None}, "setting.missing", "model.image_backbone"),
        ({"image_backbone": "nowhere"}, "backbone.missing", "nowhere"),
        ({"image_encoder": "patches", "image_backbone": None}, "setting.missing", "model.image_size"),
    ]:
        cfg = run_config(folder, directory, **changes)
        with raises_fault(code, place):
            tasks.setup_task(cfg.task).build_model(cfg.model)

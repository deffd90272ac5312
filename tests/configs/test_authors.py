"""The paper's configuration against what an import takes from the authors' own settings and weights."""

from collections import Counter
from pathlib import Path

import pytest
from configs.test_compose import composed
from omegaconf import OmegaConf

from fairseq_vgs.checkpoints.imports.fast_vgs_model import (
    NEW_WEIGHTS,
    authors_name,
    criterion_settings,
    model_settings,
    task_settings,
)
from fairseq_vgs.models import VgsWav2Vec2Model
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.tasks.settings import follow_image_encoder

HABITS = {"task.pad_to_max", "criterion.skip_unweighted", "model.padding", "model.latent_temp"}
UNUSED = 2 * 768 * 1536 + 1536 + 768  # the MLP of the authors' whose result is overwritten
AUTHORS = 184_981_888  # counted in their code


@pytest.fixture(scope="module")
def cfg():
    cfg = composed("vgs_plus", "model=authors", "run_config=gpu_1", "task.data=x", "model.image_dim=2048")
    follow_image_encoder(cfg.task)
    return cfg


@pytest.fixture(scope="module")
def model(cfg):
    return VgsWav2Vec2Model(cfg.model)


def test_settings_are_those_of_the_authors_script(cfg, model):
    weights = {
        authors_name(key, blocks_per_stage=2): value
        for key, value in model.state_dict().items()
        if key not in NEW_WEIGHTS
    }
    imported = {
        "model": model_settings(weights, {}, Path("bundle")),
        "task": task_settings({}),
        "criterion": criterion_settings({}),
    }
    sections = {name: OmegaConf.to_container(cfg[name], resolve=True, enum_to_str=True) for name in imported}
    theirs, ours = imported["model"].pop("conv_feature_layers"), sections["model"]["conv_feature_layers"]
    assert parse_conv_layers(theirs) == parse_conv_layers(ours)
    for section, settings in imported.items():
        assert {key: sections[section][key] for key in settings} == settings


def test_the_papers_model_differs_in_the_documented_habits_only(cfg):
    base = composed("vgs_plus", "model=paper", "run_config=gpu_1", "task.data=x", "model.image_dim=2048")
    follow_image_encoder(base.task)
    differing = {
        f"{section}.{key}"
        for section in ("task", "criterion", "model")
        for key in cfg[section]
        if cfg[section][key] != base[section][key]
    }
    assert differing == HABITS


def test_every_parameter_is_accounted_for(model):
    """The table of docs/exactness.md."""
    parts = Counter()
    for name, parameter in model.named_parameters():
        parts[name.split(".")[0]] += parameter.numel()
    assert sum(parts.values()) == AUTHORS - UNUSED + len(NEW_WEIGHTS) == 182_620_290
    assert parts["speech_head"] == 31_064_704 + 2_361_600 + 7_087_872 + 590_592
    assert parts["image_encoder"] == 768 + 1_580_544 + 42_527_232 + 2_361_600

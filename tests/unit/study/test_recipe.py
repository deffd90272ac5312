"""What a checkpoint says about model and losses, beside the paper's."""

import pytest
from support.abx_material import write_checkpoint

from fairseq_vgs.criterions import VgsCriterionConfig
from fairseq_vgs.models import VgsWav2Vec2Config
from fairseq_vgs.study.recipe import _SETTINGS, read_recipe, recipe_words, shown

PAPER = {f"{part}.{name}": papers for part, name, _, papers in _SETTINGS}


def test_first_whole_checkpoint_is_read(tmp_path):
    for name in ("none", "broken", "whole"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / "broken" / "checkpoints" / "checkpoint_1_7.pt").write_bytes(b"half")
    write_checkpoint(tmp_path / "whole" / "checkpoints" / "checkpoint_1_7.pt")
    found = read_recipe(tmp_path / name for name in ("none", "broken", "whole"))
    assert found["model.encoder_layers"] == 3
    assert found["model.speech_head"] == "attention"
    assert "criterion.vgs_loss" not in found  # this file does not say
    assert read_recipe([tmp_path / "none"]) == {}


@pytest.mark.parametrize("config", [VgsCriterionConfig(), VgsWav2Vec2Config()])
def test_the_papers_values_are_the_defaults(config):
    part = "model" if isinstance(config, VgsWav2Vec2Config) else "criterion"
    for key, papers in PAPER.items():
        if key.startswith(f"{part}."):
            assert getattr(config, key.partition(".")[2]) == papers, key


def test_words():
    assert recipe_words(PAPER) == (
        "Model and losses are the paper's in all settings listed under “What was run”."
    )
    changed = {**PAPER, "model.mask_length": 5, "optimization.lr": [0.0005]}
    assert recipe_words(changed) == (
        "Model and losses are not the paper's: frames per masked span 5 (the paper: 10), "
        "learning rate 0.0005 (the paper: 0.0001)."
    )
    assert "unknown" in recipe_words({})


def test_papers_value_stands_beside_a_different_one():
    found = dict(shown({"criterion.similarity": "cosine", "model.dropout": 0.1}))
    assert found == {
        "similarity of embeddings (criterion.similarity)": "cosine; the paper: dot",
        "dropout (model.dropout)": "0.1",
    }

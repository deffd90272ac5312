"""What a checkpoint keeps of how its images were made."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf
from support.tiny_folder import make_folder, make_task

import fairseq_vgs
from fairseq_vgs.compat.checkpoint_files import load_plain
from fairseq_vgs.criterions.vgs_contrastive import VgsCriterionConfig
from fairseq_vgs.files.provenance import read_plugin_state

REGIONS = {
    "format": "efficientnet",
    "grid": [2, 3],
    "dims": 10,
    "precision": "float64",
    "weights_sha256": "ab",
}


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data")


def kept(folder, tmp_path, **settings):
    """Return version and images of a checkpoint, through a file that runs no code."""
    task = make_task(folder.path, **settings)
    task.build_criterion(OmegaConf.structured(VgsCriterionConfig(_name="vgs_contrastive")))
    torch.save({"task_state": task.state_dict()}, tmp_path / "checkpoint.pt")
    return read_plugin_state(load_plain(tmp_path / "checkpoint.pt"))


def test_regions_are_what_summary_says_of_their_making(folder, tmp_path):
    counts = {"images": 6, "regions": 12, "excluded": {"faulty": {"count": 1, "names": ["x"]}}}
    folder.summary.write_text(json.dumps({"regions": {**REGIONS, **counts}}), encoding="utf-8")
    version, images = kept(folder, tmp_path)
    assert version == fairseq_vgs.__version__
    assert images == {"reads": "regions", **REGIONS}


def test_a_folder_may_say_nothing(folder, tmp_path):
    assert kept(folder, tmp_path)[1] == {"reads": "regions"}


def test_pictures_have_a_size_and_a_fit(folder, tmp_path):
    _, images = kept(folder, tmp_path, image_input="pictures", image_fit="crop")
    assert images == {"reads": "pictures", "size": 16, "fit": "crop"}


@pytest.mark.parametrize(
    "state", [{}, {"task_state": {}}, {"task_state": None}, {"task_state": {"fairseq_vgs": 1}}]
)
def test_earlier_checkpoints_say_nothing(state):
    assert read_plugin_state(state) == ("", {})

"""fairseq_fixes: what each fix makes work, and what stays forbidden."""

import argparse
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import Dictionary, data_utils
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf
from support.faults import raises_fault

from fairseq_vgs.compat import building
from fairseq_vgs.compat import fixes as fairseq_fixes

ROOT = Path(fairseq_fixes.__file__).parents[2]


class RunsCode:
    """Unpickled with Python's own unpickler, this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save_and_load(value, path):
    torch.save(value, path)
    return torch.load(path, map_location="cpu")


def test_applying_twice_changes_nothing():
    before = (utils.import_user_module, data_utils.np.percentile)
    fairseq_fixes.apply()
    assert (utils.import_user_module, data_utils.np.percentile) == before


@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(arch="wav2vec2", dropout=0.1),
        np.float64(1.5),
        np.float32(1.5),
        np.int64(3),
        np.bool_(True),
        OmegaConf.create({"model": {"layers": [1, 2.5, "x", None, True]}, "task": {}}),
        OmegaConf.create({"a": "${b}", "b": 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_checkpoints_hold_loads(value, tmp_path):
    loaded = save_and_load({"value": value}, tmp_path / "x.pt")["value"]
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_arrays_load(dtype, tmp_path):
    value = np.arange(4).astype(dtype)
    np.testing.assert_array_equal(save_and_load(value, tmp_path / "x.pt"), value)


def test_scalars_pickled_by_numpy_1_load(tmp_path):
    written = io.BytesIO()
    torch.save({"best": np.float64(2.5)}, written)
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry).replace(b"numpy._core", b"numpy.core"))
    assert torch.load(path)["best"] == 2.5


def test_dictionary_loads(tmp_path):
    dictionary = Dictionary()
    dictionary.add_symbol("a")
    loaded = save_and_load({"task_state": {"target_dictionary": dictionary}}, tmp_path / "x.pt")
    assert loaded["task_state"]["target_dictionary"].index("a") == dictionary.index("a")


def checkpoint_state(**changes):
    model = {"_name": "wav2vec2"}
    cfg = {"model": model, "task": {"_name": "audio_pretraining"}, "criterion": {"_name": "wav2vec"}}
    state = {
        "args": None,
        "cfg": cfg,
        "model": {"w": torch.ones(2)},
        "extra_state": {"best": np.float64(1.0)},
    }
    state["optimizer_history"] = [
        {"num_updates": 3, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}
    ]
    return {**state, **changes}


def test_fairseq_loads_its_own_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(checkpoint_state(), path)
    loaded = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    assert loaded["extra_state"]["best"] == 1.0
    assert loaded["cfg"].model._name == "wav2vec2"


@pytest.mark.parametrize("place", ["extra_state", "cfg", "args", "model"])
def test_a_checkpoint_that_runs_code_is_refused(tmp_path, place):
    path, folder = tmp_path / "checkpoint.pt", tmp_path / "made"
    torch.save(checkpoint_state(**{place: {"x": RunsCode(folder)}}), path)
    with raises_fault("checkpoint.unreadable", "checkpoint.pt") as refused:
        checkpoint_utils.load_checkpoint_to_cpu(str(path))
    assert "mkdir" in str(refused.value)
    assert isinstance(refused.value.__cause__, pickle.UnpicklingError)
    assert not folder.exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: argparse.Namespace(x=value),
        lambda value: OmegaConf.create({"x": value}, flags={"allow_objects": True}),
    ],
    ids=["Namespace", "DictConfig"],
)
def test_allowed_classes_do_not_smuggle_others_in(tmp_path, wrap):
    folder = tmp_path / "made"
    torch.save(wrap(RunsCode(folder)), tmp_path / "x.pt")
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        torch.load(tmp_path / "x.pt")
    assert not folder.exists()


def tiny_wav2vec2(layers: str):
    return Wav2Vec2Config(
        conv_feature_layers=layers,
        encoder_layers=1,
        encoder_embed_dim=8,
        encoder_ffn_embed_dim=8,
        encoder_attention_heads=2,
        conv_pos=4,
        conv_pos_groups=2,
        final_dim=4,
    )


def test_extractor_settings_are_read_but_not_run(tmp_path):
    folder = tmp_path / "made"
    with pytest.raises(ValueError, match="conv_feature_layers"):
        Wav2Vec2Model.build_model(tiny_wav2vec2(f"[(8, __import__('os').mkdir({str(folder)!r}) or 10, 5)]"))
    assert not folder.exists()
    model = Wav2Vec2Model.build_model(tiny_wav2vec2("[(8, 10, 5)] + [(8, 3, 2)] * 2"))
    assert len(model.feature_extractor.conv_layers) == 3
    assert model._get_feat_extract_output_lengths(torch.tensor([400])).item() == 19


def test_masks_without_overlap():
    mask = data_utils.compute_mask_indices((2, 60), None, 0.5, 5, no_overlap=True, min_space=1, min_masks=2)
    assert mask.any(axis=1).all()


def test_length_buckets_are_the_lower_percentiles():
    sizes = np.arange(1, 101)
    assert data_utils.get_buckets(sizes, 4).tolist() == [25, 50, 75, 100]


def test_a_folder_with_a_colon_in_its_name_is_one(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert utils.split_paths(str(tmp_path / "a:b")) == [str(tmp_path / "a:b")]
    assert utils.split_paths(f"{tmp_path}/a:{tmp_path}/c") == [f"{tmp_path}/a", f"{tmp_path}/c"]
    assert data_utils._find_extra_valid_paths(str(tmp_path / "a:b")) == set()


def test_numpy_itself_is_unchanged():
    assert not hasattr(np, "int")
    assert data_utils.np.zeros is np.zeros


def test_user_dir_of_the_imported_copy_is_accepted(tmp_path):
    utils.import_user_module(argparse.Namespace(user_dir=str(ROOT / "fairseq_vgs")))
    link = tmp_path / "fairseq_vgs"
    link.symlink_to(ROOT / "fairseq_vgs")
    utils.import_user_module(argparse.Namespace(user_dir=str(link)))


def test_user_dir_of_a_second_copy_is_refused_in_one_line(tmp_path):
    copy = tmp_path / "fairseq_vgs"
    copy.mkdir()
    with raises_fault("package.duplicate", "common.user_dir") as refused:
        utils.import_user_module(argparse.Namespace(user_dir=str(copy)))
    assert str(copy) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("user_dir", [None, "", "missing"])
def test_other_user_dirs_are_fairseqs_business(user_dir):
    if user_dir:
        with pytest.raises(FileNotFoundError):
            utils.import_user_module(argparse.Namespace(user_dir=user_dir))
    else:
        utils.import_user_module(argparse.Namespace(user_dir=user_dir or None))


def test_two_gloo_ranks(tmp_path):
    """List gathering, broadcasting of a checkpoint and pytorch_ddp work between two CPU processes."""
    script = Path(__file__).parents[2] / "support" / "two_ranks.py"
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    for process in ranks:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.split() == ["gathered", "broadcast", "reduced"]


def test_no_module_of_fairseq_runs_a_setting():
    """Every place that calls eval finds the evaluator of literals instead."""
    import builtins

    for name, module in sys.modules.items():
        if name.partition(".")[0] in ("fairseq", "fairseq_cli"):
            assert getattr(module, "eval", None) not in (None, builtins.eval), name
    with pytest.raises(ValueError, match="not allowed"):
        utils.eval_str_list("__import__('os').getpid()")
    assert utils.eval_str_list("[1, 2]", type=int) == [1, 2]


@pytest.mark.parametrize(
    ("task", "model", "code"),
    [
        ("translation", "wav2vec2", "checkpoint.kind"),
        ("audio_pretraining", "wav2vec", "checkpoint.kind"),
        ("audio_pretraining", "fconv_lm", "checkpoint.kind"),
    ],
)
def test_other_pretrained_models_are_refused_before_they_are_built(task, model, code, tmp_path):
    with raises_fault(code, "model.w2v_path"):
        start_from(tmp_path, task, {"_name": model})


@pytest.mark.parametrize(
    "sizes", [{"encoder_layers": 10**9}, {"encoder_layers": "1000000000"}, {"final_dim": 9_000_000}]
)
def test_a_pretrained_model_larger_than_its_file_is_refused_before_it_is_built(sizes, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_MOST_OPERATIONS", 3000)  # to save time
    with raises_fault("checkpoint.settings", "model.w2v_path"):
        start_from(tmp_path, "audio_pretraining", {"_name": "wav2vec2", **sizes})


def start_from(tmp_path, task, model):
    """Build what fine-tuning starts from a checkpoint with these settings."""
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig, Wav2VecEncoder

    path = tmp_path / "other.pt"
    config = {"task": {"_name": task, "data": "", "normalize": True}, "model": model}
    state = {"cfg": config, "args": None, "model": {}, "extra_state": {"train_iterator": {"epoch": 1}}}
    torch.save({**state, "optimizer_history": [{"num_updates": 1, "lr_scheduler_state": {}}]}, path)
    settings = OmegaConf.structured(Wav2Vec2CtcConfig(w2v_path=str(path), normalize=True, data=str(tmp_path)))
    Wav2VecEncoder(settings)

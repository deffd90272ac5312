"""The authors' bundles: every key accounted for, nothing in the files run, settings as of their run."""

import json
import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support.fast_vgs import SETTINGS, inputs, tensor, write_bundle
from support.faults import raises_fault

from fairseq_vgs.checkpoints.imports.fast_vgs import import_fast_vgs
from fairseq_vgs.checkpoints.imports.paths import ImportFileError
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main

GOLDEN = Path(__file__).parents[3] / "golden" / "fast_vgs.json"
SHAPES = {kind: value["shapes"] for kind, value in json.loads(GOLDEN.read_text(encoding="utf-8")).items()}


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path, SHAPES["vgs_plus"], "vgs_plus")


def change(bundle, edit):
    state = torch.load(bundle, weights_only=False)
    edit(state)
    torch.save(state, bundle)


def embeddings(checkpoint):
    model, data = load_checkpoint(checkpoint).model, inputs(padded=False)
    with torch.no_grad():
        return model.encode_speech(data["speech"], data["padding_mask"])


def test_settings_are_those_of_the_weights_and_of_the_run(bundle, tmp_path):
    done = import_fast_vgs(bundle, tmp_path / "out.pt")
    config = load_checkpoint(done.checkpoint).config
    model = config["model"]
    sizes = {
        "encoder_layers": 3, "encoder_embed_dim": 24, "encoder_ffn_embed_dim": 32, "conv_pos": 8,
        "conv_pos_groups": 4, "final_dim": 16, "latent_vars": 8, "latent_groups": 2, "embed_dim": 24,
        "speech_head_bottleneck": 8, "speech_head_widths": [8, 12, 16, 24], "speech_head_kernel": 9,
        "speech_head_blocks": 2, "speech_head_ffn_dim": 32, "image_dim": 10, "image_embed_dim": 24,
        "image_layers": 2, "image_ffn_dim": 32, "extractor_mode": "default", "conv_bias": False,
    }  # fmt: skip
    assert {key: model[key] for key in sizes} == sizes
    of_the_run = {
        "encoder_attention_heads": 2, "speech_head_heads": 2, "image_heads": 2, "vgs_layer": 2,
        "num_negatives": 5, "dropout": 0.0, "image_dropout": 0.0, "vgs_forward": "masked",
    }  # fmt: skip
    assert {key: model[key] for key in of_the_run} == of_the_run
    assert list(model["latent_temp"]) == [2.0, 2.0, 1.0]  # which the authors' trainer never anneals
    task = {"max_seconds": 8.0, "valid_max_seconds": 10.0, "pad_to_max": True, "max_regions": 36}
    assert task.items() <= config["task"].items()
    assert load_checkpoint(done.checkpoint).similarity == "dot"


def test_without_ssl_loss_the_layers_above_are_missing_and_speech_is_unmasked(tmp_path):
    done = import_fast_vgs(write_bundle(tmp_path, SHAPES["fast_vgs"], "fast_vgs"), tmp_path / "out.pt")
    model = load_checkpoint(done.checkpoint).config["model"]
    assert SETTINGS["encoder_layers"] == 3  # as args.pkl says, which the authors' model changes
    assert (model["encoder_layers"], model["vgs_layer"], model["vgs_forward"]) == (2, 2, "unmasked")


def test_what_is_left_out_is_named_with_its_reason(bundle, tmp_path, caplog):
    change(bundle, lambda state: state.update(cross_encoder={"fc.0.weight": torch.zeros(2)}))
    with caplog.at_level(logging.INFO, logger="fairseq_vgs"):
        done = import_fast_vgs(bundle, tmp_path / "out.pt")
    dropped = torch.load(done.checkpoint)["extra_state"]["imported"]["dropped"]
    unused = [f"audio_cls_token_proj_coarse.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")]
    assert set(dropped) == {*unused, "optimizer", "indices", "libri_indices", "cross_encoder"}
    assert all(dropped.values())
    for name, reason in dropped.items():
        assert f"left out: {name} ({reason})" in caplog.text
    n_weights = len(SHAPES["vgs_plus"])
    assert f"{n_weights - 4} tensors matched, 4 left out" in caplog.text


def test_every_faulty_weight_is_named(bundle, tmp_path):
    def edit(state):
        weights = state["dual_encoder"]
        for name in ("trm2_proj.bias", "conv1_trm1_trm3.encoder.layers.2.fc2.bias"):
            del weights[name]
        weights["visn_fc.extra"] = torch.zeros(1)
        weights["visual_cls_token"] = torch.zeros(1, 1, 23)

    change(bundle, edit)
    with pytest.raises(ImportFileError) as error:
        import_fast_vgs(bundle, tmp_path / "out.pt")
    text = str(error.value)
    assert "missing 2 (conv1_trm1_trm3.encoder.layers.2.fc2.bias, trm2_proj.bias)" in text
    assert "unexpected 1 (visn_fc.extra)" in text
    assert "visual_cls_token (1, 1, 23) for (24,)" in text
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.update(vqvae={}), r"got 1 \(vqvae\)"),
        (lambda state: state.pop("dual_encoder"), "must hold the entry dual_encoder"),
        (lambda state: state["dual_encoder"].update(mask=[1]), r"something else for 1 \(mask\)"),
        (lambda state: state["dual_encoder"].pop("trm2_proj.weight"), "must include trm2_proj.weight"),
    ],
)
def test_other_files_are_refused(edit, message, bundle, tmp_path):
    change(bundle, edit)
    with pytest.raises(ImportFileError, match=message):
        import_fast_vgs(bundle, tmp_path / "out.pt")


def test_weights_of_data_parallel_are_the_same(bundle, tmp_path):
    first = import_fast_vgs(bundle, tmp_path / "first.pt")

    def edit(state):
        state["dual_encoder"] = {f"module.{key}": value for key, value in state["dual_encoder"].items()}

    change(bundle, edit)
    second = import_fast_vgs(bundle, tmp_path / "second.pt")
    assert torch.equal(embeddings(first.checkpoint), embeddings(second.checkpoint))


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("place", ["bundle", "args.pkl"])
def test_pickled_code_does_not_run(place, bundle, tmp_path):
    marker = tmp_path / "ran"
    if place == "bundle":
        change(bundle, lambda state: state.update(optimizer=_Payload(marker)))
    else:
        (tmp_path / place).write_bytes(pickle.dumps(_Payload(marker)))
    with pytest.raises(ImportFileError, match="could not be read"):
        import_fast_vgs(bundle, tmp_path / "out.pt")
    assert not marker.exists()


def test_conv_layers_are_read_as_data(bundle, tmp_path):
    marker = tmp_path / "ran"
    rewrite_settings(bundle, conv_feature_layers=f"[open({str(marker)!r}, 'w') and (16, 10, 5)]")
    with raises_fault("import.settings", "best_bundle.pth", error=ImportFileError):
        import_fast_vgs(bundle, tmp_path / "out.pt")
    assert not marker.exists()


def rewrite_settings(bundle, **settings):
    path = bundle.with_name("args.pkl")
    found = pickle.loads(path.read_bytes())
    for key, value in settings.items():
        setattr(found, key, value)
    path.write_bytes(pickle.dumps(found))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv_feature_layers": "[(16, 10, 5)] * 7"}, "must fit the extractor's weights"),
        ({"layer_norm_first": True}, "layer_norm_first must be False"),
        ({"hidden_act": "relu"}, "hidden_act must be gelu, .* got 'relu'"),
        ({"latent_temp": "warm"}, "latent_temp must be three numbers, got 'warm'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message, bundle, tmp_path):
    rewrite_settings(bundle, **settings)
    with pytest.raises(ImportFileError, match=message):
        import_fast_vgs(bundle, tmp_path / "out.pt")


def test_without_args_pkl_the_authors_script_holds(bundle, tmp_path, caplog):
    args = bundle.with_name("args.pkl")
    kept = args.rename(tmp_path / "kept.pkl")
    with raises_fault("import.mismatch", "best_bundle.pth", error=ImportFileError):
        import_fast_vgs(bundle, tmp_path / "out.pt")
    assert f"{args} is missing" in caplog.text
    done = import_fast_vgs(bundle, tmp_path / "out.pt", settings_file=kept)
    assert load_checkpoint(done.checkpoint).config["model"]["vgs_layer"] == 2
    with raises_fault("file.missing", "absent.pkl", error=ImportFileError):
        import_fast_vgs(bundle, tmp_path / "other.pt", settings_file=tmp_path / "absent.pkl")


def test_settings_that_old_args_lack_are_named(bundle, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="fairseq_vgs"):
        import_fast_vgs(bundle, tmp_path / "out.pt")
    assert "mask_prob" in caplog.text  # the test's args.pkl holds sizes and little else
    assert "layer_use" not in caplog.text


def test_command_line(bundle, tmp_path, capsys):
    output = tmp_path / "new folder" / "out.pt"
    command = ["import", "fast-vgs", str(bundle), str(output), "--set", "vgs_layer=3"]
    assert main(command) == 0
    checkpoint, group, train = capsys.readouterr().out.splitlines()
    assert checkpoint == str(output)
    sections = OmegaConf.load(group)
    assert sections.checkpoint.finetune_from_model == str(output)
    assert (sections.model.vgs_layer, sections.model.padding, sections.task.pad_to_max) == (
        3,
        "fast_vgs",
        True,
    )
    assert train.startswith("fairseq-hydra-train ")
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert main(["import", "fast-vgs", str(tmp_path / "absent.pth"), str(output), "--force"]) == 1
    assert "absent.pth: file must exist" in capsys.readouterr().err
    assert main([*command, "--force", "--set", "colour=red"]) == 1
    assert "colour" in capsys.readouterr().err


def test_a_run_of_fairseq_starts_from_it(bundle, tmp_path):
    """What fairseq's trainer reads of ``checkpoint.finetune_from_model``."""
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    done = import_fast_vgs(bundle, tmp_path / "out.pt")
    state = load_checkpoint_to_cpu(str(done.checkpoint))
    model = load_checkpoint(done.checkpoint).model
    model.load_state_dict(state["model"], strict=True, model_cfg=state["cfg"]["model"])
    assert state["optimizer_history"][-1]["num_updates"] == 0
    assert state["last_optimizer_state"] is None
    assert state["extra_state"]["train_iterator"]["epoch"] == 1
    name = "conv1_trm1_trm3.cls_token"
    assert torch.equal(state["model"]["encoder.cls_embedding"], tensor(name, (1, 1, 24))[0, 0])

"""Start from a public wav2vec 2.0: weights by name, settings by name, and what a run needs."""

import os
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.formula import noise
from support.tiny import VGS_SIZES, tiny_sample
from support.tiny_backbones import make_backbone, vision_part
from support.wav2vec2_files import (
    LARGE,
    SMALL,
    golden,
    hugging_face_folder,
    new_state,
    old_state,
    stock_model,
)

from fairseq_vgs.checkpoints.imports.paths import ImportFileError
from fairseq_vgs.checkpoints.imports.wav2vec2 import import_wav2vec2
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.compat import building

TINY_VGS = [f"model.{key}={value}" for key, value in VGS_SIZES.items() if key != "image_dim"]
VGS_PARTS = ("speech_head.", "image_encoder.", "encoder.cls_embedding", "logit_scale", "logit_bias")


def save(state, path):
    torch.save(state, path)
    return path


def imported(source, folder, *settings, **kwargs):
    done = import_wav2vec2(source, folder / "out" / "start.pt", settings=[*TINY_VGS, *settings], **kwargs)
    return done, load_checkpoint(done.checkpoint).model


def small_file(folder):
    return save(old_state(stock_model(SMALL), SMALL), folder / "small.pt")


@pytest.mark.parametrize("layout", [old_state, new_state])
@pytest.mark.parametrize("settings", [SMALL, LARGE], ids=["small", "large"])
def test_every_layer_equals_fairseq(layout, settings, tmp_path):
    stock = stock_model(settings)
    source = save(layout(stock, settings), tmp_path / "stock.pt")
    _, ours = imported(source, tmp_path, "use_cls=false", "padding=fairseq")
    inputs = tiny_sample()["net_input"]
    inputs["padding_mask"][0, 6000:] = True
    with torch.no_grad():
        for layer in (None, 0, 1):
            expected = stock.extract_features(inputs["source"], inputs["padding_mask"], layer=layer)
            actual = ours.extract_features(inputs["source"], inputs["padding_mask"], layer=layer)
            torch.testing.assert_close(actual["x"], expected["x"], atol=1e-6, rtol=0)
            assert len(actual["layer_results"]) == len(expected["layer_results"])
            for ours_, stocks in zip(actual["layer_results"], expected["layer_results"], strict=True):
                torch.testing.assert_close(ours_[0], stocks[0], atol=1e-6, rtol=0)


def test_heads_of_ssl_equal_fairseq(tmp_path):
    stock = stock_model(SMALL)
    _, ours = imported(small_file(tmp_path), tmp_path, "use_cls=false")
    inputs = tiny_sample()["net_input"]
    outputs = []
    for model in (stock, ours):
        torch.manual_seed(5)  # negatives
        with torch.no_grad():
            outputs.append(model(inputs["source"], mask_indices=inputs["mask_indices"])["x"])
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["base", "large"])
@pytest.mark.parametrize("naming", ["new", "old"])
def test_every_layer_equals_transformers(kind, naming, tmp_path):
    recorded = golden(kind)
    weights = recorded["weights"]
    if naming == "old":
        weights = {
            key.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): tensor
            for key, tensor in weights.items()
        }
        assert "wav2vec2.encoder.pos_conv_embed.conv.weight_g" in weights
    folder = hugging_face_folder(tmp_path / "hf", recorded["config"], weights, safetensors=naming == "new")
    _, ours = imported(folder, tmp_path, "use_cls=false", "vgs_layer=1")
    source = noise("speech", (1, recorded["n_samples"]))
    with torch.no_grad():
        found = ours.extract_features(source, None)
        quantized = ours.project_q(ours.quantizer(found["features"])["x"])
        projected = ours.final_proj(found["x"])
    expected = recorded["hidden_states"][1:]  # theirs begin with the first layer's input
    for actual, layer in zip(found["layer_results"], expected, strict=True):
        torch.testing.assert_close(actual[0][:, 0], layer, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found["x"][0], recorded["last_hidden_state"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(quantized[0], recorded["projected_quantized_states"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(projected[0], recorded["projected_states"], atol=1e-6, rtol=1e-6)


def test_what_the_file_lacks_is_drawn_with_the_seed(tmp_path):
    source = small_file(tmp_path)
    theirs = torch.load(source)["model"]
    first, again, other = (
        imported(source, tmp_path / str(number), seed=seed)[1].state_dict()
        for number, seed in enumerate([3, 3, 4])
    )
    for key, tensor in first.items():
        assert torch.equal(tensor, again[key])
        assert (key in theirs) != key.startswith(VGS_PARTS)
        assert key not in theirs or torch.equal(tensor, theirs[key])
    assert not torch.equal(first["encoder.cls_embedding"], other["encoder.cls_embedding"])


def test_hugging_face_without_heads_gets_fresh_ones(tmp_path, caplog):
    recorded = golden("base")
    weights = {
        key.removeprefix("wav2vec2."): tensor
        for key, tensor in recorded["weights"].items()
        if key.startswith("wav2vec2.") and "masked_spec_embed" not in key
    }
    folder = hugging_face_folder(tmp_path / "hf", recorded["config"], weights)
    with caplog.at_level("INFO"):
        _, ours = imported(folder, tmp_path, "vgs_layer=1")
    assert "drawn with seed 1: quantizer (the folder holds no pre-training heads)" in caplog.text
    assert "drawn with seed 1: mask_emb (the folder holds no mask embedding)" in caplog.text
    key = "encoder.layers.1.fc2.weight"
    assert torch.equal(ours.state_dict()[key], weights["encoder.layers.1.feed_forward.output_dense.weight"])


def test_head_of_a_fine_tuned_folder_is_named_and_left_out(tmp_path, caplog):
    recorded = golden("base")
    weights = {key: value for key, value in recorded["weights"].items() if key.startswith("wav2vec2.")}
    weights.update({"lm_head.weight": torch.zeros(32, 24), "lm_head.bias": torch.zeros(32)})
    folder = hugging_face_folder(tmp_path / "hf", recorded["config"], weights)
    with caplog.at_level("INFO"):
        done, _ = imported(folder, tmp_path, "vgs_layer=1")
    assert "left out: lm_head.weight (the head of fine-tuning (CTC))" in caplog.text
    dropped = torch.load(done.checkpoint)["extra_state"]["imported"]["dropped"]
    assert set(dropped) == {"lm_head.weight", "lm_head.bias"}


def test_settings_come_from_the_file_our_defaults_and_the_user(tmp_path, caplog):
    with caplog.at_level("INFO"):
        done, _ = imported(small_file(tmp_path), tmp_path, "vgs_layer=1", "dropout=0.2")
    group = OmegaConf.load(done.group)
    assert done.group.read_text(encoding="utf-8").startswith("# @package _global_\n")
    assert group.checkpoint.finetune_from_model == str(done.checkpoint)
    assert group.task.normalize is False
    model = group.model
    assert (model.feature_grad_mult, model.dropout_input, list(model.latent_temp)) == (
        0.1,
        0.1,
        [2, 0.5, 0.999995],
    )
    assert (model.vgs_layer, model.dropout, model.image_dim, model.embed_dim) == (1, 0.2, 2048, 20)
    assert (model.encoder_layerdrop, model.required_seq_len_multiple) == (0.0, 1)
    assert "encoder_layerdrop is 0.0 instead of the file's 0.05" in caplog.text
    saved = torch.load(done.checkpoint)["cfg"]
    assert {key: value for key, value in saved["model"].items() if key not in ("_name", "autocast")} == model
    assert saved["task"]["normalize"] is False


def test_settings_of_a_hugging_face_folder(tmp_path):
    recorded = golden("large")
    preprocessing = {"do_normalize": True, "sampling_rate": 16000}
    folder = hugging_face_folder(
        tmp_path / "hf", recorded["config"], recorded["weights"], preprocessing=preprocessing
    )
    done, _ = imported(folder, tmp_path, "vgs_layer=1")
    group = OmegaConf.load(done.group)
    assert group.task.normalize is True
    assert group.model.conv_feature_layers == "[(16, 10, 10), (16, 8, 8), (12, 4, 4)]"
    assert (group.model.layer_norm_first, group.model.extractor_mode) == (True, "layer_norm")
    assert (group.model.latent_dim, group.model.final_dim) == (0, 12)
    assert group.model.mask_prob == 0.65  # not the folder's 0.05, which belongs to fine-tuning


def test_half_precision_becomes_fp32(tmp_path):
    state = old_state(stock_model(SMALL).half(), SMALL)
    _, ours = imported(save(state, tmp_path / "half.pt"), tmp_path)
    assert {tensor.dtype for tensor in ours.state_dict().values() if tensor.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "hubert"}, "must be fairseq's wav2vec2, got 'hubert': another architecture"),
        ({"arch": "data2vec_audio"}, "got 'data2vec_audio'"),
        ({"arch": "wav2vec_ctc"}, "a fine-tuned model; give the pre-trained model"),
        ({"arch": "vgs_wav2vec2"}, "checkpoint.finetune_from_model"),
        ({"quantize_input": True}, "got 1 (quantize_input) switched on"),
        ({"target_glu": True}, "got 1 (target_glu) switched on"),
        ({"layer_type": "conformer"}, "layer_type must be transformer, got conformer"),
        ({"sample_rate": 8000}, "sampling rate must be 16000 Hz, got 8000"),
        ({"conv_feature_layers": "[exit()]"}, "model.conv_feature_layers: expected a list"),
        ({"latent_temp": "exit()"}, "latent_temp must be three numbers, got 'exit()'"),
        ({"latent_temp": "(1,2)"}, "latent_temp must be three numbers, got '(1,2)'"),
        ({"dropout": "${oc.env:HOME}"}, "plain values, got interpolations in 1 (dropout)"),
        ({"dropout": "much"}, "settings must be those of the model"),
        ({"encoder_layers": 2}, "unexpected 16 (encoder.layers.2."),
        ({"encoder_layers": 4}, "missing 16 (encoder.layers.3."),
        ({"final_dim": 8}, "other shapes: 5 ("),
    ],
)
def test_faulty_settings_are_named(change, message, tmp_path):
    state = old_state(stock_model(SMALL), {**SMALL, **change})
    with pytest.raises(ImportFileError, match=re.escape(message)):
        imported(save(state, tmp_path / "small.pt"), tmp_path)
    assert not (tmp_path / "out").exists()


def test_every_faulty_weight_is_named(tmp_path):
    state = old_state(stock_model(SMALL), SMALL)
    weights = dict(state["model"])
    del weights["mask_emb"], weights["quantizer.vars"]
    weights["decoder.extra"] = torch.zeros(1)
    weights["layer_norm.bias"] = torch.zeros(3)
    state["model"] = weights
    with pytest.raises(ImportFileError) as error:
        imported(save(state, tmp_path / "small.pt"), tmp_path)
    text = str(error.value)
    assert "missing 2 (mask_emb, quantizer.vars)" in text
    assert "unexpected 1 (decoder.extra)" in text
    assert "other shapes: 1 (layer_norm.bias (3,) instead of (16,))" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "hubert"}, "model_type must be wav2vec2, got 'hubert'"),
        ({"model_type": "data2vec-audio"}, "got 'data2vec-audio'"),
        ({"add_adapter": True}, "add_adapter must be False"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim must be None"),
        ({"hidden_act": "silu"}, "hidden_act must be gelu or relu"),
        ({"feat_extract_activation": "relu"}, "feat_extract_activation must be gelu"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm must be group or layer"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps must be 1e-05"),
        ({"conv_dim": [16, 16, 24]}, "hidden_size must differ from the last conv_dim, got 24"),
        ({"conv_dim": [16]}, "must be equally long lists of positive integers"),
        ({"conv_stride": "10, 8, 4"}, "must be equally long lists of positive integers"),
        ({"num_codevectors_per_group": 9}, "other shapes: 3 ("),
        ({"do_stable_layer_norm": "often"}, "settings must be those of the model"),
    ],
)
def test_faulty_hugging_face_settings_are_named(change, message, tmp_path):
    recorded = golden("base")
    folder = hugging_face_folder(tmp_path / "hf", {**recorded["config"], **change}, recorded["weights"])
    with pytest.raises(ImportFileError, match=re.escape(message)):
        imported(folder, tmp_path, "vgs_layer=1")


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 9_000_000},
        {"num_codevectors_per_group": 9_000_000},
    ],
)
def test_sizes_that_a_hugging_face_folder_cannot_hold_are_refused(change, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_MOST_OPERATIONS", 3000)  # to save time
    recorded = golden("base")
    config = {**recorded["config"], "proj_codevector_dim": 8000, "codevector_dim": 8000, **change}
    folder = hugging_face_folder(tmp_path / "hf", config, recorded["weights"])
    with raises_fault("checkpoint.settings", "hf"):
        imported(folder, tmp_path, "vgs_layer=1")


def test_unknown_hugging_face_weights_are_named(tmp_path):
    recorded = golden("base")
    weights = {
        **recorded["weights"],
        "classifier.weight": torch.zeros(2),
        "wav2vec2.encoder.layers.0.adapter_layer.norm.weight": torch.zeros(2),
    }
    folder = hugging_face_folder(tmp_path / "hf", recorded["config"], weights)
    message = "got 2 (classifier.weight, wav2vec2.encoder.layers.0.adapter_layer.norm.weight)"
    with pytest.raises(ImportFileError, match=re.escape(message)):
        imported(folder, tmp_path, "vgs_layer=1")


def test_half_of_the_heads_is_an_error(tmp_path):
    recorded = golden("base")
    weights = {key: value for key, value in recorded["weights"].items() if not key.startswith("project_q")}
    folder = hugging_face_folder(tmp_path / "hf", recorded["config"], weights)
    with raises_fault("import.mismatch", "hf", error=ImportFileError) as caught:
        imported(folder, tmp_path, "vgs_layer=1")
    assert "(project_q.bias, project_q.weight)" in str(caught.value)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_pickled_code_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    state = old_state(stock_model(SMALL), {**SMALL, "data": Payload(marker)})
    recorded = golden("base")
    folder = hugging_face_folder(
        tmp_path / "hf", recorded["config"], {"x": Payload(marker)}, safetensors=False
    )
    for source in (save(state, tmp_path / "small.pt"), folder):
        with raises_fault("checkpoint.unreadable", error=ImportFileError):
            imported(source, tmp_path)
    assert not marker.exists()


def test_files_of_other_kinds_are_refused(tmp_path):
    recorded = golden("base")

    def refused(source, message):
        with pytest.raises(ImportFileError, match=message):
            imported(source, tmp_path)

    refused(tmp_path / "absent.pt", "absent.pt: file must exist")
    refused(save([1], tmp_path / "list.pt"), "must hold the entry model")
    refused(save({"model": {}}, tmp_path / "bare.pt"), "must hold the settings of its run")
    args = old_state(stock_model(SMALL), SMALL)["args"]
    refused(save({"args": args, "model": [1]}, tmp_path / "w.pt"), "must be a table of tensors, got list")
    refused(save({"args": args, "model": {"a": 1}}, tmp_path / "n.pt"), r"something else for 1 \(a\)")
    folder = tmp_path / "hf"
    folder.mkdir()
    refused(folder, "config.json: file must exist")
    (folder / "config.json").write_text("[")
    with raises_fault("json.syntax", "config.json: character 2", error=ImportFileError):
        imported(folder, tmp_path)
    (folder / "config.json").write_text("[]")
    with raises_fault("json.kind", "config.json", error=ImportFileError):
        imported(folder, tmp_path)
    hugging_face_folder(folder, recorded["config"], recorded["weights"])
    (folder / "model.safetensors").write_bytes(b"cut")
    refused(folder, "model.safetensors: must be a safetensors file")
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")
    refused(folder, r"got model.safetensors.index.json; save it again in one piece")
    (folder / "model.safetensors.index.json").unlink()
    refused(folder, "must hold model.safetensors or pytorch_model.bin, got neither")


def test_missing_safetensors_names_the_extra(tmp_path, monkeypatch):
    recorded = golden("base")
    folder = hugging_face_folder(tmp_path / "hf", recorded["config"], recorded["weights"])
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ImportFileError, match=re.escape("pip install 'fairseq_vgs[interop]'")):
        imported(folder, tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("vgs_layers=2", "not settings of vgs_wav2vec2: vgs_layers"),
        ("vgs_layer=9", "model.vgs_layer: expected 1..3"),
        ("vgs_layer=deep", "settings must be those of the model"),
        ("encoder_ffn_embed_dim=16", "other shapes: 9 ("),
    ],
)
def test_faulty_user_settings_are_named(setting, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        imported(small_file(tmp_path), tmp_path, setting)


def test_nothing_is_overwritten_without_force(tmp_path):
    source = small_file(tmp_path)
    done, _ = imported(source, tmp_path)
    before = done.checkpoint.read_bytes()
    done.group.write_text("edited", encoding="utf-8")
    done.checkpoint.unlink()
    with raises_fault("output.exists", "start.yaml") as caught:
        imported(source, tmp_path)
    assert "--force" in str(caught.value)
    assert not done.checkpoint.exists()
    imported(source, tmp_path, force=True)
    assert len(done.checkpoint.read_bytes()) == len(before)
    assert done.group.read_text(encoding="utf-8") != "edited"


def test_an_import_must_not_be_called_like_a_group_of_ours(tmp_path):
    """Hydra would find ours first, and train from random weights; refused before the source is read."""
    for name in ("tiny", "base"):
        with raises_fault("import.name", str(tmp_path / f"{name}.pt")):
            import_wav2vec2(tmp_path / "absent.pt", tmp_path / f"{name}.pt", force=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n_layers", [3, 10])
def test_shared_layers_follow_the_file(n_layers, tmp_path):
    settings = {**SMALL, "encoder_layers": n_layers}
    source = save(old_state(stock_model(settings), settings), tmp_path / "stock.pt")
    done = import_wav2vec2(source, tmp_path / "start.pt", settings=[s for s in TINY_VGS if "layer=" not in s])
    assert OmegaConf.load(done.group).model.vgs_layer == min(n_layers, 8)


def test_image_backbone_is_part_of_the_checkpoint(tmp_path):
    backbone = vision_part(make_backbone(tmp_path / "clip", "clip"))
    done, ours = imported(small_file(tmp_path), tmp_path, "image_size=32", image_backbone=tmp_path / "clip")
    own, given = ours.image_encoder.backbone.model.state_dict(), backbone.state_dict()
    assert all(torch.equal(weight, given[name]) for name, weight in own.items())
    group = OmegaConf.load(done.group)
    assert (group.model.image_backbone, group.model.image_size) == (None, 32)
    assert group.task == {"normalize": False, "image_crop_scale": 0.6, "image_jitter": 0.1}


def test_a_name_of_the_hub_is_answered_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with raises_fault("file.missing", "facebook/wav2vec2-base", error=ImportFileError) as caught:
        import_wav2vec2(Path("facebook/wav2vec2-base"), tmp_path / "start.pt")
    assert "hf download facebook/wav2vec2-base --local-dir wav2vec2-base" in str(caught.value)
    with raises_fault("backbone.missing", "facebook/dinov2-base") as caught:
        import_wav2vec2(
            small_file(tmp_path), tmp_path / "start.pt", image_backbone=Path("facebook/dinov2-base")
        )
    assert "hf download facebook/dinov2-base" in str(caught.value)


def test_data_without_region_features(tmp_path, capsys):
    source = small_file(tmp_path)
    assert main(["import", "wav2vec2", str(source), str(tmp_path / "x.pt"), "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(str(tmp_path / "regions.npy"))

"""From a checkpoint to a folder and back: the same weights, settings and results."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.abx_material import write_checkpoint
from support.exported import with_statistics
from support.faults import raises_fault
from support.tiny_backbones import IMAGE_SIZE, make_backbone

from fairseq_vgs.checkpoints.exports.modeling.modeling_vgs import VgsModel
from fairseq_vgs.checkpoints.imports.hub import import_hub
from fairseq_vgs.checkpoints.imports.paths import ImportFileError
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.modules.hugging_face import read_backbone


def made(tmp_path, **settings):
    """Write a checkpoint and its folder; return the checkpoint's path."""
    path = write_checkpoint(tmp_path / "before.pt", **settings)
    state = torch.load(path)
    model = with_statistics(load_checkpoint(path).model)
    state["model"] = model.state_dict()
    torch.save(state, path)
    assert main(["export", str(path), str(tmp_path / "hub")]) == 0
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"speech_head": "resdavenet", "speech_head_norm": "group", "padding": "fast_vgs"},
        {"image_encoder": "patches", "use_cls": False, "extractor_mode": "layer_norm", "conv_bias": True},
        {"image_encoder": "hugging_face", "image_backbone_output": "tokens"},
        {"pos_conv_depth": 2, "layer_norm_first": True, "activation_fn": "relu"},
    ],
    ids=lambda settings: ",".join(map(str, settings.values())),
)
def test_there_and_back(tmp_path, settings):
    if settings.get("image_encoder") == "hugging_face":
        make_backbone(tmp_path / "vit", "vit")
        settings |= {"image_size": IMAGE_SIZE, "image_backbone_config": read_backbone(tmp_path / "vit")}
    before = load_checkpoint(made(tmp_path, **settings))
    done = import_hub(tmp_path / "hub", tmp_path / "after.pt")
    after = load_checkpoint(done.checkpoint)
    wanted, found = before.model.state_dict(), after.model.state_dict()
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if "pos_conv.0.weight_" not in name:  # the same product of length and direction
            assert torch.equal(found[name], tensor), name
    speech = torch.randn(2, 8000)
    with torch.inference_mode():
        expected = before.model.encode_speech(speech)
        torch.testing.assert_close(after.model.encode_speech(speech), expected, rtol=0, atol=1e-5)
    kept, found = dict(before.config["model"]), dict(after.config["model"])
    assert parse_conv_layers(found.pop("conv_feature_layers")) == parse_conv_layers(
        kept.pop("conv_feature_layers")
    )
    assert {key: found[key] for key in kept} == kept


def test_after_training_elsewhere(tmp_path):
    """What ``save_pretrained`` writes has no record, nor weights of the self-supervised loss."""
    made(tmp_path)
    model = VgsModel.from_pretrained(tmp_path / "hub")
    with torch.no_grad():
        model.speech_head.norm.weight.fill_(3.0)
    model.half().save_pretrained(tmp_path / "tuned")
    assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    command = ["import", "hub", tmp_path / "tuned", tmp_path / "after.pt", "--set", "encoder_layerdrop=0.0"]
    assert main(list(map(str, command))) == 0
    found = load_checkpoint(tmp_path / "after.pt").model
    assert found.speech_head.norm.weight.tolist() == [3.0] * len(found.speech_head.norm.weight)
    assert found.speech_head.norm.weight.dtype == torch.float32


def test_folders_that_do_not_fit_are_named(tmp_path):
    made(tmp_path)
    hub = tmp_path / "hub"
    weights = load_file(hub / "model.safetensors")
    config = json.loads((hub / "config.json").read_text(encoding="utf-8"))

    def refused(code, place):
        return raises_fault(code, place, error=ImportFileError)

    save_file({**weights, "stray": torch.zeros(1)}, hub / "model.safetensors")
    with refused("import.mismatch", "model.safetensors"):
        import_hub(hub, tmp_path / "after.pt")
    (hub / "model.safetensors").write_bytes(b"no weights")
    with refused("import.unreadable", "model.safetensors"):
        import_hub(hub, tmp_path / "after.pt")
    (hub / "model.safetensors").unlink()
    with refused("file.missing", "hub"):
        import_hub(hub, tmp_path / "after.pt")
    (hub / "config.json").write_text(json.dumps({**config, "speech_head_settings": 3}), encoding="utf-8")
    with refused("import.settings", "config.json"):
        import_hub(hub, tmp_path / "after.pt")
    (hub / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}), encoding="utf-8")
    with refused("import.kind", "config.json"):
        import_hub(hub, tmp_path / "after.pt")
    assert not (tmp_path / "after.pt").exists()

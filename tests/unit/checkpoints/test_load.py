"""Strict, safe loading: every faulty key is named and nothing in the file runs."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support import wav2vec2_files
from support.faults import raises_fault
from support.tiny import tiny_model, tiny_sample

from fairseq_vgs.checkpoints import load as checkpoints
from fairseq_vgs.compat import building
from fairseq_vgs.models import VgsWav2Vec2Model


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=3).eval()


@pytest.fixture
def state(model):
    settings = OmegaConf.to_container(OmegaConf.structured(model.cfg), resolve=True, enum_to_str=True)
    return {
        "args": None,
        "cfg": {
            "common": {"seed": 5},
            "task": {"_name": "vgs_pretraining", "data": "a/folder/that/is/gone"},
            "criterion": {"_name": "vgs_multitask", "similarity": "cosine"},
            "model": {**settings, "_name": "vgs_wav2vec2"},
        },
        "model": {key: value.clone() for key, value in model.state_dict().items()},
        "optimizer_history": [{"num_updates": 42}],
        "last_optimizer_state": {"state": {}},
    }


@contextmanager
def at_most_more_memory(megabytes):
    """Fail on what would take the machine's memory, before it does."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _save(state, folder: Path) -> Path:
    torch.save(state, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def test_loaded_model_gives_the_same_embeddings_without_data(state, model, tmp_path):
    loaded = checkpoints.load_checkpoint(_save(state, tmp_path))
    inputs = tiny_sample()["net_input"]
    with torch.no_grad():
        expected = model.encode_speech(inputs["source"], inputs["padding_mask"])
        assert torch.equal(loaded.model.encode_speech(inputs["source"], inputs["padding_mask"]), expected)
        assert torch.equal(loaded.model.encode_image(inputs["image"]), model.encode_image(inputs["image"]))
    assert (loaded.similarity, loaded.n_updates, loaded.trained) == ("cosine", 42, True)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_evaluation_is_fp32_whatever_the_run_used(state, tmp_path):
    state["cfg"]["model"]["autocast"] = "bf16"
    assert not checkpoints.load_checkpoint(_save(state, tmp_path)).model.autocast_enabled


def test_untrained_weights_are_seeded_and_leave_the_random_state_alone(state, tmp_path):
    path = _save(state, tmp_path)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = checkpoints.load_checkpoint(path, untrained_seed=7)
    assert torch.equal(before, torch.random.get_rng_state())
    second = checkpoints.load_checkpoint(path, untrained_seed=7)
    other = checkpoints.load_checkpoint(path, untrained_seed=8)
    key = "post_extract_proj.weight"
    assert torch.equal(first.model.state_dict()[key], second.model.state_dict()[key])
    assert not torch.equal(first.model.state_dict()[key], other.model.state_dict()[key])
    assert not torch.equal(first.model.state_dict()[key], state["model"][key])
    assert (first.trained, first.n_updates) == (False, 0)


def test_every_missing_unexpected_and_reshaped_key_is_named(state, tmp_path):
    for key in ("mask_emb", "encoder.layers.1.fc1.bias"):
        del state["model"][key]
    state["model"]["speech_head.extra"] = torch.zeros(1)
    state["model"]["logit_scale"] = torch.zeros(3)
    with pytest.raises(checkpoints.CheckpointError) as error:
        checkpoints.load_checkpoint(_save(state, tmp_path))
    text = str(error.value)
    assert "missing 2 (encoder.layers.1.fc1.bias, mask_emb)" in text
    assert "unexpected 1 (speech_head.extra)" in text
    assert "logit_scale (3,) instead of ()" in text
    assert "\n" not in text


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_pickled_code_does_not_run(state, tmp_path):
    marker = tmp_path / "ran"
    state["cfg"]["task"]["data"] = _Payload(marker)
    with raises_fault("checkpoint.unreadable", "checkpoint.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(_save(state, tmp_path))
    assert not marker.exists()


def test_extractor_setting_does_not_run(state, tmp_path):
    marker = tmp_path / "ran"
    state["cfg"]["model"]["conv_feature_layers"] = f"[open({str(marker)!r}, 'w') and (16, 10, 5)]"
    with raises_fault("checkpoint.settings", "checkpoint.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(_save(state, tmp_path))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_name": "wav2vec_ctc"}, "model._name must be one of vgs_wav2vec2, got 'wav2vec_ctc'"),
        ({"embed_dim": "${oc.env:HOME}"}, "plain values, got interpolations in 1 \\(model.embed_dim\\)"),
        ({"embed_dim": "wide"}, "must build a model"),
        ({"encoder_attention_heads": 0}, "must build a model"),
        ({"unknown_setting": 1}, "unknown_setting"),
        ({"vgs_layer": 99}, "model.vgs_layer"),
    ],
)
def test_settings_that_are_not_ours_are_refused(state, tmp_path, change, message):
    state["cfg"]["model"].update(change)
    with pytest.raises(checkpoints.CheckpointError, match=message):
        checkpoints.load_checkpoint(_save(state, tmp_path))


def test_files_that_are_no_checkpoints_are_refused(state, tmp_path):
    whole = _save(state, tmp_path).read_bytes()
    for name, content, code in (
        ("cut.pt", whole[: len(whole) // 2], "checkpoint.damaged"),
        ("empty.pt", b"", "checkpoint.kind"),
        ("text.pt", b"hello\n", "checkpoint.unreadable"),
    ):
        (tmp_path / name).write_bytes(content)
        with raises_fault(code, name, error=checkpoints.CheckpointError):
            checkpoints.load_checkpoint(tmp_path / name)
    with raises_fault("file.missing", "absent.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(tmp_path / "absent.pt")
    torch.save({"model": {}}, tmp_path / "bare.pt")
    with raises_fault("checkpoint.entry", "bare.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(tmp_path / "bare.pt")
    torch.save([1], tmp_path / "list.pt")
    with raises_fault("checkpoint.entry", "list.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(tmp_path / "list.pt")
    state["model"]["mask_emb"] = "text"
    with raises_fault("checkpoint.weights", "checkpoint.pt", error=checkpoints.CheckpointError) as caught:
        checkpoints.load_checkpoint(_save(state, tmp_path))
    assert "(mask_emb)" in str(caught.value)


@pytest.mark.parametrize("read", [checkpoints.read_config, checkpoints.read_updates])
def test_settings_alone_are_verified(state, tmp_path, read):
    path = _save(state, tmp_path)
    content = path.read_bytes()
    read(path)
    path.write_bytes(content.replace(b"vgs_multitask", b"vgs_multitosk"))
    with raises_fault("checkpoint.damaged", "checkpoint.pt", error=checkpoints.CheckpointError):
        read(path)


STOCK = {"base": wav2vec2_files.SMALL, "large": wav2vec2_files.LARGE}
LAYOUTS = {"args": wav2vec2_files.old_state, "cfg": wav2vec2_files.new_state}


@pytest.mark.parametrize("size", STOCK)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_stock_wav2vec2_gives_its_own_layers(size, layout, tmp_path):
    stock = wav2vec2_files.stock_model(STOCK[size])
    path = _save(LAYOUTS[layout](stock, STOCK[size]), tmp_path)
    loaded = checkpoints.load_checkpoint(path, allow_stock=True)
    source = torch.randn(1, 6000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = stock.extract_features(source, None)["layer_results"]
        found = loaded.model.extract_features(source, None)["layer_results"]
    assert len(found) == len(expected) == 3
    for (layer, *_), (reference, *_) in zip(found, expected, strict=True):
        assert torch.equal(layer, reference)
    assert not loaded.has_embeddings
    assert loaded.n_updates == (400000 if layout == "args" else 0)
    assert checkpoints.section(loaded.config, "task")["normalize"] == (layout == "cfg")
    drawn = checkpoints.load_checkpoint(path, allow_stock=True, untrained_seed=7)
    assert not torch.equal(drawn.model.post_extract_proj.weight, stock.post_extract_proj.weight)


def test_stock_wav2vec2_is_refused_where_embeddings_are_needed(tmp_path):
    state = wav2vec2_files.new_state(wav2vec2_files.stock_model({}), {})
    with raises_fault("checkpoint.kind", "checkpoint.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(_save(state, tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_faulty_key_of_stock_wav2vec2_is_named(layout, tmp_path):
    state = LAYOUTS[layout](wav2vec2_files.stock_model({}), {})
    weights = dict(state["model"])
    del weights["encoder.layers.1.fc1.bias"], weights["mask_emb"]
    weights["encoder.extra"] = torch.zeros(1)
    weights["final_proj.bias"] = torch.zeros(3)
    with pytest.raises(checkpoints.CheckpointError) as error:
        checkpoints.load_checkpoint(_save({**state, "model": weights}, tmp_path), allow_stock=True)
    text = str(error.value)
    assert "missing 2 (encoder.layers.1.fc1.bias, mask_emb)" in text
    assert "unexpected 1 (encoder.extra)" in text
    assert "final_proj.bias (3,) instead of (16,)" in text


def test_other_stock_models_and_code_in_them_are_refused(tmp_path):
    state = wav2vec2_files.old_state(wav2vec2_files.stock_model({}), {})
    marker = tmp_path / "ran"
    state["args"].data = _Payload(marker)
    with raises_fault("checkpoint.unreadable", "checkpoint.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(_save(state, tmp_path), allow_stock=True)
    state["args"].data, state["args"].conv_feature_layers = (
        "",
        f"[open({str(marker)!r}, 'w') and (16, 10, 5)]",
    )
    with raises_fault("checkpoint.settings", "checkpoint.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(_save(state, tmp_path), allow_stock=True)
    assert not marker.exists()
    state["args"].arch = "wav2vec_ctc"
    with raises_fault("checkpoint.kind", "checkpoint.pt", error=checkpoints.CheckpointError) as caught:
        checkpoints.load_checkpoint(_save(state, tmp_path), allow_stock=True)
    assert "'wav2vec_ctc'" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder_layers", 10**9),
        ("encoder_embed_dim", 10**6),
        ("encoder_ffn_embed_dim", 10**15),
        ("image_dim", 10**12),
        ("conv_feature_layers", "[(10000000, 10, 5), (10000000, 3, 2)]"),
        ("conv_feature_layers", "[(1,1,1)]" + "*64" * 6),
        ("encoder_layers", "1000000000"),
        ("encoder_layers", 9_000_000),
        ("image_dim", "9_000_000"),
        ("embed_dim", 9_000_000),
        ("latent_vars", 9_000_000),
        ("latent_dim", 9_000_000),
        ("quantizer_depth", 9_000_000),
        ("speech_head_blocks", 9_000_000),
        ("speech_head_widths", [9_000_000, 9_000_000]),
        ("image_size", 10**9),
    ],
)
def test_sizes_that_the_file_cannot_hold_are_refused_before_they_are_built(
    key, value, state, tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "_MOST_OPERATIONS", 3000)  # to save time
    state["cfg"]["model"] |= {"quantize_targets": True, "speech_head": "resdavenet", key: value}
    with (
        raises_fault("checkpoint.settings", "checkpoint.pt", error=checkpoints.CheckpointError),
        at_most_more_memory(300),
    ):
        checkpoints.load_checkpoint(_save(state, tmp_path))


@pytest.mark.parametrize("keys", ["all", "encoder_"])
def test_defaults_count_as_sizes(keys, state, tmp_path):
    model = state["cfg"]["model"]
    for key in [key for key in model if key.startswith(keys) or (keys == "all" and key[0] != "_")]:
        del model[key]
    model |= {"image_dim": 16, "vgs_layer": 1, "encoder_ffn_embed_dim": 1_000_000}
    with (
        raises_fault("checkpoint.settings", "checkpoint.pt", error=checkpoints.CheckpointError),
        at_most_more_memory(300),
    ):
        checkpoints.load_checkpoint(_save(state, tmp_path))


@pytest.mark.parametrize("weight", [torch.zeros(1).expand(10**12), torch.empty(3, device="meta")])
def test_weights_without_numbers_of_their_own_are_refused(weight, state, tmp_path):
    state["model"]["mask_emb"] = weight
    with raises_fault("checkpoint.weights", "checkpoint.pt", error=checkpoints.CheckpointError):
        checkpoints.load_checkpoint(_save(state, tmp_path))


def test_a_model_within_limits_has_the_same_weights(state, model, tmp_path):
    path = _save(state, tmp_path)
    drawn = checkpoints.build_untrained(state["cfg"]["model"], seed=3, path=path).state_dict()
    torch.manual_seed(3)
    expected = VgsWav2Vec2Model(model.cfg).state_dict()
    assert all(torch.equal(drawn[key], expected[key]) for key in drawn.keys() | expected.keys())

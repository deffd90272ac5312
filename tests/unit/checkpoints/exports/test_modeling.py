"""The modelling files compute what the model of fairseq does: layers and embeddings, padded and not."""

from __future__ import annotations

import ast
import json
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from support.exported import assert_same_speech, batch, exported, with_statistics
from support.fast_vgs import inputs, write_bundle
from support.tiny import tiny_model
from support.tiny_backbones import BACKBONES, IMAGE_SIZE, make_backbone

from fairseq_vgs.checkpoints.exports import modeling
from fairseq_vgs.checkpoints.exports.convert import ENCODERS, HEADS
from fairseq_vgs.checkpoints.exports.modeling.image_vgs import IMAGE_ENCODERS
from fairseq_vgs.checkpoints.exports.modeling.speech_heads_vgs import SPEECH_HEADS
from fairseq_vgs.checkpoints.imports.fast_vgs import import_fast_vgs
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.modules.hugging_face import read_backbone

GOLDEN = Path(__file__).parents[3] / "golden" / "fast_vgs.json"
# batches of one and of four, odd lengths, all of one length and padded
BATCHES = ([8000], [7999], [7777] * 4, [8000, 6101, 4003, 1207])
PARTS = product(
    ("resdavenet", "attention"),
    (True, False),
    ("exact", "fairseq", "fast_vgs"),
    ("default", "layer_norm"),
    (False, True),
)
COMBINATIONS = [parts for parts in PARTS if parts[0] != "resdavenet" or parts[1]]


def settings(number: int) -> dict[str, object]:
    """Return a combination of the large parts; the small ones change from one to the next."""
    head, use_cls, padding, mode, norm_first = COMBINATIONS[number]
    return {
        "speech_head": head,
        "use_cls": use_cls,
        "padding": padding,
        "extractor_mode": mode,
        "layer_norm_first": norm_first,
        "speech_head_norm": ("batch", "group")[number % 2],
        "conv_bias": number % 3 == 0,
        "activation_fn": ("gelu", "gelu_accurate", "relu")[number % 3],
        "conv_pos": 8 + number % 2,
        "pos_conv_depth": 1 + (number % 5 == 0),
        "crop_seq_to_multiple": 1 + (number % 7 == 0),
        "required_seq_len_multiple": 1 + number % 2,
        "encoder_embed_dim": (24, 16)[number % 11 == 0],  # the width of the extractor: no projection
    }


@pytest.mark.parametrize("number", range(len(COMBINATIONS)))
def test_speech(number):
    model = with_statistics(tiny_model(seed=number, **settings(number)))
    twin = exported(model)
    for lengths in BATCHES:
        assert_same_speech(model, twin, lengths)


def test_extractors_of_other_layers():
    layers = "[(12, 7, 3), (16, 5, 4)] + [(16, 3, 2)] * 2"
    model = with_statistics(tiny_model(conv_feature_layers=layers, speech_head="resdavenet"))
    for lengths in BATCHES:
        assert_same_speech(model, exported(model), lengths)


def test_states_follow_from_the_utterance_alone_with_exact_padding():
    """What a padded batch gives of an utterance is what the utterance gives alone."""
    twin = exported(with_statistics(tiny_model(speech_head="resdavenet")))
    source, padding_mask = batch([8000, 4003])
    with torch.inference_mode():
        together = twin.get_speech_features(source, ~padding_mask)[1]
        alone = twin.get_speech_features(source[1:, :4003])[0]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_padding_of_a_batch_can_be_left_out_when_loading():
    """A model that was trained with padding in its group norm, loaded with ``padding="exact"``."""
    model = with_statistics(tiny_model(padding="fairseq"))
    twin = exported(model)
    source, padding_mask = batch([8000, 4003])
    with torch.inference_mode():
        mixed = twin.get_speech_features(source, ~padding_mask)[1]
        twin.config.padding = "exact"
        alone = model.encode_speech(source[1:, :4003])[0]
        torch.testing.assert_close(
            twin.get_speech_features(source, ~padding_mask)[1], alone, rtol=0, atol=1e-5
        )
    assert not torch.allclose(mixed, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("use_cls", [True, False])
def test_cls_is_a_state_of_its_own(use_cls):
    model = tiny_model(use_cls=use_cls).eval()
    source, shared = batch([8000, 8000])[0], []
    model.encoder.register_forward_hook(lambda encoder, *_: shared.append(encoder.take_shared()))
    with torch.inference_mode():
        output = exported(model)(source, output_hidden_states=True)
        model.extract_features(source, None, mask=False)
    frames, cls = shared[0]
    torch.testing.assert_close(output.hidden_states[2], frames, rtol=0, atol=1e-5)
    if not use_cls:
        assert output.cls_state is None
        assert output.cls_states is None
        return
    torch.testing.assert_close(output.cls_state, cls, rtol=0, atol=1e-5)
    assert torch.equal(output.cls_states[2], output.cls_state)


def regions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    padding_mask = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]]).bool()
    features = torch.randn(3, 4, 10, generator=generator).masked_fill(padding_mask.unsqueeze(2), torch.nan)
    return {
        "features": features,
        "boxes": torch.rand(3, 4, 4, generator=generator),
        "padding_mask": padding_mask,
    }


def test_regions():
    model = tiny_model().eval()
    images = regions()
    with torch.inference_mode():
        found = exported(model).get_image_features(regions=images)
        torch.testing.assert_close(found, model.encode_image(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
def test_patches(size):
    model = tiny_model(image_encoder="patches").eval()
    pictures = torch.rand(3, 3, *size) * 2 - 1
    with torch.inference_mode():
        found = exported(model).get_image_features(pictures)
        torch.testing.assert_close(found, model.encode_image({"pictures": pictures}), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "output"), [*product(BACKBONES, ("pooled", "tokens"))])
def test_backbones(kind, output, tmp_path):
    make_backbone(tmp_path, kind)
    given = {"image_size": IMAGE_SIZE, "image_backbone_config": read_backbone(tmp_path)}
    model = tiny_model(image_encoder="hugging_face", image_backbone_output=output, **given)
    model.image_encoder.load_pretrained(tmp_path)
    twin = exported(model.eval())
    pictures = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    with torch.inference_mode():
        found = twin.get_image_features(pictures)
        torch.testing.assert_close(found, model.encode_image({"pictures": pictures}), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["vgs_plus", "fast_vgs"])
def test_imported_dual_encoders(kind, tmp_path):
    shapes = json.loads(GOLDEN.read_text(encoding="utf-8"))[kind]["shapes"]
    done = import_fast_vgs(write_bundle(tmp_path, shapes, kind), tmp_path / "out.pt")
    model = load_checkpoint(done.checkpoint).model
    twin = exported(model)
    assert twin.config.padding == "fast_vgs"
    for lengths in (*BATCHES, [8000, 7990, 7321]):
        assert_same_speech(model, twin, lengths)
    data = inputs(padded=False)
    images = {"features": data["features"], "boxes": data["boxes"]}
    with torch.inference_mode():
        found = twin.get_image_features(regions=images)
        torch.testing.assert_close(found, model.encode_image(images), rtol=0, atol=1e-5)


def test_speech_and_images_together():
    model = tiny_model().eval()
    twin, (source, _) = exported(model), batch([8000, 8000])
    with torch.inference_mode():
        output = twin(source, regions=regions())
        assert torch.equal(output.image_embeds, twin.get_image_features(regions=regions()))
        dot = twin.similarity(output.speech_embeds, output.image_embeds)
        twin.config.similarity = "cosine"
        cosine = twin.similarity(output.speech_embeds, output.image_embeds)
    norms = output.speech_embeds.norm(dim=1)[:, None] * output.image_embeds.norm(dim=1)[None]
    assert dot.shape == (2, 3)
    torch.testing.assert_close(cosine, dot / norms)


def test_images_of_the_other_kind_are_refused():
    with pytest.raises(ValueError, match="regions"):
        exported(tiny_model()).get_image_features(torch.zeros(1, 3, 16, 16))


def test_every_head_and_encoder_of_ours_is_there():
    assert sorted(SPEECH_HEADS) == sorted(HEADS)
    assert sorted(IMAGE_ENCODERS) == sorted(ENCODERS)


def test_gradients_reach_every_weight_that_is_used():
    twin = exported(tiny_model(speech_head="resdavenet")).train()
    source, padding_mask = batch([8000, 4003])
    output = twin(source, ~padding_mask, regions={**regions(), "features": torch.rand(3, 4, 10)})
    (output.speech_embeds.sum() + output.image_embeds.sum() + output.last_hidden_state.sum()).backward()
    unused = {name for name, weight in twin.named_parameters() if weight.grad is None}
    assert unused == {"logit_scale", "logit_bias"}


def test_modelling_files_need_no_package_of_ours():
    allowed = {*sys.stdlib_module_names, "torch", "transformers", "numpy", "PIL"}
    for path in Path(modeling.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or str(node.module).partition(".")[0] in allowed

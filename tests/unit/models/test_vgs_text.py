import pytest
import torch
from fairseq import models as fairseq_models
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.tiny import NO_DROPOUT, SIZES, VGS_SIZES, tiny_sample

from fairseq_vgs.criterions import VgsMultitaskCriterion
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.models import VgsWav2Vec2Config
from fairseq_vgs.models.vgs_text import VgsTextModel

TEXT = {"caption_encoder": "text", "text_vocabulary": 9}


def text_model(**settings):
    cfg = OmegaConf.merge(
        OmegaConf.structured(VgsWav2Vec2Config), {**SIZES, **VGS_SIZES, **NO_DROPOUT, **TEXT, **settings}
    )
    cfg._name = "vgs_wav2vec2"
    torch.manual_seed(0)
    return fairseq_models.build_model(cfg, None)


def text_sample(n_pairs=4):
    sample = tiny_sample(n_pairs=n_pairs)
    net_input = sample["net_input"]
    del net_input["mask_indices"]
    net_input["source"] = torch.randint(9, (n_pairs, 7), generator=torch.Generator().manual_seed(1))
    net_input["padding_mask"] = torch.arange(7) >= torch.tensor([[7], [5], [3], [1]])[:n_pairs]
    return sample


@pytest.mark.parametrize("head", ["attention", "resdavenet"])
def test_embeddings_in_training_and_evaluation_are_the_same(head):
    """Without dropout and batch norm; `encode_speech` is what evaluation calls."""
    model = text_model(speech_head=head, speech_head_norm="group")
    assert isinstance(model, VgsTextModel)
    net_input = text_sample()["net_input"]
    output = model(**net_input, compute_ssl=False, compute_vgs=True, learned=("logit_scale",))
    assert output["speech_embedding"].shape == output["image_embedding"].shape == (4, 20)
    assert output["logit_scale"].item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        encoded = model.eval().encode_speech(net_input["source"], net_input["padding_mask"])
    torch.testing.assert_close(encoded, output["speech_embedding"].detach(), atol=1e-5, rtol=1e-4)


def test_padding_has_no_influence():
    model = text_model().eval()
    net_input = text_sample()["net_input"]
    other = net_input["source"].masked_fill(net_input["padding_mask"], 8)
    assert not torch.equal(other, net_input["source"])
    with torch.no_grad():
        found = model.encode_speech(net_input["source"], net_input["padding_mask"])
        torch.testing.assert_close(model.encode_speech(other, net_input["padding_mask"]), found)
        alone = model.encode_speech(net_input["source"][1:2, :5])
    torch.testing.assert_close(alone, found[1:2], atol=1e-5, rtol=1e-4)


def test_the_order_of_units_counts():
    model = text_model().eval()
    units = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        assert not torch.allclose(model.encode_speech(units), model.encode_speech(units.flip(1)), atol=1e-4)


def test_every_weight_is_trained_but_those_of_no_branch():
    model = text_model()
    criterion = VgsMultitaskCriterion(None, vgs_loss="infonce", alpha_values=[1.0])
    criterion.train()
    loss, size, logs = criterion(model, text_sample())
    loss.backward()
    assert size == 4
    assert logs["n_vgs_pairs"] == 4
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"logit_bias"}
    assert model.encoder.layers[-1] is model.encoder.layers[VGS_SIZES["vgs_layer"] - 1]
    assert {id(parameter) for parameter in model.unused_parameters()} == {id(model.logit_bias)}
    assert not [name for name, _ in model.named_parameters() if "feature_extractor" in name]


def test_validation_computes_the_vgs_loss_only():
    model = text_model().eval()
    criterion = VgsMultitaskCriterion(None, alpha_values=[1.0]).eval()
    _, _, logs = criterion(model, text_sample())
    assert "ssl_loss" not in logs
    assert logs["vgs_loss"] > 0


def test_an_ssl_weight_is_refused():
    criterion = VgsMultitaskCriterion(None, alpha_values=[0.5])
    with raises_fault("setting.value", "criterion.alpha_values"):
        criterion(text_model(), text_sample())


def test_what_text_does_not_have_is_refused():
    model = text_model()
    with raises_fault("setting.value", "model.caption_encoder"):
        model(**text_sample()["net_input"], compute_ssl=True, compute_vgs=True)
    with raises_fault("setting.value", "model.caption_encoder") as caught:
        model(torch.zeros(1, 3), features_only=True)
    assert "features_only" in str(caught.value)
    with raises_fault("setting.missing", "model.text_vocabulary"):
        text_model(text_vocabulary=None)


def test_layers_over_speech_are_refused():
    with pytest.raises(ValueError, match=r"model\.caption_encoder: expected speech.*evaluate retrieval"):
        speech_features(text_model(), [torch.zeros(4000), torch.zeros(8000)])


def test_the_settings_given_stay_as_they_are():
    """The checkpoint holds them, and the model is built from them again."""
    cfg = OmegaConf.merge(OmegaConf.structured(VgsWav2Vec2Config), {**SIZES, **VGS_SIZES, **TEXT})
    VgsTextModel(cfg)
    assert cfg.encoder_layers == SIZES["encoder_layers"] > VGS_SIZES["vgs_layer"]

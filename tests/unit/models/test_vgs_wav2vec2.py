import pytest
import torch
from support.faults import raises_fault
from support.tiny import NO_DROPOUT, tiny_model, tiny_sample

from fairseq_vgs.models import VgsModel


def forward(model, sample, **kwargs):
    torch.manual_seed(5)
    return model(**sample["net_input"], **kwargs)


@pytest.mark.parametrize("head", ["attention", "resdavenet"])
@pytest.mark.parametrize("vgs_forward", ["masked", "unmasked"])
def test_both_branches(head, vgs_forward):
    model = tiny_model(speech_head=head, vgs_forward=vgs_forward)
    sample = tiny_sample(n_pairs=3, n_unpaired=2)
    sample["net_input"]["padding_mask"][1, 7000:] = True
    output = forward(model, sample, compute_ssl=True, compute_vgs=True)
    assert output["speech_embedding"].shape == output["image_embedding"].shape == (3, 20)
    n_masked = int(sample["net_input"]["mask_indices"][0].sum())
    assert output["x"].shape == (1 + 5, 5, n_masked)


def test_cls_changes_the_ssl_arm_but_not_its_shape():
    sample = tiny_sample()
    with_cls = forward(tiny_model(use_cls=True).eval(), sample)
    without = forward(tiny_model(use_cls=False).eval(), sample)
    assert with_cls["x"].shape == without["x"].shape


def test_vgs_alone_equals_the_shared_part_of_both():
    """Layers above vgs_layer and the quantizer do not touch the embeddings."""
    model, sample = tiny_model().eval(), tiny_sample()
    both = forward(model, sample, compute_ssl=True, compute_vgs=True)
    alone = forward(model, sample, compute_ssl=False, compute_vgs=True)
    torch.testing.assert_close(both["speech_embedding"], alone["speech_embedding"])
    assert "x" not in alone


def test_unmasked_second_pass_equals_encode_speech():
    model, sample = tiny_model(vgs_forward="unmasked").eval(), tiny_sample(n_pairs=3, n_unpaired=1)
    sample["net_input"]["padding_mask"][0, 6500:] = True
    both = forward(model, sample, compute_ssl=True, compute_vgs=True)
    alone = forward(model, sample, compute_ssl=False, compute_vgs=True)
    net_input = sample["net_input"]
    encoded = model.encode_speech(net_input["source"][:3], net_input["padding_mask"][:3])
    torch.testing.assert_close(both["speech_embedding"], encoded)
    torch.testing.assert_close(alone["speech_embedding"], encoded)
    torch.testing.assert_close(model.encode_image(net_input["image"]), both["image_embedding"])


def test_masked_and_unmasked_differ_in_training_only():
    sample = tiny_sample()
    for train in (True, False):
        masked = forward(
            tiny_model(vgs_forward="masked", **NO_DROPOUT).train(train), sample, compute_vgs=True
        )
        unmasked = forward(
            tiny_model(vgs_forward="unmasked", **NO_DROPOUT).train(train), sample, compute_vgs=True
        )
        same = torch.allclose(masked["speech_embedding"], unmasked["speech_embedding"], atol=1e-6)
        assert same != train
        torch.testing.assert_close(masked["x"], unmasked["x"])


def test_evaluation_reads_unmasked_speech():
    model, sample = tiny_model(vgs_forward="masked").eval(), tiny_sample()
    output = forward(model, sample, compute_ssl=True, compute_vgs=True)
    torch.testing.assert_close(output["speech_embedding"], model.encode_speech(sample["net_input"]["source"]))


def test_validation_does_not_count_as_computing_a_branch():
    model, sample = tiny_model(), tiny_sample()
    forward(model.eval(), sample, compute_ssl=True, compute_vgs=True)
    forward(model.train(), sample, compute_ssl=False, compute_vgs=True)
    unused = {id(parameter) for parameter in model.unused_parameters()}
    scalars = [model.logit_scale, model.logit_bias]
    assert unused == {id(parameter) for parameter in [*model.ssl_parameters(), *scalars]}


@pytest.mark.parametrize("vgs_forward", ["masked", "unmasked"])
def test_each_branch_trains_its_own_and_the_shared_parameters(vgs_forward):
    sample = tiny_sample()
    for compute_ssl, compute_vgs in [(True, False), (False, True), (True, True)]:
        model = tiny_model(vgs_forward=vgs_forward)
        output = forward(model, sample, compute_ssl=compute_ssl, compute_vgs=compute_vgs)
        loss = sum(
            value.pow(2).sum()
            for key, value in output.items()
            if key in ("x", "speech_embedding", "image_embedding")
        )
        loss.backward()
        unused = {id(parameter) for parameter in model.unused_parameters()}
        loss_only: set[int] = set()
        quantizer = {id(p) for p in model.quantizer.parameters()}  # its diversity loss is not in this sum
        for name, parameter in model.named_parameters():
            if id(parameter) in loss_only | quantizer:
                continue
            assert (parameter.grad is None) == (id(parameter) in unused), name
        everything = [*model.vgs_parameters(), *model.ssl_parameters(), model.logit_scale, model.logit_bias]
        # the record was reset
        assert {id(p) for p in model.unused_parameters()} == {id(p) for p in everything}


def test_bf16_autocast_stays_close_and_returns_fp32():
    sample = tiny_sample()
    exact = forward(tiny_model(autocast="none").eval(), sample, compute_vgs=True)
    rough = forward(tiny_model(autocast="bf16").eval(), sample, compute_vgs=True)
    for key in ("speech_embedding", "image_embedding", "x"):
        assert rough[key].dtype == torch.float32
    difference = (exact["speech_embedding"] - rough["speech_embedding"]).norm()
    assert difference / exact["speech_embedding"].norm() < 0.05


@pytest.mark.parametrize("vgs_forward", ["masked", "unmasked"])
def test_a_model_in_bf16(vgs_forward):
    """fairseq's common.bf16 casts the model and its input."""
    model, sample = tiny_model(vgs_forward=vgs_forward).bfloat16(), tiny_sample()
    net_input = sample["net_input"]
    net_input["source"] = net_input["source"].bfloat16()
    net_input["image"] = {
        k: v.bfloat16() if v.is_floating_point() else v for k, v in net_input["image"].items()
    }
    output = forward(model, sample, compute_ssl=True, compute_vgs=True)
    assert all(output[key].dtype == torch.float32 for key in ("speech_embedding", "image_embedding", "x"))


def test_learned_scalars_come_only_when_asked_for():
    model, sample = tiny_model(), tiny_sample()
    assert not {"logit_scale", "logit_bias"} & set(forward(model, sample, compute_vgs=True))
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    output = forward(model, sample, compute_vgs=True, learned=("logit_scale",))
    assert output["logit_scale"].item() == pytest.approx(100)
    output["logit_scale"].backward()
    assert model.logit_scale.grad > 0


def test_pictures_as_input():
    model, sample = tiny_model(image_encoder="patches"), tiny_sample()
    sample["net_input"]["image"] = {"pictures": torch.randn(4, 3, 16, 16)}
    assert forward(model, sample, compute_vgs=True)["image_embedding"].shape == (4, 20)


@pytest.mark.parametrize(
    ("settings", "code", "place"),
    [
        ({"vgs_layer": 0}, "setting.value", "model.vgs_layer"),
        ({"vgs_layer": 4}, "setting.value", "model.vgs_layer"),
        ({"encoder_layerdrop": 0.1}, "setting.value", "model.encoder_layerdrop"),
        ({"layer_type": "conformer"}, "setting.value", "model.layer_type"),
        ({"speech_head": "best"}, "setting.choice", "model.speech_head"),
        ({"image_encoder": "best"}, "setting.choice", "model.image_encoder"),
        ({"logit_scale_init": 0.0}, "setting.value", "model.logit_scale_init"),
        ({"use_cls": False, "speech_head": "resdavenet"}, "setting.value", "model.speech_head"),
        ({"conv_feature_layers": "[(16, 10, 5)] + exit()"}, "setting.value", "model.conv_feature_layers"),
    ],
)
def test_impossible_settings(settings, code, place):
    with raises_fault(code, place):
        tiny_model(**settings)


def test_region_dims_are_checked_against_the_task():
    class Task:
        region_dim = 1280

    model = tiny_model()
    with raises_fault("setting.mismatch", "model.image_dim") as caught:
        VgsModel.build_model(model.cfg, Task())
    assert "model.image_dim=1280" in str(caught.value)


def test_region_dims_must_be_known():
    cfg = tiny_model().cfg
    cfg.image_dim = None
    with raises_fault("setting.missing", "model.image_dim"):
        VgsModel.build_model(cfg, None)
    cfg.image_encoder = "patches"
    VgsModel.build_model(cfg, None)


def test_no_graph_is_kept_after_ssl_only():
    model, sample = tiny_model(vgs_forward="unmasked"), tiny_sample()
    forward(model, sample, compute_ssl=True, compute_vgs=False)
    assert model._unmasked is None
    with pytest.raises(RuntimeError, match="no pass has reached"):
        model.encoder.take_shared()


def test_linear_layers_start_like_berts_on_request():
    sizes = {"encoder_embed_dim": 192, "encoder_attention_heads": 4, "latent_vars": 64}
    model, stock = tiny_model(linear_init="bert", **sizes), tiny_model(**sizes)
    for name in ("quantizer.weight_proj", "project_q", "post_extract_proj", "final_proj"):
        layer = model.get_submodule(name)
        assert float(layer.weight.std()) == pytest.approx(0.04, rel=0.15), name  # 0.02 at width 768
        assert not layer.bias.any()
    assert float(stock.quantizer.weight_proj.weight.std()) == pytest.approx(1.0, rel=0.15)
    assert float(model.encoder.layers[0].fc1.weight.std()) == pytest.approx(0.04, rel=0.15)
    assert model.encoder.pos_conv[0].weight_v.shape == stock.encoder.pos_conv[0].weight_v.shape

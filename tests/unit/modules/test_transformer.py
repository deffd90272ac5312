"""The post-norm layer against torch's own, padding, autocast; initial weights: the authors' at base width."""

import pytest
import torch
from torch import nn

from fairseq_vgs.modules.transformer import LAYER_NORM_EPS, PostNormLayer, init_like_bert


def make_layer(dropout: float = 0.0) -> PostNormLayer:
    torch.manual_seed(0)
    return PostNormLayer(16, heads=4, ffn_dim=24, dropout=dropout, attention_dropout=dropout)


def torch_twin(layer: PostNormLayer) -> nn.TransformerEncoderLayer:
    """torch's layer with the same weights."""
    twin = nn.TransformerEncoderLayer(
        16, 4, 24, dropout=0.0, activation="gelu", batch_first=True, layer_norm_eps=LAYER_NORM_EPS
    )
    parts = (layer.query, layer.key, layer.value)
    state = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        "self_attn.in_proj_bias": torch.cat([part.bias for part in parts]),
    }
    names = {
        "self_attn.out_proj": layer.attention_output,
        "linear1": layer.expand,
        "linear2": layer.contract,
        "norm1": layer.attention_norm,
        "norm2": layer.output_norm,
    }
    for name, module in names.items():
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    twin.load_state_dict(state)
    return twin.train()  # eval would take torch's fused path


def test_equals_torchs_layer() -> None:
    layer = make_layer()
    x = torch.randn(3, 7, 16)
    padding_mask = torch.arange(7) >= torch.tensor([[7], [4], [1]])
    expected = torch_twin(layer)(x, src_key_padding_mask=padding_mask)
    got = layer(x, padding_mask=padding_mask)
    torch.testing.assert_close(got[~padding_mask], expected[~padding_mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer(x, padding_mask=None), torch_twin(layer)(x), rtol=1e-5, atol=1e-5)


def test_train_and_eval_agree_without_dropout() -> None:
    layer, x = make_layer(), torch.randn(2, 5, 16)
    padding_mask = torch.arange(5) >= torch.tensor([[5], [3]])
    trained = layer.train()(x, padding_mask=padding_mask)
    with torch.no_grad():
        evaluated = layer.eval()(x, padding_mask=padding_mask)
    torch.testing.assert_close(evaluated, trained.detach())


def test_dropout_is_for_training_only() -> None:
    layer, x = make_layer(0.5), torch.randn(2, 5, 16)
    assert not torch.equal(layer(x, padding_mask=None), layer(x, padding_mask=None))
    layer.eval()
    assert torch.equal(layer(x, padding_mask=None), layer(x, padding_mask=None))


def test_runs_under_autocast() -> None:
    layer, x = make_layer(), torch.randn(2, 5, 16)
    padding_mask = torch.arange(5) >= torch.tensor([[5], [3]])
    expected = layer(x, padding_mask=padding_mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(x, padding_mask=padding_mask)
    torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.1)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads to divide the width 16, got 3"):
        PostNormLayer(16, heads=3, ffn_dim=8, dropout=0.0, attention_dropout=0.0)


@pytest.mark.parametrize(("width", "std"), [(768, 0.02), (192, 0.04)])
def test_standard_deviation_follows_the_width(width: int, std: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(300, 300), nn.LayerNorm(300), nn.Linear(300, 5, bias=False))
    nn.init.constant_(network[1].weight, 3.0)
    init_like_bert(network, width=width)
    assert network[0].weight.std().item() == pytest.approx(std, rel=0.02)
    assert network[2].weight.std().item() == pytest.approx(std, rel=0.1)
    assert (network[0].bias == 0).all()
    assert (network[1].weight == 1).all()

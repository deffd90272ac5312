"""Initial weights: the authors' at base width, the same gain at any other."""

import pytest
import torch
from torch import nn

from fairseq_vgs.modules.transformer import init_like_bert


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

"""The patch encoder: shapes, positions, learning, errors."""

import math

import pytest
import torch
from torch import nn

from fairseq_vgs.modules import IMAGE_ENCODERS
from fairseq_vgs.modules.patches import PatchEncoder, sincos_positions

TINY = PatchEncoder.Settings(
    embed_dim=16, layers=1, heads=4, ffn_dim=24, output_dim=12, image_size=16, patch_size=4, dropout=0.0
)


def make_encoder() -> nn.Module:
    torch.manual_seed(0)
    return IMAGE_ENCODERS["patches"](TINY).eval()


def test_base_size() -> None:
    with torch.device("meta"):
        encoder = IMAGE_ENCODERS["patches"](PatchEncoder.Settings())
    d, f = 768, 3072
    embedding = (3 * 16 * 16 * d + d) + 2 * d + d
    layer = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 2 * 2 * d
    mlp = (d * 2 * d + 2 * d) + (2 * d * d + d)
    assert sum(p.numel() for p in encoder.parameters()) == embedding + 6 * layer + mlp == 45_481_728


@pytest.mark.parametrize("size", [(0, 16, 16), (1, 16, 16), (2, 8, 20), (1, 4, 4)])
def test_any_grid_of_patches(size: tuple[int, int, int]) -> None:
    n_pictures, height, width = size
    embedding = make_encoder()({"pictures": torch.randn(n_pictures, 3, height, width)})
    assert embedding.shape == (n_pictures, 12)
    assert embedding.isfinite().all()


def test_positions_equal_their_formula() -> None:
    positions = sincos_positions(2, 3, dim=8)
    for row in range(2):
        for column in range(3):
            expected = []
            for place in (row, column):
                expected += [math.sin(place / 10_000 ** (k / 2)) for k in range(2)]
                expected += [math.cos(place / 10_000 ** (k / 2)) for k in range(2)]
            assert positions[row * 3 + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_position_of_a_patch_matters() -> None:
    encoder = make_encoder()
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, :, :4, :4] = 1.0
    assert not torch.allclose(
        encoder({"pictures": picture}), encoder({"pictures": picture.flip(3)}), atol=1e-5
    )


def test_learns_to_tell_pictures_apart() -> None:
    encoder = make_encoder().train()
    pictures = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(encoder({"pictures": pictures}), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_errors() -> None:
    with pytest.raises(ValueError, match="multiples of patch_size 4, got 16 x 18"):
        make_encoder()({"pictures": torch.zeros(1, 3, 16, 18)})
    with pytest.raises(ValueError, match=r"expected \[pictures, 3, height, width\], got \(1, 1, 16, 16\)"):
        make_encoder()({"pictures": torch.zeros(1, 1, 16, 16)})
    with pytest.raises(ValueError, match="a multiple of 4 for patches, got 6"):
        IMAGE_ENCODERS["patches"](PatchEncoder.Settings(embed_dim=6, heads=2))

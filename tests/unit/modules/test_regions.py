"""The region encoder: shapes, sizes, padding, order of regions, errors."""

import pytest
import torch
from torch import Tensor, nn

from fairseq_vgs.modules import IMAGE_ENCODERS
from fairseq_vgs.modules.regions import RegionEncoder

TINY = RegionEncoder.Settings(input_dim=10, embed_dim=16, layers=2, heads=4, ffn_dim=24, output_dim=12)


def make_encoder() -> nn.Module:
    torch.manual_seed(0)
    return IMAGE_ENCODERS["regions"](TINY).eval()


def make_regions(n_images: int, n_regions: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "features": torch.randn(n_images, n_regions, 10, generator=generator),
        "boxes": torch.rand(n_images, n_regions, 4, generator=generator),
    }


def test_base_size() -> None:
    """36 regions of 2048 dimensions to 768; the number of parameters, summed by hand."""
    with torch.device("meta"):
        encoder = IMAGE_ENCODERS["regions"](RegionEncoder.Settings())
    d, f = 768, 3072
    embedding = (2048 * d + d) + (4 * d + d) + 2 * 2 * d + d
    layer = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 2 * 2 * d
    mlp = (d * 2 * d + 2 * d) + (2 * d * d + d)
    assert sum(p.numel() for p in encoder.parameters()) == embedding + 6 * layer + mlp == 46_470_144


def test_follows_the_definition() -> None:
    """Mean of two layer norms, CLS in front, layers, MLP of the CLS."""
    encoder, image = make_encoder(), make_regions(2, 3)
    feature = nn.functional.layer_norm(encoder.feature_projection(image["features"]), (16,), eps=1e-12)
    box = nn.functional.layer_norm(encoder.box_projection(image["boxes"]), (16,), eps=1e-12)
    x = torch.cat([encoder.cls.expand(2, 1, 16), (feature + box) / 2], dim=1)
    for layer in encoder.layers:
        x = layer(x, padding_mask=None)
    torch.testing.assert_close(encoder(image), encoder.projection(x[:, 0]))


@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan")])
def test_padded_regions_have_no_influence(garbage: float) -> None:
    encoder, image = make_encoder(), make_regions(2, 3)
    alone = encoder(image)
    padded = {
        "features": torch.full((2, 5, 10), garbage),
        "boxes": torch.full((2, 5, 4), garbage),
        "padding_mask": torch.tensor([[False, False, False, True, True]] * 2),
    }
    padded["features"][:, :3] = image["features"]
    padded["boxes"][:, :3] = image["boxes"]
    together = encoder(padded)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    together.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_order_of_regions_does_not_matter_but_boxes_do() -> None:
    encoder, image = make_encoder(), make_regions(2, 4)
    order = torch.tensor([2, 0, 3, 1])
    permuted = {name: tensor[:, order] for name, tensor in image.items()}
    torch.testing.assert_close(encoder(permuted), encoder(image), rtol=1e-5, atol=1e-6)
    swapped = {"features": image["features"], "boxes": image["boxes"][:, order]}
    assert not torch.allclose(encoder(swapped), encoder(image), atol=1e-4)


@pytest.mark.parametrize(("n_images", "n_regions"), [(0, 3), (1, 1), (2, 0)])
def test_small_batches(n_images: int, n_regions: int) -> None:
    encoder, image = make_encoder(), make_regions(n_images, n_regions)
    image["padding_mask"] = torch.zeros(n_images, n_regions, dtype=torch.bool)
    embedding = encoder(image)
    assert embedding.shape == (n_images, 12)
    assert embedding.isfinite().all()
    embedding.sum().backward()


def test_every_parameter_gets_a_gradient() -> None:
    encoder = make_encoder().train()
    encoder(make_regions(3, 4)).square().sum().backward()
    missing = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert missing == []


def test_initial_weights_are_the_authors() -> None:
    torch.manual_seed(0)
    encoder = IMAGE_ENCODERS["regions"](RegionEncoder.Settings(layers=1))
    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    assert all(linear.weight.std().item() == pytest.approx(0.02, rel=0.1) for linear in linears)
    assert all((linear.bias == 0).all() for linear in linears)
    assert encoder.cls.std().item() == pytest.approx(1.0, rel=0.1)


def test_shapes_are_checked() -> None:
    encoder, image = make_encoder(), make_regions(2, 3)
    with pytest.raises(ValueError, match=r"\[images, regions, 10\].*set input_dim"):
        encoder({"features": torch.zeros(2, 3, 9), "boxes": image["boxes"]})
    with pytest.raises(ValueError, match="one box per region"):
        encoder({"features": image["features"], "boxes": image["boxes"][:, :2]})

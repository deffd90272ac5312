"""Image encoder over raw pictures: a small patch transformer.

Legend: `P` pictures, `H` and `W` their height and width in pixels, `E` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairseq_vgs.modules.registry import IMAGE_ENCODERS, expect_divisor
from fairseq_vgs.modules.transformer import LAYER_NORM_EPS, ImageTransformer, ImageTransformerSettings
from fairseq_vgs.settings import SettingError, from_config

# Wavelengths run from 2 pi patches to 2 pi * 10000 patches, as in Vaswani et al. 2017.
LONGEST_WAVELENGTH = 10_000.0


@IMAGE_ENCODERS.register("patches")
class PatchEncoder(ImageTransformer):
    """Embeds a picture: convolutional patches, 2-D sine-cosine positions, post-norm transformer, CLS, MLP.

    Not in the paper; after ViT (Dosovitskiy et al. 2021) with the region encoder's layers, CLS and MLP. The
    positions are fixed, hence nothing depends on the size of the picture: any height and width divisible by
    the patch size work.

    Shape:
        image["pictures"] `[P, 3, H, W]`. Result `[P, E]`.
    """

    reads = "pictures"

    @dataclass(frozen=True)
    class Settings(ImageTransformerSettings):
        """Settings of the transformer, and the sides of the pictures and of a patch in pixels."""

        image_size: int = from_config("image_size", default=224)
        patch_size: int = from_config("patch_size", default=16)

        def __post_init__(self) -> None:
            super().__post_init__()
            expect_divisor(self, "patch_size", "image_size", self.image_size)
            if self.embed_dim % 4:
                raise SettingError("embed_dim", "a multiple of 4 for patches", self.embed_dim)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        dim, size = settings.embed_dim, settings.patch_size
        self.patch_size = size
        self.patch_projection = nn.Conv2d(3, dim, kernel_size=size, stride=size)
        self.input_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.add_transformer(settings)
        # The patch convolution is a linear layer over the patch's pixels, and is initialised as one.
        nn.init.xavier_uniform_(self.patch_projection.weight.view(dim, -1))
        nn.init.zeros_(self.patch_projection.bias)  # type: ignore[arg-type]

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        """Embed pictures; see the class for shapes."""
        pictures = image["pictures"]
        self._check_shape(pictures)
        grid = self.patch_projection(pictures)
        positions = sincos_positions(grid.size(2), grid.size(3), dim=grid.size(1), device=grid.device)
        patches = self.input_norm(grid.flatten(2).transpose(1, 2) + positions)
        return self.embed_tokens(patches, padding_mask=None)

    def _check_shape(self, pictures: Tensor) -> None:
        if pictures.dim() != 4 or pictures.size(1) != 3:
            raise ValueError(f"pictures: expected [pictures, 3, height, width], got {tuple(pictures.shape)}")
        height, width = pictures.shape[2:]
        if not height or not width or height % self.patch_size or width % self.patch_size:
            expected = f"height and width to be multiples of patch_size {self.patch_size}"
            raise ValueError(f"pictures: expected {expected}, got {height} x {width}")


def sincos_positions(
    height: int, width: int, *, dim: int, device: torch.device | str | None = None
) -> Tensor:
    """Compute fixed positions of rows x columns of patches: float32 `[height * width, dim]`, row by row.

    Half of the dimensions, which must be a multiple of 4, are for the row, half for the column.
    """
    exponents = torch.arange(dim // 4, device=device, dtype=torch.float32) / (dim // 4)
    frequencies = LONGEST_WAVELENGTH**-exponents
    rows, columns = (
        torch.arange(n, device=device, dtype=torch.float32).unsqueeze(1) * frequencies
        for n in (height, width)
    )
    by_row = torch.cat([rows.sin(), rows.cos()], dim=1).unsqueeze(1).expand(height, width, -1)
    by_column = torch.cat([columns.sin(), columns.cos()], dim=1).unsqueeze(0).expand(height, width, -1)
    return torch.cat([by_row, by_column], dim=2).flatten(0, 1)

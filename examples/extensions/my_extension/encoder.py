"""An image encoder with its own setting: colours of windows, pooled by a small network.

Legend: `P` pictures, `H` and `W` their height and width, `E` embedding dimensions.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_vgs.modules import IMAGE_ENCODERS, ImageEncoderSettings
from fairseq_vgs.settings import SettingError


@IMAGE_ENCODERS.register("windows")
class WindowEncoder(nn.Module):
    """Embed a picture by the mean colours of its windows; their order does not matter.

    Shape:
        image["pictures"] `[P, 3, H, W]`. Result `[P, E]`.
    """

    reads = "pictures"

    @dataclass(frozen=True)
    class Settings(ImageEncoderSettings):
        """Side of a window in pixels, in addition to the `output_dim` that every encoder gets."""

        window: int = 16

        def __post_init__(self) -> None:
            """Refuse an impossible window, naming the field."""
            if self.window < 1:
                raise SettingError("window", "at least 1 pixel", self.window)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.window = settings.window
        self.expand = nn.Linear(3, 64)
        self.project = nn.Linear(64, settings.output_dim)

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        """Embed pictures; see the class for shapes."""
        colours = F.avg_pool2d(image["pictures"], self.window).flatten(2).transpose(1, 2)
        return self.project(F.gelu(self.expand(colours)).mean(dim=1))

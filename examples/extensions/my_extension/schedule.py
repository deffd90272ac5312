"""An alpha schedule: up and down again between two values."""

from dataclasses import dataclass

from fairseq_vgs.losses import ALPHA_SCHEDULES, AlphaSchedule


@ALPHA_SCHEDULES.register("triangle")
@dataclass(frozen=True)
class Triangle(AlphaSchedule):
    """From the first of `criterion.alpha_values` to the second and back, in `period` updates."""

    period: int = 1000
    counts = (2, 0)

    def alpha(self, update: int) -> float:
        """Return the weight of the VGS loss."""
        start, end = self.values
        distance = abs((update / self.period) % 1.0 - 0.5) * 2  # 1, 0, 1 over a period
        return end + (start - end) * distance

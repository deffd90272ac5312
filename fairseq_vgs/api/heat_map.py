"""The heat map of one recording and one picture."""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_vgs.features.heat_map import HeatMap


@dataclass(frozen=True)
class PairHeatMap(HeatMap):
    """A heat map with what it is drawn from."""

"""Phone ABX: does a representation put two tokens of one phone closer together than tokens of two phones?

In memory, in plain torch: ``abx_scores`` takes features per file and returns one ``AbxResult`` per layer.
"""

from fairseq_vgs.metrics.abx.engine import AbxCounts, AbxResult, abx_scores
from fairseq_vgs.metrics.abx.items import AbxError, AbxItem, read_items
from fairseq_vgs.metrics.abx.plan import AbxCells
from fairseq_vgs.metrics.abx.scoring import collapsed_error, pair_errors

__all__ = [
    "AbxCells",
    "AbxCounts",
    "AbxError",
    "AbxItem",
    "AbxResult",
    "abx_scores",
    "collapsed_error",
    "pair_errors",
    "read_items",
]

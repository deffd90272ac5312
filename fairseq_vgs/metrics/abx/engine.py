"""Measure ABX from features and items, all layers in one pass over the files.

Shapes: T frames of a file, D dims of a layer, C cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.metrics.abx.distances import DISTANCES
from fairseq_vgs.metrics.abx.items import AbxError, AbxItem, exact_rate, frame_span
from fairseq_vgs.metrics.abx.layout import make_layout
from fairseq_vgs.metrics.abx.plan import (
    CONTEXT_MODES,
    SPEAKER_MODES,
    AbxCells,
    Plan,
    make_plan,
    n_overlapping,
)
from fairseq_vgs.metrics.abx.scoring import cell_errors, collapsed_error, paths_may_tie, token_distances

Features = Callable[[str], Mapping[str, Tensor]] | Mapping[str, Mapping[str, Tensor]]

# wav2vec 2.0 without padding has one frame fewer than a recording has 20 ms steps.
_MAX_MISSING_FRAMES = 1


@dataclass(frozen=True)
class AbxCounts:
    """What was compared, and what was not.

    Of the tokens given (``items``), those without a frame whose middle is inside, before the features
    end (``no_frame``), are excluded; those of groups larger than ``max_size_group`` are ``subsampled``;
    others may be in no cell, such as those of a phone that occurs once (``no_partner``). ``clamped``
    tokens are one frame shorter because the features end before the recording does.

    ``overlapping`` are pairs of tokens that are compared and share frames: x with a is too easy then, x
    with b too hard. ``phone_pairs`` are ordered pairs with a cell, ``token_pairs`` the distances computed;
    those of units, or of a layer with equal frames, in both directions.
    """

    items: int
    no_frame: int
    clamped: int
    subsampled: int
    no_partner: int
    overlapping: int
    cells: int
    phone_pairs: int
    token_pairs: int
    triples: int


@dataclass(frozen=True)
class AbxResult:
    """The ABX error of one layer, and f64[C] that of each cell, as shares in 0..1; chance is 0.5.

    ``cells`` are the same object for all layers, ``counts`` are equal but for ``token_pairs``.
    """

    error: float
    cell_errors: F64
    cells: AbxCells
    counts: AbxCounts


def abx_scores(
    features: Features,
    items: Sequence[AbxItem],
    *,
    speaker: str = "within",
    context: str = "within",
    distance: str = "angular",
    frame_rate: float = 50.0,
    max_size_group: int | None = 10,
    max_x_across: int | None = 5,
    seed: int = 1,
    librilight_slicing: bool = False,
    device: str = "cpu",
) -> dict[str, AbxResult]:
    """Measure the phone ABX error of every layer.

    The same items and options give the same cells and draws whatever the features are, so that two models can
    be compared cell by cell.

    Args:
        features: per file name of the items, name -> f[T, D] of each layer; called once per file.
        items: the tokens.
        speaker: "within" (a, b and x by one speaker) or "across" (x by another).
        context: "within" (the same neighbouring phones) or "any".
        distance: "angular", "euclidean", "kl_symmetric" (features are distributions) or "identical" (units).
        frame_rate: frames per second of the features.
        max_size_group: most tokens of a phone, context and speaker; all if None.
        max_x_across: most speakers of x per context, phone and speaker of a; all if None.
        seed: of the two draws.
        librilight_slicing: cut tokens one frame shorter, as ZeroSpeech 2021 did.
        device: where distances are computed.

    Raises:
        AbxError: features that are not finite, too short for the items, or of other layers than the first
            file's; no two phones to compare.
    """
    for name, value, allowed in (
        ("speaker", speaker, SPEAKER_MODES),
        ("context", context, CONTEXT_MODES),
        ("distance", distance, tuple(DISTANCES)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    rate = exact_rate(frame_rate)
    spans = [
        frame_span(item.onset, item.offset, frame_rate=rate, librilight_slicing=librilight_slicing)
        for item in items
    ]

    planned = partial(make_plan, items, speaker=speaker, context=context, seed=seed)
    planned = partial(planned, max_size_group=max_size_group, max_x_across=max_x_across)
    tokens = _Tokens(items, spans)
    plan = planned(tokens.usable.tolist())
    fetch = features.__getitem__ if isinstance(features, Mapping) else features
    while files := tokens.missing_files(_members(plan)):
        # A token without a frame in the features takes no part, so that others may be drawn instead.
        if _cut(fetch, files, tokens, frame_rate=frame_rate):
            plan = planned(tokens.usable.tolist())
    members, n_usable = _members(plan), int(tokens.usable.sum())
    counts = AbxCounts(
        items=len(items),
        no_frame=len(items) - n_usable,
        clamped=int(tokens.is_clamped[members].sum()),
        subsampled=plan.n_subsampled,
        no_partner=n_usable - plan.n_subsampled - len(members),
        overlapping=n_overlapping(plan, tokens.starts, tokens.lengths),
        cells=len(plan.cells),
        phone_pairs=len(plan.cells.pairs),
        token_pairs=0,
        triples=int(plan.cells.n_triples.sum()),
    )
    frames = {
        name: DISTANCES[distance].prepare(torch.cat(tokens.frames.pop(name)).to(device))
        for name in list(tokens.frames)
    }
    scored = _scored(frames, plan, tokens, distance=distance)
    return {
        name: AbxResult(
            collapsed_error(plan.cells, errors), errors, plan.cells, replace(counts, token_pairs=n)
        )
        for name, (errors, n) in ((name, scored[name]) for name in frames)
    }


class _Tokens:
    """Frames of the files fetched so far per layer, and where each token's are."""

    def __init__(self, items: Sequence[AbxItem], spans: Sequence[tuple[int, int]]) -> None:
        self.items, self.spans = items, spans
        self.frames: dict[str, list[Tensor]] = {}
        self.n_frames = 0
        self.starts, self.lengths = np.zeros((2, len(items)), np.int64)
        self.usable = np.array([length > 0 for _, length in spans], dtype=bool)
        self.is_clamped = np.zeros(len(items), dtype=bool)
        self.fetched: set[str] = set()
        self.by_file: dict[str, list[int]] = defaultdict(list)
        for token in np.flatnonzero(self.usable).tolist():
            self.by_file[items[token].file].append(token)

    def missing_files(self, tokens: I64) -> list[str]:
        files = dict.fromkeys(self.items[token].file for token in tokens.tolist())
        return [file for file in files if file not in self.fetched]


def _members(plan: Plan) -> I64:
    """Return the positions of the tokens that are in a cell, sorted."""
    return np.sort(np.concatenate([plan.groups[group] for group in np.unique(plan.cell_groups)]))


def _scored(
    frames: Mapping[str, Tensor], plan: Plan, tokens: _Tokens, *, distance: str
) -> dict[str, tuple[F64, int]]:
    """Return the errors of the cells, f64[C], and the number of distances computed, layer by layer."""
    members = _members(plan)
    edges = np.zeros(tokens.n_frames + 1, dtype=np.int64)
    np.add.at(edges, tokens.starts[members], 1)
    np.add.at(edges, tokens.starts[members] + tokens.lengths[members], -1)
    compared = np.flatnonzero(np.cumsum(edges) > 0)
    # Where frames are equal, as those of discrete units, paths tie all the time.
    directed = {
        name: distance == "identical" or paths_may_tie(layer, compared) for name, layer in frames.items()
    }
    found: dict[str, tuple[F64, int]] = {}
    for direction in (False, True):
        some = {name: layer for name, layer in frames.items() if directed[name] == direction}
        if some:
            layout = make_layout(plan, tokens.starts, tokens.lengths, directed=direction)
            errors = cell_errors(token_distances(some, layout, distance=distance), layout)
            found |= {name: (values, layout.n_pairs) for name, values in errors.items()}
    return found


def _cut(
    fetch: Callable[[str], Mapping[str, Tensor]], files: Sequence[str], tokens: _Tokens, *, frame_rate: float
) -> bool:
    """Fetch the features of files; return whether a token of theirs turned out to have none."""
    before = int(tokens.usable.sum())
    too_short: list[str] = []
    for file in files:
        try:
            layers = dict(fetch(file))
        except KeyError as error:
            if error.args != (file,):  # a fault inside the function, not an unknown file
                raise
            expected = f"expected those of {file!r}, which the items name, got none"
            message = f"{expected}; give the item file that belongs to these recordings"
            raise AbxError.at("features", message, "recording.missing") from None
        n_frames = _check_layers(layers, file, tokens.frames)
        for token in tokens.by_file[file]:
            start, length = tokens.spans[token]
            missing = max(0, start + length - n_frames)
            if missing > _MAX_MISSING_FRAMES:
                item = tokens.items[token]
                too_short.append(f"{file} {item.onset}-{item.offset} s ({n_frames} frames)")
            tokens.is_clamped[token] = missing > 0
            tokens.starts[token], tokens.lengths[token] = tokens.n_frames + start, length - missing
            tokens.usable[token] = length > missing
        for name, layer in layers.items():
            tokens.frames.setdefault(name, []).append(layer.detach().to("cpu"))
        tokens.n_frames += n_frames
        tokens.fetched.add(file)
    if too_short:
        message = (
            f"tokens must be inside the features ({frame_rate:g} frames per second), got "
            f"{len(too_short)} past their end, first {too_short[0]}; check the frame rate, and that items "
            "and recordings belong together"
        )
        raise AbxError.at("items", message, "item.length")
    return int(tokens.usable.sum()) < before


def _check_layers(layers: Mapping[str, Tensor], file: str, before: Mapping[str, object]) -> int:
    """Return the number of frames."""
    place = f"features of {file!r}"
    if not layers or (before and layers.keys() != before.keys()):
        expected, got = ", ".join(before) or "of a model", ", ".join(layers) or "none"
        message = f"expected the layers {expected}, got {got}; give the same layers for every file"
        raise AbxError.at(place, message, "features.layers")
    for name, layer in layers.items():
        if layer.ndim != 2 or not layer.dtype.is_floating_point:
            message = (
                f"must be floating point [frames, dims], got {layer.dtype} {list(layer.shape)}; convert them"
            )
            raise AbxError.at(f"{place}, {name}", message, "features.shape")
        low, high = torch.aminmax(layer) if layer.numel() else (layer.sum(), layer.sum())
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            n_faulty = int((~torch.isfinite(layer)).any(dim=1).sum())
            message = (
                f"must be finite numbers, got NaN or infinity in {n_faulty} of {len(layer)} frames; the run "
                "has probably diverged: look at its losses"
            )
            raise AbxError.at(f"{place}, {name}", message, "features.not_finite")
    lengths = {len(layer) for layer in layers.values()}
    if len(lengths) != 1:
        message = f"layers must have equally many frames, got {sorted(lengths)}; evaluate them one by one"
        raise AbxError.at(place, message, "features.length")
    return lengths.pop()

"""The ABX evaluation from features and items to errors, all layers in one pass over the files.

Shapes: T frames of a file, D dims of a layer, C cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairseq_vgs.evaluation.abx.collapse import collapsed_error
from fairseq_vgs.evaluation.abx.distances import DISTANCES
from fairseq_vgs.evaluation.abx.errors import AbxError
from fairseq_vgs.evaluation.abx.items import AbxItem
from fairseq_vgs.evaluation.abx.layout import make_layout
from fairseq_vgs.evaluation.abx.plan import CONTEXT_MODES, SPEAKER_MODES, AbxCells, Plan, make_plan
from fairseq_vgs.evaluation.abx.scoring import cell_errors, token_distances
from fairseq_vgs.evaluation.abx.slicing import exact_rate, frame_span

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Features = Callable[[str], Mapping[str, Tensor]] | Mapping[str, Mapping[str, Tensor]]

# wav2vec 2.0 without padding has one frame fewer than a recording has 20 ms steps.
_MAX_MISSING_FRAMES = 1


@dataclass(frozen=True)
class AbxCounts:
    """What was compared, and what was not.

    Attributes:
        items: tokens given.
        no_frame: tokens excluded because no frame has its middle inside.
        clamped: tokens cut by one frame because the features end before the recording does.
        subsampled: tokens left out of groups that exceed ``max_size_group``.
        no_partner: tokens left that are in no cell, such as those of a phone that occurs once.
        overlapping: tokens that share time with the one before of the same phone, context and speaker: they
            are compared all the same, and are too easy.
        cells: cells.
        phone_pairs: ordered phone pairs with a cell.
        token_pairs: distances computed.
        triples: triples (a, b, x) compared.
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
    """The ABX error of one layer.

    Attributes:
        error: share in 0..1; chance is 0.5.
        cell_errors: f64[C].
        cells: what the cells are; the same object for all layers.
        counts: what was compared.
    """

    error: float
    cell_errors: FloatArray
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
    plan = make_plan(
        items,
        [length > 0 for _, length in spans],
        speaker=speaker,
        context=context,
        max_size_group=max_size_group,
        max_x_across=max_x_across,
        seed=seed,
    )
    tokens = _cut(features, items, spans, plan, frame_rate=frame_rate)
    # Distances of discrete units are small whole numbers: there, paths tie all the time.
    layout = make_layout(plan, tokens.starts, tokens.lengths, directed=distance == "identical")
    counts = AbxCounts(
        items=len(items),
        no_frame=sum(length <= 0 for _, length in spans),
        clamped=tokens.n_clamped,
        subsampled=plan.n_subsampled,
        no_partner=sum(length > 0 for _, length in spans) - plan.n_subsampled - len(_members(plan)),
        overlapping=_n_overlapping(items, plan),
        cells=len(plan.cells),
        phone_pairs=len(plan.cells.pairs),
        token_pairs=layout.n_pairs,
        triples=int(plan.cells.n_triples.sum()),
    )
    frames = {
        name: DISTANCES[distance].prepare(torch.cat(tokens.frames.pop(name)).to(device))
        for name in list(tokens.frames)
    }
    errors = cell_errors(token_distances(frames, layout, distance=distance), layout)
    return {
        name: AbxResult(float(collapsed_error(plan.cells, found)), found, plan.cells, counts)
        for name, found in errors.items()
    }


@dataclass
class _Tokens:
    """Frames of all files per layer, and where each token's are."""

    frames: dict[str, list[Tensor]]
    starts: IntArray
    lengths: IntArray
    n_clamped: int


def _members(plan: Plan) -> set[int]:
    """Positions of the tokens that are in a cell."""
    return {int(token) for group in np.unique(plan.cell_groups) for token in plan.groups[group]}


def _n_overlapping(items: Sequence[AbxItem], plan: Plan) -> int:
    n_overlapping = 0
    for number in np.unique(plan.cell_groups):
        tokens = sorted((items[token] for token in plan.groups[number]), key=lambda i: (i.file, i.onset))
        n_overlapping += sum(
            first.file == second.file and second.onset < first.offset
            for first, second in itertools.pairwise(tokens)
        )
    return n_overlapping


def _cut(
    features: Features,
    items: Sequence[AbxItem],
    spans: Sequence[tuple[int, int]],
    plan: Plan,
    *,
    frame_rate: float,
) -> _Tokens:
    """Fetch the features of every file that has a token in a cell."""
    by_file: dict[str, list[int]] = {}
    for token in sorted(_members(plan)):
        by_file.setdefault(items[token].file, []).append(token)
    tokens = _Tokens({}, np.zeros(len(items), np.int64), np.zeros(len(items), np.int64), 0)
    fetch = features.__getitem__ if isinstance(features, Mapping) else features
    offset = 0
    too_short: list[str] = []
    for file, members in by_file.items():
        try:
            layers = dict(fetch(file))
        except KeyError as error:
            if error.args != (file,):  # a fault inside the function, not an unknown file
                raise
            raise AbxError(
                f"features: expected those of {file!r}, which the items name, got none; "
                "give the item file that belongs to these recordings"
            ) from None
        n_frames = _check_layers(layers, file, tokens.frames)
        for token in members:
            start, length = spans[token]
            missing = max(0, start + length - n_frames)
            if missing > _MAX_MISSING_FRAMES or missing >= length:
                item = items[token]
                too_short.append(f"{file} {item.onset}-{item.offset} s ({n_frames} frames)")
                continue
            tokens.n_clamped += missing > 0
            tokens.starts[token], tokens.lengths[token] = offset + start, length - missing
        for name, layer in layers.items():
            tokens.frames.setdefault(name, []).append(layer.detach().to("cpu"))
        offset += n_frames
    if too_short:
        raise AbxError(
            f"items: expected tokens inside the features ({frame_rate:g} frames per second), got "
            f"{len(too_short)} past their end, first {too_short[0]}; check the frame rate, and that items "
            "and recordings belong together"
        )
    return tokens


def _check_layers(layers: Mapping[str, Tensor], file: str, before: Mapping[str, object]) -> int:
    if not layers or (before and layers.keys() != before.keys()):
        raise AbxError(
            f"features of {file!r}: expected the layers {', '.join(before) or 'of a model'}, got "
            f"{', '.join(layers) or 'none'}; give the same layers for every file"
        )
    lengths = set()
    for name, layer in layers.items():
        if layer.ndim != 2 or not layer.dtype.is_floating_point:
            raise AbxError(
                f"features of {file!r}, {name}: expected floating point [frames, dims], got {layer.dtype} "
                f"{list(layer.shape)}; convert them first"
            )
        low, high = torch.aminmax(layer) if layer.numel() else (layer.sum(), layer.sum())
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            n_faulty = int((~torch.isfinite(layer)).any(dim=1).sum())
            raise AbxError(
                f"features of {file!r}, {name}: expected finite numbers, got NaN or infinity in {n_faulty} "
                f"of {len(layer)} frames; the run has probably diverged: look at its losses"
            )
        lengths.add(len(layer))
    if len(lengths) != 1:
        raise AbxError(
            f"features of {file!r}: expected equally many frames in all layers, got {sorted(lengths)}; "
            "evaluate layers of different frame rates one by one"
        )
    return lengths.pop()

"""The whole evaluation against loops over triples, and what it does with bad input."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reference import abx_loops
from support.abx_material import random_material
from support.faults import raises_fault

from fairseq_vgs.metrics.abx import AbxError, abx_scores, layout, scoring
from fairseq_vgs.metrics.abx.plan import make_plan

FULL = {"max_size_group": None, "max_x_across": None}


def _features(arrays, *, distance="angular", kind="continuous"):
    made = {
        "continuous": lambda array: array,
        "one-hot": lambda array: np.eye(array.shape[1])[array.argmax(-1)],
        "whole": np.round,
    }[kind]
    found = {name: torch.from_numpy(made(array)) for name, array in arrays.items()}
    if distance == "kl_symmetric":
        found = {name: frames.softmax(-1) for name, frames in found.items()}
    if distance == "identical":
        found = {name: frames.argmax(-1, keepdim=True).double() for name, frames in found.items()}
    return {name: {"layer": frames} for name, frames in found.items()}


def _tokens(items):
    return [
        abx_loops.Token(
            i.file, Fraction(i.onset), Fraction(i.offset), i.phone, i.previous_phone, i.next_phone, i.speaker
        )
        for i in items
    ]


def _loops(items, features, *, librilight=False, distance="angular", **condition):
    tokens = _tokens(items)
    frames = {}
    for number, token in enumerate(tokens):
        inside = abx_loops.frame_numbers(token.onset, token.offset, rate=Fraction(50), librilight=librilight)
        if inside:
            file = features[token.file]["layer"].tolist()
            frames[number] = [file[index] for index in inside]
    return abx_loops.cell_errors(tokens, frames, distance=distance, **condition)


def _by_name(result):
    cells = result.cells
    return {
        abx_loops.Cell(*cells.pairs[p], cells.contexts[c], cells.speakers[s], cells.speakers[x]): float(error)
        for p, c, s, x, error in zip(
            cells.pair, cells.context, cells.speaker, cells.x_speaker, result.cell_errors, strict=True
        )
    }


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_tokens=st.integers(6, 30),
    speaker=st.sampled_from(["within", "across"]),
    context=st.sampled_from(["within", "any"]),
    distance=st.sampled_from(list(abx_loops.DISTANCES)),
    librilight=st.booleans(),
    kind=st.sampled_from(["continuous", "one-hot", "whole"]),
)
# a warping path ties, so that it matters which of two tokens is x
@example(
    seed=3, n_tokens=30, speaker="within", context="any", distance="angular", librilight=False, kind="one-hot"
)
@example(
    seed=0, n_tokens=30, speaker="within", context="any", distance="euclidean", librilight=False, kind="whole"
)
def test_equals_loops(seed, n_tokens, speaker, context, distance, librilight, kind):
    # of other distances between whole numbers, equal ones differ by rounding
    assume(kind != "whole" or distance in ("euclidean", "identical"))
    items, arrays = random_material(seed=seed, n_tokens=n_tokens, max_frames=6, n_dims=3)
    features = _features(arrays, distance=distance, kind=kind)
    condition = {"speaker": speaker, "context": context, "distance": distance}
    expected = _loops(items, features, librilight=librilight, **condition)
    if not expected:
        with raises_fault("item.unusable", "items", error=AbxError):
            abx_scores(features, items, librilight_slicing=librilight, **condition, **FULL)
        return
    result = abx_scores(features, items, librilight_slicing=librilight, **condition, **FULL)["layer"]
    assert _by_name(result) == pytest.approx(expected, abs=1e-12)
    assert result.error == pytest.approx(abx_loops.collapse(expected), abs=1e-12)
    assert result.counts.cells == len(expected)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("speaker", ["within", "across"])
def test_large_groups_and_small_tables_equal_loops(monkeypatch, speaker, compiled):
    monkeypatch.setattr(scoring, "_PAIRS_WORTH_COMPILING", 0 if compiled else 1 << 40)
    # Groups in several tiles, a table after every few of them, and few pairs and cells at a time.
    monkeypatch.setattr(layout, "_MAX_TILE_TOKENS", 4)
    monkeypatch.setattr(layout, "_MAX_FRAME_DISTANCES", 1000)
    monkeypatch.setattr(scoring, "_MAX_WARPED", 300)
    monkeypatch.setattr(scoring, "_MAX_COMPARED", 50)
    items, arrays = random_material(seed=5, n_tokens=60, n_phones=3, n_speakers=2, n_contexts=1, n_dims=3)
    features = _features(arrays)
    condition = {"speaker": speaker, "context": "within"}
    result = abx_scores(features, items, **condition, **FULL)["layer"]
    assert _by_name(result) == pytest.approx(_loops(items, features, **condition), abs=1e-12)


def test_subsampled_equals_loops_on_the_drawn_tokens():
    items, arrays = random_material(seed=3, n_tokens=80, n_phones=3)
    features = _features(arrays)
    condition = {"speaker": "within", "context": "within"}
    plan = make_plan(items, [True] * len(items), max_size_group=3, max_x_across=None, seed=4, **condition)
    drawn = [items[token] for token in sorted(np.concatenate(plan.groups))]
    result = abx_scores(features, items, max_size_group=3, seed=4, **condition)["layer"]
    assert _by_name(result) == pytest.approx(_loops(drawn, features, **condition), abs=1e-12)
    assert result.counts.subsampled == len(items) - len(drawn) > 0


def test_by_hand():
    base = random_material(seed=0, n_tokens=1)[0][0]
    # One frame each. Angles: a 0 and 40 degrees, b 30 and 90.
    angles = {"a": (0, 40), "b": (30, 90)}
    items, frames = [], []
    for phone, degrees in angles.items():
        for angle in degrees:
            onset = Decimal(len(items)) / 50
            offset = onset + Decimal("0.02")
            items.append(replace(base, file="f", phone=phone, speaker="s", onset=onset, offset=offset))
            frames.append([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    result = abx_scores({"f": {"x": torch.tensor(frames)}}, items)["x"]
    # x = 0, other a 40 away: b is 30 (wrong) and 90 away. x = 40, other a 40 away: b is 10 (wrong) and 50.
    # x = 30, other b 60 away: a is 30 and 10 away (both wrong). x = 90, other b 60 away: a is 90 and 50 away.
    assert result.cell_errors.tolist() == [0.5, 0.75]
    assert result.error == 0.625
    assert result.counts.triples == 8
    assert result.counts.token_pairs == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", ["angular", "euclidean", "identical"])
def test_a_collapsed_encoder_is_at_chance(dtype, distance):
    items, arrays = random_material(seed=0, n_tokens=60, n_dims=48)
    frame = torch.randn(48, generator=torch.Generator().manual_seed(1), dtype=dtype)
    features = {name: {"layer": frame.repeat(len(array), 1)} for name, array in arrays.items()}
    result = abx_scores(features, items, distance=distance)["layer"]
    assert result.error == 0.5
    assert set(result.cell_errors.tolist()) == {0.5}


def test_null_features_are_at_chance_and_perfect_ones_at_nought():
    items, arrays = random_material(seed=0, n_tokens=60, n_dims=4, noise=0.0)
    features = {
        name: {"perfect": torch.from_numpy(array), "null": torch.zeros(len(array), 4)}
        for name, array in arrays.items()
    }
    results = abx_scores(features, items)
    assert (results["perfect"].error, results["null"].error) == (0.0, 0.5)


def test_layers_come_together_or_alone_the_same_from_a_function_called_once_per_file():
    items, arrays = random_material(seed=7, n_tokens=60)
    calls = []

    def features(name):
        calls.append(name)
        frames = torch.from_numpy(arrays[name]).float()
        return {"one": frames, "two": frames[:, :3]}

    together = abx_scores(features, items)
    assert sorted(calls) == sorted(arrays)
    alone = abx_scores({name: {"two": features(name)["two"]} for name in arrays}, items)
    assert together["two"].cell_errors.tolist() == alone["two"].cell_errors.tolist()
    assert together["one"].error != together["two"].error
    assert together["one"].cells is together["two"].cells


def test_what_is_left_out_is_counted():
    items, arrays = random_material(seed=8, n_tokens=60, n_contexts=1)
    zero = replace(items[0], onset=items[0].offset, offset=items[0].offset)
    lonely = replace(items[0], phone="once", speaker="alone")
    result = abx_scores(_features(arrays), [*items, zero, lonely], **FULL)["layer"]
    assert (result.counts.items, result.counts.no_frame, result.counts.no_partner) == (62, 1, 1)
    assert result.error == abx_scores(_features(arrays), items, **FULL)["layer"].error


@pytest.mark.parametrize("context", ["within", "any"])
@pytest.mark.parametrize("speaker", ["within", "across"])
def test_compared_tokens_that_share_frames_are_counted(speaker, context):
    items, arrays = random_material(seed=8, n_tokens=40, n_phones=3, n_speakers=2, n_contexts=2)
    # one file for all, and every other token reaches into those that follow, sometimes into several
    file = items[0].file
    items = [
        replace(
            item, file=file, onset=Decimal(number) / 20, offset=Decimal(number + 1 + 2 * (number % 3)) / 20
        )
        for number, item in enumerate(items)
    ]
    features = {file: {"layer": torch.from_numpy(np.resize(arrays[file], (200, arrays[file].shape[1])))}}
    condition = {"speaker": speaker, "context": context}
    tokens = _tokens(items)
    inside = [
        set(abx_loops.frame_numbers(token.onset, token.offset, rate=Fraction(50), librilight=False))
        for token in tokens
    ]
    compared = {
        frozenset((x, other))
        for a, b, x in abx_loops.triples(tokens, range(len(tokens)), **condition)
        for other in (a, b)
    }
    expected = sum(bool(set.intersection(*(inside[number] for number in pair))) for pair in compared)
    assert 0 < expected < len(compared)
    assert abx_scores(features, items, **condition, **FULL)["layer"].counts.overlapping == expected


def test_a_phone_that_occurs_once_is_b_only():
    items, arrays = random_material(seed=8, n_tokens=40, n_contexts=1, n_speakers=1)
    once = replace(items[0], phone="once")
    result = abx_scores(_features(arrays), [*items, once], **FULL)["layer"]
    phones = [result.cells.pairs[pair] for pair in result.cells.pair]
    assert any(b == "once" for _, b in phones)
    assert all(a != "once" for a, _ in phones)


def test_one_frame_too_few_at_the_end_is_cut_and_counted():
    items, arrays = random_material(seed=9, n_tokens=60, n_speakers=1)
    last = max(items, key=lambda item: item.offset)
    short = {name: array[:-1] for name, array in arrays.items()}
    if last.offset - last.onset <= Decimal("0.02"):
        pytest.fail("the material's last token must have several frames")
    result = abx_scores(_features(short), items)["layer"]
    assert result.counts.clamped == 1
    with raises_fault("item.length", "items", error=AbxError) as caught:
        abx_scores(_features({name: array[:-2] for name, array in arrays.items()}), items)
    assert "50 frames per second" in str(caught.value)


def test_a_token_of_the_one_frame_that_is_missing_is_left_out():
    items, arrays = random_material(seed=9, n_tokens=60, n_speakers=1, n_contexts=1)
    (file, frames), end = next(iter(arrays.items())), Decimal(len(next(iter(arrays.values())))) / 50
    last = replace(items[0], file=file, onset=end - Decimal("0.015"), offset=end)
    features = _features(arrays)
    features[file] = {"layer": torch.from_numpy(frames[:-1])}
    expected = abx_scores(features, items, **FULL)["layer"]
    result = abx_scores(features, [*items, last], **FULL)["layer"]
    assert result.counts == replace(expected.counts, items=61, no_frame=1)
    assert result.cell_errors.tolist() == expected.cell_errors.tolist()
    features[file] = {"layer": torch.from_numpy(frames[:-2])}
    with raises_fault("item.length", "items", error=AbxError) as caught:
        abx_scores(features, [*items, last], **FULL)
    assert "2 past their end" in str(caught.value)


def test_a_token_without_a_frame_makes_room_for_another_file():
    items, arrays = random_material(seed=9, n_tokens=60, n_speakers=1, n_contexts=1, n_phones=2)
    file, frames = next(iter(arrays.items()))
    end = Decimal(len(frames)) / 50
    gone = [
        replace(items[0], file=file, onset=end - Decimal("0.015"), offset=end + Decimal(number) / 1000)
        for number in range(9)
    ]
    features = _features(arrays)
    features[file] = {"layer": torch.from_numpy(frames[:-1])}
    calls = []

    def counted(name):
        calls.append(name)
        return features[name]

    expected = abx_scores(features, items, max_size_group=2)["layer"]
    result = abx_scores(counted, [*gone, *items], max_size_group=2)["layer"]
    assert len(calls) == len(set(calls))
    assert result.counts.no_frame in range(1, 10)
    assert result.counts.cells == expected.counts.cells
    assert result.counts.triples == expected.counts.triples


def test_a_wrong_frame_rate_is_refused():
    items, arrays = random_material(seed=9, n_tokens=60)
    with raises_fault("item.length", "items", error=AbxError):
        abx_scores(_features(arrays), items, frame_rate=100.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: f.update(file1={"layer": torch.full((400, 5), torch.nan)}),
            "NaN or infinity in 400 of 400",
        ),
        (lambda f: f.update(file1={"other": f["file1"]["layer"]}), "expected the layers layer, got other"),
        (lambda f: f.update(file1={}), "got none"),
        (lambda f: f.update(file1={"layer": torch.zeros(400, 5, dtype=torch.int64)}), "floating point"),
        (lambda f: f.update(file1={"layer": torch.zeros(400)}), r"\[400\]"),
        (lambda f: f.pop("file1"), "those of 'file1', which the items name, got none"),
    ],
)
def test_bad_features(spoil, message):
    items, arrays = random_material(seed=9, n_tokens=60)
    features = _features(arrays)
    spoil(features)
    with pytest.raises(AbxError, match=message):
        abx_scores(features, items)


def test_a_key_error_of_the_features_own_is_not_hidden():
    items, _ = random_material(seed=9, n_tokens=60)
    with pytest.raises(KeyError, match="wrong"):
        abx_scores(lambda name: {}["wrong"], items)


def test_layers_of_different_lengths_are_refused():
    items, arrays = random_material(seed=9, n_tokens=60)
    features = {n: {"a": torch.from_numpy(a), "b": torch.from_numpy(a[:-1])} for n, a in arrays.items()}
    with raises_fault("features.length", "features of 'file0'", error=AbxError):
        abx_scores(features, items)


@pytest.mark.parametrize(
    "option", [{"speaker": "both"}, {"context": "none"}, {"distance": "cosine"}, {"frame_rate": 0.0}]
)
def test_unknown_options(option):
    items, arrays = random_material(seed=9, n_tokens=20)
    with pytest.raises(ValueError, match=next(iter(option))):
        abx_scores(_features(arrays), items, **option)

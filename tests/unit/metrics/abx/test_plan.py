"""Groups, cells and draws."""

from dataclasses import replace

from support.abx_material import random_material
from support.faults import raises_fault

from fairseq_vgs.metrics.abx import AbxError
from fairseq_vgs.metrics.abx.plan import make_plan, require_speakers

FULL = {"max_size_group": None, "max_x_across": None, "seed": 1}


def _plan(items, **options):
    return make_plan(
        items, [True] * len(items), **{"speaker": "within", "context": "within", **FULL, **options}
    )


def _drawn(items, plan):
    return [{items[token] for token in group} for group in plan.groups]


def test_cells_of_a_small_task():
    base = random_material(seed=0, n_tokens=1)[0][0]

    def token(number, phone, speaker, context="c"):
        return replace(base, file=str(number), phone=phone, speaker=speaker, previous_phone=context)

    items = [
        token(0, "a", "s"),
        token(1, "a", "s"),
        token(2, "b", "s"),
        token(3, "a", "t"),
        token(4, "b", "t", "other"),
    ]
    within = _plan(items).cells
    # b occurs once per speaker, so that it is never x; t's two phones are in different contexts.
    assert [within.pairs[pair] for pair in within.pair] == [("a", "b")]
    assert (within.speakers, within.contexts) == (("s", "t"), (("c", within.contexts[0][1]),))
    assert within.n_triples.tolist() == [2]
    any_context = _plan(items, context="any").cells
    assert [any_context.pairs[pair] for pair in any_context.pair] == [("a", "b")]
    across = _plan(items, speaker="across", context="any").cells
    cells = {
        (across.pairs[p], across.speakers[s], across.speakers[x]): n
        for p, s, x, n in zip(across.pair, across.speaker, across.x_speaker, across.n_triples, strict=True)
    }
    assert cells == {
        (("a", "b"), "s", "t"): 2,  # 2 a, 1 b, 1 x
        (("b", "a"), "s", "t"): 2,  # 1 b as a, 2 a as b, 1 x
        (("a", "b"), "t", "s"): 2,  # 1 a, 1 b, 2 x
        (("b", "a"), "t", "s"): 1,
    }


def test_draws():
    items, _ = random_material(seed=1, n_tokens=120)
    full, drawn = _plan(items), _plan(items, max_size_group=3)
    assert max(len(group) for group in full.groups) > 3
    for everything, some in zip(_drawn(items, full), _drawn(items, drawn), strict=True):
        assert some <= everything
        assert len(some) == min(3, len(everything))
    assert drawn.n_subsampled == sum(len(group) - min(3, len(group)) for group in full.groups)
    assert _drawn(items, _plan(items, max_size_group=3)) == _drawn(items, drawn)
    assert _drawn(items, _plan(items, max_size_group=3, seed=2)) != _drawn(items, drawn)


def test_a_groups_draw_does_not_depend_on_other_groups():
    items, _ = random_material(seed=1, n_tokens=120)
    some = [item for item in items if item.phone != "p0"]
    kept = _drawn(some, _plan(some, max_size_group=3))
    assert all(group in _drawn(items, _plan(items, max_size_group=3)) for group in kept)


def test_max_x_across():
    items, _ = random_material(seed=2, n_tokens=200, n_speakers=6, n_contexts=1)
    cells = _plan(items, speaker="across", max_x_across=2).cells
    x_speakers = {}
    for pair, speaker, x in zip(cells.pair, cells.speaker, cells.x_speaker, strict=True):
        x_speakers.setdefault((cells.pairs[pair][0], speaker), set()).add(x)
    assert {len(found) for found in x_speakers.values()} == {2}
    assert all(speaker not in found for (_, speaker), found in x_speakers.items())
    assert len(cells) < len(_plan(items, speaker="across").cells)


def test_nothing_to_compare():
    items, _ = random_material(seed=0, n_tokens=30, n_speakers=1)
    with raises_fault("item.unusable", "items", error=AbxError) as caught:
        _plan(items, speaker="across")
    assert "none among 30 usable tokens" in str(caught.value)
    with raises_fault("item.unusable", "items", error=AbxError) as caught:
        make_plan(items, [False] * 30, speaker="within", context="any", **FULL)
    assert "0 usable tokens of 0 phones by 0 speakers" in str(caught.value)


def test_required_ways_of_comparing():
    base = random_material(seed=0, n_tokens=1)[0][0]
    one = [replace(base, file=str(n), phone=phone, speaker="s") for n, phone in enumerate("aab")]
    other = [replace(base, file="o", phone="a", speaker="t")]
    require_speakers(one, ["within"], place="x.item")
    require_speakers([*one, *other], ["within", "across"], place="x.item")
    with raises_fault("item.unusable", "x.item: items", error=AbxError) as caught:
        require_speakers(one, ["within", "across"], place="x.item")
    assert "across speaker" in str(caught.value)

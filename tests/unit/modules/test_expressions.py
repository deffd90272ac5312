"""Settings that fairseq would pass to eval: the same values, and no code."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_vgs.modules.expressions import evaluate

LITERALS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(LITERALS)
def test_literals_are_what_python_reads(value):
    text = repr(value)
    assert evaluate(text) == ast.literal_eval(text)


@pytest.mark.parametrize(
    "text",
    [
        "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
        "(0.9, 0.98)",
        "(1e-30, 1e-3)",
        "[(512, 5)] * 4",
        "[(1, 2)] * 2 * 3",
        "True",
        " [] ",
        "(1,) + (2, 3)",
        "-3",
        "[(1, 2)] * -1",
        "{'audio': 'x.wav', 'f0': [1.5]}",
    ],
)
def test_fairseq_settings(text):
    assert evaluate(text) == eval(text.strip())  # noqa: S307 - the texts are above


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x', 'w')",
        "[(open('x', 'w') and 8, 10, 5)]",
        "[x for x in (1, 2)]",
        "(lambda: 1)()",
        "2 ** 100",
        "'a' * 1000",
        "[1] + (2,)",
        "[1] * 2.0",
        "[1] * True",
        "x",
        "",
        "[",
        "f'{1}'",
        "(1).real",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    [
        "[(1,1,1)]" + "*64" * 6,
        "[1] * 1000000000000",
        "[" * 100_000,
        "1+" * 6000 + "1",
        "(" * 3000 + "1" + ")" * 3000,
        "[1]" + "*1" * 4900,
    ],
    ids=range(6),
)
def test_sizes_are_limited(text):
    with pytest.raises(ValueError, match=r"."):
        evaluate(text)

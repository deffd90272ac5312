"""Settings that fairseq writes as Python expressions, evaluated as data.

fairseq passes some 40 settings to ``eval``, and a checkpoint or a study file may hold any of them.
"""

from __future__ import annotations

import ast

_MAX_TEXT, _MAX_ITEMS = 10_000, 10_000


def evaluate(text: str) -> object:
    """Return the value of literals, of lists and tuples added or repeated, and of nothing else.

    >>> evaluate("[(512, 10, 5)] + [(512, 3, 2)] * 2")
    [(512, 10, 5), (512, 3, 2), (512, 3, 2)]

    Raises:
        ValueError: anything else is in it, or the value has more than 10,000 items.
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"the text has more than {_MAX_TEXT} characters")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or "too deeply nested") from None


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        return _combine(_value(node.left), node.op, _value(node.right), node)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)!r} is not allowed") from None


def _combine(left: object, operation: ast.operator, right: object, node: ast.expr) -> object:
    if isinstance(operation, ast.Add) and isinstance(left, list | tuple) and type(left) is type(right):
        total = len(left) + len(right)
        if total <= _MAX_ITEMS:
            return left + right  # type: ignore[operator]
    elif isinstance(operation, ast.Mult) and isinstance(left, list | tuple) and type(right) is int:
        if len(left) * max(right, 0) <= _MAX_ITEMS:
            return left * right
    else:
        raise ValueError(f"{ast.unparse(node)!r} is not allowed")
    raise ValueError(f"the value has more than {_MAX_ITEMS} items")

"""Every message about input, read from the package's source: what ``tests/golden/wording.json`` holds.

python tests/support/wording.py        record it again, after messages were changed on purpose
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(folder) for folder in Path(__file__).parents[1:3]]

from support.source_files import CHECKOUT, MODULES, parse

from fairseq_vgs.media.errors import PROBLEMS

GOLDEN = CHECKOUT / "tests" / "golden" / "wording.json"
# callable -> positions of its message's parts, and of its code; the value found is not part of the wording
PARTS = {
    "fault": ((1, 3), None),
    "Fault": ((1,), 2),
    "at": ((1,), 2),
    "bad_setting": ((1, 3), None),
}


class Message(NamedTuple):
    """One call that builds a fault."""

    place: str
    code: str | None
    text: str


def messages() -> Iterator[Message]:
    """Yield every call that builds a fault, with where it is."""
    for path in MODULES:
        if path.name in ("faults.py", "settings.py"):  # where these callables are defined
            continue
        tree = parse(path)
        constants = _assigned_texts(tree.body)
        for node, function in _with_function(tree):
            name = _called(node)
            if isinstance(node, ast.Call) and name in PARTS:
                where = f"{path.relative_to(CHECKOUT)}:{node.lineno}"
                texts = {**constants, **(_assigned_texts(ast.walk(function)) if function else {})}
                yield Message(where, *_code_and_text(node, name, texts))


def wording() -> dict[str, list[str]]:
    """Return code -> the messages that it stands for: expectation and next step, without place and value."""
    found: dict[str, set[str]] = {}
    for message in messages():
        found.setdefault(message.code or "", set()).add(message.text)
    for code, problem in PROBLEMS.items():
        found.setdefault(code, set()).add(f"{problem.expected}; {problem.next_step}")
    return {code: sorted(texts) for code, texts in sorted(found.items())}


def as_written() -> str:
    """Return the text of the golden file."""
    return json.dumps(wording(), indent=1, ensure_ascii=False) + "\n"


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == "at" and len(node.args) > 1:
        owner = function.value
        return (
            "at"
            if isinstance(owner, ast.Name) and (owner.id.endswith("Error") or owner.id in ("cls", "error"))
            else ""
        )
    return function.id if isinstance(function, ast.Name) else ""


def _code_and_text(
    call: ast.Call, name: str, texts: dict[str, list[tuple[int, ast.AST]]]
) -> tuple[str | None, str]:
    positions, code_position = PARTS[name]
    parts = [call.args[position] for position in positions if position < len(call.args)]
    code = next((keyword.value for keyword in call.keywords if keyword.arg == "code"), None)
    if code is None and code_position is not None and code_position < len(call.args):
        code = call.args[code_position]
    if code is None and name == "bad_setting":
        code = ast.Constant("setting.value")
    text = "; ".join(template(_resolved(part, call.lineno, texts)) for part in parts)
    return None if code is None else template(code), text


def template(node: ast.AST) -> str:
    """Return a text as it is written, with what is filled in in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            "{" + ast.unparse(part.value) + "}" if isinstance(part, ast.FormattedValue) else str(part.value)  # type: ignore[attr-defined]
            for part in node.values
        )
    return "{" + ast.unparse(node) + "}"


def _with_function(
    node: ast.AST, function: ast.AST | None = None
) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """Yield every node with the function it is in."""
    yield node, function
    if isinstance(node, ast.FunctionDef):
        function = node
    for child in ast.iter_child_nodes(node):
        yield from _with_function(child, function)


def _assigned_texts(nodes: Iterable[ast.AST]) -> dict[str, list[tuple[int, ast.AST]]]:
    """Return name -> (line, text) of the texts that are assigned to it, top down."""
    found: dict[str, list[tuple[int, ast.AST]]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append((node.lineno, node.value))
    return {name: sorted(texts, key=lambda text: text[0]) for name, texts in found.items()}


def _resolved(node: ast.AST, line: int, texts: dict[str, list[tuple[int, ast.AST]]]) -> ast.AST:
    """Return the text that was last assigned to a name above this line."""
    if not isinstance(node, ast.Name):
        return node
    above = [text for at, text in texts.get(node.id, []) if at < line]
    return above[-1] if above else node


if __name__ == "__main__":
    GOLDEN.write_text(as_written(), encoding="utf-8")

"""Every message of the package, read from its source: what ``tests/golden/wording.json`` holds.

python tests/support/wording.py        write the file anew, after messages were changed on purpose
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.source_files import CHECKOUT, MODULES, parse

GOLDEN = CHECKOUT / "tests" / "golden" / "wording.json"
FUNCTIONS = {"fault", "Fault"}


def fault_calls() -> list[tuple[str, ast.Call]]:
    """List the calls that build a fault, with ``file:line``."""
    return [
        (f"{path.relative_to(CHECKOUT)}:{node.lineno}", node)
        for path in MODULES
        if path.name != "faults.py"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    ]


def code_of(call: ast.Call) -> str | None:
    """Return the code that a call gives, or the expression that makes it in braces; None without one."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    if isinstance(call.func, ast.Name) and call.func.id == "Fault":
        given += call.args[2:3]
    return template(given[0]) if given else None


def template(node: ast.AST) -> str:
    """Return a text as it is written, with names in braces for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{" + ast.unparse(part.value) + "}"  # type: ignore[attr-defined]
            for part in node.values
        )
    return "{" + ast.unparse(node) + "}"


def wording() -> dict[str, list[str]]:
    """Return code -> the messages that it stands for: expectation and next step, without place and value."""
    found: dict[str, set[str]] = {}
    for _, call in fault_calls():
        texts = [template(node) for node in call.args[1:4]]
        if isinstance(call.func, ast.Name) and call.func.id == "fault" and len(texts) == 3:
            texts = [texts[0], texts[2]]
        found.setdefault(code_of(call) or "", set()).add("; ".join(texts))
    return {code: sorted(messages) for code, messages in sorted(found.items())}


def as_written() -> str:
    """Return the text of the golden file."""
    return json.dumps(wording(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    GOLDEN.write_text(as_written(), encoding="utf-8")

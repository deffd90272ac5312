"""Every message about input, read from the package's source: what ``tests/golden/wording.json`` holds.

python tests/support/wording.py        record it again, after messages were changed on purpose
"""

from __future__ import annotations

import ast
import functools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(folder) for folder in Path(__file__).parents[1:3]]

from support.source_files import CHECKOUT, MODULES, module_name, parse

from fairseq_vgs.media.errors import PROBLEMS

GOLDEN = CHECKOUT / "tests" / "golden" / "wording.json"
# callable -> positions of its message's parts, and of its code; the value found is not part of the wording
PARTS = {
    "fault": ((1, 3), None),
    "Fault": ((1,), 2),
    "at": ((1,), 2),
    "bad_setting": ((1, 3), None),
    "_refusal": ((1, 3), None),
    "_wrong_also": ((0, 2), None),
    "empty_log": ((1, 2), None),
    "diverged": ((1,), None),
}
# callables with a code of their own, if none is given
CODES = {
    "bad_setting": "setting.value",
    "_wrong_also": "setting.value",
    "empty_log": "log.empty",
    "diverged": "checkpoint.not_finite",
}
# where the callables of faults and settings themselves are defined
DEFINING = ("fairseq_vgs/files/faults.py", "fairseq_vgs/settings.py")
# places that pass on a code which another call gives: of a part of the input, or of PROBLEMS
FORWARDING = {
    "data/bad_items.py": "{item.code}",
    "manifest/media_check.py": "{item.code}",
    "media/errors.py": "{code}",
    "modules/hugging_face.py": "{code}",
    "prepare/corpus.py": "{self.code}",
    "prepare/corpora/librispeech.py": "{item.code}",
}
Texts = dict[str, list[tuple[int, ast.expr]]]


class Message(NamedTuple):
    """One call that builds a fault."""

    place: str
    code: str | None
    text: str

    @property
    def forwards(self) -> bool:
        """Whether the code is that of another fault."""
        path = self.place.rpartition(":")[0].removeprefix("fairseq_vgs/")
        return self.code is not None and FORWARDING.get(path) == self.code


@functools.cache
def messages() -> tuple[Message, ...]:
    """Return every call that builds a fault, with where it is."""
    return tuple(_messages())


def _messages() -> Iterator[Message]:
    trees = {module_name(path): parse(path) for path in MODULES}
    of_modules = {name: _assigned_texts(tree.body) for name, tree in trees.items()}
    for path in MODULES:
        if path.relative_to(CHECKOUT).as_posix() in DEFINING:
            continue
        tree = trees[module_name(path)]
        constants = {**_imported_texts(tree, of_modules), **of_modules[module_name(path)]}
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
        if message.forwards:
            continue
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


def _code_and_text(call: ast.Call, name: str, texts: Texts) -> tuple[str | None, str]:
    positions, code_position = PARTS[name]
    parts = [call.args[position] for position in positions if position < len(call.args)]
    code = next((keyword.value for keyword in call.keywords if keyword.arg == "code"), None)
    if code is None and code_position is not None and code_position < len(call.args):
        code = call.args[code_position]
    if code is None and name in CODES:
        code = ast.Constant(CODES[name])
    text = "; ".join(template(part, call.lineno, texts) for part in parts)
    return None if code is None else template(code, call.lineno, {}), text


def template(node: ast.expr, line: int, texts: Texts) -> str:
    """Return a text as it is written, with what is filled in in braces.

    A name stands for the text that was last assigned to it above this line.
    """
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part, line, texts) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return template(node.value, line, texts)
    if isinstance(node, ast.Name):
        above = [(at, text) for at, text in texts.get(node.id, []) if at < line]
        if above:
            at, text = above[-1]
            return template(text, at, texts)
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


def _assigned_texts(nodes: Iterable[ast.AST]) -> Texts:
    """Return name -> (line, text) of the texts that are assigned to it, top down."""
    found: Texts = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name, value in _pairs(target, node.value):
                    if isinstance(value, ast.Constant | ast.JoinedStr):
                        found.setdefault(name, []).append((node.lineno, value))
    return {name: sorted(texts, key=lambda text: text[0]) for name, texts in found.items()}


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield what is assigned to each name, also in ``one, two = "first", "second"``."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for part, text in zip(target.elts, value.elts, strict=False):
            yield from _pairs(part, text)


def _imported_texts(tree: ast.Module, of_modules: dict[str, Texts]) -> Texts:
    """Return the constants of other modules of the package that are imported, as if assigned in line 0."""
    return {
        alias.asname or alias.name: [(0, of_modules[node.module][alias.name][-1][1])]
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module in of_modules
        for alias in node.names
        if alias.name in of_modules[node.module]
    }


if __name__ == "__main__":
    GOLDEN.write_text(as_written(), encoding="utf-8")

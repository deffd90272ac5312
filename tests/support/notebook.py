"""Run the notebooks of examples/ and record what they show, without Jupyter.

A cell's last expression is shown as Jupyter shows it: a picture as PNG, anything else as its repr. Cells are
plain Python, without magics.

VGS_RUN=RUN VGS_DATA=DATA python tests/support/notebook.py examples/vgs/python.ipynb    record outputs again
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def run(path: Path) -> dict[str, Any]:
    """Run a notebook in its own folder; return it with the outputs of this run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for count, cell in enumerate(codes, start=1):
            cell |= {"execution_count": count, "outputs": _run_cell("".join(cell["source"]), names, count)}
    finally:
        os.chdir(before)
    return notebook


def _run_cell(code: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {count}", "exec"), names)  # noqa: S102
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)  # noqa: S307
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = _shown(value)
        outputs.append(
            {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}
        )
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    if callable(png := getattr(value, "_repr_png_", None)):
        picture = {"image/png": base64.b64encode(png()).decode()}
        return {**picture, "text/plain": [f"<a picture of {value.width} x {value.height} pixels>"]}
    return {"text/plain": repr(value).splitlines(keepends=True)}


def kinds(notebook: dict[str, Any]) -> list[list[str]]:
    """Return of every cell what kinds of output it has."""
    return [
        [kind for output in cell.get("outputs", ()) for kind in output.get("data", {"stdout": ""})]
        for cell in notebook["cells"]
    ]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        found = run(Path(name))
        Path(name).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

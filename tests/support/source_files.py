"""Python files of the package, parsed, for the tests of its structure."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "fairseq_vgs"
MODULES = [*sorted(PACKAGE.rglob("*.py")), *sorted(CHECKOUT.glob("fairseq_vgs_*.py"))]


def module_name(path: Path) -> str:
    """Name a file as ``import`` does."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parse(path: Path) -> ast.Module:
    """Parse a file: once, for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each module that a file imports, wherever in the file, with its line."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source, node.lineno
            # `from fairseq_vgs import models` imports a module as well
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)

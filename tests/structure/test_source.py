"""Style that linters do not check."""

import ast
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from support.source_files import CHECKOUT, MODULES, PACKAGE, imported_modules, module_name, parse

MOST_STATEMENTS = 40
MOST_LINES = 600
TEXT_SUFFIXES = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".cfg", ".html", ".tsv", ""}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# written in pieces so that this file passes its own test
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}/:-])/(?:" + "|".join(["work", "home", "root", "Users", "mnt", "opt"]) + r")/"
)


def n_statements(function: ast.AST) -> int:
    """Count statements, without the docstring and without nested functions' own."""
    count, pending = 0, list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        count += isinstance(node, ast.stmt) and not is_docstring(node)
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            pending += ast.iter_child_nodes(node)
    return count


def is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def places(condition):
    """List the modules (with what is wrong in them) for which a condition returns something true."""
    return {module_name(path): found for path in MODULES if (found := condition(path))}


def test_functions_are_short():
    def long_functions(path):
        functions = [node for node in ast.walk(parse(path)) if isinstance(node, FUNCTIONS)]
        return {node.name: n_statements(node) for node in functions if n_statements(node) > MOST_STATEMENTS}

    assert not places(long_functions)


def test_modules_are_short():
    assert not places(lambda path: len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES)


def test_no_print_outside_the_command_line():
    def printing_lines(path):
        calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
        return [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]

    assert not places(lambda path: PACKAGE / "cli" not in path.parents and printing_lines(path))


def test_no_assert_statements():
    """They vanish under ``python -O``; data is checked with errors."""
    assert not places(
        lambda path: [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.Assert)]
    )


def test_no_vague_module_names():
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not places(lambda path: path.stem in vague)


def test_config_classes_have_evaluated_annotations():
    """fairseq reads the types of config fields and refuses text, which that future import makes of them."""

    def has_text_annotations(path):
        registers = "@register_" in path.read_text(encoding="utf-8")
        return registers and any(module == "__future__" for module, _ in imported_modules(path))

    folders = {PACKAGE / name for name in ("tasks", "models", "criterions")}
    assert not places(lambda path: path.parent in folders and has_text_annotations(path))


def tracked_files() -> list[Path]:
    """List the files under version control; of an export without it, all but the environment's."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if listing.returncode == 0:
        paths = [CHECKOUT / name for name in listing.stdout.split("\0") if name]
    else:
        paths = [path for path in CHECKOUT.rglob("*") if ".venv" not in path.parts]
    return [path for path in paths if path.is_file()]


def test_no_paths_of_one_machine():
    found = []
    for path in tracked_files():
        if path.suffix not in TEXT_SUFFIXES or path.stat().st_size > 1_000_000:
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        relative = path.relative_to(CHECKOUT)
        found += [f"{relative}:{number}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found


def test_every_folder_of_tests_is_collected(pytestconfig):
    """pytest leaves folders named build or dist out by default."""
    left_out = pytestconfig.getini("norecursedirs")
    tests = CHECKOUT / "tests"
    folders = {name for file in tests.rglob("test_*.py") for name in file.relative_to(tests).parts[:-1]}
    assert [name for name in folders if any(fnmatch(name, pattern) for pattern in left_out)] == []

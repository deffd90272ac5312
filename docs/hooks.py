"""Hook of mkdocs: what the documentation takes from outside ``docs``.

- Some pages stay where readers of the repository look for them (``CHANGELOG.md``).
- Links are written as they work in the repository. They are redirected to the page that a file has become;
  other files (configurations, pictures) are published along with the pages.
- Each room of the package named in the navigation (``api/losses.md``) gets a page from its docstrings.
- The page on errors ends with the codes that the package uses.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "manifests/embedded/README.md": "embedded.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
API_PAGE = re.compile(r"api/(?!index)(\w+)\.md")
CODE = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and every file that a page links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for room in API_PAGE.findall(str(config.nav)):
        files.append(File.generated(config, f"api/{room}.md", content=api_page(room)))
    for file in list(files.documentation_pages()):
        source = source_of(file.src_uri)
        for link in LINK.findall(file.content_string):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
            uri = published(target)
            if uri.startswith("repository/") and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Redirect the links of a page to what has been published."""
    del config, files
    here = posixpath.dirname(source_of(page.file.src_uri))

    def redirect(match: re.Match[str]) -> str:
        uri = published(posixpath.normpath(posixpath.join(here, match[1])))
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    markdown = LINK.sub(redirect, markdown)
    return markdown + code_table() if page.file.src_uri == "errors.md" else markdown


def api_page(room: str) -> str:
    """Return the page of a room: its modules, with what is documented in them."""
    package = f"fairseq_vgs.{room}"
    page = [f"# {room}", f"::: {package}\n    options:\n      members: false"]
    for path in sorted((ROOT / "fairseq_vgs" / room).rglob("*.py")):
        if path.stem == "__init__":
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        page.append(f"## {module.removeprefix(package + '.')}\n\n::: {module}")
    return "\n\n".join(page)


def code_table() -> str:
    """Return the codes of the package with what each of them expects."""
    rows = sorted({row for path in (ROOT / "fairseq_vgs").rglob("*.py") for row in codes(path)})
    return "\n".join(["\n\n## List of codes\n", "| code | expectation | in |", "|---|---|---|", *rows]) + "\n"


def codes(path: Path) -> Iterator[str]:
    """Yield a row for each fault that a file builds with a code."""
    room = path.relative_to(ROOT / "fairseq_vgs").parts[0].removesuffix(".py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        code = next((item.value for item in node.keywords if item.arg == "code"), None)
        if isinstance(code, ast.Constant) and CODE.fullmatch(str(code.value)):
            yield f"| `{code.value}` | {wording(node.args[1]) if len(node.args) > 1 else ''} | `{room}` |"


def wording(node: ast.expr) -> str:
    """Return a message as it stands in the source, with dots for the values in it."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("|", "\\|")
    if isinstance(node, ast.JoinedStr):
        return "".join(wording(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def source_of(page: str) -> str:
    """Return the path in the repository of a page."""
    return SOURCES.get(page, f"docs/{page}")


def published(path: str) -> str:
    """Return where a file of the repository stands in the documentation."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path) or (f"repository/{path}" if (ROOT / path).is_file() else path)

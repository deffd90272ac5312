"""Hook of mkdocs: what the documentation takes from outside ``docs``.

- Some pages stay where readers of the repository look for them (``CHANGELOG.md``).
- Links are written as they work in the repository. They are redirected to the page that a file has become;
  other files (configurations, pictures) are published along with the pages.
- Each room of the package named in the navigation (``api/losses.md``) gets a page from its docstrings.
- The page on errors ends with the codes that the package uses.
"""

import html
import json
import posixpath
import re
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
CODE = re.compile(r"[a-z_]+\.[a-z_0-9]+")
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
    """Return every code with the messages that it stands for, which a test keeps equal to the source."""
    wording = json.loads((ROOT / "tests" / "golden" / "wording.json").read_text(encoding="utf-8"))
    rows = [
        f"| `{code}` | {'<br>'.join(shown(message) for message in messages)} |"
        for code, messages in wording.items()
        if CODE.fullmatch(code)
    ]
    return "\n".join(["\n\n## List of codes\n", "| code | messages |", "|---|---|", *rows]) + "\n"


def shown(message: str) -> str:
    """Return a message with dots for what is filled in, as Markdown in a table."""
    text = html.escape(re.sub(r"\{[^{}]*\}", "…", message), quote=False)
    return re.sub(r"([|*_`\[\]~])", r"\\\1", text)


def source_of(page: str) -> str:
    """Return the path in the repository of a page."""
    return SOURCES.get(page, f"docs/{page}")


def published(path: str) -> str:
    """Return where a file of the repository stands in the documentation."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path) or (f"repository/{path}" if (ROOT / path).is_file() else path)

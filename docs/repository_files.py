"""Hook of mkdocs: pages and links that come from outside ``docs``.

Some pages stay where readers of the repository look for them (``CHANGELOG.md``); they are built as if they
lay in ``docs``. Links are written as they work in the repository: here they are led to the page that a file
has become, and files that are no pages (configurations, pictures) are published along.
"""

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
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and every file that a page links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for file in list(files.documentation_pages()):
        source = source_of(file.src_uri)
        for link in LINK.findall(file.content_string):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
            uri = published(target)
            if uri.startswith("repository/") and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to what has been published."""
    del config, files
    here = posixpath.dirname(source_of(page.file.src_uri))

    def lead(match: re.Match[str]) -> str:
        uri = published(posixpath.normpath(posixpath.join(here, match[1])))
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(lead, markdown)


def source_of(page: str) -> str:
    """Return the path in the repository of a page."""
    return SOURCES.get(page, f"docs/{page}")


def published(path: str) -> str:
    """Return where a file of the repository stands in the documentation."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path) or (f"repository/{path}" if (ROOT / path).is_file() else path)

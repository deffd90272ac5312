"""Pages from ``templates/``: self-contained HTML files with all text escaped."""

from __future__ import annotations

from typing import Any

GALLERY_NAME = "index.html"


def render_page(template: str, **content: Any) -> str:
    """Fill in a template, by its file name; all content but ``markupsafe.Markup`` is escaped."""
    return _render(template, content, autoescape=True)


def render_text(template: str, **content: Any) -> str:
    """Fill in a template of plain text, in which nothing is escaped."""
    return _render(template, content, autoescape=False)


def _render(template: str, content: dict[str, Any], *, autoescape: bool) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fairseq_vgs.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(content)

"""Pages from ``templates/``: self-contained HTML files with all text escaped."""

from __future__ import annotations

from typing import Any

GALLERY_NAME = "index.html"


def render_page(template: str, **content: Any) -> str:
    """Fill in a template, by its file name; all content but ``markupsafe.Markup`` is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fairseq_vgs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(content)

"""Pages from the templates of this room: one HTML file each, every text escaped, nothing from the network."""

from __future__ import annotations

from typing import Any


def render_page(template: str, **content: Any) -> str:
    """Fill in a template of ``templates/``.

    Args:
        template: Name of the file.
        content: Values by the names that the template uses; all of them are escaped but for
            `markupsafe.Markup`.
    """
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

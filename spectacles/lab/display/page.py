"""Pages in HTML, by templates that escape whatever they are given. They are made from templates/base.html."""

from __future__ import annotations

from pathlib import Path

from spectacles.common.errors import SpectaclesError
from spectacles.lab.display.french import unbroken

TEMPLATES = Path(__file__).with_name("templates")


def require_jinja() -> None:
    """Raise SpectaclesError when jinja2 is not installed: before the work, not after it."""
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError:
        raise SpectaclesError("jinja2 manque : pip install jinja2") from None


def render(template: Path, **values: object) -> str:
    """Return the page that `template` makes of `values`. Raises SpectaclesError when jinja2 is not installed.

    The template finds its neighbours and those of TEMPLATES by their names. It has two filters: `said` keeps French
    lines from ending where they may not, `px` writes a length.
    """
    require_jinja()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"said": unbroken, "px": "{:.1f}".format}
    return environment.get_template(template.name).render(values)
